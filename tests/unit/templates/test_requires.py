"""The key `requires` of steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import Template
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tests.unit.templates.faults import check_only_fault

YAML = """
name: films
queue: studio
steps:
  - name: cut
  - name: render
    after: [cut]
    requires: {zone: eu, gpu: a100}
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("films", queue="studio")

    @made.step
    def cut() -> None: ...

    @made.step(after="cut", requires={"gpu": "a100", "zone": "eu"})
    def render() -> None: ...

    spec = load_yaml(YAML)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert [(one.queue, one.spec.name) for one in made.handlers()] == [
        ("studio", "cut"),
        ("studio~gpu=a100~zone=eu", "render"),
    ]


def test_its_work_belongs_to_the_queue_and_is_offered_beside_it() -> None:
    compiled = compile_template(load_yaml(f"{YAML}    compensate: remove\n"))
    for step in ("render", "render[3]", "render#2", "render~undo"):
        assert compiled.queue_of(step) == "studio"
        assert compiled.work_queue_of(step) == "studio~gpu=a100~zone=eu"
    assert compiled.work_queue_of("cut") == "studio"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{zone: eu, gpu: a100}", "a100", "line 8: must be labels with their values"),
        ("{zone: eu, gpu: a100}", "{}", "line 8: does nothing without a label"),
        ("zone: eu", "Zone: eu", "line 8: "),
        ("zone: eu", "zone: 1", "line 8: must be text, not "),
        ("zone: eu", "1: eu", "line 8: label '1' must match"),
        ("zone: eu", "zone: a.b", "line 8: must be up to 63 letters"),
        ("zone: eu", f"zone: {'e' * 60}", "line 8: labels of 74 characters"),
        ("requires", "delay_s: 1\n    requires", "line 9: does nothing beside delay_s"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    check_only_fault(YAML.replace(old, new, 1), fault)

"""The keys `sticky` and `sticky_wait_s` of steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import Template
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tests.unit.templates.faults import check_only_fault

YAML = """
name: films
steps:
  - name: fetch
  - name: cut
    after: [fetch]
    sticky: fetch
    sticky_wait_s: 60
  - name: sign
    transform: input
    after: [fetch]
  - name: frames
    each: input.frames
    after: [fetch]
    sticky: frames
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("films")

    @made.step
    def fetch() -> None: ...

    @made.step(after="fetch", sticky="fetch", sticky_wait_s=60)
    def cut() -> None: ...

    made.transform("sign", "input", after="fetch")

    @made.step(after="fetch", each="input.frames", sticky="frames")
    def frames() -> None: ...

    spec = load_yaml(YAML)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert compile_template(spec).is_sticky
    assert not compile_template(validate({"name": "t", "steps": [{"name": "a"}]})).is_sticky


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("sticky: fetch", "sticky: 7", "line 7: "),
        ("sticky: fetch", "sticky: fetsh", "line 7: unknown step 'fetsh'"),
        ("sticky: fetch", "sticky: frames", "line 7: step 'frames' does not run ahead of cut"),
        ("    sticky: fetch\n", "", "line 7: does nothing without sticky"),
        ("sticky_wait_s: 60", "sticky_wait_s: 0", "line 8: "),
        (
            "after: [fetch]\n    sticky: frames",
            "after: [sign]\n    sticky: sign",
            "line 15: no worker runs step 'sign'",
        ),
        (
            "transform: input\n    after: [fetch]",
            "after: [frames]\n    sticky: frames",
            "line 11: step 'frames' runs for",
        ),
        ("transform: input", "transform: input\n    sticky: fetch", "line 11: does nothing beside transform"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    check_only_fault(YAML.replace(old, new, 1), fault)

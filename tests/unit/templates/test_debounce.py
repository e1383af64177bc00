"""The key `debounce` of templates: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import Debounce, Template
from tasker.templates import canonical_bytes, document_of, from_canonical, load_yaml, validate
from tests.unit.templates.faults import check_only_fault

YAML = """
name: indexing
debounce: {key: input.document, for_s: 5, max_s: 60}
steps:
  - name: index
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("indexing", debounce=Debounce(key="input.document", for_s=5, max_s=60))

    @made.step
    def index() -> None: ...

    assert made.spec() == load_yaml(YAML)


def test_it_is_a_part_of_the_content() -> None:
    spec = load_yaml(YAML)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("key: input.document, ", "", "line 3: 'key' is missing"),
        ("for_s: 5, ", "", "line 3: 'for_s' is missing"),
        ("for_s: 5", "for_s: 0", "line 3: must be"),
        ("max_s: 60", "max_s: 4", "line 3: must be at least the 5 of 'for_s', not 4"),
        ("max_s", "most_s", "line 3: unknown key 'most_s'"),
        ("input.document", "results.index", "line 3: no usable expression"),
        ("{key: input.document, for_s: 5, max_s: 60}", "3", "line 3: debounce must be an object"),
        ("steps:", "singleton: input.document\nsteps:", "line 3: does not go with 'singleton'"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    check_only_fault(YAML.replace(old, new, 1), fault)

"""The key `rate_limit` of steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import RateLimit, Template
from tasker.errors import TemplateInvalid
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate

YAML = """
name: transfers
steps:
  - name: check
  - name: book
    after: [check]
    rate_limit: {per_s: 5, burst: 10, key: input.bank}
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("transfers")

    @made.step
    def check() -> None: ...

    @made.step(after="check", rate_limit=RateLimit(per_s=5, burst=10, key="input.bank"))
    def book() -> None: ...

    spec = load_yaml(YAML)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert compile_template(spec).is_paced


def test_the_compensation_of_a_step_is_not_under_its_limit() -> None:
    compiled = compile_template(load_yaml(f"{YAML}    compensate: unbook\n"))
    assert compiled.step("book").rate_limit == RateLimit(per_s=5, burst=10, key="input.bank")
    assert compiled.step("book~undo").rate_limit is None


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("per_s: 5, ", "", "line 7: 'per_s' is missing"),
        ("per_s: 5", "per_s: 0", "line 7: must be at least 1e-05 and at most 1e+06, not 0"),
        ("burst: 10", "burst: 0", "line 7: must be at least 1"),
        ("burst: 10", "bursts: 10", "line 7: unknown key 'bursts' (did you mean 'burst'?)"),
        ("input.bank", "results.check", "line 7: no usable expression"),
        ("{per_s: 5, burst: 10, key: input.bank}", "5", "line 7: rate_limit must be an object"),
        ("rate_limit", "delay_s: 1\n    rate_limit", "line 8: does nothing beside delay_s"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(YAML.replace(old, new, 1))
    assert [error.detail.startswith(fault) for error in refused.value.errors] == [True]

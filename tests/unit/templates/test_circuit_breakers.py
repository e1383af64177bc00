"""The key `circuit_breaker` of steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import CircuitBreaker, Template
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tests.unit.templates.faults import check_only_fault

YAML = """
name: transfers
steps:
  - name: check
    circuit_breaker: {}
  - name: book
    after: [check]
    circuit_breaker: {failure_rate: 0.2, min_attempts: 5, open_s: 10, open_s_max: 60, probes: 1}
"""
BREAKER = CircuitBreaker(failure_rate=0.2, min_attempts=5, open_s=10, open_s_max=60, probes=1)


def test_yaml_and_python_say_the_same() -> None:
    made = Template("transfers")

    @made.step(circuit_breaker=CircuitBreaker())
    def check() -> None: ...

    @made.step(after="check", circuit_breaker=BREAKER)
    def book() -> None: ...

    spec = load_yaml(YAML)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert [step.circuit_breaker for step in spec.steps] == [CircuitBreaker(), BREAKER]


def test_only_templates_with_a_breaker_are_guarded_and_others_keep_their_hash() -> None:
    assert compile_template(load_yaml(YAML)).is_guarded
    plain = load_yaml("name: transfers\nsteps: [{name: check}]")
    assert not compile_template(plain).is_guarded
    assert b"circuit" not in canonical_bytes(plain)


def test_the_compensation_of_a_step_is_not_under_its_breaker() -> None:
    compiled = compile_template(load_yaml(f"{YAML}    compensate: unbook\n"))
    assert compiled.step("book").circuit_breaker == BREAKER
    assert compiled.step("book~undo").circuit_breaker is None


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("failure_rate: 0.2", "failure_rate: 0", "line 8: must be above 0 and at most 1, not 0"),
        ("min_attempts: 5", "min_attempts: 0", "line 8: must be at least 1"),
        ("open_s: 10", "open_s: 0.5", "line 8: must be at least 1 and at most 86400"),
        ("open_s_max: 60", "open_s_max: 5", "line 8: open_s_max (5) is less than open_s (10)"),
        ("probes: 1", "probe: 1", "line 8: unknown key 'probe' (did you mean 'probes'?)"),
        ("circuit_breaker: {}", "circuit_breaker: 1", "line 5: circuit_breaker must be an object"),
        ("circuit_breaker: {}", "circuit_breaker: {}\n    delay_s: 1", "line 5: does nothing beside delay_s"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    check_only_fault(YAML.replace(old, new, 1), fault)

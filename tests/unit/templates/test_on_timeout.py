"""The key `on_timeout` of templates and steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import OnTimeout, Template
from tasker.errors import TemplateInvalid
from tasker.templates import canonical_bytes, document_of, from_canonical, load_yaml, validate

YAML = """
name: quotes
timeout_s: 60
on_timeout: continue
steps:
  - name: ask
    schedule_to_start_s: 5
    on_timeout: {schedule_to_start: continue, heartbeat: fail}
  - name: each
    after: [ask]
    each: input.list
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("quotes", timeout_s=60, on_timeout="continue")

    @made.step(schedule_to_start_s=5, on_timeout=OnTimeout(schedule_to_start="continue", heartbeat="fail"))
    def ask() -> str:
        return ""

    @made.step(after="ask", each="input.list")
    def each() -> None: ...

    assert made.spec() == load_yaml(YAML)


def test_what_is_said_as_it_is_by_default_is_said() -> None:
    made = Template("plain")

    @made.step(on_timeout=OnTimeout(start_to_close="retry"))
    def ask() -> None: ...

    assert made.spec().steps[0].on_timeout is None


def test_it_is_a_part_of_the_content() -> None:
    spec = load_yaml(YAML)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("on_timeout: continue", "on_timeout: retry", "line 4: must be one of fail, block, continue"),
        ("heartbeat: fail", "heartbeat: wait", "line 8: must be one of retry, fail, block, continue"),
        ("heartbeat: fail", "heartbeats: fail", "line 8: unknown key 'heartbeats' (did you mean 'heartbeat'?)"),
        ("heartbeat: fail", "schedule_to_close: fail", "line 8: does nothing without schedule_to_close_s"),
        ("    schedule_to_start_s: 5\n", "", "line 7: does nothing without schedule_to_start_s"),
        ("{schedule_to_start: continue, heartbeat: fail}", "block", "line 8: must say it of each limit by itself"),
        ("{schedule_to_start: continue, heartbeat: fail}", "{}", "line 8: does nothing without one of"),
        ("{schedule_to_start: continue, heartbeat: fail}", "3", "line 8: on_timeout must be an object"),
        (
            "each: input.list",
            "each: input.list\n    on_timeout: {heartbeat: block}",
            "line 12: 'block' cannot hold back a single item, unless on_item_failure is 'isolate'",
        ),
        ("each: input.list", "batches: ask", "line 8: 'continue' cannot be: step each runs for the batches"),
        (
            "heartbeat: fail}",
            "heartbeat: fail}\n    routes: [each]",
            "line 8: 'continue' cannot be: ask is a decision",
        ),
        (
            "each: input.list",
            "transform: '1'\n    on_timeout: {heartbeat: fail}",
            "line 12: does nothing beside transform",
        ),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(YAML.replace(old, new, 1))
    assert len(refused.value.errors) == 1, refused.value.errors
    assert fault in refused.value.errors[0].detail


def test_no_time_is_left_for_the_wait_for_a_worker() -> None:
    text = "name: t\nsteps:\n  - {name: a, schedule_to_start_s: 60, schedule_to_close_s: 50}"
    with pytest.raises(TemplateInvalid, match=r"the step is over after 50 s .* not later than a wait of 60 s"):
        load_yaml(text)
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(text.replace("50", "soon"))
    assert [fault.pointer for fault in refused.value.errors] == ["/steps/0/schedule_to_close_s"]


def test_no_time_is_left_for_a_retry() -> None:
    text = YAML.replace("schedule_to_start_s: 5", "schedule_to_start_s: 5\n    schedule_to_close_s: 50")
    with pytest.raises(TemplateInvalid, match="'retry' cannot be: the time over all attempts is over"):
        load_yaml(text.replace("heartbeat: fail", "schedule_to_close: retry"))

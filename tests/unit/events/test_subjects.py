"""Subjects: what is built is parsed back, prefixes keep apart, and what is ours is closed to tenants."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import ConfigurationError
from tasker.events.subjects import Subjects
from tasker.ids import NAME_PATTERN

SUBJECTS = Subjects("acme")
names = st.from_regex(NAME_PATTERN, fullmatch=True)


def matches(pattern: str, subject: str) -> bool:
    """Return whether NATS hands `subject` to a subscription of `pattern`."""
    wanted, given_ = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        return len(given_) > len(wanted) and all(map(_token, wanted, given_))
    return len(wanted) == len(given_) and all(map(_token, wanted, given_))


def _token(wanted: str, given_: str) -> bool:
    return wanted in ("*", given_)


@given(names, names, names)
def test_the_name_of_a_consumer_tells_its_queue(tenant: str, namespace: str, queue: str) -> None:
    subjects = Subjects()
    name = subjects.work_consumer(tenant, namespace, queue)
    assert subjects.parse_work_consumer(name) == (tenant, namespace, queue)
    assert subjects.parse_work_consumer("somebody-elses") is None


@given(names, names, names)
def test_a_command_is_parsed_back(tenant: str, noun: str, verb: str) -> None:
    subject = SUBJECTS.command(tenant, noun, verb)
    assert SUBJECTS.parse_command(subject) == (tenant, f"{noun}.{verb}")
    assert SUBJECTS.tenant_of(subject) == tenant
    assert matches(SUBJECTS.commands_all, subject)


@given(names, names, names)
def test_a_submitted_command_is_parsed_back(tenant: str, noun: str, verb: str) -> None:
    subject = SUBJECTS.submit(tenant, noun, verb)
    assert SUBJECTS.parse_submit(subject) == (tenant, f"{noun}.{verb}")
    assert matches(SUBJECTS.submits_all, subject)
    assert not matches(SUBJECTS.commands_all, subject)


@given(names, names, names)
def test_a_live_event_comes_to_who_wants_its_task(tenant: str, namespace: str, template: str) -> None:
    subject = SUBJECTS.event(tenant, namespace, template, "t-1", "step_completed")
    assert matches(SUBJECTS.evt_all, subject)
    assert matches(SUBJECTS.events_of_task(tenant, "t-1"), subject)
    assert not matches(SUBJECTS.events_of_task(tenant, "t-2"), subject)


def test_stored_events_leave_the_task_out() -> None:
    source, destination = SUBJECTS.stored_events_transform
    live = SUBJECTS.event("t", "shop", "order", "task-1", "task_created")
    assert matches(source, live)
    wildcards = [given_ for wanted, given_ in zip(source.split("."), live.split("."), strict=True) if wanted == "*"]
    stored = re.sub(r"\{\{wildcard\((\d)\)\}\}", lambda found: wildcards[int(found[1]) - 1], destination)
    assert stored == "acme.t.evt.shop.order.task_created"
    assert matches(SUBJECTS.stored_events("t"), stored)
    assert matches(SUBJECTS.evt_all, stored)


def test_work_and_reports() -> None:
    assert matches(SUBJECTS.work_all, SUBJECTS.work("t", "shop", "default"))
    assert matches(SUBJECTS.reports_of_shard(3), SUBJECTS.report("t", 3))
    assert not matches(SUBJECTS.reports_of_shard(3), SUBJECTS.report("t", 13))
    assert "." not in SUBJECTS.work_consumer("t", "shop", "default")


@given(names)
def test_no_tenant_reaches_what_is_ours(tenant: str) -> None:
    """A tenant may use everything below its own token, and nothing of ours lies there."""
    ours = [
        SUBJECTS.node_shard(1, "cmd"),
        SUBJECTS.mark(1),
        SUBJECTS.log_head,
        SUBJECTS.mark_end,
        SUBJECTS.refused("t"),
    ]
    assert not any(matches(f"{SUBJECTS.prefix}.{tenant}.>", subject) for subject in ours)
    assert matches(SUBJECTS.marks_all, SUBJECTS.mark(1))


def test_prefixes_keep_apart() -> None:
    one, two = Subjects("one"), Subjects("two")
    assert {one.work_stream, one.event_stream}.isdisjoint({two.work_stream, two.event_stream})
    assert not matches(one.evt_all, two.event("t", "n", "x", "i", "e"))


@pytest.mark.parametrize("prefix", ["", "A", "a.b", "a*", "a>", "_log", "a b", "é", "a" * 64, "1a", "a\n"])
def test_a_prefix_is_one_plain_token(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="TASKER_NATS_PREFIX"):
        Subjects(prefix)

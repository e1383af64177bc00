"""A good history with a bit of everything in it, for planting bugs in: one shard, several tasks, small batches."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import msgspec

from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.stored import encode_meta, to_new_event
from tasker.events.template_events import TemplateRegistered
from tasker.ids import template_stream_id
from tasker.replay.checkers.checker import LogChecker, feed
from tasker.replay.findings import Finding, Report
from tasker.service.domain.commands import RetryTask
from tasker.templates import CompiledTemplate
from tests.runs import DIAMOND, T0_US, Run, Shelf, linear, template

TEMPLATE = template(DIAMOND, steps={key: {"retry": {"max_attempts": 2}} for key in DIAMOND})
LINEAR = linear(2, retry={"max_attempts": 2})
TEMPLATES = {one.hash: one for one in (TEMPLATE, LINEAR)}


def template_of(digest: str) -> CompiledTemplate | None:
    return TEMPLATES.get(digest)


def completed(key: str = "order-1", shape: CompiledTemplate = TEMPLATE) -> Run:
    """A task that ran through, with one retry."""
    run = Run(shape, task_id=uuid.uuid5(uuid.NAMESPACE_OID, key))
    run.create(key=key)
    first = next(iter(run.state.steps))
    run.start(first)
    run.wait(1)
    run.fail(first)
    run.fire_at(f"retry:{first}:2")
    run.finish()
    return run


def cancelled(key: str = "order-2") -> Run:
    """A task that was cancelled while a step ran, whose grace was over."""
    run = Run(TEMPLATE, task_id=uuid.uuid5(uuid.NAMESPACE_OID, key))
    run.create(key=key)
    run.start("a")
    run.cancel(5)
    run.fire_at("grace:a:1")
    return run


def delayed(key: str = "order-3") -> Run:
    """A task with a start time and a deadline, which ended it."""
    run = Run(TEMPLATE, task_id=uuid.uuid5(uuid.NAMESPACE_OID, key))
    run.create(key=key, not_before_us=T0_US + 60_000_000, timeout_s=3600)
    run.fire_at("not_before")
    run.fire_at("deadline")
    return run


def repaired(key: str = "order-4") -> Run:
    """A task that was blocked, repaired by a person and completed."""
    run = Run(LINEAR, task_id=uuid.uuid5(uuid.NAMESPACE_OID, key))
    run.create(key=key)
    run.fail("s1", 1)
    run.fire_at("retry:s1:2")
    run.fail("s1", 2)
    run.wait(100)
    run.do(RetryTask(at_us=run.now_us), command_id="command-1")
    run.finish()
    return run


def by_time(runs: Iterable[Run]) -> list[RecordedEvent]:
    """One shard with the units of `runs`, and a template's registration before them."""
    registered = TemplateRegistered(namespace="default", name="t", version="1.0.0", hash=TEMPLATE.hash)
    stream = template_stream_id("default", "default", "t")
    first = to_new_event(
        registered, stream_id=stream, seq=1, tenant="default", at_us=T0_US, meta=encode_meta(Meta(command_id="r1"))
    )
    shelf = Shelf(1)
    units = sorted((unit for run in runs for unit in run.units), key=lambda unit: unit[0].at_us)
    shelf.put([[first], *units])
    return shelf.events[0]


def good_log() -> list[RecordedEvent]:
    return by_time([completed(), cancelled(), delayed(), repaired()])


def found(checker: Callable[[Report], LogChecker], events: Sequence[RecordedEvent]) -> list[Finding]:
    """What a checker finds in a shard."""
    findings: list[Finding] = []
    feed(events, [checker(findings.append)])
    return findings


def changed(events: Sequence[RecordedEvent], index: int, **columns: object) -> list[RecordedEvent]:
    """The log with columns of one event changed behind our back."""
    return [msgspec.structs.replace(one, **columns) if at == index else one for at, one in enumerate(events)]


def renumbered(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """The log with positions and seqs without gaps: a bug of the decider, not of the log."""
    seqs: dict[UUID, int] = {}
    numbered = []
    for position, one in enumerate(events, start=1):
        seq = seqs[one.stream_id] = seqs.get(one.stream_id, 0) + 1
        numbered.append(msgspec.structs.replace(one, position=position, seq=seq))
    return numbered


def index_of(events: Sequence[RecordedEvent], kind: str, *, nth: int = 0, task: Run | None = None) -> int:
    """The place of the nth event of a type (of a task) in the list."""
    places = [
        at for at, one in enumerate(events) if one.type == kind and (task is None or one.stream_id == task.task_id)
    ]
    return places[nth]

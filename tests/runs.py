"""Tasks run by the real `decide`, without a service: what tests of the domain and of replay are made of.

A `Run` is one task; `Shelf` gives the units of many runs their places in shards, in batches with a chain, as
committers do, and appends them to any log.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import US_PER_S, Meta, NewEvent, RecordedEvent
from tasker.events.log import AppendOutcome, EventLog, ShardAppend
from tasker.events.stored import encode_meta, to_new_event
from tasker.events.task_events import AnyTaskEvent, Choice, Decision, ErrorInfo, TemplateRef
from tasker.ids import shard_of
from tasker.service.domain.advance import advance
from tasker.service.domain.commands import (
    AnswerApproval,
    AnyTaskCommand,
    CancelTask,
    CompleteAttempt,
    CompleteTask,
    CreateTask,
    DelegateApproval,
    DenyPlace,
    EditResult,
    FailAttempt,
    FailTask,
    FireObligation,
    NoteChild,
    NoteEvent,
    PauseTask,
    ReleaseStep,
    ResetStep,
    ResolveStep,
    ResumeTask,
    RetryStep,
    RetryTask,
    SetDeadline,
    SignalTask,
    SkipStep,
    StartAttempt,
    TakePlace,
    UpdateTask,
    YieldAttempt,
)
from tasker.service.domain.obligations import TASK_SCOPE, obligations_of, obligations_of_scope, scope_of
from tasker.service.domain.state import TaskState
from tasker.templates import CompiledTemplate, canonical_bytes, compile_template, validate

T0_US = 1_790_000_000_000_000
ERROR = ErrorInfo(type="ValueError", message="no such card")


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def types(events: Iterable[object]) -> list[type]:
    """The types of events, in their order: for tests of what happens, not of each detail."""
    return [type(event) for event in events]


def template(
    shape: Mapping[str, Sequence[str]], *, steps: Mapping[str, Any] | None = None, **keys: Any
) -> CompiledTemplate:
    """The template of a shape (step -> parents); `steps` has more keys of some, `keys` of the template."""
    documents = [{"name": name, "after": list(after), **(steps or {}).get(name, {})} for name, after in shape.items()]
    return compile_template(validate({"name": "t", "steps": documents, **keys}))


def linear(count: int = 4, **keys: Any) -> CompiledTemplate:
    """The template of `count` steps in a row, s1 first; `retry` and other keys of steps are for all of them."""
    of_step = {
        key: keys.pop(key) for key in ("retry", "start_to_close_s", "schedule_to_start_s", "heartbeat_s") if key in keys
    }
    names = [f"s{number}" for number in range(1, count + 1)]
    shape = {name: names[index - 1 : index] if index else [] for index, name in enumerate(names)}
    return template(shape, steps=dict.fromkeys(names, of_step), **keys)


DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


class Run:
    """One task under the real decider.

    Attributes:
        now_us: the time of the next command.
        events: all events with their times. units: the same by command.
        owed: what the task owes, kept up event by event as an actor does.
    """

    def __init__(self, template: CompiledTemplate, *, task_id: UUID | None = None, tenant: str = "default") -> None:
        self.template = template
        self.task_id = task_id or uuid.uuid4()
        self.tenant = tenant
        self.state = TaskState()
        self.now_us = T0_US
        self.events: list[AnyTaskEvent] = []
        self.units: list[list[NewEvent]] = []
        self.owed: dict[str, dict[str, int]] = {}

    def do(
        self, command: AnyTaskCommand, *, command_id: str | None = None, request: str | None = None
    ) -> tuple[AnyTaskEvent, ...]:
        """Decide on `command` and move the task on; returns the events."""
        seq = self.state.seq
        events = tuple(advance(self.state, self.template, command, command_id=command_id, request=request))
        unit = []
        scopes: set[str] | None = set()
        for index, event in enumerate(events, 1):
            unit.append(
                to_new_event(
                    event,
                    stream_id=self.task_id,
                    seq=seq + index,
                    tenant=self.tenant,
                    at_us=self.now_us,
                    meta=encode_meta(Meta(command_id=command_id, request=request)),
                )
            )
            scope = scope_of(event)
            scopes = None if scope is None or scopes is None else scopes | {scope}
        if events:
            self.units.append(unit)
            self.events += events
            self._owe(scopes)
        return events

    def _owe(self, scopes: set[str] | None) -> None:
        for scope in (TASK_SCOPE, *self.state.steps) if scopes is None else scopes:
            self.owed[scope] = obligations_of_scope(self.state, scope)

    def owes(self) -> dict[str, int]:
        """What the task owes by the incremental account: obligation -> time."""
        return {name: at_us for owed in self.owed.values() for name, at_us in owed.items()}

    def wait(self, seconds: float) -> None:
        self.now_us += round(seconds * US_PER_S)

    # ---- commands, at `now_us`

    def create(self, *, key: str | None = None, **more: Any) -> tuple[AnyTaskEvent, ...]:
        spec = self.template.spec
        ref = TemplateRef(spec.namespace, spec.name, "1.0.0", self.template.hash)
        fields = {
            "input": raw({"n": 6}),
            "request_hash": "cd" * 32,
            "idempotency_key": key,
            "at_us": self.now_us,
        } | more
        return self.do(CreateTask(template=ref, **fields))

    def start(self, step: str, attempt: int = 1, *, worker: str = "w1") -> tuple[AnyTaskEvent, ...]:
        return self.do(StartAttempt(step=step, attempt=attempt, worker=worker, at_us=self.now_us))

    def complete(
        self, step: str, attempt: int = 1, result: Any = 1, *, worker: str = "w1", choice: Choice | None = None
    ) -> tuple[AnyTaskEvent, ...]:
        return self.do(
            CompleteAttempt(
                step=step, attempt=attempt, worker=worker, result=raw(result), choice=choice, at_us=self.now_us
            )
        )

    def choose(self, step: str, *routes: str, reason: str = "", attempt: int = 1) -> tuple[AnyTaskEvent, ...]:
        """Complete a decision with its choice."""
        return self.complete(step, attempt, None, choice=Choice(routes=routes, reason=reason))

    def give_back(
        self, step: str, attempt: int = 1, checkpoint: Any = None, delay_s: float = 0.0
    ) -> tuple[AnyTaskEvent, ...]:
        """Give the attempt back with a checkpoint."""
        return self.do(
            YieldAttempt(
                step=step,
                attempt=attempt,
                worker="w1",
                checkpoint=raw(checkpoint),
                delay_s=delay_s,
                at_us=self.now_us,
            )
        )

    def child(
        self,
        step: str,
        child: str | None,
        attempt: int = 1,
        *,
        state: str = "",
        result: Any = None,
        error: ErrorInfo | None = None,
    ) -> tuple[AnyTaskEvent, ...]:
        """Tell the task how the child of a step stands; with a `state` it has ended."""
        return self.do(
            NoteChild(
                step=step,
                attempt=attempt,
                child=child,
                ended=bool(state),
                state=state,
                result=raw(result),
                error=error,
                at_us=self.now_us,
            )
        )

    def offered(self) -> list[str]:
        """Return the step instances that are with the workers, in the order in which they began."""
        return [name for name, step in self.state.steps.items() if step.status in ("dispatched", "running")]

    def result_of(self, step: str) -> Any:
        """Return the result of a step, as a Python value; None, too, when it has none."""
        found = self.state.result_of(step)
        return None if found is None else msgspec.json.decode(found)

    def result(self) -> Any:
        """Return the task's result, as a Python value."""
        assert self.state.result is not None
        return msgspec.json.decode(self.state.result)

    def fail(
        self, step: str, attempt: int = 1, error: ErrorInfo = ERROR, *, jitter: float = 0.5, worker: str = "w1"
    ) -> tuple[AnyTaskEvent, ...]:
        return self.do(
            FailAttempt(step=step, attempt=attempt, worker=worker, error=error, jitter=jitter, at_us=self.now_us)
        )

    def cancel(self, grace_s: float = 10.0) -> tuple[AnyTaskEvent, ...]:
        return self.do(CancelTask(grace_s=grace_s, at_us=self.now_us))

    def force_complete(self, result: Any, grace_s: float = 10.0) -> tuple[AnyTaskEvent, ...]:
        return self.do(CompleteTask(result=raw(result), grace_s=grace_s, at_us=self.now_us))

    def force_fail(self, error: ErrorInfo, grace_s: float = 10.0) -> tuple[AnyTaskEvent, ...]:
        return self.do(FailTask(error=error, grace_s=grace_s, at_us=self.now_us))

    def update(
        self,
        tags: dict[str, str | None] | None = None,
        metadata: dict[str, Any] | None = None,
        priority: int | None = None,
    ) -> tuple[AnyTaskEvent, ...]:
        return self.do(UpdateTask(tags=tags or {}, metadata=metadata, priority=priority, at_us=self.now_us))

    def deadline(self, deadline_us: int | None = None, within_s: float | None = None) -> tuple[AnyTaskEvent, ...]:
        return self.do(SetDeadline(deadline_us=deadline_us, within_s=within_s, at_us=self.now_us))

    def retry(self, step: str | None = None, attempt: int | None = None) -> tuple[AnyTaskEvent, ...]:
        if step is None:
            return self.do(RetryTask(at_us=self.now_us))
        return self.do(RetryStep(step=step, attempt=attempt, at_us=self.now_us))

    def pause(self, *, children: bool = False) -> tuple[AnyTaskEvent, ...]:
        return self.do(PauseTask(at_us=self.now_us, children=children))

    def resume(self, *, children: bool = False, paused_by: str | None = None) -> tuple[AnyTaskEvent, ...]:
        return self.do(ResumeTask(at_us=self.now_us, children=children, paused_by=paused_by))

    def skip(
        self, step: str, result: Any = None, *routes: str, by: str | None = "operator"
    ) -> tuple[AnyTaskEvent, ...]:
        choice = Choice(routes=routes) if routes else None
        return self.do(SkipStep(step=step, result=raw(result), choice=choice, by=by, at_us=self.now_us))

    def resolve(
        self, step: str, result: Any = None, *routes: str, by: str | None = "operator"
    ) -> tuple[AnyTaskEvent, ...]:
        choice = Choice(routes=routes) if routes else None
        return self.do(ResolveStep(step=step, result=raw(result), choice=choice, by=by, at_us=self.now_us))

    def reset(self, step: str) -> tuple[AnyTaskEvent, ...]:
        return self.do(ResetStep(step=step, at_us=self.now_us))

    def edit(self, step: str, result: Any, *, by: str | None = "operator") -> tuple[AnyTaskEvent, ...]:
        return self.do(EditResult(step=step, result=raw(result), by=by, at_us=self.now_us))

    def release(self, step: str) -> tuple[AnyTaskEvent, ...]:
        return self.do(ReleaseStep(step=step, at_us=self.now_us))

    def signal(
        self, name: str, value: Any = None, *, command_id: str | None = None, request: str | None = None
    ) -> tuple[AnyTaskEvent, ...]:
        command = SignalTask(name=name, value=raw(value), at_us=self.now_us)
        return self.do(command, command_id=command_id, request=request)

    def answer(
        self,
        step: str,
        decision: Decision,
        by: str,
        values: Any = None,
        *,
        roles: tuple[str, ...] = (),
        reason: str = "",
        attempt: int | None = None,
    ) -> tuple[AnyTaskEvent, ...]:
        return self.do(
            AnswerApproval(
                step=step,
                attempt=attempt,
                decision=decision,
                by=by,
                roles=roles,
                reason=reason,
                values=raw(values),
                at_us=self.now_us,
            )
        )

    def approve(self, step: str, by: str, values: Any = None, **more: Any) -> tuple[AnyTaskEvent, ...]:
        return self.answer(step, "approved", by, values, **more)

    def reject(self, step: str, by: str, values: Any = None, **more: Any) -> tuple[AnyTaskEvent, ...]:
        return self.answer(step, "rejected", by, values, **more)

    def delegate(self, step: str, by: str, to: str, *, roles: tuple[str, ...] = ()) -> tuple[AnyTaskEvent, ...]:
        return self.do(
            DelegateApproval(step=step, attempt=None, by=by, roles=roles, to=to, reason="", at_us=self.now_us)
        )

    def take(self, step: str = "", attempt: int = 0) -> tuple[AnyTaskEvent, ...]:
        """Grant the place that a step, or the task, waits for."""
        return self.do(TakePlace(step=step, attempt=attempt, at_us=self.now_us))

    def deny(
        self,
        step: str = "",
        attempt: int = 0,
        reason: Literal["full", "evicted"] = "full",
        taken_by: str | None = None,
    ) -> tuple[AnyTaskEvent, ...]:
        """Refuse a place, or want it back."""
        return self.do(DenyPlace(step=step, attempt=attempt, reason=reason, taken_by=taken_by, at_us=self.now_us))

    def event(
        self, step: str, event: Any, attempt: int = 1, *, task_id: str = "other", seq: int = 1, at_us: int | None = None
    ) -> tuple[AnyTaskEvent, ...]:
        """Tell a waiting step of an event of another task."""
        return self.do(
            NoteEvent(
                step=step,
                attempt=attempt,
                task_id=task_id,
                seq=seq,
                event_at_us=self.now_us if at_us is None else at_us,
                event=raw(event),
                at_us=self.now_us,
            )
        )

    def fire(self, obligation: str, *, jitter: float = 0.5) -> tuple[AnyTaskEvent, ...]:
        return self.do(FireObligation(obligation=obligation, jitter=jitter, at_us=self.now_us))

    def fire_at(self, obligation: str, *, jitter: float = 0.5) -> tuple[AnyTaskEvent, ...]:
        """Let time pass until an open obligation is due, and fire it."""
        self.now_us = max(self.now_us, obligations_of(self.state)[obligation])
        return self.fire(obligation, jitter=jitter)

    def finish(self) -> None:
        """Complete every step that is offered until none is."""
        while offered := self.offered():
            for name in offered:
                self.wait(0.001)
                self.complete(name, self.state.steps[name].attempt)


def new_events(runs: Iterable[Run]) -> Iterator[list[NewEvent]]:
    """Yield the units of some runs, run after run."""
    for run in runs:
        yield from run.units


class Shelf:
    """Gives units their places: each shard's positions, batches and chain, as its owner would."""

    def __init__(self, shards: int = 1, *, epoch: int = 1) -> None:
        self.shards = shards
        self.epochs = dict.fromkeys(range(shards), epoch)
        self.events: dict[int, list[RecordedEvent]] = {shard: [] for shard in range(shards)}
        self._digests = dict.fromkeys(range(shards), GENESIS)

    def put(self, units: Iterable[Sequence[NewEvent]], *, batch_units: int = 3) -> None:
        """Place `units` in the order given, `batch_units` of a shard to a batch."""
        waiting: dict[int, list[Sequence[NewEvent]]] = {}
        for unit in units:
            shard = shard_of(unit[0].stream_id, self.shards)
            batch = waiting.setdefault(shard, [])
            batch.append(unit)
            if len(batch) == batch_units:
                self._place(shard, waiting.pop(shard))
        for shard, batch in waiting.items():
            self._place(shard, batch)

    def _place(self, shard: int, batch: Sequence[Sequence[NewEvent]]) -> None:
        events = [event for unit in batch for event in unit]
        kept, epoch = self.events[shard], self.epochs[shard]
        first = len(kept) + 1
        leaves = [
            leaf_of(event, shard=shard, position=first + index, epoch=epoch) for index, event in enumerate(events)
        ]
        digest = self._digests[shard] = digest_of_batch(self._digests[shard], leaves)
        at_us = kept[-1].at_us if kept else 0
        for index, event in enumerate(events):
            assert event.at_us >= at_us, "the owner's times never decrease"
            kept.append(
                RecordedEvent(
                    shard=shard,
                    position=first + index,
                    epoch=epoch,
                    chain=digest if index == len(events) - 1 else None,
                    **{name: getattr(event, name) for name in NewEvent.__struct_fields__},
                )
            )


async def append_all(log: EventLog, units: Iterable[Sequence[NewEvent]], *, batch_events: int = 500) -> int:
    """Append `units` to a log that nobody owns, in batches; returns the number of events."""
    shards = (await log.info()).shards
    epochs = (await log.acquire("tests", range(shards), 60)).epochs
    heads = {head.shard: head for head in await log.heads(range(shards))}
    positions = {shard: head.position for shard, head in heads.items()}
    digests = {shard: head.digest or GENESIS for shard, head in heads.items()}
    waiting: dict[int, list[NewEvent]] = {shard: [] for shard in range(shards)}
    total = 0

    async def flush(shard: int) -> None:
        events, waiting[shard] = waiting[shard], []
        position, epoch = positions[shard], epochs[shard]
        leaves = [
            leaf_of(event, shard=shard, position=position + index, epoch=epoch)
            for index, event in enumerate(events, start=1)
        ]
        known, digests[shard] = digests[shard], digest_of_batch(digests[shard], leaves)
        part = ShardAppend(
            shard=shard, epoch=epoch, position=position, known=known, digest=digests[shard], events=events
        )
        assert await log.append([part]) == {shard: AppendOutcome.APPENDED}
        positions[shard] += len(events)

    for unit in units:
        total += len(unit)
        shard = shard_of(unit[0].stream_id, shards)
        waiting[shard] += unit
        if len(waiting[shard]) >= batch_events:
            await flush(shard)
    for shard, events in waiting.items():
        if events:
            await flush(shard)
    await log.release("tests")
    return total


async def put_template(log: EventLog, template: CompiledTemplate) -> None:
    """Store a template's content, as registering does."""
    content = canonical_bytes(template.spec)
    await log.put_blob(hashlib.sha256(content).digest(), content)


def linear4_units(tasks: int, *, open_tasks: int = 200, from_us: int = T0_US) -> Iterator[list[NewEvent]]:
    """Yield the units of many linear4 tasks, `open_tasks` of them side by side, each step in one report.

    The tasks have the same ids each time, so that they lie in the same shards.
    """
    shape = linear(4)
    now_us = from_us
    runs: list[Run] = []
    created = 0
    while created < tasks or runs:
        going = []
        for run in runs:
            now_us += 20
            run.now_us = now_us
            name = next(name for name, step in run.state.steps.items() if step.status == "dispatched")
            run.complete(name, result={"n": created, "text": "a result of ordinary size"})
            yield run.units.pop()
            if not run.state.ended:
                going.append(run)
        runs = going
        while len(runs) < open_tasks and created < tasks:
            created += 1
            now_us += 20
            run = Run(shape, task_id=uuid.uuid5(uuid.NAMESPACE_OID, f"{from_us}/{created}"))
            run.now_us = now_us
            run.create(key=f"key-{created}")
            yield run.units.pop()
            runs.append(run)


def created(run: Run) -> Run:
    """The run, with its task created."""
    run.create()
    return run

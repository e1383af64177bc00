"""What is shown of tasks, their steps and events, and of accepted commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from tasker.cli.options import Common, Format
from tasker.cli.output import Column, document, fields, line, note, plain, rows, time_text
from tasker.events.messages import Reply, StepProgress
from tasker.events.reads import CircuitFacts, DeadLetterView, EventView, Explanation, StepView, TaskView
from tasker.times import from_rfc3339

_PAGE_ITEMS_MAX: Final = 500
_STACKS_MAX: Final = 3


def show_task(view: TaskView, steps: Iterable[StepView], common: Common) -> None:
    """Write a task with its steps, as a person reads them, and where in their code the first that failed did so."""
    fields(view, task_fields(view, common), "table")
    line("")
    shown = list(steps)
    rows(shown, step_columns(), "table")
    raised = [(step, step.error.stack) for step in shown if step.error is not None and step.error.stack]
    for step, stack in raised[:_STACKS_MAX]:
        line(f"\nstep {step.step}, attempt {step.attempt}:\n{plain(stack).rstrip()}")
    if len(raised) > _STACKS_MAX:
        line(f"\n{len(raised) - _STACKS_MAX} more steps failed; `-o json` has the stack of each")


def show_explanation(why: Explanation, common: Common) -> None:
    """Write why a task or a step is where it is: the sentence, then a line for each cause."""
    if common.output != "table":
        fields(why, [], common.output)
        return
    line(why.sentence)
    columns: list[Column] = [
        ("waits for", lambda cause: cause.kind),
        ("step", lambda cause: cause.step),
        ("what", lambda cause: cause.text),
        ("next", lambda cause: common.next(cause.remedy)),
    ]
    if why.causes:
        line("")
        rows(list(why.causes), columns, "table")


def show_reply(reply: Reply, output: Format) -> None:
    """Write that a command is in the log, and where; of a dry run, what it would cause."""
    if reply.dry_run:
        columns: list[Column] = [
            ("would happen", lambda one: one.event),
            ("steps", lambda one: ", ".join(one.steps) or None),
        ]
        if any(one.fires is not None for one in reply.would):
            columns.append(("fire times", lambda one: one.fires))
        rows(list(reply.would), columns, output, empty="nothing would change")
        return
    named = {} if reply.task_id is None else {"task_id": reply.task_id}
    told = {
        **named,
        **(reply.template or {}),
        **(reply.schedule or {}),
        "position": reply.position,
        "duplicate": reply.duplicate,
    }
    pairs = [("task" if name == "task_id" else name, value or None) for name, value in told.items()]
    fields(told, pairs, output)


def task_fields(view: TaskView, common: Common) -> list[tuple[str, object]]:
    """Return what a table shows of a task."""
    return [
        ("task", view.task_id),
        ("template", f"{view.namespace}/{view.template}"),
        ("version", view.version),
        ("state", view.state),
        ("waiting on", view.waiting_on),
        ("created", time_text(view.created_at)),
        ("not before", time_text(view.not_before)),
        ("deadline", time_text(view.deadline_at)),
        ("ended", time_text(view.ended_at)),
        ("steps", f"{view.steps_completed} completed, {view.steps_failed} failed, {view.retries} retries"),
        ("priority", view.priority or None),
        ("tags", view.tags or None),
        ("metadata", view.metadata),
        ("restart of", view.restarted_from),
        ("restarted as", ", ".join(view.restarted_as) or None),
        ("key", view.idempotency_key),
        ("correlation", view.correlation_id),
        ("requested by", view.requested_by),
        ("reason", view.reason),
        ("input", view.input),
        ("result", view.result),
        ("error", f"{view.error.type}: {view.error.message}" if view.error else None),
        ("blocked at", view.blocked_steps or None),
        ("next", common.next(view.remedy)),
        ("events", view.seq),
        ("position", view.position),
    ]


def dead_letter_fields(letter: DeadLetterView, common: Common) -> list[tuple[str, object]]:
    """Return what a table shows of a dead letter."""
    settled = f"by {letter.settled_by}, {time_text(letter.settled_at)}: {letter.settled_reason}"
    return [
        ("task", letter.task_id),
        ("step", letter.step or None),
        ("template", f"{letter.namespace}/{letter.template}"),
        ("version", letter.version),
        ("reason", letter.reason),
        ("state", letter.state),
        ("status", letter.status),
        ("owner", letter.owner),
        ("error", f"{letter.error_type}: {letter.message}"),
        ("fingerprint", letter.fingerprint),
        ("attempt", letter.attempt or None),
        ("failures", letter.failures),
        ("first seen", time_text(letter.first_seen)),
        ("last seen", time_text(letter.last_seen)),
        ("left", f"{letter.left_how}, {time_text(letter.left_at)}" if letter.left_how else None),
        ("settled", settled if letter.settled_at else None),
        ("tags", letter.tags or None),
        *(("note", f"{time_text(note.at)} {note.requested_by}: {note.note}") for note in letter.notes),
        ("next", common.next(letter.remedy)),
    ]


def progress_text(told: StepProgress) -> str:
    """Return a step's progress in words, such as "3 of 4, packing"."""
    done = f"{told.done:g}" if told.total is None else f"{told.done:g} of {told.total:g}"
    failed = f"{told.failed} failed" if told.failed else ""
    return ", ".join(part for part in (done, failed, told.message) if part)


def step_columns() -> list[Column]:
    """Return what a table shows of steps."""

    def outcome(step: StepView) -> object:
        if step.error is not None:
            return f"{step.error.type}: {step.error.message}"
        if step.progress is not None:
            return progress_text(step.progress)
        return step.result if step.result is not None else step.waiting_on

    return [
        ("step", lambda step: step.step),
        ("state", lambda step: f"{step.state} ({step.by_hand})" if step.by_hand else step.state),
        ("attempt", lambda step: step.attempt or None),
        ("worker", lambda step: step.worker),
        ("started", lambda step: time_text(step.started_at)),
        ("ended", lambda step: time_text(step.ended_at)),
        ("outcome", outcome),
    ]


def trial_text(circuit: CircuitFacts, now_us: int) -> str:
    """Return when the trial of a circuit begins that holds attempts; behind its time it waits for one to come."""
    if circuit.state == "half_open":
        return "runs"
    if from_rfc3339(circuit.trial_at) > now_us:
        return f"at {time_text(circuit.trial_at)}"
    return "with the next attempt"


def page_items_of(limit: int) -> int:
    """Return how many items a list is to ask for at a time, of which `limit` (0: all) are shown."""
    return min(limit + 1, _PAGE_ITEMS_MAX) if limit else _PAGE_ITEMS_MAX


async def show_first(
    items: AsyncIterator[Any], limit: int, columns: Sequence[Column], output: Format, *, empty: str
) -> None:
    """Write the first `limit` of `items` (0: all), and note it where there are more; a line each as they come."""
    found: list[Any] = []
    count, more = 0, False
    async for item in items:
        if limit and count == limit:
            more = True
            break
        count += 1
        if output == "jsonl":
            document(item, output)
        else:
            found.append(item)
    if output != "jsonl":
        rows(found, columns, output, empty=empty)
    if more:
        _note_more(limit)


def show_found(found: Sequence[Any], limit: int, columns: Sequence[Column], output: Format, *, empty: str) -> None:
    """Write the first `limit` of a list (0: all), and note it where there are more."""
    rows(first_of(found, limit), columns, output, empty=empty)
    note_more(found, limit)


def first_of(found: Sequence[Any], limit: int) -> Sequence[Any]:
    """Return the first `limit` (0: all) of what was found."""
    return found[:limit] if limit else found


def note_more(found: Sequence[Any], limit: int, what: str = "") -> None:
    """Note it where more was found than `limit` (0: all); `what` it is, where not all that is shown is of one kind."""
    if limit and len(found) > limit:
        _note_more(limit, what)


def _note_more(limit: int, what: str = "") -> None:
    note(f"the first {limit}{f' {what}' if what else ''}; --limit 0 shows all")


async def show_history(
    events: AsyncIterator[EventView],
    output: Format,
    *,
    limit: int,
    empty: str,
    wanted: Callable[[EventView], bool] = lambda _: True,
) -> None:
    """Write the first `limit` of `events` (0: all) that are wanted, with who asked for each and why."""
    columns: list[Column] = [
        ("at", lambda event: time_text(event.at)),
        ("event", lambda event: event.type),
        ("by", lambda event: _of_meta(event, "requested_by")),
        ("reason", lambda event: _of_meta(event, "reason")),
        ("data", lambda event: event.data),
    ]
    chosen = (event async for event in events if wanted(event))
    await show_first(chosen, limit, columns, output, empty=empty)


def _of_meta(event: EventView, name: str) -> Any:
    meta = msgspec.json.decode(event.meta)
    return meta.get(name) if isinstance(meta, dict) else None


def event_columns() -> list[Column]:
    """Return what a table shows of events."""
    return [
        ("seq", lambda event: event.seq),
        ("event", lambda event: event.type),
        ("at", lambda event: time_text(event.at)),
        ("position", lambda event: event.position),
        ("data", lambda event: event.data),
    ]

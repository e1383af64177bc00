"""Errors as a person reads them: one line, the faults one by one, and what to do next.

Commands and workers tell theirs alike, so that whoever knows the form of one knows all.
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from tasker.errors import BodyTooLarge, TaskerError

_NEXT: Final = {
    "body_invalid": "mend what is named; JSON stands in single quotes, as `@input.json`, or as `-` for stdin",
    "body_too_large": "keep what is large in a store of yours, and send its key; a batch takes several smaller ones",
    "value_invalid": "mend the value that is named: JSON with finite numbers, keys that differ and no U+0000",
    "name_invalid": "names have small letters, digits, '-' and '_', begin with a letter and have at most 63 characters",
    "verb_unknown": "take one of those that are named; `tasker schema asyncapi` has each with its fields",
    "parameter_invalid": "mend the parameter that is named; `tasker schema openapi` has those of every endpoint",
    "endpoint_unknown": "`tasker schema openapi` has every endpoint; a service shows it at /v1/openapi.json",
    "method_not_allowed": "take one of the methods that are named",
    "input_invalid": "`tasker template show NAME` has the schema of the input",
    "template_invalid": "mend what is named",
    "template_unknown": "`tasker template list` shows what is registered; a worker registers its own at its start",
    "template_conflict": "give it another version, or none: then its content hash is the version",
    "template_limit": "go on under another name",
    "expression_invalid": "mend the expression at the place that is named",
    "expression_failed": "send what the expression reads, or let it look first: `has(input.x) && ...`",
    "schedule_conflict": "`tasker schedule update` changes it; `tasker schedule show NAME` says what it is",
    "schedule_unknown": "`tasker schedule list` names them; `tasker schedule create --help` makes one",
    "schedule_invalid": "mend what is named; `tasker schedule next` shows when a schedule would fire",
    "schedule_forbids": "`tasker schedule show NAME` says what state it is in",
    "key_ambiguous": "send the key once: as the field or as the header",
    "key_conflict": "a repeat says what the first one said (for a task: input, version); all else needs another key",
    "task_unknown": "`tasker task list` shows the tasks",
    "step_unknown": "`tasker step list TASK` shows the steps",
    "dead_letter_unknown": "`tasker dlq list` shows the dead letters",
    "task_ended": "an ended task does not change; `tasker task restart TASK` runs it once more, as a new task",
    "state_forbids": "`tasker task explain TASK` says what state it is in, and what it waits for",
    "task_poisoned": "`tasker log verify` names the event; a build that knows it can fold it",
    "history_limit": "`tasker task restart TASK`; let loops and lists begin child tasks where one task is too long",
    "event_unknown": "name it in `emits` of the step",
    "event_invalid": "mend the data, or the schema in `emits` of the step",
    "event_too_large": "emit the key of what is large in a store of yours",
    "events_too_many": "gather several into one event",
    "signal_unknown": "`tasker task explain TASK` says which signal it waits for",
    "signal_invalid": "mend the value; the schema stands at the step that waits: `tasker template show NAME`",
    "signals_full": "wait until steps have taken some: `tasker task explain TASK` says what it waits for",
    "state_invalid": "write names, and values that a result may have",
    "site_refused": "ask under an address or localhost, or set `http.url` to the name that the service is known by",
    "approval_forbidden": "`tasker approval list` shows who is asked",
    "approval_invalid": "give --values that match the form: `tasker approval list -o json` shows it",
    "usage_invalid": "give amounts and costs as ints, Decimal or decimal text",
    "usage_too_many": "add up in the handler, under fewer names",
    "chunk_too_large": "send it in pieces",
    "position_invalid": "a position is what an earlier command printed, such as 3:812, or `start`",
    "busy": "ask again in a moment",
    "fenced": "ask again in a moment: another node has taken over",
    "unavailable": "`tasker doctor` says what is wrong; `tasker up` starts a service on this machine",
    "outcome_unknown": "run it again with the same --idempotency-key: it is done once; without one look before whether "
    "it is there (`tasker task list`), and `tasker health` says what is wrong",
    "behind": "ask again in a moment",
    "not_permitted": "give the user that permission in nats-server's configuration; see `deploy/nats-users.conf`",
    "deadline_exceeded": "what has begun goes on (`tasker task wait TASK` waits for it); else ask again, and `tasker "
    "doctor` says what is wrong",
    "undecodable": "`tasker log verify` names what cannot be read; a newer build may know it",
    "authentication_failed": "mend user, password or credentials; `tasker config show` says where they come from",
    "schema_mismatch": "run `tasker migrate`",
    "internal_error": "the service's log has it, with a traceback: please report that",
}


def tell(error: TaskerError, output: str) -> None:
    """Write `error` to stderr: for people where `output` is "table", else as its problem document in one line."""
    text = "\n".join(lines_of(error)) if output == "table" else msgspec.json.encode(error.problem()).decode()
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - errors are for stderr


def lines_of(error: TaskerError) -> list[str]:
    """Return what a person reads of `error`."""
    lines = [f"error: {one_line(error.detail)} ({error.code})"]
    only = error.errors[0] if len(error.errors) == 1 else None
    named = error.errors if only is None or only.detail not in error.detail else ()
    lines += [f"  {fault.pointer or '/'}: {one_line(fault.detail)}" for fault in named]
    remedy = error.context.get("remedy") or next_step(error.code)
    return [*lines, f"next: {remedy}"] if remedy else lines


def one_line(text: str) -> str:
    """Return `text` without line breaks."""
    return " ".join(text.split())


def with_result_remedy(detail: str, error: Exception) -> str:
    """Return `detail`, why a handler's result cannot be kept, with what to do next: no attempt follows by itself."""
    how = "the key of what is large in a store of yours" if isinstance(error, BodyTooLarge) else "what JSON has"
    again = "`tasker step retry` runs the step again, `tasker step resolve` gives it a result"
    return f"{detail}; let the handler return {how}: {again}"


def next_step(code: str) -> str | None:
    """Return what a person does next about an error of `code`, where that is always the same."""
    return _NEXT.get(code)

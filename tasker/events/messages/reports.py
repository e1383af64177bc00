"""What workers tell of attempts, and what they are answered."""

from __future__ import annotations

from typing import Final, Literal, final

import msgspec

from tasker.errors import Problem
from tasker.events.task_events import NULL, Choice, ErrorInfo


class EmittedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A domain event that a handler emitted; it is raised when the attempt ends as its declaration asks for."""

    name: str
    data: msgspec.Raw = NULL


class UsageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt used of one meter, all together.

    Attributes:
        amount, cost: decimal text, exact. cost: as the handler told it; null: the price table gives it, if it can.
        unit: of the amount. model: whose meter it is; "": of none.
        currency: of the cost.
        price, prices: what a unit cost, and the version of the price table that said so; the owner's to say.
    """

    meter: str
    amount: str
    unit: str = ""
    model: str = ""
    cost: str | None = None
    currency: str = ""
    price: str | None = None
    prices: str | None = None


ReportKind = Literal[
    "claim",
    "reserve",
    "started",
    "heartbeat",
    "completed",
    "failed",
    "yielded",
    "result",
    "input",
    "returned",
    "peek",
]


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a running attempt is, as it says itself.

    Attributes:
        done: of `total`, in the handler's own unit. total: None: it does not know.
        message: for people; at most 200 characters.
    """

    done: float
    total: float | None = None
    message: str = ""


class LiveUpdate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a running attempt says live. It may be lost, and is kept nowhere.

    Attributes:
        step: the instance; the subject has the step of the template.
        number: of the messages of this attempt, from 1: one that is missing was lost.
        chunks: of its stream, in order. dropped: chunks left out so far, because they came too fast.
        ended: the attempt says nothing more.
    """

    task_id: str
    step: str
    attempt: int
    worker: str
    number: int
    at: str
    progress: Progress | None = None
    chunks: tuple[msgspec.Raw, ...] = ()
    dropped: int = 0
    ended: bool = False


PEEKED_STEPS_MAX: Final = 400
"""An answer to `peek` has the progress of so many steps: with the longest messages it fits into one."""


class StepProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The progress that a running attempt told last, and when its owner heard of it.

    It is in the owner's memory alone: not in the log, and gone until the next heartbeat when the owner changes.

    Of a step that runs for each item of a list, and waits for them, it is how many have completed and `failed`, now.
    """

    attempt: int
    at: str
    done: float
    total: float | None = None
    message: str = ""
    failed: int = 0


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker says of an attempt; sent again until it is answered.

    | kind        | meaning                                             | answer                          |
    |-------------|-----------------------------------------------------|---------------------------------|
    | `claim`     | may I run it? (a redelivered, re-offered, old copy)  | `run`; it is recorded as started |
    | `reserve`   | the same, ahead of a slot: I begin it within two seconds, or not at all | `run`; not recorded |
    | `started`   | I run it                                            | `recorded`                      |
    | `heartbeat` | I still run it, with my `progress`                   | `recorded`, `cancel`            |
    | `completed` | `result`, its `choice`, `emitted`, `usage`, `writes`, `progress`; implies `started` | `recorded` |
    | `failed`    | `error`, `emitted`, `usage`, the last `progress`; implies `started`  | `recorded`     |
    | `yielded`   | call again after `after_s`, with `checkpoint`, `usage`, `writes`, `progress` | `recorded`        |
    | `result`    | give me the result of step `of`                     | `result`                        |
    | `input`     | give me the task's input                            | `result`                        |
    | `returned`  | I have not begun it and shall not: offer it again   | `ok`                            |
    | `peek`      | (readers) `StepProgress` by step, of the next `PEEKED_STEPS_MAX` behind `of` | `result` |
    """

    kind: ReportKind
    task_id: str
    step: str
    attempt: int
    worker: str
    result: msgspec.Raw = NULL
    error: ErrorInfo | None = None
    of: str | None = None
    progress: Progress | None = None
    traceparent: str | None = None
    choice: Choice | None = None
    checkpoint: msgspec.Raw = NULL
    after_s: float = 0.0
    emitted: tuple[EmittedEvent, ...] = ()
    usage: tuple[UsageLine, ...] = ()
    writes: dict[str, msgspec.Raw] = {}


RefusalReason = Literal["stale_attempt", "not_open", "task_ended", "task_unknown", "started_elsewhere", "gone"]


@final
class ReportReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The owner's verdict on one report.

    Attributes:
        ok: the report was understood and decided on. False: `error` says why; retry when it is 503.
        recorded: it is in the log. False: `reason` says why it never will be.
        duplicate: it was there already.
        run: (claim) go ahead. cancel: stop the attempt; `grace_s` is left for it.
        result: (result) the value asked for.
    """

    ok: bool
    recorded: bool
    duplicate: bool = False
    run: bool = False
    reason: RefusalReason | None = None
    cancel: bool = False
    grace_s: float | None = None
    result: msgspec.Raw = NULL
    error: Problem | None = None

"""What a handler may return besides a plain result: a decision, a request to be called again, cursors of batches.

| returned                          | the step                                                          |
|-----------------------------------|-------------------------------------------------------------------|
| any value with a JSON form        | completes with it                                                 |
| `Decision.route("a", "b")`        | completes; of its `routes` only these run                         |
| `Decision.none("why")`            | completes; none of its `routes` runs                              |
| `Again(after_s=60, checkpoint=x)` | is called again later, with `ctx.checkpoint`, and holds no slot   |
| `Batches([...])`                  | completes with the list, for a step with `batches`                |
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec

from tasker.errors import ValueInvalid
from tasker.events.codec import encode_value
from tasker.events.task_events import NULL, Choice

REASON_CHARS_MAX = 2_000


class Decision:
    """What a step with `routes` chose.

    Attributes:
        routes: the steps that are to run. reason: why, for people. result: the step's own result.
    """

    __slots__ = ("reason", "result", "routes")

    def __init__(self, routes: tuple[str, ...], reason: str, result: object) -> None:
        self.routes = routes
        self.reason = reason
        self.result = result

    @classmethod
    def route(cls, *steps: str, reason: str = "", result: object = None) -> Decision:
        """Let these of the step's `routes` run, in declared order; the others will not."""
        return cls(steps, reason, result)

    @classmethod
    def none(cls, reason: str, *, result: object = None) -> Decision:
        """Let none of the step's `routes` run."""
        return cls((), reason, result)

    def __repr__(self) -> str:
        return f"Decision.route({', '.join(map(repr, self.routes))})" if self.routes else "Decision.none(...)"


class Again:
    """Call the handler again: at once, or later; until then it holds no slot.

    The next attempt finds `checkpoint` as `ctx.checkpoint`, and so does every one that follows a failure. Attempts that
    ended so do not count as failures, and failures before them count no more.

    Args:
        after_s: seconds until then, or a `timedelta`.
        checkpoint: any value with a JSON form, at most 64 KiB.
    """

    __slots__ = ("after_s", "checkpoint")

    def __init__(self, after_s: float | timedelta = 0.0, *, checkpoint: object = None) -> None:
        self.after_s = after_s.total_seconds() if isinstance(after_s, timedelta) else float(after_s)
        self.checkpoint = checkpoint
        if not 0 <= self.after_s < float("inf"):
            raise ValueInvalid(f"Again(after_s={after_s!r}): must be at least 0 seconds")

    def __repr__(self) -> str:
        return f"Again(after_s={self.after_s:g})"


class Batches:
    """The cursors of a batchable step: the step with `batches` runs once for each.

    Args:
        cursors: any values with a JSON form; none at all is fine, what joins the batches runs all the same.
    """

    __slots__ = ("cursors",)

    def __init__(self, cursors: Iterable[object]) -> None:
        self.cursors = list(cursors)

    @classmethod
    def split(cls, total: int, size: int) -> Batches:
        """Return the cursors `{"start": ..., "end": ...}` of `total` items, `size` at a time; `end` is not included.

        Raises:
            ValueInvalid: `size` is below 1 or `total` below 0.
        """
        if size < 1 or total < 0:
            raise ValueInvalid(f"Batches.split({total}, {size}): sizes are at least 1, totals at least 0")
        return cls({"start": at, "end": min(at + size, total)} for at in range(0, total, size))

    def __repr__(self) -> str:
        return f"Batches({len(self.cursors)} cursors)"


class Returned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a report says of a call that returned.

    Attributes:
        result: the result, or with `again_after_s` the checkpoint, as JSON.
        again_after_s: None: the step completes.
    """

    result: msgspec.Raw = NULL
    choice: Choice | None = None
    again_after_s: float | None = None


def returned_of(value: Any) -> Returned:
    """Return what the value that a handler returned means.

    Raises:
        ValueInvalid: it has no JSON form.
    """
    match value:
        case Returned():
            return value
        case Decision(routes=routes, reason=reason, result=result):
            choice = Choice(routes=tuple(map(str, routes)), reason=str(reason)[:REASON_CHARS_MAX])
            return Returned(result=msgspec.Raw(encode_value(result)), choice=choice)
        case Again(after_s=after_s, checkpoint=checkpoint):
            return Returned(result=msgspec.Raw(encode_value(checkpoint)), again_after_s=after_s)
        case Batches(cursors=cursors):
            return Returned(result=msgspec.Raw(encode_value(cursors)))
        case _:
            return Returned(result=msgspec.Raw(encode_value(value)))

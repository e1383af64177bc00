"""How a call is repeated, and what it says when it gives up."""

import asyncio

import pytest

from tasker.client.attempts import RetryPolicy, attempt_until, backoff_s, verdict
from tasker.errors import (
    Busy,
    DeadlineExceeded,
    Fenced,
    InputInvalid,
    KeyConflict,
    OutcomeUnknown,
    TaskerError,
    Unavailable,
    is_passing,
)

POLICY = RetryPolicy(attempt_s=1.0, delay_s_base=0.0, delay_s_max=0.0)


class StepClock:
    """A clock that moves by a fixed step at each look."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.at_s = 0.0
        self.step_s = step_s

    def now_us(self) -> int:
        return int(self.at_s * 1e6)

    def monotonic_s(self) -> float:
        self.at_s += self.step_s
        return self.at_s


async def run(answers: list[TaskerError | str], *, deadline_s: float = 10.0, step_s: float = 0.0) -> tuple[str, int]:
    asked = 0

    async def ask(timeout_s: float) -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        said = answers.pop(0)
        if isinstance(said, TaskerError):
            raise said
        return said

    answer = await attempt_until(ask, deadline_s=deadline_s, policy=POLICY, clock=StepClock(step_s))
    return answer, asked


@pytest.mark.parametrize(
    "error", [Unavailable("x"), Fenced("x"), Busy("x"), DeadlineExceeded("x"), OutcomeUnknown("x")]
)
async def test_what_passes_is_asked_again(error: TaskerError) -> None:
    assert await run([error, error, "done"]) == ("done", 3)


async def test_only_errors_that_another_attempt_follows_are_told() -> None:
    told: list[TaskerError] = []
    answers = [Unavailable("first"), Busy("second"), InputInvalid("last")]

    async def ask(_: float) -> str:
        raise answers.pop(0)

    policy = RetryPolicy(delay_s_base=0.0, delay_s_max=0.0, on_repeat=told.append)
    with pytest.raises(InputInvalid):
        await attempt_until(ask, deadline_s=10.0, policy=policy, clock=StepClock())
    assert [error.detail for error in told] == ["first", "second"]


@pytest.mark.parametrize("error", [InputInvalid("no"), KeyConflict("no"), TaskerError("bug")])
async def test_a_refusal_is_final(error: TaskerError) -> None:
    with pytest.raises(type(error), match=error.detail):
        await run([error, "never"])


async def test_the_deadline_ends_it_with_the_last_error() -> None:
    with pytest.raises(Unavailable, match="still down"):
        await run([Unavailable("down"), *[Unavailable("still down")] * 9], deadline_s=0.5, step_s=0.1)


def test_a_doubt_of_an_earlier_attempt_is_not_forgotten() -> None:
    """`unavailable` says that nothing was recorded; that is not true of the attempt before, whose answer was lost."""
    said = verdict([DeadlineExceeded("lost"), Unavailable("nobody listens")])
    assert isinstance(said, OutcomeUnknown)
    assert "nobody listens" in said.detail
    assert type(verdict([Unavailable("a"), Unavailable("b")])) is Unavailable
    assert type(verdict([DeadlineExceeded("a")])) is DeadlineExceeded


def test_the_wait_grows_is_bounded_and_respects_the_service() -> None:
    policy = RetryPolicy(delay_s_base=0.1, delay_s_max=3.0)
    waits = [backoff_s(policy, attempt=n, jitter=1.0, retry_after_s=None) for n in (1, 2, 3, 20, 2000)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 3.0, 3.0])
    assert backoff_s(policy, attempt=1, jitter=0.0, retry_after_s=2.5) == 2.5


def test_what_passes() -> None:
    assert is_passing(Unavailable())
    assert is_passing(Busy())
    assert not is_passing(KeyConflict())

"""The client's dead letters: what is asked for, and what becomes of many."""

import inspect
from typing import Any

import pytest

from tasker.client import DeadLetterFilter, DeadLetters, SyncDeadLetters
from tasker.client.carriers import endpoint_of
from tasker.client.dead_letters import IN_FLIGHT, resolved_by, retried_by
from tasker.errors import StateForbids, TaskerError, Unavailable
from tasker.events.messages import Command, DeadLetterResolve, DeadLetterRetry, Reply
from tasker.events.reads import DeadLetterCount, DeadLetterPage, DeadLetterView
from tasker.ids import SystemIds

WHO: dict[str, Any] = {"requested_by": "ada", "reason": "why"}


def letter(number: int, *, step: str = "charge", attempt: int = 2) -> DeadLetterView:
    return DeadLetterView(
        task_id=f"t-{number}",
        step=step,
        namespace="shop",
        template="orders",
        version="1",
        task_state="blocked",
        state="dead",
        status="open",
        reason="retries_exhausted",
        error_type="ValueError",
        message="no",
        fingerprint="1-0",
        pattern="no",
        attempt=attempt,
        failures=1,
        first_seen="2026-11-21T10:00:00Z",
        last_seen="2026-11-21T10:00:00Z",
        position="0:1",
    )


class Service:
    """Has some dead letters in pages, and refuses some commands."""

    def __init__(self, count: int, refusals: dict[str, TaskerError] | None = None) -> None:
        self.letters = [letter(number) for number in range(count)]
        self.refusals = refusals or {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[tuple[str, Any]] = []
        self.dlq = DeadLetters(self._command, self._asks, SystemIds())

    async def _command(self, verb: str, command: Command) -> Reply:
        self.sent.append((verb, command))
        task_id: str = command.task_id  # type: ignore[attr-defined]
        if task_id in self.refusals:
            raise self.refusals[task_id]
        return Reply(ok=True, task_id=task_id, position=f"{len(self.sent) % 2}:{len(self.sent)}")

    async def _asks(self, path: str, kind: type[Any], parameters: Any) -> Any:
        self.asked.append((path, dict(parameters)))
        if kind is DeadLetterCount:
            return DeadLetterCount(count=len(self.letters), position="0:1")
        start = int(parameters["after"] or 0)
        end = start + 7
        return DeadLetterPage(
            items=self.letters[start:end], next=str(end) if end < len(self.letters) else None, position="0:1"
        )


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


def test_the_sync_one_is_the_async_one_method_by_method() -> None:
    one, other = methods(DeadLetters), methods(SyncDeadLetters)
    assert list(one) == list(other)
    for name, signature in one.items():
        assert list(signature.parameters.values()) == list(other[name].parameters.values()), name
        assert other[name].return_annotation == signature.return_annotation.replace("AsyncIterator", "Iterator")
        assert inspect.getdoc(vars(DeadLetters)[name]) == inspect.getdoc(vars(SyncDeadLetters)[name])


async def test_each_matching_one_is_retried_once_for_the_attempt_that_was_listed() -> None:
    service = Service(IN_FLIGHT * 2 + 3)
    told: list[tuple[int, int]] = []
    outcome = await service.dlq.retry_all(**WHO, on_progress=lambda done, of: told.append((done, of)))
    count = len(service.letters)
    assert (outcome.matched, outcome.done, outcome.refused) == (count, count, ())
    assert sorted(command.task_id for _, command in service.sent) == sorted(one.task_id for one in service.letters)
    verb, command = service.sent[0]
    assert verb == "dlq.retry"
    assert isinstance(command, DeadLetterRetry)
    assert (command.step, command.attempt, command.requested_by, command.reason) == ("charge", 2, "ada", "why")
    assert told == [(number, count) for number in range(1, count + 1)]
    assert outcome.position == f"0:{count - 1},1:{count}"


async def test_a_letter_of_a_task_itself_names_neither_step_nor_attempt() -> None:
    service = Service(0)
    service.letters = [letter(1, step="", attempt=0)]
    await service.dlq.resolve_all(**WHO, ignore=True)
    ((verb, command),) = service.sent
    assert isinstance(command, DeadLetterResolve)
    assert (verb, command.step, command.attempt, command.ignore) == ("dlq.resolve", None, None, True)


async def test_what_is_refused_is_told_and_the_others_go_on() -> None:
    service = Service(5, {"t-2": StateForbids("somebody was faster")})
    outcome = await service.dlq.retry_all(**WHO)
    assert (outcome.matched, outcome.done) == (5, 4)
    ((refused, why),) = outcome.refused
    assert (refused.task_id, why.code) == ("t-2", "state_forbids")


async def test_a_service_that_is_away_ends_it() -> None:
    service = Service(IN_FLIGHT * 3, {"t-1": Unavailable("away")})
    with pytest.raises(Unavailable):
        await service.dlq.resolve_all(**WHO)
    assert len(service.sent) == IN_FLIGHT


async def test_nothing_that_matches_is_fine() -> None:
    outcome = await Service(0).dlq.retry_all(**WHO)
    assert (outcome.matched, outcome.done, outcome.position) == (0, 0, None)


def test_a_bulk_takes_only_what_it_can_do_something_about() -> None:
    wanted = DeadLetterFilter(states=("left",), template="orders")
    assert (retried_by(wanted).states, resolved_by(wanted).states) == (("dead",), ("dead",))
    assert retried_by(wanted).statuses == ("open", "investigating")
    assert "poison" not in retried_by(wanted).reasons
    assert retried_by(DeadLetterFilter(reasons=("no_worker",), statuses=("ignored",))).reasons == ("no_worker",)
    assert resolved_by(wanted).template == "orders"


@pytest.mark.parametrize("verb", ["add", "investigate", "resolve", "reopen", "retry"])
def test_each_command_has_its_endpoint(verb: str) -> None:
    assert endpoint_of(f"dlq.{verb}", {"task_id": "t/1", "step": "a"}) == (
        "POST",
        f"/v1/dlq/t%2F1/{verb}",
        {"step": "a"},
    )

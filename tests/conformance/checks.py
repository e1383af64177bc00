"""What every worker has to do, each a check against a running worker.

The worker serves the queue `flow` of the namespace `default` with four handlers: `echo` returns its input, `gather`
returns the result of the parent `big`, `wait` runs until it is stopped, `fail` fails as its input says.
"""

import itertools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tasker.errors import BodyTooLarge
from tasker.events.messages import CancelAttempt, Report, ReportReply, Work
from tests.conformance.service import ASKS, BUSY, GONE, ConformanceService
from tests.integration.scripted_owner import friendly

Check = Callable[[ConformanceService], Awaitable[None]]
OLD_S = 2.5
"""How long a message lies before it is surely too old to be run unasked (2 s)."""

BIG = 12345678901234567890123


async def first_delivery_runs(service: ConformanceService) -> None:
    """A first delivery runs at once, without a question; its result is reported and the message acked."""
    acked = await service.settled()
    work = await offer(service, "echo", input={"a": [1, 2.5, None, "ü☕"]})
    await completed(service, work, {"a": [1, 2.5, None, "ü☕"]})
    await service.until_acked(acked + 1)
    expect(not ASKS & set(service.kinds(work)), "it asked for a first delivery", service, work)


async def null_is_a_result(service: ConformanceService) -> None:
    """A handler that returns null has a result."""
    await completed(service, await offer(service, "echo", input=None), None)


async def started_is_reported_and_acks(service: ConformanceService) -> None:
    """A longer attempt is reported as started; the message is acked after the answer, and not before."""
    acked = await service.settled()
    work = service.prepare("wait")
    service.answer_with(work, lambda _: BUSY)
    await send(service, work)
    await service.until_kind(work, "started")
    other = await offer(service, "echo", input=1)  # the worker has had time for an ack by when this is done
    await completed(service, other, 1)
    await service.until_acked(acked + 1)
    expect(service.acked == acked + 1, "it acked before the owner answered", service, work)
    service.answer_with(work, friendly)
    await service.until_acked(acked + 2)
    await cancel(service, work)


async def reports_are_repeated_until_answered(service: ConformanceService) -> None:
    """A report without an answer, or answered with 503, is sent again, the same; an answered one is not."""
    answers: list[ReportReply | None] = [None, BUSY, BUSY]
    work = service.prepare("echo", input="again")

    def answer(report: Report) -> ReportReply | None:
        return answers.pop(0) if report.kind == "completed" and answers else friendly(report)

    service.answer_with(work, answer)
    await send(service, work)
    await service.until_kind(work, "completed", count=4)
    await completed(service, await offer(service, "echo", input=1), 1)
    outcomes = [item for item in service.raw[work.task_id] if item["kind"] == "completed"]
    expect(len(outcomes) == 4, f"{len(outcomes)} outcomes where the fourth was answered", service, work)
    expect(all(item == outcomes[0] for item in outcomes), "a repeated report differs", service, work)


async def an_offer_made_again_asks_first(service: ConformanceService) -> None:
    """Work with `offer` above 0 runs only after the owner said `run`."""
    acked = await service.settled()
    work = service.prepare("echo", input="mine", offer=1)
    service.answer_with(work, lambda report: BUSY if len(service.kinds(work)) < 3 else friendly(report))
    await send(service, work)
    await completed(service, work, "mine")
    kinds = [kind for kind in service.seen(work) if kind != "started"]
    asked = len(kinds) == 4 and len(set(kinds[:3])) == 1 and kinds[0] in ASKS and kinds[3] == "completed"
    expect(asked, "it did not wait for `run`", service, work)
    await service.until_acked(acked + 1)


async def gone_is_forgotten(service: ConformanceService) -> None:
    """Work that is gone is acked and not run."""
    acked = await service.settled()
    work = service.prepare("echo", offer=1)
    service.answer_with(work, lambda _: GONE)
    await send(service, work)
    await service.until(lambda: service.kinds(work))
    await service.until_acked(acked + 1)
    await completed(service, await offer(service, "echo", input=1), 1)
    expect(len(service.kinds(work)) == 1 and set(service.kinds(work)) <= ASKS, "it ran what was gone", service, work)


async def a_redelivered_message_asks_first(service: ConformanceService) -> None:
    """A message that was delivered before runs only after the owner said `run`."""
    work = service.early["redelivered"]
    await completed(service, work, "redelivered")
    expect(service.seen(work)[0] in ASKS, "it ran a redelivered message unasked", service, work)


async def an_old_message_asks_first(service: ConformanceService) -> None:
    """A message that lay for more than 2 s runs only after the owner said `run`."""
    work = service.early["old"]
    await completed(service, work, "old")
    expect(service.seen(work)[0] in ASKS, "it ran an old message unasked", service, work)


async def a_stale_outcome_is_forgotten(service: ConformanceService) -> None:
    """An outcome that the owner does not record is not sent again, and the message is acked."""
    acked = await service.settled()
    work = service.prepare("echo", input=1)
    stale = ReportReply(ok=True, recorded=False, reason="stale_attempt")
    service.answer_with(work, lambda report: stale if report.kind == "completed" else friendly(report))
    await send(service, work)
    await service.until_kind(work, "completed")
    await service.until_acked(acked + 1)
    await completed(service, await offer(service, "echo", input=2), 2)
    expect(service.kinds(work).count("completed") == 1, "it repeated an answered outcome", service, work)


async def heartbeats_come_at_a_third(service: ConformanceService) -> None:
    """While an attempt runs, a heartbeat comes at each third of `heartbeat_s`."""
    work = await offer(service, "wait", heartbeat_s=1.2)
    times_s: list[float] = []

    def answer(report: Report) -> ReportReply:
        if report.kind == "heartbeat":
            times_s.append(time.monotonic())
        return friendly(report)

    service.answer_with(work, answer)
    await service.until(lambda: len(times_s) >= 4)
    await cancel(service, work)
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    expect(max(gaps_s) < 1.2, f"silent for {max(gaps_s):.2f} s of 1.2", service, work)
    expect(sum(gaps_s) / len(gaps_s) > 0.2, f"heartbeats every {gaps_s}, wanted 0.4 s", service, work)


async def a_cancel_by_message_stops_it(service: ConformanceService) -> None:
    """The cancel message stops an attempt; it is reported as failed, `cancelled`, not to be retried."""
    work = await offer(service, "wait")
    await service.until_kind(work, "started")
    await cancel(service, work)


async def a_cancel_by_an_answer_stops_it(service: ConformanceService) -> None:
    """The answer to a heartbeat stops an attempt as well, should the message be lost."""
    work = service.prepare("wait", heartbeat_s=0.6)
    told = ReportReply(ok=True, recorded=True, cancel=True, grace_s=5.0)
    service.answer_with(work, lambda report: told if report.kind == "heartbeat" else friendly(report))
    await send(service, work)
    error = await failed(service, work)
    expect((error["type"], error["retryable"]) == ("cancelled", False), f"it reported {error}", service, work)


async def an_attempt_of_another_worker_is_dropped(service: ConformanceService) -> None:
    """An attempt that the owner calls `started_elsewhere` ends without an outcome."""
    work = service.prepare("wait", heartbeat_s=0.6)
    elsewhere = ReportReply(ok=True, recorded=False, reason="started_elsewhere", grace_s=0.0)
    service.answer_with(work, lambda _: elsewhere)
    await send(service, work)
    await service.until_kind(work, "started")
    await completed(service, await offer(service, "echo", input=1), 1)
    expect("failed" not in service.kinds(work), "it reported what it was told to drop", service, work)


async def errors_say_whether_to_retry(service: ConformanceService) -> None:
    """A handler's failure is reported with its message, whether to retry, and when."""
    wanted = {"message": "come later", "retryable": True, "retry_after_s": 7.5}
    error = await failed(service, await offer(service, "fail", input=wanted))
    found = {name: error.get(name, True) for name in wanted}
    assert found == wanted, f"reported {error}"
    wanted = {"message": "never", "retryable": False}
    error = await failed(service, await offer(service, "fail", input=wanted))
    assert {name: error.get(name, True) for name in wanted} == wanted, f"reported {error}"
    assert error["type"], "an error has a type"


async def unknown_members_are_ignored(service: ConformanceService) -> None:
    """Members that a worker does not know are no error, in work and cancels (all answers here have one)."""
    work = service.prepare("wait")
    await send_raw(service, as_json(work) | {"priority": {"later": 1}})
    await service.until_kind(work, "started")
    message = CancelAttempt(task_id=work.task_id, step=work.step, attempt=1, grace_s=5.0)
    text = json.dumps(json.loads(msgspec.json.encode(message)) | {"why": "because"})
    service.bus.publish(service.subjects.worker_cancel("default", worker_of(service, work)), text.encode())
    await failed(service, work)


async def results_left_out_are_asked_for(service: ConformanceService) -> None:
    """Results of parents in `results_ref` are asked for before the handler runs."""
    work = service.prepare("gather", results_ref=("big",))
    result = ReportReply(ok=True, recorded=True, result=msgspec.Raw(b'{"rows":[1,2,3]}'))
    service.answer_with(work, lambda report: result if report.kind == "result" else friendly(report))
    await send(service, work)
    await completed(service, work, {"rows": [1, 2, 3]})
    asked = [report.of for report in service.reports if report.task_id == work.task_id and report.kind == "result"]
    expect(set(asked) == {"big"}, f"it asked for {asked}", service, work)


async def an_input_left_out_is_asked_for(service: ConformanceService) -> None:
    """With `input_ref` the input is asked for before the handler runs."""
    work = service.prepare("echo", input=None, input_ref=True, item=msgspec.Raw(b"7"), index=0)
    told = ReportReply(ok=True, recorded=True, result=msgspec.Raw(b'{"large":true}'))
    service.answer_with(work, lambda report: told if report.kind == "input" else friendly(report))
    await send(service, work)
    await completed(service, work, {"large": True})


async def a_refused_result_is_a_failure(service: ConformanceService) -> None:
    """Where the owner refuses a result for good, the attempt is reported as failed, not to be retried; then acked."""
    acked = await service.settled()
    work = service.prepare("echo", input="too large")
    refusal = BodyTooLarge("70012 bytes are more than the 65536 allowed").problem()
    refused = ReportReply(ok=False, recorded=False, error=refusal)
    service.answer_with(work, lambda report: refused if report.kind == "completed" else friendly(report))
    await send(service, work)
    await service.until_kind(work, "failed")
    error = next(item for item in service.raw[work.task_id] if item["kind"] == "failed")["error"]
    told = (error["type"], error.get("retryable", True))
    expect(told == ("result_invalid", False), f"it said {error}", service, work)
    expect(service.kinds(work).count("completed") == 1, "it repeated what was refused", service, work)
    await service.until_acked(acked + 1)


async def results_in_the_message_are_used(service: ConformanceService) -> None:
    """Results of parents in the message are used as they are."""
    work = await offer(service, "gather", results={"big": msgspec.Raw(b'"here"'), "other": msgspec.Raw(b"1")})
    await completed(service, work, "here")
    expect("result" not in service.kinds(work), "it asked for what it had", service, work)


async def many_at_once_are_all_reported(service: ConformanceService) -> None:
    """Fifty pieces of work at once are all done, each reported for itself."""
    works = [await offer(service, "echo", input=number) for number in range(50)]
    for number, work in enumerate(works):
        await completed(service, work, number)
    assert len({report.worker for report in service.reports}) == 1, "a worker has one id"


async def big_integers_are_exact(service: ConformanceService) -> None:
    """An integer beyond 64 bits comes back as it was."""
    await completed(service, await offer(service, "echo", input={"n": [BIG, -BIG]}), {"n": [BIG, -BIG]})


CHECKS: tuple[Check, ...] = (
    a_redelivered_message_asks_first,
    an_old_message_asks_first,
    first_delivery_runs,
    null_is_a_result,
    started_is_reported_and_acks,
    reports_are_repeated_until_answered,
    an_offer_made_again_asks_first,
    gone_is_forgotten,
    a_stale_outcome_is_forgotten,
    heartbeats_come_at_a_third,
    a_cancel_by_message_stops_it,
    a_cancel_by_an_answer_stops_it,
    an_attempt_of_another_worker_is_dropped,
    errors_say_whether_to_retry,
    unknown_members_are_ignored,
    results_left_out_are_asked_for,
    an_input_left_out_is_asked_for,
    a_refused_result_is_a_failure,
    results_in_the_message_are_used,
    many_at_once_are_all_reported,
    big_integers_are_exact,
)
ALLOWANCES: dict[str, str] = {"big_integers_are_exact": "the language has no exact integers in its JSON"}
"""Checks that a worker may be excused from, and why."""


# ---------------------------------------------------------------- what checks are made of


def expect(holds: bool, fault: str, service: ConformanceService, work: Work) -> None:  # noqa: FBT001 - as assert
    assert holds, f"{fault}; reports: {service.kinds(work)}; the end of the log: {service.log[-20:]}"


async def offer(service: ConformanceService, handler: str, *, input: Any = None, **fields: Any) -> Work:
    work = service.prepare(handler, input=input, **fields)
    await send(service, work)
    return work


async def send(service: ConformanceService, work: Work) -> None:
    await service.send(msgspec.json.encode(work))


async def send_raw(service: ConformanceService, body: Any) -> None:
    await service.send(json.dumps(body).encode())


def as_json(work: Work) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(msgspec.json.encode(work))
    return members


def worker_of(service: ConformanceService, work: Work) -> str:
    return next(report.worker for report in service.reports if report.task_id == work.task_id)


async def completed(service: ConformanceService, work: Work, result: Any) -> None:
    """Return when `work` has an outcome: the given result."""
    await service.until_ended(work)
    outcome = service.outcome(work)
    expect(outcome.kind == "completed", f"it failed: {outcome.error}", service, work)
    found = json.loads(bytes(outcome.result))
    expect(found == result, f"the result is {found!r}, not {result!r}", service, work)


async def failed(service: ConformanceService, work: Work) -> dict[str, Any]:
    """Return the error with which `work` ended."""
    await service.until_ended(work)
    outcome = service.outcome(work)
    expect(outcome.kind == "failed", "it completed", service, work)
    error: dict[str, Any] = next(item for item in service.raw[work.task_id] if item["kind"] == "failed")["error"]
    return error


async def cancel(service: ConformanceService, work: Work) -> None:
    """Cancel `work` by message, and return when it ended so."""
    service.cancel(worker_of(service, work), work)
    error = await failed(service, work)
    expect((error["type"], error.get("retryable", True)) == ("cancelled", False), f"it said {error}", service, work)

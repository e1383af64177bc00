"""The client against a scripted service on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.nats_bus import NatsBus
from tasker.bus.stored import stored_after
from tasker.bus.streams import delete_stream, ensure_streams
from tasker.client import NewTask, RetryPolicy, TaskerClient, TaskHandle
from tasker.errors import (
    BodyTooLarge,
    Busy,
    DeadlineExceeded,
    InputInvalid,
    KeyConflict,
    OutcomeUnknown,
    TaskerError,
    Unavailable,
)
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings

HASTY = RetryPolicy(attempt_s=0.2, delay_s_base=0.01, delay_s_max=0.02)
Script = Callable[[str, Any], object]
LOST = object()
"""An answer that is never sent."""


class Service:
    """Answers commands as a script says, and remembers them."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[tuple[str, Any]] = []

    def listen(self, bus: Bus, prefix: str) -> None:
        def answer(message: Message) -> None:
            verb = message.subject.split(".cmd.")[1]
            body = msgspec.json.decode(message.data)
            self.heard.append((verb, body))
            said = self.script(verb, body)
            if said is not LOST:
                bus.publish(message.reply, msgspec.json.encode(said))

        bus.subscribe(f"{prefix}.*.cmd.>", answer, queue="service")


@asynccontextmanager
async def connected(
    nats_url: str, prefix: str, script: Script, **options: Any
) -> AsyncIterator[tuple[TaskerClient, Service]]:
    bus = await NatsBus.connect(nats_url, name="scripted")
    service = Service(script)
    service.listen(bus, prefix)
    await bus.flush()
    given: dict[str, Any] = {"timeout_s": 5.0, "retry": HASTY} | options
    try:
        async with TaskerClient(nats_url, "", nats_prefix=prefix, environ={}, **given) as client:
            yield client, service
    finally:
        await bus.close()


def accept(_verb: str, body: Any) -> object:
    if isinstance(body, list):
        return [accept(_verb, one) for one in body]
    return {"ok": True, "task_id": f"id-{body.get('idempotency_key')}", "position": "3:8"}


def refuse(error: TaskerError) -> object:
    return {"ok": False, "error": error.problem()}


async def test_create_returns_the_handle(nats_url: str, nats_prefix: str) -> None:
    async with connected(nats_url, nats_prefix, accept) as (client, service):
        handle = await client.create("hello", {"name": "Ada"}, idempotency_key="k", tags={"team": "core"})
    assert handle == TaskHandle(
        task_id="id-k", template="hello", namespace="default", idempotency_key="k", position="3:8"
    )
    assert service.heard == [
        (
            "task.create",
            {"template": "hello", "input": {"name": "Ada"}, "idempotency_key": "k", "tags": {"team": "core"}},
        )
    ]


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(nats_url: str, nats_prefix: str) -> None:
    answers = iter([LOST, LOST])

    def script(verb: str, body: Any) -> object:
        return next(answers, None) or accept(verb, body)

    async with connected(nats_url, nats_prefix, script) as (client, service):
        await client.create("hello")
    keys = {body["idempotency_key"] for _, body in service.heard}
    assert len(service.heard) == 3
    assert len(keys) == 1


async def test_busy_and_unavailable_pass(nats_url: str, nats_prefix: str) -> None:
    answers = iter([refuse(Busy("full", retry_after_s=0.01)), refuse(Unavailable("no owner"))])

    def script(verb: str, body: Any) -> object:
        return next(answers, None) or accept(verb, body)

    async with connected(nats_url, nats_prefix, script) as (client, service):
        await client.create("hello")
    assert len(service.heard) == 3


async def test_a_conflict_is_raised_with_its_facts(nats_url: str, nats_prefix: str) -> None:
    error = KeyConflict("the key belongs to another request", task_id="t-1")
    async with connected(nats_url, nats_prefix, lambda *_: refuse(error)) as (client, service):
        with pytest.raises(KeyConflict, match="another request") as raised:
            await client.create("hello", idempotency_key="k")
    assert raised.value.context == {"task_id": "t-1"}
    assert len(service.heard) == 1


async def test_nobody_listening_is_unavailable_at_the_deadline(nats_url: str, nats_prefix: str) -> None:
    async with TaskerClient(nats_url, "", nats_prefix=nats_prefix, environ={}, timeout_s=0.3, retry=HASTY) as client:
        with pytest.raises(Unavailable, match="does the service run") as raised:
            await client.create("hello")
    assert not isinstance(raised.value, (OutcomeUnknown, DeadlineExceeded))


async def test_silence_to_the_deadline_leaves_a_doubt(nats_url: str, nats_prefix: str) -> None:
    async with connected(nats_url, nats_prefix, lambda *_: LOST, timeout_s=0.6) as (client, service):
        with pytest.raises((OutcomeUnknown, DeadlineExceeded)):
            await client.create("hello")
    assert len(service.heard) > 1


async def test_a_service_that_comes_late_is_found(nats_url: str, nats_prefix: str) -> None:
    bus = await NatsBus.connect(nats_url, name="scripted")
    try:
        async with TaskerClient(nats_url, "", nats_prefix=nats_prefix, environ={}, timeout_s=10, retry=HASTY) as client:
            creating = asyncio.ensure_future(client.create("hello", idempotency_key="k"))
            await asyncio.wait({creating}, timeout=0.1)
            Service(accept).listen(bus, nats_prefix)
            assert (await creating).task_id == "id-k"
    finally:
        await bus.close()


async def test_many_are_sent_as_arrays_with_a_verdict_each(nats_url: str, nats_prefix: str) -> None:
    def script(_verb: str, body: Any) -> object:
        return [refuse(InputInvalid("odd")) if one["input"] % 100 == 1 else accept(_verb, one) for one in body]

    tasks = [NewTask("hello", number, idempotency_key=f"k{number}") for number in range(1203)]
    async with connected(nats_url, nats_prefix, script) as (client, service):
        found = await client.create_many(tasks)
    sent = {body[0]["idempotency_key"]: len(body) for _, body in service.heard}  # slowly answered ones come again
    assert sent == {"k0": 500, "k500": 500, "k1000": 203}
    assert [number for number, one in enumerate(found) if isinstance(one, InputInvalid)] == list(range(1, 1203, 100))
    assert all(one.task_id == f"id-k{number}" for number, one in enumerate(found) if isinstance(one, TaskHandle))


async def test_what_cannot_be_sent_has_its_error_in_place(nats_url: str, nats_prefix: str) -> None:
    tasks = [NewTask("hello", 1), NewTask("hello", "x" * 70_000), NewTask("hello", 2)]
    async with connected(nats_url, nats_prefix, accept) as (client, _):
        found = await client.create_many(tasks)
    assert [type(one) for one in found] == [TaskHandle, BodyTooLarge, TaskHandle]


async def test_only_the_open_items_of_a_batch_are_repeated(nats_url: str, nats_prefix: str) -> None:
    rounds = iter([{2, 5}, {5}, set[int]()])

    def script(verb: str, body: Any) -> object:
        busy = next(rounds)
        return [refuse(Busy("full")) if one["input"] in busy else accept(verb, one) for one in body]

    tasks = [NewTask("hello", number) for number in range(8)]
    async with connected(nats_url, nats_prefix, script) as (client, service):
        found = await client.create_many(tasks)
    assert all(isinstance(one, TaskHandle) for one in found)
    assert [[one["input"] for one in body] for _, body in service.heard] == [list(range(8)), [2, 5], [5]]
    keys = {
        one["input"]: {
            again["idempotency_key"] for _, body in service.heard for again in body if again["input"] == one["input"]
        }
        for one in service.heard[0][1]
    }
    assert {len(of_one) for of_one in keys.values()} == {1}


async def test_a_lost_batch_is_repeated_whole(nats_url: str, nats_prefix: str) -> None:
    answers = iter([LOST])

    def script(verb: str, body: Any) -> object:
        return next(answers, None) or accept(verb, body)

    async with connected(nats_url, nats_prefix, script) as (client, service):
        found = await client.create_many([NewTask("hello", number) for number in range(3)])
    assert all(isinstance(one, TaskHandle) for one in found)
    assert service.heard[0] == service.heard[1]


Act = Callable[[TaskerClient], Awaitable[Any]]


@pytest.mark.parametrize(
    ("act", "verb", "body"),
    [
        (lambda c: c.cancel("t-1", reason="why"), "task.cancel", {"task_id": "t-1", "reason": "why"}),
        (lambda c: c.retry("t-1"), "task.retry", {"task_id": "t-1"}),
        (
            lambda c: c.step_retry("t-1", "charge", attempt=3),
            "step.retry",
            {"task_id": "t-1", "step": "charge", "attempt": 3},
        ),
        (lambda c: c.set_budget("t-1", cost_max=2), "task.budget", {"task_id": "t-1", "cost_max": "2"}),
        (lambda c: c.pause("t-1", dry_run=True), "task.pause", {"task_id": "t-1", "dry_run": True}),
        (lambda c: c.complete("t-1", result=[1]), "task.complete", {"task_id": "t-1", "result": [1]}),
        (lambda c: c.fail("t-1", message="no"), "task.fail", {"task_id": "t-1", "message": "no"}),
        (
            lambda c: c.update("t-1", tags={"a": None}, metadata={"b": 1}),
            "task.update",
            {"task_id": "t-1", "tags": {"a": None}, "metadata": {"b": 1}},
        ),
        (lambda c: c.set_deadline("t-1", within_s=60), "task.deadline", {"task_id": "t-1", "within_s": 60}),
        (lambda c: c.restart("t-1", current=True), "task.restart", {"task_id": "t-1", "current": True}),
        (lambda c: c.resume("t-1"), "task.resume", {"task_id": "t-1"}),
        (lambda c: c.step_skip("t-1", "a"), "step.skip", {"task_id": "t-1", "step": "a", "result": None}),
        (lambda c: c.step_resolve("t-1", "a", 1), "step.resolve", {"task_id": "t-1", "step": "a", "result": 1}),
        (lambda c: c.step_reset("t-1", "a"), "step.reset", {"task_id": "t-1", "step": "a"}),
        (lambda c: c.step_edit("t-1", "a", [1]), "step.edit", {"task_id": "t-1", "step": "a", "result": [1]}),
        (lambda c: c.step_release("t-1", "a"), "step.release", {"task_id": "t-1", "step": "a"}),
        (lambda c: c.signal("t-1", "go", 1), "task.signal", {"task_id": "t-1", "name": "go", "value": 1}),
        (
            lambda c: c.approvals.approve("t-1", "ask", {"n": 1}, requested_by="ada", roles=["heads"], attempt=2),
            "step.approve",
            {
                "task_id": "t-1",
                "step": "ask",
                "values": {"n": 1},
                "requested_by": "ada",
                "roles": ["heads"],
                "attempt": 2,
            },
        ),
        (
            lambda c: c.approvals.reject("t-1", "ask", requested_by="ada"),
            "step.reject",
            {"task_id": "t-1", "step": "ask", "values": None, "requested_by": "ada"},
        ),
        (
            lambda c: c.approvals.delegate("t-1", "ask", requested_by="ada", to="bob"),
            "step.delegate",
            {"task_id": "t-1", "step": "ask", "to": "bob", "requested_by": "ada"},
        ),
        (lambda c: c.register({"name": "t"}), "template.register", {"template": {"name": "t"}}),
        (
            lambda c: c.use("t", "1.0.0", requested_by="ada", dry_run=True),
            "template.use",
            {"name": "t", "version": "1.0.0", "requested_by": "ada", "dry_run": True},
        ),
        (
            lambda c: c.schedules.trigger("s", requested_by="ada", dry_run=True),
            "schedule.trigger",
            {"name": "s", "requested_by": "ada", "dry_run": True},
        ),
        (
            lambda c: c.controls.pause("tenant", requested_by="ada", reason="why", dry_run=True),
            "control.pause",
            {"scope": "tenant", "requested_by": "ada", "reason": "why", "dry_run": True},
        ),
        (
            lambda c: c.dlq.resolve("t-1", "a", requested_by="ada", reason="why", dry_run=True),
            "dlq.resolve",
            {"task_id": "t-1", "step": "a", "requested_by": "ada", "reason": "why", "dry_run": True},
        ),
    ],
)
async def test_operators_commands_carry_an_id_through_repetitions(
    nats_url: str, nats_prefix: str, act: Act, verb: str, body: dict[str, Any]
) -> None:
    answers = iter([LOST])

    def script(_verb: str, said: Any) -> object:
        return next(answers, None) or {"ok": True, "task_id": "t-1", "position": "0:1"}

    async with connected(nats_url, nats_prefix, script) as (client, service):
        reply = await act(client)
    assert reply.position == "0:1"
    assert service.heard[0] == service.heard[1]
    heard_verb, heard = service.heard[0]
    assert heard.pop("command_id")
    assert (heard_verb, heard) == (verb, body)


async def test_submit_leaves_the_command_in_the_stream(nats_url: str, nats_prefix: str) -> None:
    """It returns once the stream has it; nobody needs to take commands."""
    subjects = Subjects(nats_prefix)
    async with connected(nats_url, nats_prefix, accept) as (client, service):
        bus = await client._connected_bus()
        await ensure_streams(bus, subjects, StreamSettings(commands_bytes_max=2**20))
        try:
            key = await client.submit(NewTask("hello", {"name": "Ada"}), reply_to="verdicts")
            subject = subjects.submit("default", "task", "create")
            [stored] = await stored_after(bus, subjects.command_stream, subject, after_seq=0, limit=10)
        finally:
            for name in subjects.streams:
                await delete_stream(bus, name)
    body = msgspec.json.decode(stored.data)
    assert body == {"template": "hello", "input": {"name": "Ada"}, "idempotency_key": key}
    assert service.heard == []


async def test_submit_without_a_stream_is_told_at_the_deadline(nats_url: str, nats_prefix: str) -> None:
    async with connected(nats_url, nats_prefix, accept, timeout_s=0.3) as (client, _):
        with pytest.raises(Unavailable):
            await client.submit(NewTask("hello"))

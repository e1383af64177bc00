"""Commands that nobody waits for, on the real bus and on its twin: done once, told once they are, never lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tasker.bus.bus import Bus, Message
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import delete_stream, stream_info
from tasker.events.messages import (
    HEADER_IDEMPOTENCY_KEY,
    HEADER_MESSAGE_ID,
    HEADER_REPLY_TO,
    HEADER_SUBMITTED,
    HEADER_TRACEPARENT,
    RefusedCommand,
)
from tasker.events.stored import meta_of
from tasker.service.actors.entrances import submissions
from tasker.service.http.refusals import BusRefusals
from tests.contracts.pair import SHARDS, Pair
from tests.unit.runtime.committing import Held

Connect = Callable[[], Awaitable[Bus]]
CREATE: dict[str, Any] = {"template": "t"}


class Caller:
    """Leaves commands, and hears their verdicts."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.publisher = AckedPublisher(pair.bus)
        self.subject = f"verdicts.{pair.subjects.prefix}"
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        pair.bus.subscribe(self.subject, self.heard.put_nowait)

    async def leave(self, body: Any, *, verb: str = "create", **headers: str) -> int:
        """Submit a command; returns its sequence in the stream."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {HEADER_REPLY_TO: self.subject} | {name.replace("_", "-"): value for name, value in headers.items()}
        subject = self.pair.subjects.submit("default", "task", verb)
        return (await self.publisher.publish(subject, data, headers=given)).seq

    async def verdict(self) -> Any:
        async with asyncio.timeout(15):
            return json.loads((await self.heard.get()).data)

    async def listed(self) -> list[RefusedCommand]:
        return list(await BusRefusals(self.pair.bus, self.pair.subjects).page("default", after=0, limit=100))

    async def created(self) -> int:
        return [kind for _, _, kind in await self.pair.events()].count("task_created")


@pytest.fixture
async def caller(pair: Pair) -> Caller:
    caller = Caller(pair)
    await pair.bus.flush()
    return caller


@pytest.fixture
def unacked(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    """Lose the first ack of each message, as a node does that dies between verdict and ack."""
    seen: list[Delivery] = []
    ack = PullLoop.ack

    def forgetful(self: PullLoop, delivery: Delivery) -> None:
        seen.append(delivery)
        if delivery.num_delivered > 1:
            ack(self, delivery)

    monkeypatch.setattr(PullLoop, "ack", forgetful)
    return seen


async def test_a_submitted_command_is_done_and_its_verdict_is_that_of_the_command(caller: Caller) -> None:
    seq = await caller.leave({**CREATE, "idempotency_key": "k"})
    async with asyncio.timeout(15):
        message = await caller.heard.get()
    assert message.headers is not None
    assert message.headers[HEADER_SUBMITTED] == str(seq)
    told = json.loads(message.data)
    asked = await caller.pair.ask("task.create", {**CREATE, "idempotency_key": "k"})
    assert (told["ok"], asked["duplicate"]) == (True, True)
    assert (told["task_id"], told["position"]) == (asked["task_id"], asked["position"])
    assert await caller.listed() == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (CREATE, {}),
        (CREATE, {HEADER_MESSAGE_ID: "m-1"}),
        (CREATE, {HEADER_IDEMPOTENCY_KEY: "k-1"}),
        ({**CREATE, "idempotency_key": "k-2"}, {}),
    ],
    ids=["no key", "message id", "header", "field"],
)
async def test_a_message_that_comes_again_is_the_same_command(
    caller: Caller, unacked: list[Delivery], body: Any, headers: dict[str, str]
) -> None:
    await caller.leave(body, **headers)
    first, second = await caller.verdict(), await caller.verdict()
    assert first["task_id"] == second["task_id"]
    assert (first.get("duplicate", False), second["duplicate"]) == (False, True)
    assert [delivery.num_delivered for delivery in unacked] == [1, 2]
    assert await caller.created() == 1


async def test_its_traceparent_stands_in_the_events_as_that_of_a_command_that_is_asked(caller: Caller) -> None:
    """Of one command and of each in an array; what is none is left out."""
    left, asked = f"00-{'a1' * 16}-{'b2' * 8}-01", f"00-{'c3' * 16}-{'d4' * 8}-01"
    await caller.leave(CREATE, **{HEADER_TRACEPARENT: left})
    await caller.leave([CREATE, CREATE], **{HEADER_TRACEPARENT: left})
    await caller.leave(CREATE, **{HEADER_TRACEPARENT: "no such thing"})
    for _ in range(3):
        await caller.verdict()
    pair = caller.pair
    subject = pair.subjects.command("default", "task", "create")
    headers = {HEADER_TRACEPARENT: asked}
    await pair.bus.request(subject, json.dumps(CREATE).encode(), timeout_s=10, headers=headers)
    recorded = [event for shard in range(SHARDS) for event in await pair.recorded(shard)]
    told = [meta_of(event).traceparent for event in recorded if event.type == "task_created"]
    assert sorted(told, key=str) == sorted([left, left, left, asked, None], key=str)


async def test_an_array_that_comes_again_is_the_same_commands(caller: Caller, unacked: list[Delivery]) -> None:
    """Also where its items have no keys; each is told by itself, and what was refused is in the list once."""
    await caller.leave([CREATE, {"template": 7}, CREATE])
    first, second = await caller.verdict(), await caller.verdict()
    assert [one["ok"] for one in first] == [one["ok"] for one in second] == [True, False, True]
    assert [first[0]["task_id"], first[2]["task_id"]] == [second[0]["task_id"], second[2]["task_id"]]
    assert await caller.created() == 2
    [refusal] = await caller.listed()
    assert (refusal.item, refusal.error.code, json.loads(refusal.body)) == (1, "body_invalid", {"template": 7})
    assert len(unacked) == 2


async def test_two_messages_without_a_key_are_two_commands(caller: Caller) -> None:
    for _ in range(2):
        await caller.leave(CREATE)
    assert len({(await caller.verdict())["task_id"] for _ in range(2)}) == 2
    assert await caller.created() == 2


@pytest.mark.parametrize(
    ("body", "verb", "code"),
    [
        (b"\xff", "create", "body_invalid"),
        (b"", "create", "body_invalid"),
        ({"template": "missing"}, "create", "template_unknown"),
        (CREATE, "begin", "verb_unknown"),
    ],
)
async def test_a_refusal_is_told_and_listed_once(caller: Caller, body: Any, verb: str, code: str) -> None:
    seq = await caller.leave(body, verb=verb, Nats_Msg_Id="m-7")
    assert (await caller.verdict())["error"]["code"] == code
    await caller.leave({**CREATE, "idempotency_key": "behind"})
    assert (await caller.verdict())["ok"]
    [refusal] = await caller.listed()
    assert (refusal.submitted, refusal.tenant, refusal.verb) == (seq, "default", f"task.{verb}")
    assert (refusal.error.code, refusal.key) == (code, "m-7")
    assert caller.heard.empty()


@pytest.mark.parametrize("where", ["$JS.API.STREAM.DELETE.X", "PREFIX.default.cmd.task.create", "a.*", "a..b", "a\x7f"])
async def test_a_verdict_goes_to_no_subject_of_the_servers_or_ours(caller: Caller, where: str) -> None:
    prefix = caller.pair.subjects.prefix
    await caller.leave(CREATE, **{HEADER_REPLY_TO: where.replace("PREFIX", prefix)})
    await caller.leave({**CREATE, "idempotency_key": "behind"})
    assert (await caller.verdict())["ok"]
    async with asyncio.timeout(15):
        while not (listed := await caller.listed()):  # noqa: ASYNC110 - the list tells nobody
            await asyncio.sleep(0.01)
    assert [refusal.error.code for refusal in listed] == ["parameter_invalid"]
    assert await caller.created() == 1


async def test_what_passes_is_tried_again_and_told_to_nobody(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "DELAY_S_BASE", 0.05)
    given_back: asyncio.Queue[Delivery] = asyncio.Queue()
    nak = PullLoop.nak

    def watched(self: PullLoop, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        given_back.put_nowait(delivery)
        nak(self, delivery, delay_s=delay_s)

    monkeypatch.setattr(PullLoop, "nak", watched)
    caller.pair.log.unavailable = True
    await caller.leave(CREATE)
    async with asyncio.timeout(15):
        await given_back.get()
    caller.pair.log.unavailable = False
    assert (await caller.verdict())["ok"]
    assert await caller.created() == 1
    assert caller.heard.empty()
    assert await caller.listed() == []


async def test_what_was_left_while_the_service_was_away_is_done_when_it_is_back(
    caller: Caller, connect: Connect
) -> None:
    await caller.pair.stop()
    for number in range(3):
        await caller.leave({**CREATE, "idempotency_key": f"away-{number}"})
    await caller.pair.start(await connect())
    assert all([(await caller.verdict())["ok"] for _ in range(3)])
    assert await caller.created() == 3


async def test_a_command_leaves_the_stream_once_its_verdict_is_told(caller: Caller) -> None:
    """Its bytes bound what waits, not what was ever submitted."""
    await caller.leave(CREATE)
    await caller.leave({"template": "unknown"})
    assert [(await caller.verdict())["ok"] for _ in range(2)] == [True, False]
    async with asyncio.timeout(15):
        while (await stream_info(caller.pair.bus, caller.pair.subjects.command_stream)).state.messages:  # noqa: ASYNC110 - the stream's own pace
            await asyncio.sleep(0.01)


async def test_a_flood_of_submitted_commands_stays_bounded_and_callers_are_answered(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "COMMANDS_MAX", 3)
    monkeypatch.setattr(submissions, "MESSAGES_MAX", 8)
    most: list[int] = []
    settle = submissions.Submissions._settle

    async def watched(self: submissions.Submissions, delivery: Delivery, verdict: bytes) -> None:
        most.append(self._commands)
        await settle(self, delivery, verdict)

    monkeypatch.setattr(submissions.Submissions, "_settle", watched)
    for number in range(60):
        await caller.leave({**CREATE, "idempotency_key": f"f-{number}"})
    assert (await caller.pair.ask("task.create", CREATE))["ok"]
    assert all([(await caller.verdict())["ok"] for _ in range(60)])
    assert max(most) <= 3
    assert await caller.created() == 61


async def test_a_stream_made_anew_is_taken_from_and_its_first_message_is_another_command(caller: Caller) -> None:
    """Its sequences are others, and none of them names an old command."""
    subjects = caller.pair.subjects
    before = await caller.leave(CREATE)
    first = await caller.verdict()
    created = (await stream_info(caller.pair.bus, subjects.command_stream)).created
    await delete_stream(caller.pair.bus, subjects.command_stream)
    for side in caller.pair.sides:
        await side._keeper._check()
    assert (await stream_info(caller.pair.bus, subjects.command_stream)).created != created
    assert await caller.leave(CREATE) > before
    second = await caller.verdict()
    assert (second["ok"], second.get("duplicate", False)) == (True, False)
    assert second["task_id"] != first["task_id"]


async def test_many_refusals_in_a_row_stop_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait behind a command that is under way, and each is found while the one before it is being told."""
    monkeypatch.setattr(submissions, "COMMANDS_MAX", 1)
    await caller.pair.stop(1)
    held = Held()
    caller.pair.log.delay = held
    await caller.leave(CREATE)
    await held.arrived()
    for _ in range(submissions.MESSAGES_MAX - 1):
        await caller.leave(b"[")
    async with asyncio.timeout(15):
        while caller.pair.sides[0]._submissions._pulls.held < submissions.MESSAGES_MAX:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    caller.pair.log.delay = None
    held.let(10)
    told = [await caller.verdict() for _ in range(submissions.MESSAGES_MAX)]
    assert {one["ok"] for one in told} == {True, False}
    assert (await caller.pair.ask("task.create", CREATE))["ok"]

"""A random walk over the way of an offer: whoever dies, gives back, asks in vain or takes over, and in any order.

At each quiet moment everybody who holds something is gone, nothing is held back, and a healthy worker is there: all
that may begin does so in the time that `Stage.waiting` gives it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tasker.bus.bus import Message
from tasker.events.messages import ReportKind
from tests.simulation.offers import DEAD_S, SHARDS, SOON_S, Stage
from tests.simulation.scripted import Item, ScriptedWorker

NODES: Final = 2
MOVES_PER_WALK: Final = 60
TASKS_MAX: Final = 30
WORKERS_MAX: Final = 3
NAMES: Final = ["t", "keyed", "fragile", "paced", "two", "sticky", "fragile"]
FAILS: Final[list[ReportKind]] = ["failed"] * 4
"""What fragile work is made to do more often than other work: for its circuit."""

BRIEF_S: Final = (0.0, 0.1)
WAITS_S: Final = (0.1, 1.0, 2.5, 5.0, 12.0, 40.0, 130.0)
RAMP_S: Final = 5.0
BY: Final = {"requested_by": "ada", "reason": "a test"}
QUEUE: Final = {"scope": "queue", "name": "t"}


class Walk:
    """Moves over one stage.

    Attributes:
        told: what was done, for who reads of a failure.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.told: list[str] = []
        self._draw = random.Random(f"walk {seed}")
        self._held: dict[str, None] = {}
        self._paused: dict[str, None] = {}
        self._hired = 0
        self._ramped_s = 0.0
        """By then all that a pause held has come back."""

    async def go(self, moves: int = MOVES_PER_WALK) -> None:
        """Make so many moves, and hold the system to its promise at the end."""
        weights: dict[Callable[[], Awaitable[None]], int] = {
            self._create: 6,
            self._hire: 4,
            self._ask: 10,
            self._give_back: 2,
            self._leave: 3,
            self._hold_or_let_go: 3,
            self._limit: 1,
            self._pause: 2,
            self._prioritize: 1,
            self._cancel: 1,
            self._meddle: 1,
            self._trouble: 2,
            self._lose_answers: 1,
            self._drop_stream: 1,
            self._wait: 4,
            self._quiet: 1,
        }
        for move in self._draw.choices(list(weights), list(weights.values()), k=moves):
            await move()
        await self._quiet()

    def _say(self, *words: object) -> None:
        self.told.append(f"{self.stage.loop.time():.2f} {' '.join(map(str, words))}")

    @property
    def _alive(self) -> list[ScriptedWorker]:
        return [one for one in self.stage.workers if not one.is_dead]

    def _item(self) -> tuple[ScriptedWorker, Item] | None:
        """Return something that a worker has in hand."""
        holders = [one for one in self._alive if one.hands]
        if not holders:
            return None
        worker = self._draw.choice(holders)
        return worker, self._draw.choice(list(worker.hands.values()))

    # ---------------------------------------------------------------- tasks

    async def _create(self) -> None:
        template, priority = self._draw.choice(NAMES), self._draw.choice([0, 0, 5])
        for _ in range(min(self._draw.choice([1, 1, 3]), TASKS_MAX - len(self.stage.tasks))):
            task_id = await self.stage.create(template=template, priority=priority)
            self._say("create", template, priority, task_id)
        await asyncio.sleep(self._draw.choice(BRIEF_S))

    async def _pause(self) -> None:
        """Pause a task, or let it go on."""
        if not self.stage.tasks:
            return
        task_id = self._draw.choice(self.stage.tasks)
        verb = "resume" if task_id in self._paused else "pause"
        self._say(verb, task_id)
        reply = await self.stage.ask(f"task.{verb}", {"task_id": task_id} | BY)
        if verb == "resume":
            del self._paused[task_id]
        elif reply["ok"]:
            self._paused[task_id] = None

    async def _prioritize(self) -> None:
        if self.stage.tasks:
            body = {"task_id": self._draw.choice(self.stage.tasks), "priority": self._draw.choice([0, 5, 9])}
            self._say("update", body)
            await self.stage.ask("task.update", body | BY)

    async def _cancel(self) -> None:
        """Cancel a task: what of it is in the stream, in a line or in a hand is nobody's any more."""
        if self.stage.tasks:
            task_id = self._draw.choice(self.stage.tasks)
            self._say("cancel", task_id)
            await self.stage.ask("task.cancel", {"task_id": task_id, "grace_s": 0.0} | BY)

    async def _meddle(self) -> None:
        """Have a person do a step's work, or see to it that it is done once more."""
        if self.stage.tasks:
            verb, step = (
                self._draw.choice(["reset", "retry", "skip", "resolve"]),
                self._draw.choice(["only", "one", "a"]),
            )
            body = {"task_id": self._draw.choice(self.stage.tasks), "step": step}
            self._say(f"step.{verb}", body)
            await self.stage.ask(f"step.{verb}", body | BY)

    # ---------------------------------------------------------------- workers

    async def _hire(self) -> None:
        """Start a worker that holds what it gets."""
        if len(self._alive) == WORKERS_MAX:
            return
        self._hired += 1
        hears_nodes, takes_stream = self._draw.choice([(True, True), (True, False), (False, True)])
        slots, name = self._draw.choice([1, 5]), f"w{self._hired}"
        self._say("hire", name, slots, "straight" if hears_nodes else "", "stream" if takes_stream else "")
        await self.stage.work(name, slots=slots, hears_nodes=hears_nodes, takes_stream=takes_stream)
        await asyncio.sleep(self._draw.choice(BRIEF_S))

    async def _ask(self) -> None:
        """Say or ask something of what is in hand; who hears a no is done with it."""
        found = self._item()
        if found is None:
            return
        worker, item = found
        kinds: list[ReportKind] = ["claim", "reserve", "started", "completed", "failed"]
        kind = self._draw.choice([*kinds, *FAILS] if item.work.template == "fragile" else kinds)
        is_heard = self._draw.random() < 0.7
        self._say("ask", worker.name, kind, *item.key, "" if is_heard else "(unheard)")
        if not is_heard:
            worker.do(worker.ask(item, kind))
            await asyncio.sleep(0)
            return
        told = await worker.ask(item, kind)
        is_over = kind in {"completed", "failed"}
        if is_over or not (told.get("run") or told.get("recorded")):
            worker.ack(item)

    async def _give_back(self) -> None:
        """Give something in hand back that was not begun."""
        found = self._item()
        if found is not None and found[1].key not in found[0].ran:
            self._say("give back", found[0].name, *found[1].key)
            await found[0].give_back(found[1])

    async def _leave(self) -> None:
        if not self._alive:
            return
        worker, how = self._draw.choice(self._alive), self._draw.choice(["die", "farewell", "farewell and die"])
        self._say(worker.name, how)
        if "farewell" in how:
            worker.farewell()
            await asyncio.sleep(0)
        if "die" in how:
            await worker.die()

    # ---------------------------------------------------------------- operators

    async def _hold_or_let_go(self) -> None:
        what = self._draw.choice(["queue", "template", "limit"])
        if what in self._held:
            await self._let_go(what, ramp_s=self._draw.choice([0.0, RAMP_S]))
        elif what == "limit":
            await self._limit()
        else:
            self._held[what] = None
            self._say("pause", what)
            await self.stage.command("control.pause", scope=what, name="t")

    async def _limit(self) -> None:
        """Set a rate limit, or another one."""
        self._held["limit"] = None
        per_s = self._draw.choice([0.001, 0.05, 5.0])
        self._say("limit", per_s)
        await self.stage.command("limit.set", per_s=per_s, burst=1, **QUEUE)

    async def _let_go(self, what: str, ramp_s: float = 0.0) -> None:
        del self._held[what]
        self._say("let go", what, ramp_s)
        if what == "limit":
            await self.stage.command("limit.remove", **QUEUE)
        else:
            await self.stage.command("control.resume", scope=what, name="t", ramp_s=ramp_s)
            self._ramped_s = max(self._ramped_s, self.stage.loop.time() + ramp_s)

    # ---------------------------------------------------------------- trouble

    async def _trouble(self) -> None:
        """Have a node go and another one come, or one of its shards, or its connection."""
        how, gone_s = self._draw.choice(["kill", "stop", "hand over", "cut"]), self._draw.choice([0.0, 2.0, 8.0])
        node, other = self._draw.sample(list(self.stage.nodes), NODES)
        shard = self._draw.randrange(SHARDS)
        self._say(how, gone_s, [one for one in range(SHARDS) if node._shards.owns(one)])
        if how == "cut":
            bus = self.stage.nodes[node][1]
            bus.cut()
            await asyncio.sleep(gone_s)
            bus.mend()
        elif how == "hand over":
            if node._shards.owns(shard):
                await self.stage.hand_over(shard, node, other)
        else:
            await (self.stage.kill_node(node) if how == "kill" else self.stage.stop_node(node))
            await asyncio.sleep(gone_s)
            await self.stage.start_node()

    async def _lose_answers(self) -> None:
        """Lose the next answers of the stream to what is published."""
        left = [self._draw.choice([1, 3])]
        self._say("lose answers", *left)

        def transit(message: Message) -> tuple[float, ...]:
            if left[0] and message.data.startswith(b'{"stream":"'):
                left[0] -= 1
                return ()
            return (0.0,)

        self.stage.broker.transit = transit

    async def _drop_stream(self) -> None:
        self._say("drop stream")
        self.stage.drop_stream()
        await asyncio.sleep(0)

    async def _wait(self) -> None:
        seconds = self._draw.choice(WAITS_S)
        self._say("wait", seconds)
        await asyncio.sleep(seconds)

    # ---------------------------------------------------------------- the promise

    async def _quiet(self) -> None:
        """Let everybody go, and hold the system to its promise."""
        self._say("quiet")
        stage = self.stage
        stage.broker.transit = None
        for worker in self._alive:
            await worker.die()
        for what in list(self._held):
            await self._let_go(what)
        for task_id in self._paused:
            await stage.ask("task.resume", {"task_id": task_id} | BY)
        self._paused.clear()
        healthy = await stage.healthy(f"healthy-{len(stage.workers)}")
        until_s = max(stage.died_s + DEAD_S, self._ramped_s + SOON_S)
        await stage.until_begun(until_s - stage.loop.time())
        assert len(set(healthy.ran)) == len(healthy.ran), "a worker begins an attempt once"
        stage.check_told()
        await asyncio.sleep(2)
        await healthy.die()

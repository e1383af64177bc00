"""A random walk over the way of an offer: whoever dies, gives back, asks in vain or takes over, and in any order.

Operators hold, hurry and end single tasks, many by a bulk, and all of a queue or a tenant; schedules add tasks of their
own; what is sent is lost, doubled and late; the log fails before and after it wrote.

At each quiet moment everybody who holds something that has not begun is gone, nothing is held back, and a healthy
worker is there, beside others that may be full: all that may begin does so in the time that `Stage.waiting` gives it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tasker.bus.bus import Message
from tasker.events.memory_log import STRANGER, Fault
from tasker.events.messages import ReportKind
from tasker.testing.network import Network
from tests.simulation.offers import DEAD_S, QUEUES, SHARDS, SOON_S, TEMPLATES, Stage
from tests.simulation.scripted import Item, ScriptedWorker

NODES: Final = 2
MOVES_PER_WALK: Final = 45
TASKS_MAX: Final = 30
WORKERS_MAX: Final = 3
NAMES: Final = [template["name"] for template in TEMPLATES] + ["fragile", "sticky", "kept"]
NAMESPACE_OF: Final = {template["name"]: template.get("namespace", "default") for template in TEMPLATES}
STEPS: Final = ["only", "one", "a", "b"]
FAILS: Final[list[ReportKind]] = ["failed"] * 4
"""What fragile work is made to do more often than other work: for its circuit."""

SHARE: Final = 0.5
"""Of the rarer moves each walk has so many, drawn: what they do together is found sooner than if all had all of them.

Source: A. Groce et al., "Swarm Testing", ISSTA 2012.
"""

TEMPLATES_PER_WALK: Final = 4
RUNS_SHARE: Final = 0.25
"""Of the workers, those that run what they get; the others hold it until they are told."""

BRIEF_S: Final = (0.0, 0.1)
WAITS_S: Final = (0.1, 1.0, 2.5, 5.0, 12.0, 40.0, 130.0)
MOVE_S_MAX: Final = 900.0
RAMP_S: Final = 5.0
BY: Final = {"requested_by": "ada", "reason": "a test"}
LIMITS: Final[dict[str, dict[str, str]]] = {
    "limit of the queue": {"scope": "queue", "name": "t"},
    "limit of a handler": {"scope": "handler", "name": "limited"},
}
PAUSES: Final[dict[str, dict[str, str]]] = {
    "queue": {"scope": "queue", "name": "t"},
    "template": {"scope": "template", "name": "t"},
    "shop": {"scope": "queue", "namespace": "shop", "name": "t"},
    "tenant": {"scope": "tenant"},
    "everything": {"scope": "everything"},
}
BULKS: Final[list[tuple[str, dict[str, object]]]] = [
    *[("task.pause", {})] * 3,
    *[("task.resume", {})] * 3,
    ("task.update", {"priority": 0}),
    ("task.update", {"priority": 5}),
    ("task.update", {"priority": 9}),
    ("task.retry", {}),
    ("task.retry", {}),
    ("task.restart", {}),
    ("task.cancel", {"grace_s": 0.0}),
]
BULK_TEMPLATES: Final = ["t", "two", "keyed", "fragile", "sticky", "kept", "limited"]
OVERLAPS: Final = ["skip", "buffer_one", "buffer_all", "cancel_running", "allow"]
SCHEDULES_MAX: Final = 2
FIRES_MAX: Final = 4
BUSY_SHARE: Final = 0.3
PLACES_MANY: Final = 50
LATE_S: Final = 1.0
"""By then what was on its way through bad weather has come."""


class Walk:
    """Moves over one stage.

    Attributes:
        told: what was done, for who reads of a failure.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.told: list[str] = []
        self._draw = random.Random(f"walk {seed}")
        self._names = self._draw.sample(NAMES, TEMPLATES_PER_WALK)
        self._priorities = self._draw.choice([[0], [0, 0, 5]])
        self._held: dict[str, None] = {}
        self.network = Network(stage.subjects, "default", self._draw)
        self._hired = 0
        self._ramped_s = 0.0
        """By then all that a pause held has come back."""

    async def go(self, moves: int = MOVES_PER_WALK) -> None:
        """Make so many moves, and hold the system to its promise at the end."""
        weights: dict[Callable[[], Awaitable[None]], int] = {
            self._create: 6,
            self._hire: 4,
            self._ask: 10,
            self._leave: 3,
            self._wait: 4,
            self._quiet: 1,
        }
        more: dict[Callable[[], Awaitable[None]], int] = {
            self._schedule: 2,
            self._change: 2,
            self._give_back: 2,
            self._hold_or_let_go: 4,
            self._limit: 2,
            self._circuit: 1,
            self._pause: 3,
            self._prioritize: 2,
            self._cancel: 1,
            self._meddle: 2,
            self._bulk: 3,
            self._trouble: 3,
            self._log_trouble: 2,
            self._weather: 1,
            self._lose_answers: 1,
            self._drop_stream: 1,
        }
        weights |= {move: weight for move, weight in more.items() if self._draw.random() < SHARE}
        for move in [*self._draw.choices(list(weights), list(weights.values()), k=moves), self._quiet]:
            try:
                async with asyncio.timeout(MOVE_S_MAX):
                    await move()
            except TimeoutError as error:
                raise AssertionError(f"{move.__name__} does not end") from error

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
        template, priority = self._draw.choice(self._names), self._draw.choice(self._priorities)
        more = {"input": {"customer": self._draw.choice("ab")}, "namespace": NAMESPACE_OF[template]}
        for _ in range(min(self._draw.choice([1, 2, 4]), TASKS_MAX - len(self.stage.tasks))):
            if self._draw.random() < 0.3:
                more["idempotency_key"] = f"task-{self._draw.randrange(TASKS_MAX)}"
            reply = await self.stage.ask("task.create", {"template": template, "priority": priority} | more)
            self._say("create", template, priority, reply)
            if reply["ok"]:
                self.stage.made.append(reply["task_id"])
            else:
                assert reply["error"]["code"] == "key_conflict", reply
        await asyncio.sleep(self._draw.choice(BRIEF_S))

    def _task(self) -> str | None:
        """Return one of all tasks that there are."""
        self.stage.look()
        return self._draw.choice(self.stage.tasks) if self.stage.tasks else None

    async def _pause(self) -> None:
        """Pause a task, or let it go on."""
        task_id = self._task()
        if task_id is not None:
            verb = "resume" if self.stage.state_of(task_id).paused else "pause"
            self._say(verb, task_id)
            await self.stage.ask(f"task.{verb}", {"task_id": task_id} | BY)

    async def _prioritize(self) -> None:
        task_id = self._task()
        if task_id is not None:
            body = {"task_id": task_id, "priority": self._draw.choice([0, 5, 9])}
            self._say("update", body)
            await self.stage.ask("task.update", body | BY)

    async def _cancel(self) -> None:
        """Cancel a task: what of it is in the stream, in a line or in a hand is nobody's any more."""
        task_id = self._task()
        if task_id is not None:
            self._say("cancel", task_id)
            await self.stage.ask("task.cancel", {"task_id": task_id, "grace_s": 0.0} | BY)

    async def _meddle(self) -> None:
        """Have a person do a step's work, or see to it that it is done once more."""
        task_id = self._task()
        if task_id is not None:
            verb = self._draw.choice(["reset", "retry", "skip", "resolve"])
            body = {"task_id": task_id, "step": self._draw.choice(STEPS)}
            self._say(f"step.{verb}", body)
            await self.stage.ask(f"step.{verb}", body | BY)

    async def _bulk(self) -> None:
        """Give one command to many tasks; or have who gives it die, or read views that lag."""
        stage, what = self.stage, self._draw.choice(["order", "order", "order", "kill", "lag"])
        self._say("bulks", what)
        if what == "kill":
            await stage.kill_bulks()
            return
        await stage.serve_bulks()
        if what == "lag" and stage.bulk_side is not None:
            stage.bulk_side.views.lag_s = self._draw.choice([0.0, 1.0, 5.0])
            return
        verb, arguments = self._draw.choice(BULKS)
        chosen: dict[str, object] = {"tasks": {"template": self._draw.choice(BULK_TEMPLATES)}}
        order = {"verb": verb, "arguments": arguments, "rate_per_s": self._draw.choice([2, 200])} | BY
        order |= self._draw.choice([chosen, chosen, {"everything": True}])
        self._say("bulk", order)
        reply = await stage.ask("bulk.create", order)
        assert reply["ok"], reply

    async def _schedule(self) -> None:
        """Begin a schedule, or have one start a task now, pause, go on, or end."""
        stage = self.stage
        stage.look()
        name = f"s{self._draw.randrange(SCHEDULES_MAX)}"
        verb = self._draw.choice(["create", "create", "pause", "resume", "trigger", "delete"])
        body: dict[str, object] = {"name": name}
        if verb == "create":
            template, overlap = self._draw.choice(["t", "sticky", "limited"]), self._draw.choice(OVERLAPS)
            every_s = self._draw.choice([3, 20])
            body["schedule"] = {
                "template": template,
                "every_s": every_s,
                "overlap": overlap,
                "fires_max": FIRES_MAX,
                "catch_up_s": 60,
            }
        self._say("schedule", verb, body)
        await stage.ask(f"schedule.{verb}", body | BY)

    # ---------------------------------------------------------------- workers

    async def _hire(self) -> None:
        """Start a worker that holds what it gets."""
        if len(self._alive) == WORKERS_MAX:
            return
        self._hired += 1
        hears_nodes, takes_stream = self._draw.choice([(True, True), (True, False), (False, True)])
        slots, places, name = self._draw.choice([1, 5]), self._draw.choice([None, 1, 2]), f"w{self._hired}"
        queues = self._draw.choice([QUEUES, QUEUES, QUEUES[:1]])
        runs = self._draw.random() < RUNS_SHARE
        how = "straight" if hears_nodes else "", "stream" if takes_stream else "", "runs" if runs else ""
        self._say("hire", name, slots, places, *how, queues)
        more = {"slots": slots, "places": places, "hears_nodes": hears_nodes, "queues": queues}
        await self.stage.work(name, takes_stream=takes_stream, runs=runs, **more)
        await asyncio.sleep(self._draw.choice(BRIEF_S))

    async def _change(self) -> None:
        """Have a worker say that it takes something else than a moment before."""
        if self._alive:
            worker, places = self._draw.choice(self._alive), self._draw.choice([None, 0, 1, 3])
            is_backlogged = self._draw.random() < 0.3
            self._say(worker.name, "places", places, "backlogged" if is_backlogged else "")
            worker.change(places=places, is_backlogged=is_backlogged)

    async def _ask(self) -> None:
        """Say or ask something of what is in hand; who hears a no is done with it."""
        found = self._item()
        if found is None:
            return
        worker, item = found
        kinds: list[ReportKind] = ["claim", "reserve", "started", "completed", "failed"]
        kind = self._draw.choice([*kinds, *FAILS] if item.work.template == "fragile" else kinds)
        is_heard = self._draw.random() < 0.7
        retryable = item.work.template == "fragile" or self._draw.random() < 0.5
        self._say("ask", worker.name, kind, *item.key, "" if is_heard else "(unheard)")
        if not is_heard:
            worker.do(worker.ask(item, kind, retryable=retryable))
            await asyncio.sleep(0)
            return
        told = await worker.ask(item, kind, retryable=retryable)
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
        what = self._draw.choice([*PAUSES, *LIMITS])
        if what in self._held:
            await self._let_go(what, ramp_s=self._draw.choice([0.0, RAMP_S]))
        elif what in LIMITS:
            await self._limit(what)
        else:
            self._held[what] = None
            self._say("pause", what)
            await self.stage.command("control.pause", **PAUSES[what])

    async def _limit(self, what: str | None = None) -> None:
        """Set a rate limit, or another one."""
        what = what or self._draw.choice(list(LIMITS))
        self._held[what] = None
        limit = {"per_s": self._draw.choice([0.001, 0.05, 5.0]), "key": self._draw.choice([None, "input.customer"])}
        self._say(what, limit)
        await self.stage.command("limit.set", burst=1, **limit, **LIMITS[what])

    async def _let_go(self, what: str, ramp_s: float = 0.0) -> None:
        del self._held[what]
        self._say("let go", what, ramp_s)
        if what in LIMITS:
            await self.stage.command("limit.remove", **LIMITS[what])
        else:
            await self.stage.command("control.resume", ramp_s=ramp_s, **PAUSES[what])
            self._ramped_s = max(self._ramped_s, self.stage.loop.time() + ramp_s)

    async def _circuit(self) -> None:
        """Open or close a circuit by hand."""
        verb, length = self._draw.choice([("open", {"open_s": 30.0}), ("close", {"ramp_s": 0.0})])
        self._say("circuit", verb)
        await self.stage.ask(f"circuit.{verb}", {"name": "fragile"} | length | BY)

    # ---------------------------------------------------------------- trouble

    async def _trouble(self) -> None:
        """Have a node go and another one come, or one of its shards, or its connection."""
        how, gone_s = self._draw.choice(["kill", "stop", "hand over", "cut"]), self._draw.choice([0.0, 2.0, 8.0])
        self._calm()
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

    async def _log_trouble(self) -> None:
        """Have the log fail before or after it wrote, or not answer; perhaps whoever asked it dies of it."""
        log, gone_s = self.stage.log, self._draw.choice([0.0, 0.3, 2.0])
        self._calm()
        what = self._draw.choice([*Fault, *Fault, None])
        self._say("log", what, gone_s)
        if what is None:
            log.unavailable = True
        else:
            log.faults.append(what)
        move = self._draw.choice([self._create, self._ask, self._prioritize, self._wait_a_moment])
        moving = asyncio.create_task(move())
        await asyncio.sleep(gone_s)
        if self._draw.random() < 0.5 and len(self.stage.nodes) == NODES and not log.unavailable:
            node = self._draw.choice(list(self.stage.nodes))
            self._say("kill", [one for one in range(SHARDS) if node._shards.owns(one)])
            await self.stage.kill_node(node)
            await self._mend_log()
            await self.stage.start_node()
        await self._mend_log()
        await moving

    async def _mend_log(self) -> None:
        log = self.stage.log
        log.unavailable = False
        log.faults.clear()
        log.deliver_strays()
        await log.release(STRANGER)

    async def _wait_a_moment(self) -> None:
        await asyncio.sleep(0.5)

    async def _weather(self) -> None:
        """Let messages between clients be lost, doubled and late for a while."""
        network, seconds = self.network, self._draw.choice([1.0, 5.0, 20.0])
        network.loss = self._draw.choice([0.0, 0.1, 0.4])
        network.duplication = self._draw.choice([0.0, 0.3])
        network.delay_s_max = self._draw.choice([0.0, 0.01, 0.2])
        self._say("weather", network.loss, network.duplication, network.delay_s_max, seconds)
        self.stage.broker.transit = network
        await asyncio.sleep(seconds)
        if self._draw.random() < 0.5:
            self._calm()

    def _calm(self) -> None:
        """Let everything arrive from now on; the stream delivers what was lost on its way after its wait for an ack."""
        if self.network.loss:
            self.stage.died_s = self.stage.loop.time()
        self.network.calm()

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
        """Let who holds something unbegun go, or begin it for good, and hold the system to its promise."""
        self._say("quiet")
        stage = self.stage
        self._calm()
        await asyncio.sleep(LATE_S)
        stage.broker.transit = None
        for worker in self._alive:
            await (worker.begin_all() if self._draw.random() < BUSY_SHARE else worker.die())
        stage.busy = {worker.name for worker in self._alive}
        for what in list(self._held):
            await self._let_go(what)
        stage.look()
        if stage.bulks:
            await stage.serve_bulks()
        for task_id in stage.tasks:
            if stage.state_of(task_id).paused:
                await stage.ask("task.resume", {"task_id": task_id} | BY)
        places = self._draw.choice([None, PLACES_MANY])
        healthy = await stage.healthy(f"healthy-{len(stage.workers)}", places=places, queues=QUEUES)
        until_s = max(stage.died_s + DEAD_S, self._ramped_s + SOON_S)
        await stage.until_begun(until_s - stage.loop.time())
        assert len(set(healthy.ran)) == len(healthy.ran), "a worker begins an attempt once"
        stage.check_told()
        stage.check_made()
        await asyncio.sleep(2)
        await healthy.die()

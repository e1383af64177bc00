"""The same machine over templates with limits: keys of every strategy, caps, singletons, debounced starts and budgets.

What docs/howto/limit-what-runs.md promises is asked of the tasks themselves, not of the streams in which a key keeps
its places: never more run than may; in the end, when nobody meddles any more, nobody waits while there is room, and
every task comes to its end, whatever crashed, was lost or taken over.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from tasker import (
    Budget,
    Concurrency,
    Debounce,
    PermanentError,
    RateLimit,
    Retry,
    RetryableError,
    StepContext,
    Template,
)
from tasker.errors import TaskerError
from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.stored import from_recorded, meta_of
from tasker.events.task_events import StepStarted, TaskCreated, TaskPostponed
from tasker.service.domain.evolve import evolve
from tasker.service.domain.state import STEP_OPEN, TaskState, TaskStatus
from tasker.service.domain.state_document import state_document
from tasker.templates import compile_template
from tasker.templates.model import ConcurrencyStrategy
from tasker.testing.network import MessageKind
from tasker.testing.sources import registry_of
from tasker.testing.world import World
from tests.moves import move
from tests.simulation.test_machine import BY, EXAMPLES, IS_LONG, MESSAGES, Machine
from tests.simulation.watched import Life, Watched

STRATEGIES: tuple[ConcurrencyStrategy, ...] = ("queue", "drop", "cancel_oldest", "cancel_newest")
PLACES = 2
SLOTS = 100
RUNNING_MAX = 2
READY_MAX = 2
RUNNING_S_MAX = 5.0
TEMPLATE_PRIORITY = -10
STEP_PRIORITY = 20
KINDS = [*STRATEGIES, "steps", "capped", "single", "debounced", "paced", "ready", "budgeted"]
PACE = RateLimit(per_s=0.5, burst=2, key="input.key")
QUEUE_PER_S = 1.0
LATE_S = 0.1
"""So much later than it is let begin, an attempt may begin where nothing is lost or delayed."""
TASKS_MAX = 12
ROUNDS_MAX = 30
ROUND_S = 30.0


def limited(kind: str, body: Any) -> Template:
    """Return a template with one kind of limit; all are asked under `input.key`."""
    keys: dict[str, Any] = {}
    match kind:
        case "capped":
            keys["max_running"] = RUNNING_MAX
        case "single":
            keys["singleton"] = "input.key"
        case "debounced":
            keys["debounce"] = Debounce(key="input.key", for_s=5, max_s=20)
        case "ready":
            keys.update(max_ready=READY_MAX, priority=TEMPLATE_PRIORITY)
        case "budgeted":
            keys["budget"] = Budget(running_s_max=RUNNING_S_MAX, on_exceeded="fail")
        case "steps" | "paced":
            pass
        case strategy:
            limit = PLACES if strategy == "queue" else 1
            keys["concurrency"] = Concurrency(
                key="input.key", limit=limit, strategy=cast("ConcurrencyStrategy", strategy)
            )
    template = Template(kind, **keys)
    worked: dict[str, Any] = {"retry": Retry(max_attempts=2, delay_s=1.0), "start_to_close_s": 15.0, "heartbeat_s": 1.5}
    if kind == "steps":
        one = Concurrency(key="input.key", limit=1)
        dropped = Concurrency(key="input.key", limit=1, strategy="drop")
        template.step(name="first", concurrency=one, **worked)(body)
        template.step(name="items", each="[1, 2, 3]", max_parallel=2, concurrency=one, **worked)(body)
        template.step(name="last", after="first", concurrency=dropped, **worked)(body)
    elif kind == "paced":
        template.step(name="first", each="[1, 2, 3]", rate_limit=PACE, **worked)(body)
    elif kind == "budgeted":
        template.step(name="first", each="[1, 2, 3]", max_parallel=2, **worked)(body)
        template.step(name="last", after="first", priority=STEP_PRIORITY, **worked)(body)
    else:
        template.step(name="first", **worked)(body)
    return template


class LimitsMachine(Machine):
    """One world whose tasks stand in each other's way."""

    signal = answer = None  # type: ignore[assignment]

    @initialize(
        seed=st.integers(0, 10_000),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
        fails=st.sampled_from([0.0, 0.3]),
        takes_s=st.sampled_from([0.5, 3.0, 8.0]),
        slots=st.sampled_from([SLOTS, 1, 2]),
        is_peaceful=st.booleans(),
    )
    def open(self, *, seed: int, kinds: list[str], fails: float, takes_s: float, slots: int, is_peaceful: bool) -> None:
        """Open a world with templates that have limits."""
        draw = random.Random(f"limits {seed}")

        async def body(ctx: StepContext, input: dict[str, Any]) -> int:
            await asyncio.sleep(takes_s)
            chance = draw.random()
            if chance < fails:
                raise PermanentError("never") if chance < fails / 3 else RetryableError("not yet")
            return int(input["n"])

        templates = [limited(kind, body) for kind in kinds]
        shapes = [compile_template(one.spec()) for one in templates]
        self.shapes = {shape.hash: shape for shape in shapes}
        self.work = shapes[0]
        self.kinds = kinds
        self.states: dict[str, TaskState] = {}
        self.watched = Watched(self.shapes)
        self.restarts: dict[str, str] = {}
        self.read_to: dict[int, int] = defaultdict(int)
        self.starts: list[tuple[str, int]] = []
        self.begun_us: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        self.paced_since_us: dict[str, int] = {}
        self.is_calm = self.is_whole = True
        self.is_wide = slots == SLOTS or not is_peaceful
        self.is_peaceful = is_peaceful

        async def opened() -> World:
            # A pull of this world waits for ever: one slot whose only pull got a lost message would get no other.
            world = World(registry_of(templates), seed=seed, slots=slots if is_peaceful else SLOTS)
            await world.open()
            return world

        self.world = self.runner.run(opened())

    # ---------------------------------------------------------------- moves

    @move(
        weight=4,
        when=lambda self: len(self.starts) < TASKS_MAX,
        key=st.sampled_from(["a", "a", "b", None]),
        count=st.integers(1, 3),
        priority=st.sampled_from([None, None, 0, -50, 50, 95]),
        timeout_s=st.sampled_from([None, None, 300.0]),
    )
    def create(
        self, *, data: st.DataObject, key: str | None, count: int, priority: int | None, timeout_s: float | None
    ) -> None:
        """Start some at once."""
        kind = data.draw(st.sampled_from(self.kinds), label="kind")
        names = [(len(self.starts) + number, self._named()["command_id"]) for number in range(count)]

        async def create() -> None:
            for n, name in names:
                made = await self.world.client.create(
                    kind, {"key": key, "n": n}, idempotency_key=name, priority=priority, timeout_s=timeout_s
                )
                self.starts.append((made.task_id, n))
                if made.task_id not in self.tasks:
                    self.tasks.append(made.task_id)

        self._do(create)

    @move(
        when=lambda self: any(one.ended for one in self.states.values()),
    )
    def restart(self, *, data: st.DataObject) -> None:
        """Run one that has ended once more; the same command again names the same task."""
        ended = [task for task, one in self.states.items() if one.ended]
        task, by = data.draw(st.sampled_from(ended), label="restarted"), self._named()

        async def restart() -> None:
            made = (await self.world.client.restart(task, **by)).task_id
            assert made is not None
            assert self.restarts.setdefault(by["command_id"], made) == made
            if made not in self.tasks:
                self.tasks.append(made)

        self._do(restart)

    @move()
    def pace(self, *, data: st.DataObject) -> None:
        """An operator lets attempts of a queue begin one after the other, or as they come."""
        kind, controls = data.draw(st.sampled_from(self.kinds), label="queue"), self.world.client.controls
        if self.paced_since_us.pop(kind, None) is None:
            self._do(lambda: controls.set_limit("queue", kind, per_s=QUEUE_PER_S, **BY))
            self.paced_since_us[kind] = self.world.clock.now_us()
        else:
            self._do(lambda: controls.remove_limit("queue", kind, **BY))

    @move(
        weight=2,
        when=lambda self: not self.is_peaceful,
        kind=st.sampled_from(MESSAGES),
        how=st.sampled_from(["lose", "duplicate", "delay"]),
        times=st.integers(1, 3),
        by_s=st.sampled_from([0.1, 4.0, 40.0]),
    )
    def bad_messages(self, *, kind: MessageKind, how: str, times: int, by_s: float) -> None:
        """What begins late is not told from what began too early, from here on."""
        self.is_calm = False
        super().bad_messages(kind=kind, how=how, times=times, by_s=by_s)

    @move(when=lambda self: not self.is_peaceful, down_s=st.sampled_from([0.0, 1.0, 30.0]))
    def kill_service(self, *, down_s: float) -> None:
        """Who takes over learns by and by what waits where."""
        self.is_whole = False
        super().kill_service(down_s=down_s)

    @move(when=lambda self: not self.is_peaceful)
    def kill_worker(self) -> None:
        """What it had taken is offered anew by and by."""
        self.is_whole = False
        super().kill_worker()

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def no_more_begin_than_may(self) -> None:
        """In no stretch of time do more attempts begin than their rate gives tokens, where none waits for a worker."""
        if not (self.is_calm and self.is_wide and self.is_whole):
            return
        self.runner.run(self._read())
        for (kind, key), begun_us in self.begun_us.items():
            if kind == "paced":
                assert _is_within(sorted(begun_us), PACE.per_s, PACE.burst), f"{kind} {key}: {begun_us}"
        for kind, since_us in self.paced_since_us.items():
            all_us = [us for (of, _), many in self.begun_us.items() if of == kind for us in many if us > since_us]
            assert _is_within(sorted(all_us), QUEUE_PER_S, 1), f"queue {kind}: {all_us}"

    @invariant()
    def no_limit_is_passed(self) -> None:
        """Never do more hold a place than there are."""
        self.runner.run(self._read())
        for kind, key, states in self._groups():
            begun = [one for one in states if _has_its_place(one)]
            there = [one for one in states if not one.ended]
            if kind == "capped":
                continue
            if kind == "single":
                assert key is None or len(there) <= 1, f"{len(there)} of one kind"
            elif kind in STRATEGIES and key is not None:
                assert len(begun) <= (PLACES if kind == "queue" else 1), f"{len(begun)} hold a place of {kind} {key}"
            elif kind == "steps" and key is not None:
                for step in ("first", "items", "last"):
                    running = [name for one in states for name in _with_place(one, step)]
                    assert len(running) <= 1, f"{running} hold a place under {key}"
        capped = [one for one in self.states.values() if _kind(one) == "capped" and not one.ended]
        assert len(capped) <= RUNNING_MAX, f"{len(capped)} are there of {RUNNING_MAX}"

    def _groups(self) -> Iterable[tuple[str, str | None, list[TaskState]]]:
        found: dict[tuple[str, str | None], list[TaskState]] = defaultdict(list)
        for state in self.states.values():
            found[_kind(state), msgspec.json.decode(state.input)["key"]].append(state)
        return [(kind, key, states) for (kind, key), states in found.items()]

    async def _read(self) -> None:
        """Take up what was recorded since."""
        log, new = self.world.log, []
        for shard in range((await log.info()).shards):
            new += await log.read(shard, after=self.read_to[shard], limit=1_000_000)
        for event in sorted(new, key=lambda one: (one.at_us, one.shard, one.position)):
            self.read_to[event.shard] = event.position
            self._take_up(event)

    def _take_up(self, recorded: RecordedEvent) -> None:
        if recorded.kind != "task":
            return
        state = self.states.setdefault(str(recorded.stream_id), TaskState())
        found: Any = from_recorded(recorded)
        life = self.watched.lives.setdefault(str(recorded.stream_id), Life(state))
        self.watched.before(life, recorded)
        meta = meta_of(recorded)
        evolve(state, found, at_us=recorded.at_us, command_id=meta.command_id, request=meta.request)
        self.watched.after(life, recorded, found, is_calm=self.is_calm and self.is_whole and not self.paced_since_us)
        if isinstance(found, StepStarted):
            self.begun_us[_kind(state), msgspec.json.decode(state.input)["key"]].append(recorded.at_us)

    # ---------------------------------------------------------------- the end

    def teardown(self) -> None:
        """Let the load stop: nobody waits while there is room, all come to their end, and every place comes back."""
        try:
            if hasattr(self, "world"):
                self.runner.run(self._run_down())
        finally:
            super().teardown()

    async def _run_down(self) -> None:
        world = self.world
        world.network.calm()
        await world.advance(ROUND_S)
        await self._free()
        await world.advance(ROUND_S)
        await self._read()
        self._nobody_waits_for_nothing()
        rounds = 0
        while standing := [task for task, one in self.states.items() if not one.ended]:
            rounds += 1
            assert rounds < ROUNDS_MAX, [state_document(self.states[task]) for task in standing]
            for task in standing:
                if self.states[task].status is TaskStatus.BLOCKED:
                    await self._ask(world.client.cancel(task, grace_s=0.0))
            await world.advance(ROUND_S)
            await self._read()
        self._starts_are_kept()

    async def _free(self) -> None:
        """Let everything go on that somebody holds."""
        client = self.world.client
        for kind in ("work", *self.kinds):
            await self._ask(client.controls.resume("queue", kind, **BY))
            await self._ask(client.controls.remove_limit("queue", kind, **BY))
        await self._read()
        for task, state in self.states.items():
            if state.paused:
                await self._ask(client.resume(task, **BY))

    async def _ask(self, command: Any) -> None:
        with self.world.loop.passing(self.world.loop.time() + self.world.client.timeout_s):
            try:
                await command
            except TaskerError:
                return

    def _nobody_waits_for_nothing(self) -> None:
        for kind, key, states in self._groups():
            if kind not in STRATEGIES or key is None:
                continue
            waiting = [one for one in states if one.status is TaskStatus.PENDING]
            begun = [one for one in states if _has_its_place(one)]
            assert not waiting or len(begun) == (PLACES if kind == "queue" else 1), (
                f"{kind} {key}: one waits for nothing"
            )

    def _starts_are_kept(self) -> None:
        """Each start that was taken is in the task that it was answered with."""
        for task, n in self.starts:
            kind = _kind(self.states[task])
            found: list[Any] = [from_recorded(one) for one in self.world.recorded(task)]
            inputs = [
                msgspec.json.decode(one.input)["n"] for one in found if isinstance(one, TaskCreated | TaskPostponed)
            ]
            assert n in inputs or kind == "single", f"the start {n} is lost"
            state = self.states[task]
            if state.status is TaskStatus.COMPLETED and kind == "debounced" and state.steps["first"].result is not None:
                assert msgspec.json.decode(state.input)["n"] == inputs[-1]


def _is_within(begun_us: list[int], per_s: float, burst: int) -> bool:
    """Return whether in no stretch of time more began than `per_s * time + burst`; `begun_us` is in order."""
    return all(
        last - first + 1 <= per_s * ((begun_us[last] - begun_us[first]) / US_PER_S + LATE_S) + burst
        for first in range(len(begun_us))
        for last in range(first, len(begun_us))
    )


def _kind(state: TaskState) -> str:
    return state.template.name


def _has_its_place(state: TaskState) -> bool:
    """Return whether a task holds a place; one that was paused while it waited for it does not."""
    return not state.ended and "" in state.places and state.places[""].held


def _with_place(state: TaskState, step: str) -> list[str]:
    """Return the open instances of a step that hold their place."""
    return [
        name
        for name, one in state.steps.items()
        if name.partition("[")[0] == step
        and one.expansion is None
        and one.status in STEP_OPEN
        and name in state.places
        and state.places[name].held
    ]


TestLimitsMachine = LimitsMachine.TestCase
TestLimitsMachine.settings = settings(
    max_examples=max(1, EXAMPLES // 2),
    derandomize=not IS_LONG,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)

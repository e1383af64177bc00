"""However often its owner dies, each fire time of a schedule starts one task or is skipped with its reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.events.envelope import US_PER_S
from tasker.events.schedule_events import (
    AnyScheduleEvent,
    ScheduleDeleted,
    ScheduleFired,
    ScheduleFiresSkipped,
    ScheduleSpec,
    ScheduleTaskStarted,
)
from tasker.schedules import fire_times
from tasker.service.domain.schedules.commands import (
    BackfillSchedule,
    CreateSchedule,
    GoOn,
    NoteStarted,
    PauseSchedule,
    ResumeSchedule,
    TriggerSchedule,
)
from tasker.service.domain.schedules.decide import BUFFERED_MAX, decide_schedule, needs_to_know
from tasker.service.domain.schedules.obligations import schedule_obligations
from tasker.service.domain.schedules.state import SCHEDULE_FORM, ScheduleState, evolve_schedule
from tests.properties.examples import examples

T0_US = 1_774_700_000_000_000
"""A day before Zurich's clocks are put forward in 2026."""

DURATIONS_S = [0.1, 30.0, 400.0, 20_000.0]

whens: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, every_us=st.sampled_from([20, 60, 1_000, 86_400]).map(lambda one: one * US_PER_S)),
    st.builds(
        dict,
        cron=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 * * * *", "15,45 1-3 * * *"]),
        timezone=st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe"]),
    ),
    st.builds(
        dict,
        at_us=st.lists(st.integers(1, 200_000), min_size=1, max_size=5, unique=True).map(
            lambda some: tuple(T0_US + one * US_PER_S for one in sorted(some))
        ),
    ),
)


@st.composite
def specs(draw: Any) -> ScheduleSpec:
    return ScheduleSpec(
        template="t",
        **draw(whens),
        jitter_s=draw(st.sampled_from([0.0, 0.0, 5.0, 90.0])),
        overlap=draw(st.sampled_from(["skip", "buffer_one", "buffer_all", "cancel_running", "allow"])),
        catch_up_s=draw(st.sampled_from([0.0, 300.0, 86_400.0])),
        fires_max=draw(st.sampled_from([None, None, 3])),
    )


class World:
    """Runs one schedule: its owner dies, its tasks take their time, messages are lost.

    Attributes:
        tasks: id -> when it ends. Creating one twice changes nothing, as in the service.
    """

    def __init__(self, duration_s: float) -> None:
        self.now_us = T0_US
        self.log: list[tuple[int, AnyScheduleEvent]] = []
        self.state = ScheduleState("default")
        self.duration_us = round(duration_s * US_PER_S)
        self.tasks: dict[str, int] = {}
        self.created: Counter[str] = Counter()

    def do(self, command: Any) -> None:
        for event in decide_schedule(self.state, command):
            self.log.append((self.now_us, event))
            evolve_schedule(self.state, event, at_us=self.now_us)

    def crash(self) -> None:
        """Another owner folds what was recorded; nothing else is left."""
        before = SCHEDULE_FORM.encode(self.state)
        self.state = ScheduleState("default")
        for at_us, event in self.log:
            evolve_schedule(self.state, event, at_us=at_us)
        assert SCHEDULE_FORM.encode(self.state) == before

    def turn(self, *, lose_start: bool, lose_answer: bool) -> None:
        """Do what is owed now, once."""
        owed = schedule_obligations(self.state)
        for task_id in [one.partition(":")[2] for one in owed if one.startswith("start:")]:
            if lose_start:
                continue
            if task_id not in self.tasks:
                self.tasks[task_id] = self.now_us + self.duration_us
                self.created[task_id] += 1
            if not lose_answer:
                self.do(NoteStarted(at_us=self.now_us, task_id=task_id, duplicate=False))
        if any(owed.get(one, self.now_us + 1) <= self.now_us for one in ("fire", "go_on")):
            asked = needs_to_know(self.state, self.now_us)
            ended = frozenset(task_id for task_id in asked if self.tasks[task_id] <= self.now_us)
            self.do(GoOn(at_us=self.now_us, ended=ended))

    def settle(self) -> None:
        """Do what is owed until nothing is owed at this moment."""
        for _ in range(2_000):
            before = len(self.log)
            self.turn(lose_start=False, lose_answer=False)
            if len(self.log) == before:
                return
        raise AssertionError(f"it never comes to rest: {self.log[-3:]}")


steps = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "wait", "crash", "pause", "resume", "trigger", "backfill"]),
        st.sampled_from([0.5, 10.0, 61.0, 900.0, 7_200.0, 100_000.0]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=examples(1.0), deadline=None)
@given(spec=specs(), duration_s=st.sampled_from(DURATIONS_S), story=steps)
def test_each_fire_time_starts_one_task_or_is_skipped_with_its_reason(
    spec: ScheduleSpec, duration_s: float, story: list[tuple[str, float, bool, bool]]
) -> None:
    world = World(duration_s)
    world.do(CreateSchedule(at_us=T0_US, namespace="n", name="s", spec=spec))
    for number, (what, wait_s, lose_start, lose_answer) in enumerate(story):
        world.now_us += round(wait_s * US_PER_S)
        if what == "crash":
            world.crash()
        elif what == "pause":
            world.do(PauseSchedule(at_us=world.now_us))
        elif what == "resume":
            world.do(ResumeSchedule(at_us=world.now_us))
        elif what == "trigger":
            world.do(TriggerSchedule(at_us=world.now_us, command_id=str(number)))
        elif what == "backfill" and next(fire_times(spec, T0_US - US_PER_S), world.now_us) < world.now_us:
            end_us = min(world.now_us, T0_US + 600 * US_PER_S)
            if next(fire_times(spec, T0_US - 1), end_us) < end_us and len(world.state.backfills) < 3:
                world.do(BackfillSchedule(at_us=world.now_us, start_us=T0_US, end_us=end_us, overlap="allow"))
        world.turn(lose_start=lose_start, lose_answer=lose_answer)
    world.do(ResumeSchedule(at_us=world.now_us))
    world.settle()
    check(spec, world)


def check(spec: ScheduleSpec, world: World) -> None:
    events = [event for _, event in world.log]
    fired = [one for one in events if isinstance(one, ScheduleFired)]
    by_clock = Counter(one.fire_us for one in fired if one.cause in ("time", "buffered"))
    skips = [one for one in events if isinstance(one, ScheduleFiresSkipped) and one.reason != "replaced"]
    replaced = Counter(
        one.first_us for one in events if isinstance(one, ScheduleFiresSkipped) and one.reason == "replaced"
    )
    waiting = Counter(world.state.buffered)
    skipped = 0
    until_us = handled_until(spec, world, [*by_clock, *waiting, *replaced, *(one.until_us - 1 for one in skips)])
    for fire_us in fire_times(spec, T0_US):
        if fire_us >= until_us:
            break
        in_ranges = sum(one.first_us <= fire_us < one.until_us for one in skips)
        skipped += in_ranges
        found = by_clock[fire_us] + replaced[fire_us] + waiting[fire_us] + in_ranges
        assert found == 1, (fire_us - T0_US, found, spec, world.now_us - T0_US, world.log)
    assert sum(one.count or 0 for one in skips) <= skipped
    assert all(count == 1 for count in world.created.values())
    assert set(world.created) == {one.task_id for one in fired}
    started = {one.task_id for one in events if isinstance(one, ScheduleTaskStarted)}
    assert started == set(world.created)
    if spec.fires_max is not None:
        assert sum(by_clock.values()) + len(waiting) <= spec.fires_max
    assert len(waiting) <= (BUFFERED_MAX if spec.overlap == "buffer_all" else 1)
    assert not any(isinstance(one, ScheduleDeleted) for one in events)


def handled_until(spec: ScheduleSpec, world: World, handled: list[int]) -> int:
    """Return behind what no fire time had to be handled yet."""
    state = world.state
    if state.next_us is not None:
        assert state.due_us is not None
        assert state.due_us > world.now_us, "what is due is not handled"
        return state.next_us
    spent = spec.fires_max is not None and state.fired + len(state.buffered) >= spec.fires_max
    return max(handled, default=0) + 1 if spent else 2**62

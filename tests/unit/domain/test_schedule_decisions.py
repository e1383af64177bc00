"""What a schedule decides of its fire times: those of the property tests are on time to the microsecond."""

from tasker.events.envelope import US_PER_S
from tasker.events.schedule_events import ScheduleFired, ScheduleFiresSkipped, ScheduleSpec
from tasker.service.domain.schedules.commands import CreateSchedule, GoOn
from tasker.service.domain.schedules.decide import ON_TIME_S, decide_schedule
from tasker.service.domain.schedules.state import ScheduleState, evolve_schedule
from tests.runs import T0_US, types


def every_minute(catch_up_s: float) -> ScheduleState:
    """A schedule that fires every minute, from a minute behind `T0_US` on."""
    state = ScheduleState("default")
    spec = ScheduleSpec(template="t", every_us=60 * US_PER_S, start_us=T0_US, catch_up_s=catch_up_s)
    for event in decide_schedule(state, CreateSchedule(at_us=T0_US, namespace="n", name="s", spec=spec)):
        evolve_schedule(state, event, at_us=T0_US)
    assert state.due_us == T0_US + 60 * US_PER_S
    return state


def test_a_fire_time_that_is_handled_some_seconds_late_is_not_missed() -> None:
    """With `catch_up_s: 0` every one was: its owner comes a moment after its time."""
    for catch_up_s in (0.0, 0.001):
        state = every_minute(catch_up_s)
        assert state.due_us is not None
        for late_us in (1, 500, round(ON_TIME_S * US_PER_S)):
            assert types(decide_schedule(state, GoOn(at_us=state.due_us + late_us))) == [ScheduleFired]


def test_one_that_is_later_is_made_up_for_within_the_window_alone() -> None:
    late_us = T0_US + 90 * US_PER_S
    assert types(decide_schedule(every_minute(31.0), GoOn(at_us=late_us))) == [ScheduleFired]
    assert types(decide_schedule(every_minute(29.0), GoOn(at_us=late_us))) == [ScheduleFiresSkipped]

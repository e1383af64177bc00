"""An attempt that is reserved is another worker's for two seconds, and nobody's longer."""

from tasker.events.messages import Report, ReportKind
from tasker.service.actors.dispatch.reservations import RESERVED_US, Reservations


def ask(kind: ReportKind, worker: str, *, step: str = "s", attempt: int = 1) -> Report:
    return Report(kind=kind, task_id="t", step=step, attempt=attempt, worker=worker)


def test_who_reserved_it_gets_it_and_nobody_else_while_that_holds() -> None:
    held = Reservations()
    assert not held.denied_until_us(ask("reserve", "w1"), 0)
    assert held.denied_until_us(ask("reserve", "w2"), RESERVED_US - 1) == RESERVED_US
    assert held.denied_until_us(ask("claim", "w2"), RESERVED_US - 1)
    assert not held.denied_until_us(ask("claim", "w1"), RESERVED_US - 1)
    assert not held.denied_until_us(ask("claim", "w2"), RESERVED_US)


def test_a_further_reservation_of_the_same_worker_holds_anew() -> None:
    held = Reservations()
    assert not held.denied_until_us(ask("reserve", "w1"), 0)
    assert not held.denied_until_us(ask("reserve", "w1"), RESERVED_US - 1)
    assert held.denied_until_us(ask("claim", "w2"), 2 * RESERVED_US - 2)


def test_a_claim_reserves_nothing() -> None:
    held = Reservations()
    assert not held.denied_until_us(ask("claim", "w1"), 0)
    assert not held.denied_until_us(ask("claim", "w2"), 0)


def test_attempts_and_steps_are_apart_and_what_is_over_is_forgotten() -> None:
    held = Reservations()
    for number in range(1_000):
        assert not held.denied_until_us(ask("reserve", f"w{number}", step=f"s[{number}]"), number * RESERVED_US)
    assert len(held._by_attempt) <= 64
    assert not held.denied_until_us(ask("reserve", "w1", attempt=1), 0)
    assert not held.denied_until_us(ask("reserve", "w2", attempt=2), 0)

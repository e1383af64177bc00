"""What is away is told when it begins, less and less often, and when it is over."""

from typing import Any

from structlog.testing import CapturingLogger

from tasker.outages import SILENT_S_MAX, Outage, Repetition


class Told:
    """An outage whose time is set by hand, and what it said."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._log = CapturingLogger()
        self.outage = Outage(self._log, "streams_not_checked", lambda: self.now_s)

    def lines(self) -> list[tuple[str, str, Any]]:
        """Return level, event and the time that each line told."""
        return [
            (call.method_name, call.args[0], call.kwargs.get("lasts_s", call.kwargs.get("lasted_s")))
            for call in self._log.calls
        ]


def test_it_is_said_less_and_less_often_while_it_lasts() -> None:
    told = Told()
    for _ in range(200):
        told.outage.goes_on("NATS is away")
        told.now_s += 0.5
    said = [at_s for _, _, at_s in told.lines()]
    assert said == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 51.0, 71.0, 91.0]
    assert said[-1] - said[-2] == SILENT_S_MAX


def test_its_end_is_said_once_and_the_next_one_begins_anew() -> None:
    told = Told()
    told.outage.is_over()
    assert told.lines() == []
    told.outage.goes_on("NATS is away")
    told.now_s += 0.5
    told.outage.is_over()
    told.outage.is_over()
    told.outage.goes_on("NATS is away")
    assert told.lines() == [
        ("warning", "streams_not_checked", 0.0),
        ("info", "outage_over", 0.5),
        ("warning", "streams_not_checked", 0.0),
    ]


def test_what_befalls_many_is_told_of_fewer_and_fewer_and_they_are_counted() -> None:
    log, now_s = CapturingLogger(), 0.0
    told = Repetition(log, "http_error", lambda: now_s)
    for number in range(400):
        now_s = number / 10
        told.tell(path=f"/v1/tasks/{number}", code="unavailable")
    assert [(call.args[0], call.kwargs["path"]) for call in log.calls] == [
        ("http_error", f"/v1/tasks/{number}") for number in (0, 10, 30, 70, 150, 310)
    ]
    assert [call.kwargs.get("left_out", 0) for call in log.calls] == [0, 9, 19, 39, 79, 159]


def test_what_comes_again_after_a_quiet_time_is_told_as_if_it_were_the_first() -> None:
    log, now_s = CapturingLogger(), 0.0
    told = Repetition(log, "http_error", lambda: now_s)
    for now_s in (0.0, 1.0, 3.0, 100.0, 101.0):  # noqa: B007 - the clock
        told.tell(code="unavailable")
    assert len(log.calls) == 5
    assert "left_out" not in log.calls[-1].kwargs

"""What is away is told when it begins, less and less often, and when it is over."""

from typing import Any

from structlog.testing import CapturingLogger

from tasker.outages import SILENT_S_MAX, Outage


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

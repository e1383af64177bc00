"""What the work stream wants of a queue, so that little goes there ahead of demand.

Work in the stream is in order of arrival for good. So an ordered queue hands the stream only what somebody asks it for:
a few at first, twice as many each time that all of them were taken by the next look.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import StreamMissing, api_request
from tasker.errors import TaskerError
from tasker.events.subjects import Subjects

WINDOW_MAX: Final = 256
"""Most items that go to the stream at once."""

_log = structlog.get_logger(__name__)


class Demand(NamedTuple):
    """How a queue stands in the stream: open requests for its work, and messages that nobody has taken."""

    asking: int
    pending: int


class _Info(msgspec.Struct):
    num_waiting: int = 0
    num_pending: int = 0


async def demand_of(bus: Bus, subjects: Subjects, tenant: str, namespace: str, queue: str) -> Demand | None:
    """Return how a queue stands; None: NATS does not say."""
    name = subjects.work_consumer(tenant, namespace, queue)
    try:
        info = await api_request(bus, f"CONSUMER.INFO.{subjects.work_stream}.{name}", None, _Info)
    except StreamMissing:
        return Demand(0, 0)
    except (TaskerError, msgspec.DecodeError) as error:
        _log.debug("demand_not_told", queue=queue, namespace=namespace, error=str(error))
        return None
    return Demand(info.num_waiting, info.num_pending)


class Window:
    """How many items of one queue go to the stream at a look."""

    __slots__ = ("_fed", "_size")

    def __init__(self) -> None:
        self._size = 1
        self._fed = False

    def open(self, demand: Demand) -> int:
        """Return how many may go there now."""
        if demand.pending or not demand.asking:
            self._size, self._fed = 1, False
            return 0
        if self._fed:
            self._size = min(2 * self._size, WINDOW_MAX)
        self._fed = True
        return self._size

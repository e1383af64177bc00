"""How queues stand with the workers: asked of NATS, which knows the open requests for their work."""

from __future__ import annotations

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import StreamMissing, api_request
from tasker.errors import TaskerError
from tasker.events.reads import QueueFacts
from tasker.events.subjects import Subjects
from tasker.times import from_rfc3339, to_rfc3339

_log = structlog.get_logger(__name__)


class _Delivered(msgspec.Struct, frozen=True):
    last_active: str | None = None


class _Info(msgspec.Struct):
    num_waiting: int = 0
    num_pending: int = 0
    num_redelivered: int = 0
    delivered: _Delivered = _Delivered()


class BusQueues:
    """Asks NATS (`QueueOf`)."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects

    async def __call__(self, tenant: str, namespace: str, queue: str) -> QueueFacts | None:
        """Return how a queue stands; None when NATS does not say."""
        name = self._subjects.work_consumer(tenant, namespace, queue)
        try:
            info = await api_request(self._bus, f"CONSUMER.INFO.{self._subjects.work_stream}.{name}", None, _Info)
        except StreamMissing:
            return QueueFacts(namespace=namespace, queue=queue, known=False)
        except (TaskerError, msgspec.DecodeError) as error:
            _log.debug("queue_not_told", queue=queue, namespace=namespace, error=str(error))
            return None
        at = info.delivered.last_active
        return QueueFacts(
            namespace=namespace,
            queue=queue,
            asking=info.num_waiting,
            offered=info.num_pending,
            given_back=info.num_redelivered,
            last_taken=None if at is None else to_rfc3339(from_rfc3339(at)),
        )

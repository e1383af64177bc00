"""Commands over the bus to whichever node takes them."""

from __future__ import annotations

from collections.abc import Mapping

from tasker.bus.bus import Bus, Disconnected, NoResponders
from tasker.errors import OutcomeUnknown, Unavailable
from tasker.events.subjects import Subjects


class BusGateway:
    """`Gateway` over the bus."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects

    async def send(self, tenant: str, verb: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> bytes:
        """Return the answer to the command `verb`, as JSON."""
        if not self._bus.connected:
            raise Unavailable("the service has no connection to NATS at the moment", retry_after_s=1.0)
        subject = self._subjects.command(tenant, *verb.split(".", 1))
        try:
            answer = await self._bus.request(subject, body, timeout_s=timeout_s, headers=headers or None)
        except NoResponders as error:
            raise Unavailable("nobody takes commands at the moment", retry_after_s=1.0) from error
        except Disconnected as error:
            raise OutcomeUnknown("the connection to NATS dropped before the answer") from error
        return answer.data

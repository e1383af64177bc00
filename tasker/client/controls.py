"""What operators do to work as a whole: `client.controls`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tasker.client.http import Parameters
from tasker.client.pages import Read, items_of
from tasker.client.requests import SendCommand, command_id_of
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.messages import CircuitClose, CircuitOpen, ControlPause, ControlResume, LimitRemove, LimitSet, Reply
from tasker.events.reads import CircuitsView, ControlsView, EventPage, EventView, LimitsView
from tasker.ids import IdSource


class WorkControls:
    """Holds back the work of a queue, a template, the client's tenant, or everything."""

    def __init__(self, send: SendCommand, read: Read, ids: IdSource) -> None:
        self._send = send
        self._read = read
        self._ids = ids

    async def pause(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        namespace: str | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let no attempt in the scope begin, until `resume`; those that run go on. Every node heeds it in a second.

        Args:
            scope: `queue` or `template`, with a `name`; `tenant`, the client's own; `everything`.
            name: of the queue or template.
            requested_by: who asks; shown to whoever meets the pause.
            reason: why; shown with it.
            namespace: of the queue or template; else "default".
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.
        """
        command = ControlPause(
            scope=scope,
            name=name,
            namespace=namespace,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("control.pause", command)

    async def resume(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts in the scope begin again; what was held back comes evenly spread over `ramp_s`.

        Raises:
            StateForbids: it is not paused.
        """
        command = ControlResume(
            scope=scope,
            name=name,
            namespace=namespace,
            ramp_s=ramp_s,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("control.resume", command)

    async def set_limit(
        self,
        scope: LimitScope,
        name: str,
        *,
        per_s: float,
        requested_by: str,
        reason: str,
        burst: int = 1,
        key: str | None = None,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let so many attempts of a queue or a handler begin in a time, over all nodes, in place of a limit before.

        Args:
            scope: `queue` or `handler`.
            name: of the queue or handler.
            per_s: attempts a second.
            requested_by: who asks.
            reason: why.
            burst: so many may begin at once when none did for a while.
            key: an expression over the task's `input`; each of its values has the limit for itself.
            namespace: of the queue or handler.
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.

        Raises:
            ExpressionInvalid: the key is none.
        """
        command = LimitSet(
            scope=scope,
            name=name,
            namespace=namespace,
            per_s=per_s,
            burst=burst,
            key=key,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("limit.set", command)

    async def remove_limit(
        self,
        scope: LimitScope,
        name: str,
        *,
        requested_by: str,
        reason: str,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts of a queue or a handler begin as they come.

        Raises:
            StateForbids: it has no limit.
        """
        command = LimitRemove(
            scope=scope,
            name=name,
            namespace=namespace,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("limit.remove", command)

    async def limits(self) -> LimitsView:
        """Return the rate limits: those that operators set, as the log says now, and those of the templates in use."""
        return await self._read("/v1/limits", LimitsView, {})

    async def open_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        open_s: float = 600.0,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let no attempt of a handler begin, as if too many of them had failed; those that run go on.

        Args:
            name: of the handler.
            requested_by: who asks; shown to whoever waits for it.
            reason: why; shown with it.
            open_s: after so long a trial begins, which closes the circuit or opens it for twice as long.
            namespace: of the handler.
            command_id: names this command; drawn when absent.
            dry_run: only answer what would happen.
        """
        command = CircuitOpen(
            name=name,
            namespace=namespace,
            open_s=open_s,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("circuit.open", command)

    async def close_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str = "default",
        command_id: str | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Let attempts of a handler begin again, evenly spread over `ramp_s`, as if none of them had failed.

        Raises:
            StateForbids: its circuit is closed.
        """
        command = CircuitClose(
            name=name,
            namespace=namespace,
            ramp_s=ramp_s,
            requested_by=requested_by,
            reason=reason,
            command_id=command_id_of(command_id, self._ids),
            dry_run=dry_run,
        )
        return await self._send("circuit.close", command)

    async def circuits(self) -> CircuitsView:
        """Return the circuits that are not closed, as the log says now, and the breakers of the templates in use."""
        return await self._read("/v1/circuits", CircuitsView, {})

    async def events(
        self,
        scope: ControlScope | LimitScope | None = None,
        name: str | None = None,
        *,
        namespace: str | None = None,
    ) -> AsyncIterator[EventView]:
        """Yield what was paused, limited, opened and closed, the newest first; who and why is in an event's `meta`.

        Args:
            scope: only of such things: `handler` for the circuits and limits of handlers, `queue`, `template`, ...
            name: only of this handler, queue or template.
            namespace: only of this namespace.
        """
        parameters: Parameters = {"scope": scope, "name": name, "namespace": namespace}
        async for event in items_of(self._read, "/v1/controls/events", EventPage, parameters):
            yield event

    async def get(self) -> ControlsView:
        """Return what is paused, limited or comes back slowly, and the open circuits, as the log says now."""
        return await self._read("/v1/controls", ControlsView, {})

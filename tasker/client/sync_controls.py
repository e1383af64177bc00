"""Controls without an event loop: `TaskerSyncClient.controls`. Each call blocks; nothing else is different."""

from __future__ import annotations

from tasker.client.controls import WorkControls
from tasker.client.sync_schedules import Blocking
from tasker.events.control_events import ControlScope, LimitScope
from tasker.events.messages import Reply
from tasker.events.reads import CircuitsView, ControlsView, LimitsView


class SyncControls:
    """Holds back work as a whole; see `WorkControls`."""

    def __init__(self, loop: Blocking, controls: WorkControls) -> None:
        self._loop = loop
        self._controls = controls

    def pause(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        namespace: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Let no attempt in the scope begin, until `resume`; see `WorkControls.pause`."""
        return self._loop.run(
            self._controls.pause(
                scope, name, requested_by=requested_by, reason=reason, namespace=namespace, command_id=command_id
            )
        )

    def resume(
        self,
        scope: ControlScope,
        name: str | None = None,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str | None = None,
        command_id: str | None = None,
    ) -> Reply:
        """Let attempts in the scope begin again; see `WorkControls.resume`."""
        return self._loop.run(
            self._controls.resume(
                scope,
                name,
                requested_by=requested_by,
                reason=reason,
                ramp_s=ramp_s,
                namespace=namespace,
                command_id=command_id,
            )
        )

    def limit(
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
    ) -> Reply:
        """Let so many attempts of a queue or a handler begin in a time; see `WorkControls.limit`."""
        return self._loop.run(
            self._controls.limit(
                scope,
                name,
                per_s=per_s,
                requested_by=requested_by,
                reason=reason,
                burst=burst,
                key=key,
                namespace=namespace,
                command_id=command_id,
            )
        )

    def unlimit(
        self,
        scope: LimitScope,
        name: str,
        *,
        requested_by: str,
        reason: str,
        namespace: str = "default",
        command_id: str | None = None,
    ) -> Reply:
        """Let attempts of a queue or a handler begin as they come; see `WorkControls.unlimit`."""
        return self._loop.run(
            self._controls.unlimit(
                scope, name, requested_by=requested_by, reason=reason, namespace=namespace, command_id=command_id
            )
        )

    def limits(self) -> LimitsView:
        """Return the rate limits; see `WorkControls.limits`."""
        return self._loop.run(self._controls.limits())

    def open_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        open_s: float = 600.0,
        namespace: str = "default",
        command_id: str | None = None,
    ) -> Reply:
        """Let no attempt of a handler begin, as if too many had failed; see `WorkControls.open_circuit`."""
        return self._loop.run(
            self._controls.open_circuit(
                name,
                requested_by=requested_by,
                reason=reason,
                open_s=open_s,
                namespace=namespace,
                command_id=command_id,
            )
        )

    def close_circuit(
        self,
        name: str,
        *,
        requested_by: str,
        reason: str,
        ramp_s: float = 0.0,
        namespace: str = "default",
        command_id: str | None = None,
    ) -> Reply:
        """Let attempts of a handler begin again; see `WorkControls.close_circuit`."""
        return self._loop.run(
            self._controls.close_circuit(
                name,
                requested_by=requested_by,
                reason=reason,
                ramp_s=ramp_s,
                namespace=namespace,
                command_id=command_id,
            )
        )

    def circuits(self) -> CircuitsView:
        """Return the circuits that are not closed; see `WorkControls.circuits`."""
        return self._loop.run(self._controls.circuits())

    def get(self) -> ControlsView:
        """Return what is held back, as the log says now; see `WorkControls.get`."""
        return self._loop.run(self._controls.get())

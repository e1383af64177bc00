"""How a command travels: over NATS to whichever node takes it, or to an endpoint over HTTP."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from tasker.bus.bus import Bus, Disconnected, NoResponders
from tasker.client.http import OTHER, HttpApi
from tasker.client.requests import segment
from tasker.errors import OutcomeUnknown, Unavailable, VerbUnknown
from tasker.events.messages import (
    COMMANDS,
    HEADER_TRACEPARENT,
    Command,
    StepOperatorCommand,
    TaskOperatorCommand,
    TaskSignal,
)
from tasker.events.subjects import Subjects


class Carrier(Protocol):
    """Takes one attempt of a command to the service and its answer back."""

    def unreadable(self, fault: str) -> OutcomeUnknown:
        """Return the error of an answer that cannot be read, for the reason `fault`; it says where it came from."""
        ...

    async def send(self, verb: str, body: bytes, *, timeout_s: float, traceparent: str | None = None) -> bytes:
        """Return the answer to `body`, a command or an array of them, as the wire has it.

        Raises:
            Unavailable: nobody took it. DeadlineExceeded, OutcomeUnknown: it may have been recorded.
            TaskerError: over HTTP, the refusal itself.
        """
        ...


class BusCarrier:
    """Commands as requests on `<prefix>.<tenant>.cmd.<noun>.<verb>`."""

    def __init__(self, bus: Bus, subjects: Subjects, *, tenant: str) -> None:
        self._bus = bus
        self._subjects = subjects
        self._tenant = tenant

    def unreadable(self, fault: str) -> OutcomeUnknown:
        """Return the error of an answer that came over NATS."""
        return OutcomeUnknown(f"the answer over NATS cannot be read: {fault}")

    async def send(self, verb: str, body: bytes, *, timeout_s: float, traceparent: str | None = None) -> bytes:
        """Send `body` to whichever node takes it."""
        if not self._bus.connected:
            raise Unavailable("there is no connection to NATS at the moment")
        subject = self._subjects.command(self._tenant, *verb.split(".", 1))
        try:
            return (await self._bus.request(subject, body, timeout_s=timeout_s, headers=_headers(traceparent))).data
        except NoResponders as error:
            raise Unavailable(f"nobody takes commands on {subject}: does the service run?") from error
        except Disconnected as error:
            raise OutcomeUnknown("the connection to NATS dropped before the answer") from error


class HttpCarrier:
    """Commands as requests to `/v1`: what the address names is left out of the body."""

    def __init__(self, api: HttpApi) -> None:
        self._api = api

    def unreadable(self, fault: str) -> OutcomeUnknown:
        """Return the error of an answer that the address gave."""
        return OutcomeUnknown(f"{self._api.http_url} does not answer as Tasker does: {fault}", remedy=OTHER)

    async def send(self, verb: str, body: bytes, *, timeout_s: float, traceparent: str | None = None) -> bytes:
        """Send `body` to the endpoint of `verb`."""
        if verb == "task.create":
            return await self._api.ask(
                "POST", "/v1/tasks", body=body, timeout_s=timeout_s, headers=_headers(traceparent)
            )
        method, path, rest = endpoint_of(verb, msgspec.json.decode(body))
        return await self._api.ask(
            method, path, body=msgspec.json.encode(rest), timeout_s=timeout_s, headers=_headers(traceparent)
        )


def _headers(traceparent: str | None) -> dict[str, str] | None:
    return None if traceparent is None else {HEADER_TRACEPARENT: traceparent}


def endpoint_of(verb: str, command: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return method, path and body of an operator's command."""
    rest = dict(command)
    kind = COMMANDS.get(verb, Command)
    if issubclass(kind, TaskOperatorCommand):
        path = f"/v1/tasks/{segment(rest.pop('task_id'))}"
        if kind is TaskSignal:
            return "POST", f"{path}/signals/{segment(rest.pop('name'))}", rest
        if issubclass(kind, StepOperatorCommand):
            path += f"/steps/{segment(rest.pop('step'))}"
        return "POST", f"{path}/{verb.partition('.')[2]}", rest
    match verb.split(".", 1):
        case ["dlq", act]:
            return "POST", f"/v1/dlq/{segment(rest.pop('task_id'))}/{act}", rest
        case ["schedule", "create"]:
            return "POST", "/v1/schedules", rest
        case ["schedule", act]:
            path = f"/v1/schedules/{_place(rest)}"
            method = {"update": "PUT", "delete": "DELETE"}.get(act)
            return ("POST", f"{path}/{act}", rest) if method is None else (method, path, rest)
        case ["control" | "limit" | "circuit" as noun, act]:
            return "POST", f"/v1/{noun}s/{act}", rest
        case ["bulk", "create"]:
            return "POST", "/v1/bulk", rest
        case ["template", "register"]:
            return "PUT", "/v1/templates", rest
        case ["template", "use"]:
            return "POST", f"/v1/templates/{_place(rest)}/use", rest
        case _:
            raise VerbUnknown(f"the client has no endpoint for {verb}")


def _place(rest: dict[str, Any]) -> str:
    """Take namespace and name out of a command, and return them as a path."""
    return f"{segment(rest.pop('namespace', 'default'))}/{segment(rest.pop('name'))}"

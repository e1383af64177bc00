"""Reading a request: tenant, parameters, bodies; writing an answer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from tasker.errors import BodyInvalid, KeyAmbiguous, ParameterInvalid, TaskUnknown
from tasker.events.codec import decode_value, encode_message, is_text
from tasker.events.messages import DEFAULT_TENANT, HEADER_IDEMPOTENCY_KEY, HEADER_TRACEPARENT
from tasker.events.subjects import HEADER_TENANT
from tasker.ids import check_name
from tasker.projections.queries import PAGE_ITEMS, PAGE_ITEMS_MAX
from tasker.service.http.operations import JSON, Operation
from tasker.times import from_rfc3339

EVENT_STREAM: Final = "text/event-stream"

OPERATION: Final = web.RequestKey("operation", Operation)
"""Which operation of the table a request is."""

_PASSED_HEADERS: Final = (HEADER_IDEMPOTENCY_KEY, HEADER_TRACEPARENT)
_TOLD_CHARS_MAX: Final = 80
_OTHER_NAMES: Final = {"cursor": "after", "next": "after", "page_size": "limit", "task": "task_id"}
_tag = re.compile(r"([^=]+)=(.*)", re.DOTALL)

Text = TypeVar("Text", bound=str)


def tenant_of(request: web.Request) -> str:
    """Return the tenant that the request is for.

    Raises:
        NameInvalid: it is no name.
        ParameterInvalid: several are named: a proxy that adds its own behind a caller's must not be taken for him.
    """
    named = request.headers.getall(HEADER_TENANT, [DEFAULT_TENANT])
    if len(named) > 1:
        raise ParameterInvalid(f"the header {HEADER_TENANT} is given {len(named)} times")
    return check_name(named[0], "tenant")


def task_id_of(request: web.Request) -> UUID:
    """Return the task that the path names.

    Raises:
        TaskUnknown: it is no task id, so there is no such task.
    """
    text = request.match_info["task_id"]
    try:
        return UUID(text)
    except ValueError as error:
        raise TaskUnknown(f"{text[:_TOLD_CHARS_MAX]!r} is no task id") from error


def passed_headers(request: web.Request) -> dict[str, str]:
    """Return the headers that go along with a command to its owner.

    Raises:
        ParameterInvalid: the key is empty (on NATS it would be as if there were none), or no text.
        KeyAmbiguous: several keys are given.
    """
    if len(set(request.headers.getall(HEADER_IDEMPOTENCY_KEY, []))) > 1:
        raise KeyAmbiguous(f"the header {HEADER_IDEMPOTENCY_KEY} is given several times, with keys that differ")
    key = request.headers.get(HEADER_IDEMPOTENCY_KEY)
    if key is not None and not key.strip():
        raise ParameterInvalid(f"the header {HEADER_IDEMPOTENCY_KEY} is empty; send a key, or leave it out")
    if key is not None and not is_text(key):
        raise ParameterInvalid(f"the header {HEADER_IDEMPOTENCY_KEY} is no text in UTF-8")
    found = {name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers}
    return {name: value for name, value in found.items() if is_text(value)}


def wants_event_stream(request: web.Request) -> bool:
    """Return whether the caller asked for server-sent events."""
    return EVENT_STREAM in request.headers.get("Accept", "")


class Parameters:
    """The query of a request; a name that its operation does not declare is refused.

    Raises:
        ParameterInvalid: an unknown name, with the nearest known one.
    """

    def __init__(self, request: web.Request) -> None:
        known = request[OPERATION].query_names()
        self._query = request.query
        for name in self._query:
            if name not in known:
                raise ParameterInvalid(_unknown(name, known))

    def text(self, name: str) -> str | None:
        """Return a parameter given at most once; None when absent."""
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise ParameterInvalid(f"{name} is given {len(values)} times")
        if not values:
            return None
        if not is_text(values[0]):
            raise ParameterInvalid(f"{name} has characters that no value has")
        return values[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a parameter given any number of times."""
        values = tuple(dict.fromkeys(self._query.getall(name, [])))
        if not all(is_text(value) for value in values):
            raise ParameterInvalid(f"{name} has characters that no value has")
        return values

    def name(self, name: str) -> str | None:
        """Return a parameter that is a name of ours."""
        value = self.text(name)
        return None if value is None else check_name(value, name)

    def choice(self, name: str, choices: Collection[Text]) -> Text | None:
        """Return a parameter that is one of `choices`."""
        value = self.text(name)
        if value is None:
            return None
        for choice in choices:
            if choice == value:
                return choice
        raise ParameterInvalid(f"{name} is one of {', '.join(choices)}, not {value[:_TOLD_CHARS_MAX]!r}")

    def choices(self, name: str, choices: Collection[str]) -> tuple[str, ...]:
        """Return a parameter given any number of times, or once with commas: each one of `choices`."""
        values = [value for given in self._query.getall(name, []) for value in given.split(",")]
        for value in values:
            if value not in choices:
                raise ParameterInvalid(f"{name} is one of {', '.join(choices)}, not {value[:_TOLD_CHARS_MAX]!r}")
        return tuple(dict.fromkeys(values))

    def number(self, name: str, *, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII) or not least <= int(value) <= most:
            raise ParameterInvalid(f"{name} is a whole number from {least} to {most}, not {value[:_TOLD_CHARS_MAX]!r}")
        return int(value)

    def seconds(self, name: str, *, most: float) -> float:
        """Return a duration in seconds, at most `most` (a longer one is cut); 0 when absent."""
        value = self.text(name)
        if value is None:
            return 0.0
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
            raise ParameterInvalid(f"{name} is a number of seconds such as 10 or 0.5, not {value[:_TOLD_CHARS_MAX]!r}")
        return min(float(value), most)

    def time_us(self, name: str) -> int | None:
        """Return an RFC 3339 time."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return from_rfc3339(value.replace(" ", "+"))  # a bare + in a query means a space
        except (ValueError, OverflowError) as error:
            raise ParameterInvalid(
                f"{name} is an RFC 3339 time such as 2026-11-21T10:00:00Z, not {value[:_TOLD_CHARS_MAX]!r}"
            ) from error

    def limit(self) -> int:
        """Return the size of a page."""
        return self.number("limit", default=PAGE_ITEMS, least=1, most=PAGE_ITEMS_MAX)

    def after(self) -> str | None:
        """Return where a list goes on."""
        return self.text("after")

    def task_id(self) -> UUID | None:
        """Return the task asked for."""
        text = self.text("task_id")
        try:
            return None if text is None else UUID(text)
        except ValueError as error:
            raise ParameterInvalid(f"task_id is the id of a task, not {text!r:.80}") from error

    def tags(self) -> dict[str, str]:
        """Return the tags asked for, each `key=value`."""
        tags: dict[str, str] = {}
        for given in self._query.getall("tag", []):
            found = _tag.fullmatch(given)
            if found is None or not is_text(given):
                raise ParameterInvalid(f"tag is key=value, not {given[:_TOLD_CHARS_MAX]!a}")
            if tags.setdefault(found[1], found[2]) != found[2]:
                raise ParameterInvalid(f"no task has two values of tag {found[1][:_TOLD_CHARS_MAX]!r}")
        return tags


async def object_body(request: web.Request, **named: str) -> bytes:
    """Return the body, a JSON object or nothing, with what the path names put into it.

    Raises:
        BodyTooLarge, BodyInvalid, ValueInvalid: it is none; `BodyInvalid` also when it names something else.
    """
    data = await request.read()
    body: Any = decode_value(data) if data.strip() else {}
    if not isinstance(body, dict):
        raise BodyInvalid("the body is a JSON object, or nothing")
    for name, value in named.items():
        if body.setdefault(name, value) != value:
            raise BodyInvalid(f"the body's {name} is not the one in the path")
    return encode_message(body)


def json_response(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    """Return the response that carries `value`."""
    return bytes_response(encode_message(value), status=status)


def bytes_response(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response that carries JSON text as it is."""
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)


def _unknown(name: str, known: Collection[str]) -> str:
    told = f"there is no parameter {name[:_TOLD_CHARS_MAX]!a}"
    meant = _OTHER_NAMES.get(name)
    near = [meant] if meant in known else difflib.get_close_matches(name[:_TOLD_CHARS_MAX], known, n=1)
    if near:
        return f"{told}; did you mean {near[0]}?"
    return f"{told}; there are {', '.join(sorted(known))}" if known else f"{told}; the endpoint takes none"

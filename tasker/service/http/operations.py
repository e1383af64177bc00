"""What an operation is: a route, what it takes, what it answers, which problems it may have.

The table of all of them is `routes.py`. Routing, the check of parameters' names and the OpenAPI document come from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Any, Final, Literal

from aiohttp import web

from tasker.errors import TaskerError

JSON: Final = "application/json"

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a query, a path or a header.

    Attributes:
        schema: JSON Schema of its text.
        many: may be given more than once.
    """

    name: str
    schema: dict[str, Any]
    description: str
    place: Literal["query", "path", "header"] = "query"
    many: bool = False
    example: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent.

    Attributes:
        kind: the struct.
        array: an array of them is taken too.
        optional: nothing may be sent as well.
    """

    kind: type
    array: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One way in which a request goes well (or, of a probe, tells).

    Attributes:
        kind: type of the content; None: nothing is sent.
        media: media types under which it is sent; a stream of events is text.
        headers: name -> description.
    """

    status: HTTPStatus = HTTPStatus.OK
    description: str
    kind: Any = None
    media: tuple[str, ...] = (JSON,)
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; a path's parameters are found in the path.

    Attributes:
        id: the operation's name for code generators.
        problems: classes of errors that it may answer.
    """

    method: HTTPMethod
    path: str
    id: str
    endpoint: Endpoint
    summary: str
    tag: str
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    problems: tuple[type[TaskerError], ...] = ()

    def query_names(self) -> tuple[str, ...]:
        """Return the names that its query may have."""
        return tuple(parameter.name for parameter in self.parameters if parameter.place == "query")

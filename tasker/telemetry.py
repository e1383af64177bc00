"""Logs of a process: one line an event, JSON unless people read along on a terminal.

Fields: docs/reference/logs.md. What passes here holds no secret and no payload: values that users gave the service
(inputs, results, bodies) and bytes are replaced by their size, passwords and tokens are masked.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

import orjson
import structlog

from tasker.named_lines import NAMED
from tasker.scrubbing import MASK, masked

PAYLOAD_FIELDS: Final = frozenset({"body", "data", "input", "message_body", "payload", "result", "results"})
"""Fields that hold what users gave: only their size is told."""

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|secret|token$|api_?key|authorization|credential|private_?key", re.IGNORECASE
)
_DEPTH_MAX: Final = 6


class Attempt(Protocol):
    """What runs now, as log lines name it (`StepContext` is one)."""

    @property
    def task_id(self) -> str:
        """The task."""
        ...

    @property
    def step(self) -> str:
        """Its step."""
        ...

    @property
    def attempt(self) -> int:
        """The attempt, from 1."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """The caller's id of the whole undertaking."""
        ...


current_attempt: ContextVar[Attempt | None] = ContextVar("tasker_attempt", default=None)
"""Set while a handler runs: every line that it logs, through structlog or logging, names the attempt."""


def configure_logging(level: str = "info", form: str = "auto") -> None:
    """Set logging up for this process: structlog and the standard library's loggers, one form on stderr.

    Args:
        level: the least that is written.
        form: `json`, `console`, or `auto`: for people on a terminal.
    """
    terminal = form == "console" or (form == "auto" and sys.stderr.isatty())
    number = getattr(logging, level.upper())
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        name_attempt,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[take_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("nats", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    # Its pool tells each try with a traceback; whoever needs a connection tells in a line that there is none.
    logging.getLogger("asyncpg").setLevel(max(number, logging.ERROR))


# ---------------------------------------------------------------- processors


def take_name(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give a line of the standard library the name and the fields that it has for programs, in place of its text."""
    fields.update(getattr(fields["_record"], NAMED, {}))
    return fields


def name_attempt(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the attempt that runs here, where the line does not name another."""
    attempt = current_attempt.get()
    if attempt is not None:
        fields.setdefault("task_id", attempt.task_id)
        fields.setdefault("step", attempt.step)
        fields.setdefault("attempt", attempt.attempt)
        if attempt.correlation_id is not None:
            fields.setdefault("correlation_id", attempt.correlation_id)
    return fields


def scrub(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace secrets by a mask and payloads by their size, in every value of a line."""
    for name, value in fields.items():
        if not name.startswith("_"):  # structlog's own
            fields[name] = _scrubbed(name, value, 0)
    return fields


def _scrubbed(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if name in PAYLOAD_FIELDS:
        return f"<{len(str(value))} characters>"
    if isinstance(value, str):
        return masked(value)
    if depth >= _DEPTH_MAX:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _scrubbed(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_scrubbed(name, item, depth + 1) for item in value]
    return masked(str(value))


def _dumps(value: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(value, default=default or str).decode()

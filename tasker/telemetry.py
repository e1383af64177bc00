"""Logs: JSON lines on stderr, readable ones on a terminal. No payloads, no secrets.

Field names are stable: `event`, `level`, `timestamp`, `logger`, and `task_id`, `step`, `shard`,
`worker` where they apply.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import orjson
import structlog

LEVELS: Final = ("debug", "info", "warning", "error")


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
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not terminal:
        shared.append(structlog.processors.format_exc_info)
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
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("nats", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))


def _dumps(value: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(value, default=default or str).decode()

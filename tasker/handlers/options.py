"""What a worker's processes are started with: all that its parent, which holds no user code, has to know of it."""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.events.messages import DEFAULT_TENANT
from tasker.events.subjects import DEFAULT_PREFIX
from tasker.settings import DirectSettings, LoggingSettings, NatsSettings, StreamSettings, WorkerSettings

SLOTS_DEFAULT: Final = WorkerSettings().slots
DRAIN_S_DEFAULT: Final = WorkerSettings().drain_s
SETTLE_S: Final = 5.0
"""How long an ending worker waits for answers to its last reports."""

GIVE_BACK_S: Final = 10.0
"""How long all that an app made may take together to be given back when its process ends: its resources, and its child
processes with theirs."""


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is started with.

    Attributes:
        app: path of a Python file, or the dotted name of a module; `:name` behind it chooses of what it declares.
        processes: how many child processes for handlers that want one; None: one a core.
        health_port: of the health endpoints; None: none.
        steps_max, rss_mib_max: above these the process asks to be replaced.
        labels: what steps may require, each as `name=value`.
        output: the form of an error that keeps it from starting.
        streams: of what the worker makes where it is missing. direct: of what nodes send themselves.
    """

    app: str
    nats_url: str
    prefix: str = DEFAULT_PREFIX
    tenant: str = DEFAULT_TENANT
    slots: int = SLOTS_DEFAULT
    drain_s: float = DRAIN_S_DEFAULT
    processes: int | None = None
    health_port: int | None = None
    labels: tuple[str, ...] = ()
    steps_max: int | None = None
    rss_mib_max: int | None = None
    inbox_prefix: str = ""
    pending_bytes_max: int = NatsSettings().pending_bytes_max
    streams: StreamSettings = StreamSettings()
    direct: DirectSettings = DirectSettings()
    logging: LoggingSettings = LoggingSettings()
    output: str = "table"

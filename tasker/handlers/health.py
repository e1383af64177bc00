"""A worker's health over HTTP: `/health/live` and `/health/ready`, 200 or 503 with the reasons.

Live: the I/O loop answers, and the handlers' loop is not stuck. Ready: it also has its connection, pulls from its
queues and is not draining. Ports are shared (SO_REUSEPORT), so that a successor can bind before the old
process leaves the port, at the beginning of its drain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from tasker.errors import ConfigurationError
from tasker.handlers.vitals import Vitals, WorkerHealth, judge

SAMPLE_S: Final = 0.5
SAMPLES: Final = 20
_HOST: Final = "127.0.0.1"


class HealthServer:
    """Serves the endpoints on loopback.

    Attributes:
        look: returns how the worker is; None: it is not there yet.
        draining: it was told to stop.
    """

    def __init__(self, port: int) -> None:
        self.look: Callable[[], Vitals | None] = _nothing
        self.draining = False
        self._port = port
        self._lags: deque[float] = deque(maxlen=SAMPLES)
        self._sampler: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: the port cannot be bound.
        """
        app = web.Application()
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, _HOST, self._port, reuse_port=True).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"cannot bind {_HOST}:{self._port}: {error.strerror}; choose another --health-port"
            ) from error
        self._sampler = asyncio.create_task(self._sample(), name="tasker-worker-lag")

    async def stop(self) -> None:
        """Serve no more. Twice is fine."""
        if self._sampler is not None:
            self._sampler.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before_s = loop.time()
            await asyncio.sleep(SAMPLE_S)
            self._lags.append(max(0.0, loop.time() - before_s - SAMPLE_S))

    async def _live(self, _request: web.Request) -> web.Response:
        return _response(self._judge()[0])

    async def _ready(self, _request: web.Request) -> web.Response:
        return _response(self._judge()[1])

    def _judge(self) -> tuple[WorkerHealth, WorkerHealth]:
        return judge(self.look(), draining=self.draining, loop_lag_s=round(max(self._lags, default=0.0), 4))


def _response(health: WorkerHealth) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(health), status=200 if health.ok else 503, content_type="application/json"
    )


def _nothing() -> None:
    return None

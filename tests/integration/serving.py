"""Workers of a few functions, on a real nats-server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tasker.bus.nats_bus import PENDING_BYTES_MAX, NatsBus
from tasker.handlers import handler
from tasker.handlers.handler import HandlerSpec, plain_handlers_of
from tasker.handlers.registry import Registry
from tasker.handlers.worker import Worker
from tasker.settings import StreamSettings
from tests.integration.scripted_owner import ScriptedOwner

Serve = Callable[..., Awaitable[Worker]]
STREAMS = StreamSettings(ack_wait_s=2.0)


@asynccontextmanager
async def serving(nats_url: str, owner: ScriptedOwner) -> AsyncIterator[Serve]:
    """Start workers with the given functions, each a handler called like it on the queue `flow`."""
    workers: list[Worker] = []
    buses: list[NatsBus] = []

    async def start(
        *functions: Callable,
        queues: tuple[str, ...] = ("flow",),
        pending_bytes_max: int = PENDING_BYTES_MAX,
        **options: Any,
    ) -> Worker:
        bus = await NatsBus.connect(nats_url, name="worker", pending_bytes_max=pending_bytes_max)
        buses.append(bus)
        specs: list[HandlerSpec] = []
        for queue in queues:
            for function in functions:
                specs += plain_handlers_of(as_handler(function, queue))
        worker = Worker(bus, Registry(handlers=specs), subjects=owner.subjects, streams=STREAMS, **options)
        workers.append(worker)
        await worker.start()
        await worker.ready()
        return worker

    yield start
    for worker in workers:
        await worker.stop(settle_s=0.2)
    for bus in buses:
        await bus.close()


def as_handler(function: Callable, queue: str) -> Callable:
    function.__dict__.pop("__tasker_handlers__", None)
    return handler(function.__name__, queue=queue)(function)

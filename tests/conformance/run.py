"""Starts a worker beside the scripted service, with the work that has to lie there before it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tasker.bus.nats_bus import NatsBus
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import delete_stream
from tests.conformance.checks import OLD_S, offer
from tests.conformance.service import ConformanceService

STOP_S = 10.0


@asynccontextmanager
async def conformance_service(
    command: Sequence[str],
    *,
    nats_url: str,
    prefix: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[ConformanceService]:
    """Run `command`, a worker, against a scripted service; it is ended on leaving.

    The worker finds NATS by TASKER_NATS_URL and TASKER_NATS_PREFIX. Its output is in `folder`/worker.log.
    """
    bus = await NatsBus.connect(nats_url, name="conformance")
    service = ConformanceService(bus, prefix)
    try:
        await service.start()
        await _lay_early_work(service)
        with (folder / "worker.log").open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **(environ or {}), "TASKER_NATS_URL": nats_url, "TASKER_NATS_PREFIX": prefix},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield service
        finally:
            if worker.returncode is None:
                worker.terminate()
            try:
                await asyncio.wait_for(worker.wait(), STOP_S)
            except TimeoutError:
                worker.kill()
                await worker.wait()
    finally:
        for stream in service.subjects.streams:
            await delete_stream(bus, stream)
        await bus.close()


async def _lay_early_work(service: ConformanceService) -> None:
    """Lay a message that was delivered once already, and one that is old when the worker comes."""
    began_s = time.monotonic()
    service.early["redelivered"] = await offer(service, "echo", input="redelivered")
    given_back = asyncio.Event()

    def give_back(delivery: Delivery) -> None:
        pull.nak(delivery, delay_s=OLD_S / 2)
        given_back.set()

    consumer = service.subjects.work_consumer("default", "default", "flow")
    pull = PullLoop(
        service.bus, service.subjects.work_stream, consumer, give_back, lambda: int(not given_back.is_set())
    )
    await given_back.wait()
    await pull.stop()
    service.early["old"] = await offer(service, "echo", input="old")
    # Age is what this is about: nothing but time makes a message old.
    await asyncio.sleep(max(0.0, began_s + OLD_S - time.monotonic()))

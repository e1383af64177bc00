"""A worker that forgets its duties: it runs whatever comes, acks at once, says each thing once, and never counts."""

import asyncio
import json
import os
from typing import Any

import nats
from nats.aio.msg import Msg


async def main() -> None:
    """Work until the process is ended."""
    prefix = os.environ["TASKER_NATS_PREFIX"]
    connection = await nats.connect(os.environ["TASKER_NATS_URL"])

    async def run(work: dict[str, Any], report_to: str) -> None:
        report = {name: work[name] for name in ("task_id", "step", "attempt")}
        report |= {"kind": "completed", "worker": "careless", "result": work["input"]}
        await connection.publish(
            report_to, json.dumps(report).encode(), reply="nobody", headers={"Tasker-Released": "0"}
        )

    async def on_array(message: Msg) -> None:
        for work in json.loads(message.data)["work"]:
            await run(work, f"{prefix}.default.report.{message.subject.rpartition('.')[2]}")

    stream = connection.jetstream()
    await connection.subscribe(f"{prefix}.default.worker.careless.work.*", cb=on_array)
    said = {"worker": "careless", "slots": 5, "queues": [["default", "flow"]]}
    await connection.publish(f"{prefix}.default.slots", json.dumps(said).encode(), reply="nobody")
    subject = f"{prefix}.default.work.default.flow"
    queue = await stream.pull_subscribe(subject, durable="default=default=flow", stream=f"{prefix.upper()}_WORK")
    while True:
        for message in await queue.fetch(1, timeout=3600):
            await message.ack()
            work = json.loads(message.data)
            await run(work, work["report_to"])


if __name__ == "__main__":
    asyncio.run(main())

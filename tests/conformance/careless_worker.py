"""A worker that forgets its duties: it runs whatever comes, acks at once, and says each thing once."""

import asyncio
import json
import os

import nats


async def main() -> None:
    """Work until the process is ended."""
    prefix = os.environ["TASKER_NATS_PREFIX"]
    connection = await nats.connect(os.environ["TASKER_NATS_URL"])
    stream = connection.jetstream()
    subject = f"{prefix}.default.work.default.flow"
    queue = await stream.pull_subscribe(subject, durable="default=default=flow", stream=f"{prefix.upper()}_WORK")
    while True:
        for message in await queue.fetch(1, timeout=3600):
            await message.ack()
            work = json.loads(message.data)
            report = {name: work[name] for name in ("task_id", "step", "attempt")}
            report |= {"kind": "completed", "worker": "careless", "result": work["input"]}
            await connection.publish(work["report_to"], json.dumps(report).encode(), reply="nobody")


if __name__ == "__main__":
    asyncio.run(main())

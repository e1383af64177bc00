"""Sending the rows to the service, over NATS, while it may be killed at any moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import nats
import nats.errors
from nats.aio.client import Client

from examples.orders.expected import Expected
from examples.orders.tally import Tally
from tasker import TaskerClient
from tasker.client import NewTask, TaskHandle
from tasker.errors import TaskerError
from tasker.events.codec import decode_message
from tasker.events.messages import Reply

BATCH_ROWS = 50
OPEN_ORDERS_MAX = 200
"""More are not submitted until some have ended, so that the latencies shown are not those of one long queue."""

SUBJECT = "tasker.default.cmd.task.create"


@dataclass
class Row:
    """A line of the file, what it implies, and what the service answered."""

    number: int
    line: str
    expected: Expected
    verdict: TaskHandle | TaskerError | None = None

    @property
    def key(self) -> str:
        return f"order-{self.number}"


async def submit_all(client: TaskerClient, nats_url: str, rows: Sequence[Row], tally: Tally) -> None:
    """Submit every row, a batch at a time; what the service answers stands in each row."""
    connection = await nats.connect(nats_url)
    try:
        accepted = 0
        for start in range(0, len(rows), BATCH_ROWS):
            while accepted - tally.settled > OPEN_ORDERS_MAX:
                await tally.change()
            batch = rows[start : start + BATCH_ROWS]
            await _submit(client, connection, batch)
            accepted += sum(isinstance(row.verdict, TaskHandle) for row in batch)
    finally:
        await connection.close()


async def _submit(client: TaskerClient, connection: Client, rows: Sequence[Row]) -> None:
    tasks: list[tuple[Row, NewTask]] = []
    for row in rows:
        try:
            order = json.loads(row.line)
        except ValueError:
            row.verdict = await _submit_text(connection, row)
        else:
            task = NewTask("order_fulfillment", order, namespace="shop", idempotency_key=row.key, tags={"file": "demo"})
            tasks.append((row, task))
    # The client repeats what a kill left without an answer, with the same keys: no order is started twice.
    for (row, _), verdict in zip(tasks, await client.create_many(task for _, task in tasks), strict=True):
        row.verdict = verdict


async def _submit_text(connection: Client, row: Row) -> TaskHandle | TaskerError:
    """Send a line that is not JSON as it is: to refuse it is the service's part."""
    command = {"template": "order_fulfillment", "namespace": "shop", "idempotency_key": row.key}
    body = f'{json.dumps(command)[:-1]}, "input": {row.line}}}'
    while True:
        try:
            message = await connection.request(SUBJECT, body.encode(), timeout=5)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            await asyncio.sleep(0.2)  # the service is down; the key makes a repetition safe
            continue
        reply = decode_message(message.data, Reply)
        if reply.error is not None:
            return TaskerError.from_problem(reply.error)
        return TaskHandle(
            task_id=reply.task_id or "",
            template="order_fulfillment",
            namespace="shop",
            idempotency_key=row.key,
            position=reply.position,
        )

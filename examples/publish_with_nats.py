"""Any language that has a NATS client can start work: this uses nats-py and nothing of tasker.

A command is a request; its reply comes after the commit. Every transition is published on
`tasker.<tenant>.evt.<namespace>.<template>.<task>.<event>`.

Run `tasker up examples/hello.py`, take over the lines that it prints (`export TASKER_NATS_URL=...`), then
`python examples/publish_with_nats.py Ada`.
"""

import asyncio
import json
import os
import sys
import uuid

import nats


async def main(name: str) -> int:
    prefix = os.environ.get("TASKER_NATS_PREFIX", "tasker")
    connection = await nats.connect(os.environ["TASKER_NATS_URL"], inbox_prefix=f"_INBOX_{uuid.uuid4().hex}".encode())
    events = await connection.subscribe(f"{prefix}.default.evt.default.hello.>")
    command = {
        "template": "hello",
        "input": {"name": name},
        # The key names the task: sent again, after a lost reply, the command is answered with the same task.
        "idempotency_key": f"hello-{uuid.uuid4()}",
    }
    message = await connection.request(f"{prefix}.default.cmd.task.create", json.dumps(command).encode(), timeout=10)
    reply = json.loads(message.data)
    print(json.dumps(reply))
    if not reply["ok"]:
        return 1
    while True:
        event = json.loads((await events.next_msg(timeout=30)).data)
        if event["subject"] == reply["task_id"]:
            print(event["seq"], event["type"], json.dumps(event["data"]))
            if event["type"] == "tasker.task_completed.v1":
                break
    await connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:2] or ["world"])))

"""How many messages a stream holds of a subject, and under which subjects it holds any."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tasker.bus.bus import Bus, Message
from tasker.bus.jetstream import API_PREFIX, api_request, parse_api_error
from tasker.errors import TaskerError


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct, frozen=True):
    state: _State = _State()
    total: int = 0


_decode = msgspec.json.Decoder(_Info).decode


async def count_subjects(bus: Bus, stream: str, pattern: str) -> dict[str, int]:
    """Return the subjects of `pattern` under which the stream holds messages, and how many under each.

    Raises:
        StreamMissing: there is no such stream.
        Unavailable: NATS does not answer.
    """
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": pattern, "offset": len(found)}
        page = await api_request(bus, f"STREAM.INFO.{stream}", body, _Info)
        found |= page.state.subjects or {}
        if not page.state.subjects or len(found) >= page.total:
            return found


def ask_count(bus: Bus, stream: str, subject: str, answered: Callable[[int | None], None], *, timeout_s: float) -> None:
    """Count the messages of `subject`, without a task that waits for it.

    `answered` gets None when JetStream does not say. A missing stream has none.
    """

    def on_reply(reply: Message | TaskerError) -> None:
        if isinstance(reply, TaskerError):
            answered(None)
            return
        try:
            error = parse_api_error(reply.data)
            counts = _decode(reply.data).state.subjects
        except msgspec.DecodeError:
            answered(None)
            return
        if error is None:
            answered((counts or {}).get(subject, 0))
        else:
            answered(0 if error.is_missing else None)

    body = msgspec.json.encode({"subjects_filter": subject})
    try:
        bus.ask(f"{API_PREFIX}.STREAM.INFO.{stream}", body, on_reply, timeout_s=timeout_s)
    except TaskerError:
        answered(None)

"""How many messages a stream holds of one subject, asked without a task that waits for the answer."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tasker.bus.bus import Bus, Message
from tasker.bus.jetstream import API_PREFIX, parse_api_error
from tasker.errors import TaskerError


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct, frozen=True):
    state: _State = _State()


_decode = msgspec.json.Decoder(_Info).decode


def ask_count(bus: Bus, stream: str, subject: str, answered: Callable[[int | None], None], *, timeout_s: float) -> None:
    """Count the messages of `subject`; `answered` gets None when JetStream does not say. A missing stream has none."""

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

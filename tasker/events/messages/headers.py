"""Headers of messages on NATS."""

from __future__ import annotations

from typing import Final

HEADER_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""Carries a command's key beside the body's field; two that differ are `key_ambiguous`."""

HEADER_MESSAGE_ID: Final = "Nats-Msg-Id"

HEADER_TRACEPARENT: Final = "traceparent"

HEADER_REPLY_TO: Final = "Tasker-Reply-To"
"""Of a submitted command: the subject that gets its verdict."""

HEADER_SUBMITTED: Final = "Tasker-Submitted"
"""Of such a verdict: the sequence that the stream's ack named."""

HEADER_RELEASED: Final = "Tasker-Released"
"""On reports to a node: how many of its items the worker has released, as in `WorkerSlots`."""

HEADER_RELEASED_PARTS: Final = "Tasker-Released-Parts"
"""The same of each part, as in `p0=17,p1=2`."""

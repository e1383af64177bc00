"""The message bus that service, workers and clients share; `bus.py` tells its semantics."""

from tasker.bus.bus import (
    MSG_ID,
    Bus,
    Disconnected,
    Hook,
    Message,
    MessageCallback,
    NoResponders,
    ReplyCallback,
    Subscription,
)

__all__ = [
    "MSG_ID",
    "Bus",
    "Disconnected",
    "Hook",
    "Message",
    "MessageCallback",
    "NoResponders",
    "ReplyCallback",
    "Subscription",
]

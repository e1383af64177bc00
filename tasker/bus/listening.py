"""Listening for certain: to subjects from which the server keeps nobody away."""

from __future__ import annotations

from collections.abc import Iterable

from tasker.bus.bus import Bus, MessageCallback, Subscription
from tasker.errors import NotPermitted


async def listen(bus: Bus, patterns: Iterable[str], callback: MessageCallback) -> list[Subscription]:
    """Return subscriptions that hold at the server.

    Raises:
        NotPermitted: it does not let this user subscribe to one of them.
        Unavailable: it does not answer.
    """
    patterns = tuple(patterns)
    held = [bus.subscribe(pattern, callback) for pattern in patterns]
    try:
        await bus.flush()
        _check(bus, patterns)
    except BaseException:
        for subscription in held:
            subscription.unsubscribe()
        raise
    return held


def _check(bus: Bus, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        if not bus.may_hear(pattern):
            raise NotPermitted(f"NATS does not let this user subscribe to {pattern}")

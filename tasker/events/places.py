"""What names a concurrency key and who asks for a place under it, between nodes and readers."""

from __future__ import annotations

from typing import Final

import msgspec

LOOK_AT: Final = "place_look"
"""How the question how a key stands is called between nodes."""


class KeyName(msgspec.Struct, frozen=True, kw_only=True):
    """What names a concurrency key."""

    tenant: str
    namespace: str
    template: str
    key: str
    step: str = ""


class LookWords(msgspec.Struct, kw_only=True):
    """Somebody wants to know how a key stands for a request; the answer is a `PlaceFacts`, or null."""

    name: KeyName
    request: str


def request_of(task_id: str, step: str, attempt: int) -> str:
    """Return what names a request to its key."""
    return f"{task_id}:{step}:{attempt}" if step else task_id


def parse_request(request: str) -> tuple[str, str, int]:
    """Return task, step and attempt that a request names; "" and 0: the task as a whole."""
    task_id, _, rest = request.partition(":")
    step, _, attempt = rest.rpartition(":")
    return task_id, step, int(attempt or 0)


def request_words(request: str) -> str:
    """Return who a request is of, for people."""
    task_id, step, _ = parse_request(request)
    return f"step {step} of task {task_id}" if step else f"task {task_id}"

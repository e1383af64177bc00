"""A task's state as a document, and its hash: equal for two equal folds."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tasker.events.codec import canonical, hash_of
from tasker.events.usage import amount_text
from tasker.service.domain.state import Place, StepState, TaskState


def state_document(state: TaskState) -> dict[str, Any]:
    """Return `state` as a JSON value: what `task show --at` prints and `state_hash` hashes."""
    return {
        "state": str(state.status),
        "seq": state.seq,
        "template": msgspec.to_builtins(state.template),
        "input": msgspec.json.decode(state.input),
        "request_hash": state.request_hash,
        "idempotency_key": state.idempotency_key,
        "tags": state.tags,
        "created_us": state.created_us,
        "not_before_us": state.not_before_us,
        "deadline_us": state.deadline_us,
        "steps": {name: _step_document(step) for name, step in state.steps.items()},
        "completed": state.completed,
        "open": state.open,
        "failed": list(state.failed),
        "stopping": msgspec.json.decode(msgspec.json.encode(state.stopping)),
        "blocked_reason": state.blocked_reason,
        "result": None if state.result is None else msgspec.json.decode(state.result),
        "error": msgspec.to_builtins(state.error),
        "commands": state.commands.seqs,
        **_later_document(state),
    }


def _later_document(state: TaskState) -> dict[str, Any]:
    """Return what the first form of a state did not have: left out where there is none, so that its hash stays."""
    document: dict[str, Any] = {
        "closed": state.closed,
        "closed_edges": [list(edge) for edge in state.closed_edges],
        "accepted": list(state.accepted),
        "visits": state.visits,
        "to_undo": list(state.to_undo),
        "undone": state.undone,
        "paused_from": state.paused_from and str(state.paused_from),
        "paused_by": state.paused_by,
        "resumed_us": state.resumed_us,
        "children_told": state.children_told and list(state.children_told),
        "inbox": state.inbox and state.inbox.document(),
        "metadata": state.metadata and msgspec.json.decode(state.metadata),
        "created_by": state.created_by,
        "changed_by": state.changed_by and list(state.changed_by),
        "usage": state.usage and {what: amount_text(amount) for what, amount in state.usage.items()},
        "budget": state.budget and {"cost_max": state.budget.cost_max, "tokens_max": state.budget.tokens_max},
        "over_budget": state.over_budget,
        "places": {name: _place_document(place) for name, place in state.places.items()},
        "staleness": state.staleness and state.staleness.document(),
        "running": state.running and state.running.document(),
        "shared": state.shared and state.shared.document(),
        "admitted_us": state.admitted_us,
        "starts": state.starts,
        "is_late": state.is_late,
        "priority": state.priority,
        "depth": state.depth,
        "requests": state.commands.requests,
    }
    return {key: value for key, value in document.items() if value}


def _place_document(place: Place) -> dict[str, Any]:
    return {
        "request": msgspec.to_builtins(place.request),
        "asked_us": place.asked_us,
        "held": place.held,
        "denied": place.denied,
    }


_NO_FACT: Final = (
    "close_by_us",
    "kept_for",
    "of",
    "expansion",
    "waits",
    "checkpoint",
    "child",
    "child_request",
    "completed_seq",
    "undoes",
    "wait",
    "timed_out",
    "metered",
)


def _step_document(step: StepState) -> dict[str, Any]:
    document = {slot: getattr(step, slot) for slot in StepState.__slots__ if slot not in _NO_FACT}
    if step.waits != "retry":
        document["waits"] = step.waits
    if step.checkpoint is not None:
        document["checkpoint"] = msgspec.json.decode(step.checkpoint)
    if step.close_by_us is not None:
        document["close_by_us"] = step.close_by_us
    if step.kept_for is not None:
        document["kept_for"] = step.kept_for
    if step.child is not None:
        document["child"] = step.child
    if step.timed_out is not None:
        document["timed_out"] = step.timed_out
    if step.wait is not None:
        document["wait"] = step.wait.document()
    if step.expansion is not None:
        document["items"] = len(step.expansion.items)
    document["status"] = str(step.status)
    document["error"] = msgspec.to_builtins(step.error)
    document["result"] = None if step.result is None else msgspec.json.decode(step.result)
    return document


def state_hash(state: TaskState) -> str:
    """Return the sha256 (hex) of the canonical form of `state`: equal for two equal folds."""
    return hash_of(canonical(state_document(state)))

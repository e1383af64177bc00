"""What steps and tasks wait for, in words: each sentence is made here, of the facts of a `Wait`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasker.events.control_events import target_words
from tasker.events.reads import AskedFacts, CircuitFacts, HoldFacts, LimitFacts, PlaceFacts, QueueFacts, TurnFacts, Wait
from tasker.labels import plain_queue, required_by, spelled

NAMED_MAX: Final = 3
"""Of more steps, or holders of places, the first are named."""


def words_of(wait: Wait) -> str:
    """Return what a step or a task waits for, as it says it itself: "its retry at ..."."""
    at = f" at {wait.until}" if wait.until else ""
    match wait.kind:
        case "worker":
            return _worker_words(wait)
        case "stop" if wait.ending is not None:
            return f"running steps to stop ({', '.join(wait.steps)}); it ends as {wait.ending}"
        case "stop":
            return f"worker {wait.worker} to stop it"
        case "outcome":
            return f"worker {wait.worker} to finish it"
        case "child":
            return f"child task {wait.child_task_id}" if wait.child_task_id else "the start of its child task"
        case "signal" | "approval" | "event":
            return _awaited_words(wait) + (f" until {wait.until}" if wait.until else "")
        case "place":
            return _place_words(wait)
        case "hold" if wait.hold is not None:
            return hold_words(wait.hold, wait.until)
        case "items":
            return "its items"
        case "turn":
            return "its turn among the items that are retried"
        case "time":
            return f"the time {wait.until}"
        case "checkpoint":
            return f"its next part{at}"
        case "start_time":
            return f"its start time, {wait.until}"
        case "resume":
            return f"a person to resume it; it is paused{_by_words(wait)}"
        case "repair":
            return f"a person: {_repair_words(wait)}"
        case "compensations":
            return "its compensations"
        case "parents":
            return f"step{'s' * (len(wait.steps) > 1)} {', '.join(wait.steps)}"
        case _:
            return f"its retry{at}"


def words_in_task(wait: Wait) -> str:
    """Return the same as its task says it: "the retry of step charge at ..."."""
    step = wait.step
    at = f" at {wait.until}" if wait.until else ""
    match wait.kind:
        case _ if step is None:
            return words_of(wait)
        case "worker":
            who = "a worker" if wait.worker is None else f"worker {wait.worker}"
            return f"{who} for step {step}{_limit_words(wait.limits)}"
        case "outcome" | "stop":
            return f"step {step} on worker {wait.worker}"
        case "child":
            return f"the child task of step {step}"
        case "items":
            return f"the items of step {step}"
        case "time":
            return f"the time of step {step}, {wait.until}"
        case "checkpoint":
            return f"the next part of step {step}{at}"
        case "retry":
            return f"the retry of step {step}{at}"
        case "hold":
            return f"{words_of(wait)} (step {step})"
        case _:
            return f"{words_of(wait)} for step {step}"


def words_of_task(waits: Sequence[Wait]) -> str | None:
    """Return what a task waits for; None: nothing. Of more than a few steps the first are named."""
    if not waits:
        return None
    first = waits[0]
    if first.kind == "compensations":
        undo = f" ({words_in_task(waits[1])})" if len(waits) > 1 else ""
        return f"{words_of(first)}{undo}; it ends as {first.ending}"
    more = ["more steps"] if len(waits) > NAMED_MAX else []
    return "; ".join([*map(words_in_task, waits[:NAMED_MAX]), *more])


def hold_words(hold: HoldFacts, until: str | None) -> str:
    """Return what holds an attempt back, until when (None: until a person resumes it), by whom and why."""
    of = target_words(hold.scope, hold.namespace, hold.name)
    if hold.circuit is not None:
        return _circuit_words(of, hold, hold.circuit)
    if hold.ramp_until is not None:
        return f"its turn at {until}; {of} comes back slowly until {hold.ramp_until}"
    return f"a person to resume {of}; paused by {hold.requested_by} at {hold.since}: {hold.reason}"


def _circuit_words(of: str, hold: HoldFacts, circuit: CircuitFacts) -> str:
    if circuit.attempts:
        why = f"{circuit.failures} of {circuit.attempts} attempts failed"
    elif circuit.again:
        why = "its trial failed"
    else:
        why = f"{hold.requested_by} opened it: {hold.reason}" if circuit.state == "open" else "it was opened by hand"
    if circuit.error is not None:
        why += f", the last with {circuit.error}"
    then = f"the next trial is at {circuit.trial_at}" if circuit.state == "open" else "its trial runs"
    return f"the circuit of {of}, open since {circuit.opened_at}; {why}; {then}"


def _worker_words(wait: Wait) -> str:
    who = "a worker" if wait.worker is None else f"worker {wait.worker}, with which it stays while that lives"
    words = who + _limit_words(wait.limits) + _turn_words(wait.turn)
    return words if wait.queue is None else f"{words}: {_queue_words(wait.queue)}"


def _limit_words(limits: Sequence[LimitFacts]) -> str:
    found = [
        f"{limit.per_s:g} a second{f' for each {limit.key}' if limit.key else ''} of "
        + target_words(limit.scope, limit.namespace, limit.name)
        for limit in limits
    ]
    return f", within the limit of {' and '.join(found)}" if found else ""


def _turn_words(turn: TurnFacts | None) -> str:
    if turn is None:
        return ""
    if not turn.ahead:
        return f" (it has the next turn, at about {turn.at})"
    return f" (its turn comes at about {turn.at}, behind {turn.ahead} other{'s' * (turn.ahead > 1)})"


def _queue_words(queue: QueueFacts) -> str:
    named = f"queue {plain_queue(queue.queue)} of namespace {queue.namespace}"
    labels = spelled(required_by(queue.queue), ", ")
    if labels:
        named += f" with the labels {labels}"
    if not queue.known:
        return f"no worker has ever served {named}"
    offered = f", where {queue.offered} wait" if queue.offered else ""
    if queue.asking:
        return f"workers ask for work of {named}{offered}{_given_back_words(queue)}"
    since = f"; the last took some at {queue.last_taken}" if queue.last_taken else ""
    return f"no worker with a free slot asks for work of {named}{offered}{since}"


def _given_back_words(queue: QueueFacts) -> str:
    """Return what work that is given back, though workers have slots, may come from."""
    if not queue.given_back or queue.handler is None:
        return ""
    return (
        f", and have given {queue.given_back} back: there may be none with the handler {queue.handler} (its log says "
        "handler_unknown then), or it is at its concurrency"
    )


def _awaited_words(wait: Wait) -> str:
    if wait.approval is not None:
        return _asked_words(wait.approval)
    if wait.event is not None:
        return f"event {wait.event} of another task"
    if wait.signal is None:
        return "what comes from outside"
    if wait.count > 1:
        return f"{wait.count} signals {wait.signal} ({wait.taken} have come)"
    return f"signal {wait.signal}"


def _asked_words(asked: AskedFacts) -> str:
    named = ", ".join(asked.assignees)
    of_roles = ", ".join(asked.roles)
    who = " or ".join(part for part in (named, of_roles and f"the role {of_roles}") if part) or "anybody"
    told = [f"{len(asked.approved_by)} of {asked.approvals} have"] if asked.approvals > 1 else []
    if asked.escalated:
        told.append("escalated")
    elif asked.escalate_at is not None:
        told.append(f"escalated at {asked.escalate_at}")
    more = f" ({', '.join(told)})" if told else ""
    return f"the approval of {who}{more}"


def _place_words(wait: Wait) -> str:
    if wait.key is None:
        return "what comes from outside"
    words = f"a place under its concurrency key {wait.key}"
    return words if wait.place is None else words + _holders_words(wait.place)


def _holders_words(place: PlaceFacts) -> str:
    """Return who holds the places under a key, and how many come first."""
    words = ""
    who = [
        (f"step {one.step} of task {one.task_id}" if one.step else f"task {one.task_id}") + f" since {one.since}"
        for one in place.holders[:NAMED_MAX]
    ]
    if who:
        more = f" and {place.held - len(who)} more" if place.held > len(who) else ""
        words += f": held by {', '.join(who)}{more}"
    if place.ahead:
        words += f"; {place.ahead} more wait{'s' * (place.ahead == 1)} ahead of it"
    return words


def _by_words(wait: Wait) -> str:
    by = f" by {wait.requested_by}" if wait.requested_by else ""
    return f"{by}: {wait.reason}" if wait.reason else by


def _repair_words(wait: Wait) -> str:
    named = ", ".join(wait.steps)
    match wait.reason:
        case "step_failed":
            error = f": {wait.detail}" if wait.detail else ""
            return f"step{'s' * (len(wait.steps) > 1)} {named} failed{error}"
        case "compensation_failed":
            return f"compensation {named} failed; the task ends as {wait.ending} behind it"
        case "no_progress":
            return "nothing of it can move: its steps wait for each other" + (
                f" ({wait.detail})" if wait.detail else ""
            )
        case "deadline_passed":
            return f"its deadline, {wait.detail}, has passed"
        case "budget_exceeded":
            return f"it went over {wait.detail or 'its budget'}"
        case "history_limit":
            return wait.detail or "it has as many events as a task may have"
        case "result_limit":
            return wait.detail or "its result is larger than a task's may be"
        case _:
            return f"its log cannot be folded ({wait.detail})"

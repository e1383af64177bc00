"""Debounced starts: of the starts with one key, close behind each other, one task runs, with the input of the last.

The first start makes a task that waits (`not_before`). While it waits it has the place of its key (`concurrency`,
strategy `debounce`), so that other starts find it; each of them is an event of the task. The task knows its starts
for ever, and its key which of the newest starts went where: a repeated start finds the task that took it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.errors import KeyConflict
from tasker.events.envelope import US_PER_S
from tasker.events.places import KeyName, request_of
from tasker.events.task_events import TaskPostponed
from tasker.service.domain.commands import CreateTask, PostponeTask
from tasker.service.domain.limits.admission import DEBOUNCE_PREFIX, admission_key
from tasker.service.domain.limits.input_keys import key_of_start
from tasker.service.domain.limits.places import check_key
from tasker.service.domain.limits.shares import check_shares
from tasker.service.domain.obligations import TASK_SCOPE
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.service.domain.steps.begin import after
from tasker.templates import CompiledTemplate, Debounce

DEBOUNCE: Final = "~debounce"
"""Stands in a request where others have a step; no step is called so."""

STARTS_MAX: Final = 1000
"""So many starts go into one task: it begins with the last of them."""

_HASH_CHARS: Final = 16


def debounce_of(template: CompiledTemplate, task_input: msgspec.Raw) -> str | None:
    """Return the key under which starts with this input meet; None: this one meets none.

    Starts under different contents of the template do not meet: an input is right under one of them.

    Raises:
        InputInvalid: the input has no value for it.
    """
    debounce = template.spec.debounce
    if debounce is None:
        return None
    text = key_of_start("debounce", debounce.key, template, task_input)
    return None if text is None else f"{DEBOUNCE_PREFIX}{template.hash[:_HASH_CHARS]} {text}"


def debounce_key(tenant: str, template: CompiledTemplate, key: str) -> KeyName:
    """Return the name of such a key."""
    return admission_key(tenant, template.spec.namespace, template.spec.name, key)


def debounce_request(task_id: str, at_us: int) -> str:
    """Return what names the request of a task that asked at `at_us` to wait for more starts."""
    return request_of(task_id, DEBOUNCE, at_us)


def check_start(template: CompiledTemplate, command: CreateTask) -> None:
    """Return when a task could begin with this input; its schema was asked already.

    Raises:
        InputInvalid: a key of the template has no value for it.
    """
    if template.spec.concurrency is not None:
        check_key(template.spec.concurrency, template, command.input)
    if template.is_shared:
        check_shares(template, command.input)


def waiting(debounce: Debounce, command: CreateTask) -> CreateTask:
    """Return the creation of a task that is the first of several starts; its timeout counts from its begin."""
    begin_us = _begin_us(debounce, command.at_us, command.at_us, command.not_before_us)
    timeout_s = None if command.timeout_s is None else command.timeout_s + (begin_us - command.at_us) / US_PER_S
    return msgspec.structs.replace(command, not_before_us=begin_us, timeout_s=timeout_s)


def waits_for_more(state: TaskState) -> bool:
    """Return whether the task has not begun, and would take another start."""
    status = state.paused_from if state.status is TaskStatus.PAUSED else state.status
    return (
        status is TaskStatus.PENDING
        and state.not_before_us is not None
        and TASK_SCOPE not in state.places
        and state.stopping is None
        and not state.is_late
    )


def is_start_of(state: TaskState, start: str, request_hash: str) -> bool:
    """Return whether the task took this start before.

    Raises:
        KeyConflict: it took one of this name with another input or version.
    """
    taken = None if state.starts is None else state.starts.get(start)
    if taken is None:
        return False
    if taken != request_hash:
        raise KeyConflict("the key belongs to a start with another input or version; use a new key for another request")
    return True


def postpone(state: TaskState, template: CompiledTemplate, command: PostponeTask) -> tuple[TaskPostponed, ...]:
    """Return that a waiting task begins later, with the input of another start; () when it has begun, or took it.

    Raises:
        KeyConflict: it took a start of this name with another input or version.
    """
    debounce = template.spec.debounce
    if is_start_of(state, command.start, command.request_hash) or debounce is None or not waits_for_more(state):
        return ()
    begin_us = _begin_us(debounce, command.at_us, state.created_us, command.not_before_us)
    if len(state.starts or ()) + 2 >= STARTS_MAX:
        begin_us = command.at_us + 1
    return (
        TaskPostponed(
            start=command.start,
            request_hash=command.request_hash,
            input=command.input,
            not_before_us=begin_us,
            deadline_us=None if command.timeout_s is None else after(begin_us, command.timeout_s),
            by=command.by,
        ),
    )


def _begin_us(debounce: Debounce, at_us: int, first_us: int, not_before_us: int | None) -> int:
    begin_us = at_us + round(debounce.for_s * US_PER_S)
    if debounce.max_s is not None:
        begin_us = min(begin_us, first_us + round(debounce.max_s * US_PER_S))
    # What is due at once wakes nobody.
    return max(begin_us, not_before_us or 0, at_us + 1)

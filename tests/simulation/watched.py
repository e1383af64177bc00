"""What the log of a world with limits must say, event by event: restarts, priorities, lines, and how long steps ran.

Written from docs/howto/limit-what-runs.md, limit-time.md, order-work.md and repair-tasks.md; counted anew from the
events alone. What a node learns late (a lost report, a takeover) is no fault of it: those checks are for calm times.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tasker.events.envelope import US_PER_S, RecordedEvent
from tasker.events.task_events import (
    RunningTimeSpent,
    StepDispatched,
    StepStarted,
    TaskCreated,
    TaskPostponed,
    TaskResumed,
    TaskUpdated,
)
from tasker.handlers.starts import STARTED_DELAY_S
from tasker.service.domain.state import StepStatus, TaskState
from tasker.templates import CompiledTemplate

PRIORITY_MAX = 100
COUNT_S = 0.1
"""How old a node's count of what waits may be."""

BEGUN_S = 2 * STARTED_DELAY_S
"""So long the log may say of an attempt that it waits, while a worker has given it a slot."""

KNOWN_S = 1.0
"""After so long a node has what was said to it, and a worker what was offered to it."""

OLD_S = 60.0
"""What has waited for so long may go ahead of any priority."""


@dataclass
class Life:
    """One task as the log told it.

    Attributes:
        timeout_us: what it was started with. ran_us: how long at least one of its steps ran, counted until `since_us`.
        offered_us: instance -> since when it waits for a worker. ranked_us: since when its work has its priority.
    """

    state: TaskState
    timeout_us: int | None = None
    ran_us: int = 0
    since_us: int = 0
    offered_us: dict[str, int] = field(default_factory=dict)
    ranked_us: int = 0

    def waiting(self) -> list[str]:
        """Return what waits for a worker; of a task that is held nothing does."""
        if self.state.held:
            return []
        return [name for name, one in self.state.steps.items() if one.status is StepStatus.DISPATCHED]

    def runs(self) -> bool:
        """Return whether a worker runs a step of it."""
        return any(one.status is StepStatus.RUNNING for one in self.state.steps.values())


class Watched:
    """All tasks of a world; `before` and `after` are called around the fold of each event, in the order of times."""

    def __init__(self, shapes: Mapping[str, CompiledTemplate]) -> None:
        self.shapes = shapes
        self.lives: dict[str, Life] = {}
        self.lines: dict[str, list[tuple[int, int]]] = defaultdict(lambda: [(0, 0)])
        self.admitted_us: dict[str, list[int]] = defaultdict(list)
        self.begun_us: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """Of each template: since when an attempt may have had its slot, and when it was recorded to have begun."""

        self.let_in: deque[tuple[str, int, int, int]] = deque()
        """New tasks that are not looked at yet: template, when, how many may wait, how many were let in before."""

    def shape(self, state: TaskState) -> CompiledTemplate:
        """Return the template of a task."""
        return self.shapes[state.template.hash]

    def before(self, life: Life, recorded: RecordedEvent) -> None:
        """Count the time since the last event of a task."""
        if life.runs():
            life.ran_us += recorded.at_us - life.since_us
        life.since_us = recorded.at_us

    def after(self, life: Life, recorded: RecordedEvent, found: Any, *, is_calm: bool) -> None:
        """Look at what an event that has been folded says."""
        at_us = recorded.at_us
        while self.let_in and self.let_in[0][1] < at_us - round(BEGUN_S * US_PER_S):
            self._had_room(*self.let_in.popleft())
        match found:
            case TaskCreated():
                life.timeout_us = None if found.deadline_us is None else found.deadline_us - at_us
                if self.shape(life.state).spec.debounce is not None and found.not_before_us is not None:
                    life.timeout_us = None if found.deadline_us is None else found.deadline_us - found.not_before_us
                if found.restarted_from is not None:
                    _is_run_once_more(self.lives[found.restarted_from], life, found)
                name, most = life.state.template.name, self.shape(life.state).spec.max_ready
                if is_calm and most is not None:
                    self.let_in.append((name, at_us, most, len(self.admitted_us[name])))
                self.admitted_us[name].append(at_us)
            case TaskPostponed(deadline_us=deadline_us, not_before_us=begin_us):
                life.timeout_us = None if deadline_us is None else deadline_us - begin_us
            case TaskUpdated(priority=int()) | TaskResumed():
                life.ranked_us = at_us
            case StepDispatched(step=step):
                life.offered_us[step] = at_us
                self._has_time_left(life)
            case StepStarted(step=step):
                since_us = max(life.offered_us[step], at_us - round(BEGUN_S * US_PER_S))
                self.begun_us[life.state.template.name].append((since_us, at_us))
                if is_calm:
                    self._is_first(life, step, at_us)
            case RunningTimeSpent():
                assert life.ran_us >= _may_run_us(self.shape(life.state)), "it has not run for so long"
            case _:
                pass
        self._note_line(life, at_us)

    # ---------------------------------------------------------------- the line in front of the workers

    def _note_line(self, life: Life, at_us: int) -> None:
        """Keep how many of a template's steps wait for a worker, from which time on."""
        name = life.state.template.name
        count = sum(len(one.waiting()) for one in self.lives.values() if one.state.template.name == name)
        if self.lines[name][-1][1] != count:
            self.lines[name].append((at_us, count))

    def _had_room(self, name: str, at_us: int, most: int, before: int) -> None:
        """A new task was let in: at some moment just before there was room for it and for those let in since.

        It is asked of what the log says in the end: what happens in one moment is in no order, and that an attempt has
        begun is recorded a little later.
        """
        since_us, line, begun = at_us - round(COUNT_S * US_PER_S), self.lines[name], self.begun_us[name]
        moments = {since_us, *(us for us, _ in line), *(us for us, _ in begun)}
        counts = []
        for moment in sorted(us for us in moments if since_us <= us <= at_us):
            last_us = max(us for us, _ in line if us <= moment)
            with_workers = sum(first <= moment < last for first, last in begun)
            let_in = sum(us > moment for us in self.admitted_us[name][:before])
            counts += [(moment, count - with_workers, let_in) for us, count in line if us == last_us]
        assert any(waiting + let_in < most for _, waiting, let_in in counts), f"{counts} wait, of {most}, at {at_us}"

    # ---------------------------------------------------------------- the time in which steps run

    def _has_time_left(self, life: Life) -> None:
        may_us = _may_run_us(self.shape(life.state))
        assert life.state.stopping is not None or life.ran_us <= may_us, f"it ran {life.ran_us} us, and begins a step"

    # ---------------------------------------------------------------- what goes first

    def _is_first(self, life: Life, step: str, at_us: int) -> None:
        """A worker has begun a step: nothing urgent waits that was known before that step was offered.

        What is not urgent may be in the work stream, which knows no order, and a worker may have taken it from there.
        Under a rate limit with a key it is asked of the work of the same value.
        """
        known_us = at_us - round(KNOWN_S * US_PER_S)
        limit = self.shape(life.state).step(step).rate_limit
        if at_us - life.offered_us[step] > OLD_S * US_PER_S:
            return
        mine = self._priority(life.state, step)
        for other in self.lives.values():
            if other.state.template.name != life.state.template.name:
                continue
            if limit is not None and _key(other.state) != _key(life.state):
                continue
            for name in other.waiting():
                theirs = self._priority(other.state, name)
                since_us = max(other.offered_us[name], other.ranked_us)
                is_ahead = since_us <= min(known_us, life.offered_us[step] - round(KNOWN_S * US_PER_S))
                assert theirs <= max(mine, 0) or not is_ahead, f"{name} ({theirs}) waits, {step} ({mine}) began"

    def _priority(self, state: TaskState, step: str) -> int:
        found = state.priority + self.shape(state).step(step).priority
        return max(-PRIORITY_MAX, min(found, PRIORITY_MAX))


def _key(state: TaskState) -> Any:
    """Return the value under which the machine's limits count."""
    return msgspec.json.decode(state.input)["key"]


def _may_run_us(shape: CompiledTemplate) -> float:
    budget = shape.spec.budget
    limit_s = None if budget is None else budget.running_s_max
    return float("inf") if limit_s is None else limit_s * US_PER_S


def _is_run_once_more(old: Life, new: Life, created: TaskCreated) -> None:
    """Another run has what the docs say that it takes over, and the old one has ended."""
    assert old.state.ended, "what has not ended was restarted"
    assert created.input == old.state.input
    assert created.tags == old.state.tags
    assert (created.metadata and msgspec.json.decode(created.metadata)) == (
        old.state.metadata and msgspec.json.decode(old.state.metadata)
    )
    assert created.priority == old.state.priority
    assert created.template == old.state.template
    assert new.timeout_us == old.timeout_us
    assert created.not_before_us is None

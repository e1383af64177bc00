"""Random workflows of every kind of step, with places, limits, waits and compensations among them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tasker import (
    Again,
    Budget,
    CircuitBreaker,
    Concurrency,
    Decision,
    OnTimeout,
    RateLimit,
    Retry,
    StepContext,
    Template,
)
from tasker.errors import TemplateInvalid
from tasker.templates.model import ConcurrencyStrategy, OnLimit, OnParentClose

WORK = "work"
CHILD = "errand"
SIGNALS = ("go", "stop")
PEOPLE = ("ada", "bob")
KINDS = ("plain", "plain", "again", "each", "routes", "child", "signal", "approval", "event", "service")
WAIT_S = 40.0
"""No wait is longer, so that a session ends without a person."""

Body = Callable[[StepContext], Any]


def workflows(draw: random.Random, body: Body) -> list[Template]:
    """Return a template and the one of its children; `body` is awaited in every attempt, and may raise."""
    errand = Template(CHILD, on_failure="fail")
    errand.step(name="run", retry=Retry(max_attempts=4, delay_s=0.5), start_to_close_s=10.0, heartbeat_s=1.0)(
        _plain(body)
    )
    while True:
        try:
            work = _Work(draw, body).template
            work.spec()
        except TemplateInvalid as refused:
            if "unknown key" in refused.detail:
                raise
            continue  # these keys do not fit together: the next ones may
        return [work, errand]


class _Work:
    """One drawn template."""

    def __init__(self, draw: random.Random, body: Body) -> None:
        self._draw = draw
        self._body = body
        self.template = self._empty()
        names: list[str] = []
        kinds = draw.sample(KINDS, draw.randint(4, 7))
        target = f"s{draw.randrange(len(kinds))}" if draw.random() < 0.6 else None
        for number, kind in enumerate(kinds):
            name = f"s{number}"
            keys: dict[str, Any] = {"after": draw.sample(names, min(len(names), draw.randint(0, 2)))}
            if keys["after"]:
                keys["join"] = draw.choice(["all", "all", "deferred", "any", "all_settled"])
            if draw.random() < 0.15:
                keys["when"] = draw.choice(["input.n > 2", "input.n < 6"])
            if name == target:
                keys["max_visits"] = 3
            self._declare(kind, name, keys)
            names.append(name)
        if target is not None:
            self.template.step(name="again", after=names[-1], back_to=target)(_plain(body))

    def _empty(self) -> Template:
        draw = self._draw
        concurrency = None
        if draw.random() < 0.25:
            strategy: ConcurrencyStrategy = draw.choice(["queue", "queue", "drop", "cancel_oldest", "cancel_newest"])
            concurrency = Concurrency(key="input.n % 2 == 0", limit=draw.randint(1, 2), strategy=strategy)
        return Template(
            WORK,
            on_failure=draw.choice(["block", "fail", "fail"]),
            timeout_s=draw.choice([None, None, 60.0]),
            concurrency=concurrency,
            compensate_on=draw.choice([None, "both", "failure", "cancel"]),
            on_timeout=draw.choice([None, "block", "continue"]),
            priority=draw.choice([None, 50]),
            max_running=draw.choice([None, None, 5]),
            budget=draw.choice([None, None, Budget(cost_max="0.8", on_exceeded=draw.choice(["fail", "block"]))]),
        )

    def _declare(self, kind: str, name: str, keys: dict[str, Any]) -> None:
        draw, template, body = self._draw, self.template, self._body
        worked = self._worked(name)
        match kind:
            case "plain":
                if draw.random() < 0.3:
                    strategy: ConcurrencyStrategy = draw.choice(["queue", "drop"])
                    worked["concurrency"] = Concurrency(key="input.n > 3", limit=1, strategy=strategy)
                template.step(name=name, **keys, **worked)(_plain(body))
                if draw.random() < 0.5:
                    undo = template.compensation(name, retry=Retry(max_attempts=6, delay_s=0.2), start_to_close_s=5.0)
                    undo(_undo(name, body))
            case "again":
                template.step(name=name, **keys, **worked)(_polling(body))
            case "each":
                worked["on_item_failure"] = draw.choice(["fail_fast", "continue", "isolate"])
                worked["max_parallel"] = draw.randint(1, 4)
                template.step(name=name, each="[1, 2, 3, 4]", **keys, **worked)(_plain(body))
            case "routes":
                after = [f"{name}a", f"{name}b"]
                template.step(name=name, routes=after, **keys, **worked)(_choosing(body, after))
                for one in after:
                    template.step(name=one, after=name)(_plain(body))
            case "child":
                closing: OnParentClose = draw.choice(["cancel", "abandon", "wait"])
                if draw.random() < 0.25:
                    policy = draw.choice(["fail_fast", "continue"])
                    keys |= {"each": "[1, 2, 3]", "max_parallel": 2, "on_item_failure": policy}
                template.child(name, CHILD, on_parent_close=closing, **keys)
            case "signal":
                signal, count = draw.choice(SIGNALS), draw.choice([None, 2])
                template.wait(name, signal, signal_count=count, **self._deadline("fail", "continue"), **keys)
            case "approval":
                approvals = draw.choice([None, 2])
                template.approval(
                    name, assignees=PEOPLE, approvals=approvals, **self._deadline("fail", "continue"), **keys
                )
            case "event":
                template.wait_event(name, "task_completed", **self._deadline("continue"), **keys)
            case _:
                if draw.random() < 0.5:
                    template.delay(name, draw.choice([0.2, 3.0]), **keys)
                else:
                    template.transform(name, "input.n + 1", **keys)

    def _worked(self, name: str) -> dict[str, Any]:
        """Return keys of a step that a worker runs."""
        draw = self._draw
        found: dict[str, Any] = {
            "retry": Retry(max_attempts=draw.randint(2, 5), delay_s=draw.choice([0.05, 1.0]), delay_s_max=5.0),
            "start_to_close_s": draw.choice([1.0, 4.0, 15.0]),
            "heartbeat_s": draw.choice([0.5, 1.5]),
            "schedule_to_close_s": draw.choice([None, None, 45.0]),
        }
        if draw.random() < 0.6:
            then: list[OnLimit] = ["retry", "fail", "block", "continue"]
            found["on_timeout"] = OnTimeout(start_to_close=draw.choice(then), heartbeat=draw.choice(then))
        if draw.random() < 0.3:
            found["circuit_breaker"] = CircuitBreaker(failure_rate=0.3, min_attempts=2, open_s=1.0, open_s_max=3.0)
        if draw.random() < 0.2:
            found["rate_limit"] = RateLimit(per_s=draw.choice([0.5, 5.0]), burst=2, key=draw.choice([None, "input.n"]))
        if name in {"s1", "s3"}:
            found |= {"sticky": name, "sticky_wait_s": 5.0, "priority": 20}
        return found

    def _deadline(self, *then: str) -> dict[str, Any]:
        """Return keys of a step that waits, with what happens when it has waited for too long."""
        wait_deadline_s = self._draw.uniform(1.0, WAIT_S)
        return {"wait_deadline_s": wait_deadline_s, "on_wait_deadline": self._draw.choice(then)}


def _plain(body: Body) -> Callable[..., Any]:
    async def work(ctx: StepContext) -> str:
        await body(ctx)
        return ctx.idempotency_key

    return work


def _undo(step: str, body: Body) -> Callable[..., Any]:
    async def undo(ctx: StepContext) -> None:
        await body(ctx)

    undo.__name__ = f"undo_{step}"
    return undo


def _polling(body: Body) -> Callable[..., Any]:
    async def poll(ctx: StepContext) -> Any:
        seen = ctx.checkpoint(int) or 0
        if seen < 2:
            return Again(after_s=0.7, checkpoint=seen + 1)
        await body(ctx)
        return seen

    return poll


def _choosing(body: Body, routes: list[str]) -> Callable[..., Any]:
    async def choose(ctx: StepContext) -> Decision:
        await body(ctx)
        chosen = [one for one in routes if ctx.random.random() < 0.6]
        return Decision.route(*chosen) if chosen else Decision.none("nothing to do")

    return choose

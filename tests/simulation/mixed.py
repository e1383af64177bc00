"""Random workflows of every kind of step, with places, limits, waits and compensations among them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tasker import Again, Budget, Concurrency, Decision, OnTimeout, RateLimit, Retry, StepContext, Template
from tasker.errors import ConfigurationError, TemplateInvalid
from tasker.templates.model import ConcurrencyStrategy, OnLimit, OnParentClose

WORK = "work"
CHILD = "errand"
SIGNALS = ("go", "stop")
PEOPLE = ("ada", "bob")
KINDS = ("plain", "plain", "again", "each", "routes", "child", "signal", "approval", "event", "service")
WAIT_S = 40.0
"""No wait is longer, so that a session ends without a person."""

Body = Callable[[StepContext], Any]


def workflows(draw: random.Random, body: Callable[[StepContext], Any]) -> list[Template]:
    """Return a template and the one of its children; `body` is awaited in every attempt, and may raise."""
    errand = Template(CHILD, on_failure="fail")
    errand.step(name="run", retry=Retry(max_attempts=4, delay_s=0.5), timeout_s=10.0, heartbeat_s=1.0)(_plain(body))
    while True:
        try:
            work = _work(draw, body)
            work.spec()
        except (ConfigurationError, TemplateInvalid):
            continue  # these keys do not fit together: the next ones may
        return [work, errand]


def _work(draw: random.Random, body: Body) -> Template:
    concurrency = None
    if draw.random() < 0.4:
        strategy: ConcurrencyStrategy = draw.choice(["queue", "queue", "drop", "cancel_oldest", "cancel_newest"])
        concurrency = Concurrency(key="input.n % 2 == 0", limit=draw.randint(1, 2), strategy=strategy)
    template = Template(
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
    names: list[str] = []
    for number, kind in enumerate(draw.sample(KINDS, draw.randint(3, 6))):
        name = f"s{number}"
        keys: dict[str, Any] = {"after": draw.sample(names, min(len(names), draw.randint(0, 2)))}
        if keys["after"]:
            keys["join"] = draw.choice(["all", "all", "deferred", "any", "all_settled"])
        if draw.random() < 0.15:
            keys["when"] = draw.choice(["input.n > 2", "input.n < 6"])
        _declare(draw, template, f"{kind} {name}", keys, body)
        names.append(name)
    if len(names) > 2 and draw.random() < 0.6:
        template.step(name="again", after=names[-1], back_to=draw.choice(names), max_visits=3)(_plain(body))
    return template


def _declare(draw: random.Random, template: Template, what: str, keys: dict[str, Any], body: Body) -> None:
    """Declare a step; `what` is its kind and its name."""
    kind, name = what.split()
    worked: dict[str, Any] = {
        "retry": Retry(max_attempts=draw.randint(2, 5), delay_s=draw.choice([0.05, 1.0]), delay_s_max=5.0),
        "timeout_s": draw.choice([1.0, 4.0, 15.0]),
        "heartbeat_s": draw.choice([0.5, 1.5]),
        "schedule_to_close_s": draw.choice([None, None, 45.0]),
        "max_visits": 3,
    }
    if draw.random() < 0.6:
        then: list[OnLimit] = ["retry", "fail", "block", "continue"]
        worked["on_timeout"] = OnTimeout(start_to_close=draw.choice(then), heartbeat=draw.choice(then))
    if draw.random() < 0.2:
        worked["rate_limit"] = RateLimit(per_s=draw.choice([0.5, 5.0]), burst=2, key=draw.choice([None, "input.n"]))
    match kind:
        case "plain":
            if draw.random() < 0.3:
                worked["concurrency"] = Concurrency(key="input.n > 3", limit=1, strategy=draw.choice(["queue", "drop"]))
            template.step(name=name, **keys, **worked)(_plain(body))
            if draw.random() < 0.5:
                template.compensation(name, retry=Retry(max_attempts=6, delay_s=0.2), timeout_s=5.0)(_undo(name, body))
        case "again":
            template.step(name=name, **keys, **worked)(_polling(body))
        case "each":
            policy = draw.choice(["fail_fast", "continue", "isolate"])
            items: dict[str, Any] = {
                "each": "[1, 2, 3, 4]",
                "max_parallel": draw.randint(1, 4),
                "on_item_failure": policy,
            }
            template.step(name=name, **keys, **worked, **items)(_plain(body))
        case "routes":
            after = [f"{name}a", f"{name}b"]
            template.step(name=name, routes=after, **keys, **worked)(_choosing(body, after))
            for one in after:
                template.step(name=one, after=name, max_visits=3)(_plain(body))
        case "child":
            closing: OnParentClose = draw.choice(["cancel", "abandon", "wait"])
            template.child(name, CHILD, on_parent_close=closing, max_visits=3, **keys)
        case "signal":
            template.wait(
                name,
                draw.choice(SIGNALS),
                count=draw.choice([None, 2]),
                deadline_s=draw.uniform(1.0, WAIT_S),
                on_deadline=draw.choice(["fail", "continue"]),
                max_visits=3,
                **keys,
            )
        case "approval":
            template.approval(
                name,
                assignees=PEOPLE,
                approvals=draw.choice([None, 2]),
                deadline_s=draw.uniform(1.0, WAIT_S),
                on_deadline=draw.choice(["fail", "continue"]),
                max_visits=3,
                **keys,
            )
        case "event":
            template.wait_event(
                name,
                "task_completed",
                deadline_s=draw.uniform(1.0, WAIT_S),
                on_deadline="continue",
                max_visits=3,
                **keys,
            )
        case _:
            if draw.random() < 0.5:
                template.delay(name, draw.choice([0.2, 3.0]), max_visits=3, **keys)
            else:
                template.transform(name, "input.n + 1", max_visits=3, **keys)


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

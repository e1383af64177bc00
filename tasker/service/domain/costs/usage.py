"""What attempts used: settled when it is reported, recorded with the outcome, held to the task's budget.

Usage is recorded of every attempt that was heard of, of failed ones too: it was paid for. Of one that was over before
its worker told (it had timed out, or a person resolved its step) it is recorded by itself, late, as long as the task
has not ended. What a worker does not tell before it is lost nobody knows.

A budget is looked at in the turn of each outcome: after what was used, before the outcome and all that follows from it.
Over it, the task begins nothing, as when it is paused; the event that went over it says so.

The time that a task may run is looked at when all of it is used (`run_by`; see `running_time`), in a turn of its own.

    on_exceeded "block"    -> blocked, until a person allows it more (`task.budget`); attempts that run may end
    on_exceeded "fail"     -> the task stops: others cancelled, what it did undone, then failed
    nothing is left to do  -> it completes; paused, when it is resumed, unless a person gave it more to do meanwhile
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from tasker.errors import CommandRejected, StateForbids
from tasker.events.envelope import US_PER_S
from tasker.events.messages import CANCEL_GRACE_S, Report, ReportReply, UsageLine
from tasker.events.task_events import (
    NULL,
    AnyTaskEvent,
    ErrorInfo,
    RunningTimeSpent,
    StepStarted,
    TaskBudgetSet,
    UsageRecorded,
)
from tasker.events.usage import (
    Metering,
    amount_text,
    excess_cost,
    excess_running,
    excess_tokens,
    multiplied,
    usage_line,
)
from tasker.service.domain.commands import Outcome, RecordUsage, SetBudget
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.domain.costs.running_time import RunningTime
from tasker.service.domain.evolve import count_usage
from tasker.service.domain.repairs.guards import must_go_on
from tasker.service.domain.state import BUDGET_EXCEEDED, TaskState, TaskStatus
from tasker.service.domain.steps.begin import complete_lists
from tasker.service.domain.steps.loops import may_turn
from tasker.service.domain.stop import stop
from tasker.templates import CompiledTemplate
from tasker.templates.model import Budget

MESSAGE_CHARS_MAX: Final = 2_000


# ---------------------------------------------------------------- as reported


def settle_usage(report: Report, prices: PriceTable | None) -> None:
    """Hold the usage of `report` to its rules, add equal lines up, and price those without a cost.

    A completed attempt (or one that yields) with usage that cannot be kept fails for good; a failed one says what was
    left out.
    """
    if not report.usage:
        return
    if report.kind not in ("completed", "failed", "yielded"):
        report.usage = ()
        return
    metering = Metering()
    try:
        for line in report.usage:
            checked = usage_line(
                line.meter, line.amount, unit=line.unit, model=line.model, cost=line.cost, currency=line.currency
            )
            metering.add((checked,))
    except CommandRejected as error:
        report.usage = ()
        if report.kind != "failed":
            report.kind, report.result, report.emitted = "failed", NULL, ()
            report.error = ErrorInfo(type=error.code, message=error.detail[:MESSAGE_CHARS_MAX], retryable=False)
        elif report.error is not None:
            message = f"{report.error.message} (and its usage was not recorded: {error.detail})"
            report.error = msgspec.structs.replace(report.error, message=message[:MESSAGE_CHARS_MAX])
        return
    report.usage = tuple(_priced(line, prices) for line in metering.lines())


def _priced(line: UsageLine, prices: PriceTable | None) -> UsageLine:
    price = None if prices is None or line.cost is not None else prices.price_of(line)
    if prices is None or price is None:
        return line
    cost = multiplied(Decimal(line.amount), Decimal(price))
    return msgspec.structs.replace(
        line, cost=amount_text(cost), currency=prices.currency, price=price, prices=prices.version
    )


# ---------------------------------------------------------------- as recorded


def metered(
    state: TaskState,
    template: CompiledTemplate,
    command: Outcome,
    events: Iterable[AnyTaskEvent],
    decide_again: Callable[[], Iterable[AnyTaskEvent]],
) -> Iterator[AnyTaskEvent]:
    """Yield the `events` of an outcome with what the attempt used before it.

    The outcome is decided once more behind that: a task over its budget tries nothing again.
    """
    for event in events:
        if isinstance(event, StepStarted):
            yield event
        break
    yield from _recorded(state, template, command)
    yield from decide_again()
    yield from ended_by_budget(state, template, command.at_us, step=command.step)


def ended_by_budget(
    state: TaskState, template: CompiledTemplate, at_us: int, *, step: str | None = None
) -> Iterator[AnyTaskEvent]:
    """Yield what ends a task that is over its budget, where that fails it and something is left to begin.

    `step` is the one that went over it.
    """
    budget = template.spec.budget
    if (
        state.over_budget is not None
        and budget is not None
        and budget.on_exceeded == "fail"
        and state.stopping is None
        and not is_done(state, template)
    ):
        yield from stop(
            state, template, at_us, ending="failed", cause="budget_exceeded", grace_s=CANCEL_GRACE_S, step=step
        )


def late_usage_of(state: TaskState, report: Report, answer: ReportReply, at_us: int) -> RecordUsage | None:
    """Return what records the usage of a `report` whose outcome is not, as its `answer` says; None: nothing is to be.

    Each attempt tells its usage once, in the order of the attempts: a repetition would be counted twice.
    """
    step = state.steps.get(report.step)
    if not report.usage or not answer.ok or answer.recorded or step is None or state.ended:
        return None
    if not step.metered < report.attempt <= step.attempt or state.blocked_reason == "history_limit":
        return None
    return RecordUsage(step=report.step, attempt=report.attempt, usage=report.usage, at_us=at_us)


def record_late(state: TaskState, template: CompiledTemplate, command: RecordUsage) -> Iterator[AnyTaskEvent]:
    """Yield what an attempt used that is over, and what the task's budget says to that."""
    yield from _recorded(state, template, command)
    yield from ended_by_budget(state, template, command.at_us, step=command.step)


def is_done(state: TaskState, template: CompiledTemplate) -> bool:
    """Return whether nothing of the task is left to begin."""
    lists = len(complete_lists(state, template))
    if state.open != lists or state.settled + lists != len(template.steps):
        return False
    return not any(may_turn(state, template, loop) for loop in template.loops)


def _recorded(state: TaskState, template: CompiledTemplate, command: Outcome | RecordUsage) -> Iterator[AnyTaskEvent]:
    total = dict(state.usage or {})
    last = len(command.usage) - 1
    for index, line in enumerate(command.usage):
        event = UsageRecorded(
            step=command.step,
            attempt=command.attempt,
            meter=line.meter,
            amount=line.amount,
            unit=line.unit,
            model=line.model,
            cost=line.cost,
            currency=line.currency,
            price=line.price,
            prices=line.prices,
            late=isinstance(command, RecordUsage),
        )
        count_usage(total, event)
        if index == last and state.over_budget is None and state.stopping is None:
            budget = budget_of(state, template)
            excess = None if budget is None else excess_of(budget, total)
            if excess is not None:
                event = msgspec.structs.replace(event, excess=excess)
        yield event


# ---------------------------------------------------------------- the budget


def budget_of(state: TaskState, template: CompiledTemplate) -> Budget | None:
    """Return what the task may use: as a person allowed it, else as its template does."""
    budget = template.spec.budget
    if budget is None or state.budget is None:
        return budget
    return msgspec.structs.replace(
        budget,
        cost_max=state.budget.cost_max,
        tokens_max=state.budget.tokens_max,
        running_s_max=state.budget.running_s_max or budget.running_s_max,
    )


def excess_of(budget: Budget, used: Mapping[str, Decimal]) -> str | None:
    """Return in words what of `budget` is used up by `used` (see `TaskState.usage`); None: nothing is."""
    tokens = used.get("tokens", Decimal(0))
    if budget.tokens_max is not None and tokens > budget.tokens_max:
        return excess_tokens(tokens, budget.tokens_max)
    cost = used.get(f"cost:{budget.currency}", Decimal(0))
    if budget.cost_max is not None and cost > Decimal(budget.cost_max):
        return excess_cost(cost, budget.cost_max, budget.currency)
    return None


def set_budget(state: TaskState, template: CompiledTemplate, command: SetBudget) -> tuple[AnyTaskEvent, ...]:
    """Return what gives the task another budget; () when it has that.

    Raises:
        TaskUnknown, TaskEnded, StateForbids: there is no such budget, or the task has used more than that already.
    """
    must_go_on(state)
    before = budget_of(state, template)
    if before is None:
        raise StateForbids("the task's template has no budget; nothing limits what the task uses")
    budget = msgspec.structs.replace(
        before,
        cost_max=before.cost_max if command.cost_max is None else command.cost_max,
        tokens_max=before.tokens_max if command.tokens_max is None else command.tokens_max,
        running_s_max=before.running_s_max if command.running_s_max is None else command.running_s_max,
    )
    excess = excess_of(budget, state.usage or {})
    if budget.running_s_max is not None:
        if state.running is None:
            raise StateForbids("the budget of the task's template has no running_s_max; nobody counted how long it ran")
        excess = excess or _ran_out(state.running, budget.running_s_max, command.at_us)
    if excess is not None:
        raise StateForbids(f"the task would still be over {excess}; allow it more than it has used")
    if budget == before:
        return ()
    goes_on = state.status is TaskStatus.BLOCKED and state.blocked_reason == BUDGET_EXCEEDED and not state.is_late
    return (
        TaskBudgetSet(
            cost_max=budget.cost_max,
            tokens_max=budget.tokens_max,
            goes_on=goes_on,
            running_s_max=budget.running_s_max,
        ),
    )


# ---------------------------------------------------------------- how long it runs


def running_time_spent(state: TaskState, template: CompiledTemplate, at_us: int) -> Iterator[AnyTaskEvent]:
    """Yield that the task has run for as long as it may, and what its template says comes of that."""
    running = state.running
    if running is None:
        return
    limit_s, running_us = running.limit_s, running.spent_by_us(at_us)
    yield RunningTimeSpent(running_us=running_us, excess=excess_running(running_us / US_PER_S, limit_s))
    yield from ended_by_budget(state, template, at_us)


def _ran_out(running: RunningTime, limit_s: float, at_us: int) -> str | None:
    running_us = running.spent_by_us(at_us)
    return excess_running(running_us / US_PER_S, limit_s) if running_us >= round(limit_s * US_PER_S) else None

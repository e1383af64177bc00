"""Random documents with every key that decides what begins, what is waited for, and how a task ends."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.reference.model import Meaning
from tests.reference.model.domain_events import RAISED

NAMES = [f"s{number}" for number in range(1, 8)]
INPUT = {"n": 6}
SIGNALS = ("go", "stop")
PEOPLE = ("ada", "bob", "carol")


def _number(value: Any) -> int:
    """Return a value that is compared with a number.

    Raises:
        LookupError: it is none.
    """
    if type(value) is not int:
        raise LookupError(value)
    return value


def _member(value: Any, name: str) -> Any:
    """Return a member of an object.

    Raises:
        LookupError: the value has none of that name.
    """
    members = value if isinstance(value, dict) else {}
    return members[name]


def _is_result(step: str) -> Meaning:
    """Return what tells whether an event has the result of a step for data."""
    return lambda _, results, more: more["event"]["data"] == results[step]


def _is_result_if_there(step: str) -> Meaning:
    """Return what tells the same, and that it has not while the step has none."""
    return lambda _, results, more: step in results and more["event"]["data"] == results[step]


MEANINGS: dict[str, Meaning] = {
    "input.n > 5": lambda value, _, __: value["n"] > 5,
    "input.n > 7": lambda value, _, __: value["n"] > 7,
    "input.m > 7": lambda value, _, __: value["m"] > 7,
    "input.n + 1": lambda value, _, __: value["n"] + 1,
    "input.n": lambda value, _, __: value["n"],
    "input.m": lambda value, _, __: value["m"],
    "null": lambda _, __, ___: None,
    "[1, 2, 3]": lambda _, __, ___: [1, 2, 3],
    "[]": lambda _, __, ___: [],
    "signal.v > 1": lambda _, __, more: more["signal"]["v"] > 1,
    "signal.v == item": lambda _, __, more: more["signal"]["v"] == more["item"],
    "event.v > 1": lambda _, __, more: more["event"]["v"] > 1,
    "event.data > 1": lambda _, __, more: _number(more["event"]["data"]) > 1,
    "event.data == item": lambda _, __, more: more["event"]["data"] == more["item"],
    "event.data.result == 1": lambda _, __, more: _member(more["event"]["data"], "result") == 1,
    "event.step == 's1'": lambda _, __, more: more["event"]["step"] == "s1",
    "state.sum > 2": lambda _, __, more: more["state"]["sum"] > 2,
    "state.sum": lambda _, __, more: more["state"]["sum"],
    "state.any": lambda _, __, more: more["state"]["any"],
    **{
        f"results.{name} == 1": lambda _, results, __, name=name: results[name] == 1  # type: ignore[misc]
        for name in NAMES
    },
    **{f"event.data == results.{name}": _is_result(name) for name in NAMES},
    **{f"has(results.{name}) && event.data == results.{name}": _is_result_if_there(name) for name in NAMES},
}
STATE: dict[str, Any] = {
    "last": "last_edge_wins",
    "sum": "sum",
    "max": "max",
    "all": "append",
    "set": "union",
    "of": "merge",
    "row": {"using": "left * 10 + right"},
    "odd": {"using": "right % 3 == 0 ? left.no : right"},
}
"""The policies of keys; `any` has the default."""

CONDITIONS = ["input.n > 5", "input.n > 7", "input.m > 7"]
KINDS = ["plain", "plain", "routes", "routes", "batches", "each", "service", "child", "loop", "wait", "wait"]
BY_SERVICE = ("transform", "asserts", "delay_s", "child", "signal", "approval", "event")
EMITS: list[dict[str, Any]] = [
    *({"name": f"on.{on}", "on": on} for on in RAISED),
    *({"name": f"auto.{on}", "on": on, "auto": True} for on in RAISED),
    {"name": "on.small", "schema": {"type": "integer", "maximum": 1}},
    {"name": "auto.small", "schema": {"type": "integer", "maximum": 1}, "auto": True},
]
SAYS = [one for one in EMITS if one["name"] in {"on.success", "auto.always"}]
"""What tasks say to each other."""

HEARD = (*["task_completed"] * 2, "task_failed", "task_cancelled", *[str(one["name"]) for one in SAYS] * 3)
"""What tasks may wait for from each other."""

ASKS: list[dict[str, Any]] = [
    {},
    {"approvals": 2},
    {"assignees": ["bob"], "escalate_after_s": 3.0, "escalate_to": ["carol"]},
    {"assignees": ["ada", "bob"], "approvals": 2, "may_delegate": False},
    {"assignees": ["bob"], "roles": ["heads"], "four_eyes": True},
]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents of up to seven steps; not all of them are templates."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 7))):
        step: dict[str, Any] = {"name": NAMES[index]}
        if index:
            step["after"] = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=3))
        steps.append(step)
    shares = draw(st.booleans())
    for index, step in enumerate(steps):
        _add_kind(draw, step, steps, index)
        _add_limits(draw, step)
        _add_parents(draw, step, [*CONDITIONS, "state.sum > 2"] if shares else CONDITIONS)
        if shares and "transform" in step:
            step["transform"] = draw(st.sampled_from(["state.sum", "state.any"]))
    document: dict[str, Any] = {"name": "t", "steps": steps}
    if shares:
        document["state"] = STATE
    if draw(st.booleans()):
        document["on_failure"] = "fail"
    if any("compensate" in step for step in steps):
        document["compensate_on"] = draw(st.sampled_from(["both", "failure", "cancel", "never"]))
    if draw(st.integers(0, 4)) == 0:
        document["concurrency"] = {"key": draw(st.sampled_from(["input.n", "null"]))}
    if draw(st.integers(0, 4)) == 0:
        document.update(timeout_s=100_000, on_timeout=draw(st.sampled_from(["fail", "block", "continue"])))
    if draw(st.integers(0, 4)) == 0:
        document["budget"] = _budget(draw)
    return document


def _budget(draw: st.DrawFn) -> dict[str, Any]:
    limits = {"tokens_max": 2, "cost_max": "0.2", "running_s_max": 10.0}
    kept = draw(st.lists(st.sampled_from(sorted(limits)), unique=True, min_size=1))
    return {**{name: limits[name] for name in kept}, "on_exceeded": draw(st.sampled_from(["fail", "block"]))}


@st.composite
def sharing(draw: st.DrawFn) -> dict[str, Any]:
    """Documents whose steps share a state, and have little beside it: loops, lists, decisions and joins."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(3, 7))):
        parents = st.lists(st.sampled_from(NAMES[:index]), unique=True, min_size=min(1, index - 1), max_size=3)
        steps.append({"name": NAMES[index], "after": draw(parents) if index else []})
    for index, step in enumerate(steps):
        children = [one["name"] for one in steps if step["name"] in one["after"]]
        kind = draw(st.sampled_from(["plain"] * 4 + ["each", "loop", "routes", "transform"]))
        if kind == "each":
            _add_list(draw, step)
        elif kind == "loop" and not children and index:
            step.update(back_to=steps[draw(st.integers(0, index))]["name"])
        elif kind == "routes" and children:
            step["routes"] = draw(st.lists(st.sampled_from(children), unique=True, min_size=1))
        if kind == "transform":
            step["transform"] = draw(st.sampled_from(["state.sum", "state.any"]))
        else:
            step["retry"] = {"max_attempts": 2, "backoff": "none"}
            step.update(draw(st.sampled_from([{}, {"compensate": "undo", "compensate_retry": {"max_attempts": 1}}])))
        _add_parents(draw, step, ["state.sum > 2", "input.n > 5"])
    return {"name": "t", "steps": steps, "state": STATE}


@st.composite
def companies(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Documents of two or three tasks beside each other: one at least waits, and one has something to say at once."""
    kinds = [draw(_listening("event")), draw(_listening("worker"))]
    return [*kinds, draw(_listening("worker"))] if draw(st.booleans()) else kinds


@st.composite
def _listening(draw: st.DrawFn, last: str) -> dict[str, Any]:
    """Documents of up to three steps that raise events or wait for those of other tasks; `last`: what the last does."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 3))):
        parents = st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=2)
        steps.append({"name": NAMES[index], "after": draw(parents) if index else []})
    for step in steps:
        if len(step["after"]) == 2:
            step["join"] = draw(st.sampled_from(["all", "any"]))
        if draw(st.integers(0, 4)) == 0:
            _add_list(draw, step)
        if (last if step is steps[-1] else draw(st.sampled_from(["event", "worker", "worker"]))) == "event":
            _add_event(draw, step)
            continue
        step["retry"] = draw(st.sampled_from([{"max_attempts": 1}, {"max_attempts": 2, "backoff": "none"}]))
        step["emits"] = draw(st.sampled_from([SAYS, SAYS[:1], SAYS[1:]]))
        has_child = any(step["name"] in one["after"] for one in steps)
        if NAMES[0] in step["after"] and not has_child and draw(st.integers(0, 2)) == 0:
            step.update(back_to=NAMES[0], max_visits=3)
            steps[0]["max_visits"] = 3
    return {"name": "t", "steps": steps, "on_failure": draw(st.sampled_from(["block", "fail"]))}


def _add_event(draw: st.DrawFn, step: dict[str, Any]) -> None:
    """Let a step wait for an event, which mostly has to fit what steps ahead of it gave."""
    step["event"] = draw(st.sampled_from(HEARD))
    fits = [f"{test}event.data == results.{one}" for one in step["after"] for test in ("", f"has(results.{one}) && ")]
    if "each" in step:
        fits.append("event.data == item")
    if fits and draw(st.integers(0, 3)) > 0:
        step["event_when"] = draw(st.sampled_from(fits))
    elif draw(st.integers(0, 4)) == 0:
        step["event_when"] = draw(st.sampled_from(["event.data > 1", "event.data.result == 1", "event.step == 's1'"]))
    if draw(st.integers(0, 3)) == 0:
        step.update(wait_deadline_s=5.0, on_wait_deadline=draw(st.sampled_from(["fail", "continue"])))


def _add_kind(draw: st.DrawFn, step: dict[str, Any], steps: list[dict[str, Any]], index: int) -> None:
    children = [one["name"] for one in steps if step["name"] in one.get("after", ())]
    parents = step.get("after", [])
    kind = draw(st.sampled_from(KINDS))
    if kind == "routes" and children:
        step["routes"] = draw(st.lists(st.sampled_from(children), unique=True, min_size=1))
    elif kind == "batches" and parents:
        policy = draw(st.sampled_from(["fail_fast", "continue_on_failure", "isolate"]))
        step.update(batches=parents[0], parallelism=draw(st.integers(1, 2)), failure_strategy=policy)
    elif kind == "each":
        _add_list(draw, step)
    elif kind == "loop" and not children and index:
        target = steps[draw(st.integers(0, index))]
        step.update(back_to=target["name"])
        target["max_visits"] = 2
    if kind == "service":
        step.update(draw(st.sampled_from([{"transform": "input.n + 1"}, {"asserts": "input.n > 7"}, {"delay_s": 3.0}])))
    elif kind == "child":
        step.update(child="c", on_parent_close=draw(st.sampled_from(["cancel", "wait", "abandon"])))
        if draw(st.booleans()):
            _add_list(draw, step)
    elif kind == "wait":
        _add_wait(draw, step)
    else:
        step["retry"] = draw(st.sampled_from([{"max_attempts": 1}, {"max_attempts": 2, "backoff": "none"}]))
        if draw(st.integers(0, 2)) == 0:
            step.update(compensate="undo", compensate_retry={"max_attempts": 1})


def _add_list(draw: st.DrawFn, step: dict[str, Any]) -> None:
    step.update(each=draw(st.sampled_from(["[1, 2, 3]", "[]"])), max_parallel=draw(st.integers(1, 3)))
    policy = draw(st.sampled_from(["fail_fast", "continue", "isolate", "tolerate"]))
    step["on_item_failure"] = policy
    if policy == "tolerate":
        step["tolerate"] = draw(st.sampled_from([1, "34%", "67%"]))


def _add_wait(draw: st.DrawFn, step: dict[str, Any]) -> None:
    kind = draw(st.sampled_from(["signal", "signal", "approval", "event"]))
    if draw(st.integers(0, 3)) == 0:
        _add_list(draw, step)
    if kind == "signal":
        step["signal"] = draw(st.sampled_from(SIGNALS))
        step["signal_take"] = draw(st.sampled_from(["first", "last", "all"]))
        if step["signal_take"] == "all":
            step["signal_count"] = draw(st.integers(1, 3))
        conditions = ["signal.v > 1", "signal.v == item"] if "each" in step else ["signal.v > 1"]
        if draw(st.booleans()):
            step["signal_when"] = draw(st.sampled_from(conditions))
    elif kind == "approval":
        step["approval"] = draw(st.sampled_from(ASKS))
    else:
        step["event"] = "task_completed"
        if draw(st.booleans()):
            step["event_when"] = "event.v > 1"
    if draw(st.booleans()):
        can_escalate = "escalate_to" in step.get("approval", ())
        then = draw(st.sampled_from(["fail", "continue", "escalate"] if can_escalate else ["fail", "continue"]))
        step.update(wait_deadline_s=5.0, on_wait_deadline=then)


def _add_limits(draw: st.DrawFn, step: dict[str, Any]) -> None:
    if any(key in step for key in BY_SERVICE):
        return
    if draw(st.integers(0, 3)) == 0:
        step["concurrency"] = {"key": draw(st.sampled_from(["input.n", "null", "input.m"]))}
    if draw(st.integers(0, 3)) == 0:
        then = st.sampled_from(["retry", "fail", "block", "continue"])
        step["on_timeout"] = {"heartbeat": draw(then), "start_to_close": draw(then)}
    if draw(st.integers(0, 3)) == 0:
        step["emits"] = draw(st.lists(st.sampled_from(EMITS), unique_by=lambda one: one["name"], min_size=1))


def _add_parents(draw: st.DrawFn, step: dict[str, Any], conditions: list[str]) -> None:
    parents = step.get("after", [])
    if parents:
        step["join"] = draw(st.sampled_from(["all", "all", "deferred", "any", "n_of", "all_settled"]))
        if step["join"] == "n_of":
            step["join_count"] = draw(st.integers(1, len(parents)))
    if draw(st.integers(0, 4)) == 0:
        step["when"] = draw(st.sampled_from([*conditions, *(f"results.{parent} == 1" for parent in parents)]))
    if parents and draw(st.integers(0, 3)) == 0:
        on = draw(st.sampled_from(parents))
        condition = draw(st.sampled_from([*conditions, f"results.{on} == 1"]))
        step["after"] = [{"step": one, "when": condition} if one == on else one for one in parents]

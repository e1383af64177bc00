"""Random templates of every dynamic kind: the real core does what a second reading of the documentation says.

Both are told the same, one outcome after the other; after each they must agree on what has begun, what does not run,
what came of it, and where the task is.
"""

from typing import Any

import msgspec
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from tasker.errors import TemplateInvalid
from tasker.events.task_events import ErrorInfo
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.service.domain.state import TaskState, TaskStatus
from tasker.templates import compile_template, validate
from tests.properties.examples import examples
from tests.properties.test_domain import check_history, check_state
from tests.reference.model import Meaning, Reference
from tests.reference.names import name_of
from tests.runs import Run

NAMES = [f"s{number}" for number in range(1, 8)]
ERROR = ErrorInfo(type="OSError", message="no route")
NEVER = ErrorInfo(type="ValueError", message="never", retryable=False)
INPUT = {"n": 6}

MEANINGS: dict[str, Meaning] = {
    "input.n > 5": lambda value, _: value["n"] > 5,
    "input.n > 7": lambda value, _: value["n"] > 7,
    "input.m > 7": lambda value, _: value["m"] > 7,
    "input.n + 1": lambda value, _: value["n"] + 1,
    "[1, 2, 3]": lambda _, __: [1, 2, 3],
    "[]": lambda _, __: [],
    **{
        f"results.{name} == 1": lambda _, results, name=name: results[name] == 1  # type: ignore[misc]
        for name in NAMES
    },
}
CONDITIONS = ["input.n > 5", "input.n > 7", "input.m > 7"]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents with every key that decides which steps run."""
    steps: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 7))):
        step: dict[str, Any] = {"name": NAMES[index]}
        if index:
            step["after"] = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=3))
        steps.append(step)
    for index, step in enumerate(steps):
        _add_keys(draw, step, steps, index)
    document: dict[str, Any] = {"name": "t", "steps": steps}
    if draw(st.booleans()):
        document["on_failure"] = "fail"
    if any("compensate" in step for step in steps):
        document["compensate_on"] = draw(st.sampled_from(["both", "failure", "cancel", "never"]))
    return document


def _add_keys(draw: st.DrawFn, step: dict[str, Any], steps: list[dict[str, Any]], index: int) -> None:
    children = [one["name"] for one in steps if step["name"] in one.get("after", ())]
    parents = step.get("after", [])
    kinds = ["plain", "plain", "routes", "routes", "batches", "each", "service", "child", "loop"]
    kind = draw(st.sampled_from(kinds))
    if kind == "routes" and children:
        step["routes"] = draw(st.lists(st.sampled_from(children), unique=True, min_size=1))
    elif kind == "batches" and parents:
        policy = draw(st.sampled_from(["fail_fast", "continue_on_failure", "isolate"]))
        step.update(batches=parents[0], parallelism=draw(st.integers(1, 2)), failure_strategy=policy)
    elif kind == "each":
        step.update(each=draw(st.sampled_from(["[1, 2, 3]", "[]"])), max_parallel=draw(st.integers(1, 3)))
        policy = draw(st.sampled_from(["fail_fast", "continue", "isolate", "tolerate"]))
        step["on_item_failure"] = policy
        if policy == "tolerate":
            step["tolerate"] = draw(st.sampled_from([1, "34%", "67%"]))
    elif kind == "loop" and not children and index:
        step.update(back_to=steps[draw(st.integers(0, index))]["name"])
        steps[0]["max_visits"] = 2
        step["max_visits"] = 2
    if kind == "service":
        step.update(draw(st.sampled_from([{"transform": "input.n + 1"}, {"asserts": "input.n > 7"}, {"delay_s": 3.0}])))
    elif kind == "child":
        step.update(child="c", on_parent_close=draw(st.sampled_from(["cancel", "wait", "abandon"])))
    else:
        step["retry"] = draw(st.sampled_from([{"max_attempts": 1}, {"max_attempts": 2, "backoff": "none"}]))
        if draw(st.integers(0, 2)) == 0:
            step.update(compensate="undo", compensate_retry={"max_attempts": 1})
    if parents:
        step["join"] = draw(st.sampled_from(["all", "all", "deferred", "any", "n_of", "all_settled"]))
        if step["join"] == "n_of":
            step["join_count"] = draw(st.integers(1, len(parents)))
    if draw(st.integers(0, 4)) == 0:
        step["when"] = draw(st.sampled_from([*CONDITIONS, *(f"results.{parent} == 1" for parent in parents)]))
    if parents and draw(st.integers(0, 3)) == 0:
        on = draw(st.sampled_from(parents))
        condition = draw(st.sampled_from([*CONDITIONS, f"results.{on} == 1"]))
        step["after"] = [{"step": one, "when": condition} if one == on else one for one in parents]


def agree(run: Run, said: Reference) -> None:
    """What both say of the task is the same."""
    state = run.state
    assert str(state.status) == said.status
    assert _statuses(state) == {name: one.status for name, one in said.instances.items()}
    assert set(state.closed) == said.not_run
    for name, one in said.instances.items():
        if one.status == "done":
            assert _result_at(run, name) == said.result_of(name), name
    if state.status is TaskStatus.COMPLETED:
        assert run.result() == said.result
    assert [f"{name}~undo" for name in state.to_undo] == said.to_undo


def _result_at(run: Run, name: str) -> Any:
    found = run.state.result_at(name)
    return None if found is None else msgspec.json.decode(found)


def _statuses(state: TaskState) -> dict[str, str]:
    words = {"completed": "done", "dispatched": "open", "running": "open", "waiting": "open"}
    return {name: words.get(step.status, str(step.status)) for name, step in state.steps.items()}


def tell(run: Run, said: Reference, name: str, data: st.DataObject) -> None:
    """Let an open instance end in some way, for both."""
    step = said.steps[name_of(name)]
    is_undo = name.endswith("~undo")
    attempt = run.state.steps[name].attempt
    if "delay_s" in step:
        run.fire_at(f"{Kind.TIMER}:{name}:{attempt}")
        said.complete(name, None)
    elif "child" in step and not is_undo:
        ending = data.draw(st.sampled_from(["completed", "completed", "failed", "cancelled"]), label=f"child of {name}")
        run.child(name, "c1", attempt, state=ending, result=1)
        said.end_child(name, ending, 1)
    elif data.draw(st.integers(0, 2), label=f"{name} fails") == 0:
        is_for_good = data.draw(st.booleans(), label="for good")
        run.fail(name, attempt, NEVER if is_for_good else ERROR)
        said.fail(name, for_good=is_for_good)
        if said.instances[name].status == "open":
            _let_retry(run, name)
    elif "routes" in step and not is_undo:
        routes = data.draw(st.lists(st.sampled_from(step["routes"]), unique=True), label=f"{name} chooses")
        run.choose(name, *routes, attempt=attempt)
        said.complete(name, None, routes)
    else:
        is_cut = any(one.get("batches") == name_of(name) for one in said.steps.values())
        result = data.draw(st.sampled_from([[], [1], [1, 2, 3]] if is_cut and not is_undo else [1, 2]), label=name)
        run.complete(name, attempt, result)
        said.complete(name, result)


def _let_retry(run: Run, name: str) -> None:
    for obligation in obligations_of(run.state):
        kind, step, _ = parse_obligation(obligation)
        if kind is Kind.RETRY and step == name:
            run.fire_at(obligation)
            return


@settings(max_examples=examples(2), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(documents(), st.data())
def test_the_core_does_what_the_documentation_says(document: dict[str, Any], data: st.DataObject) -> None:
    try:
        template = compile_template(validate(document))
    except TemplateInvalid:
        event("the steps do not fit together")
        return
    note(str(document))
    run, said = Run(template), Reference(document, INPUT, MEANINGS)
    run.create()
    said.create()
    agree(run, said)
    retries = 0
    while not run.state.ended:
        if data.draw(st.integers(0, 19), label="cancel") == 0 and not said.ending:
            run.cancel(0.0)
            said.cancel()
        elif said.status == "blocked":
            if retries == 4:
                run.cancel(0.0) if not said.ending else None
                break
            retries += 1
            run.retry()
            said.retry()
        else:
            tell(run, said, data.draw(st.sampled_from(said.open()), label="next"), data)
        agree(run, said)
        check_state(run)
    event(str(run.state.status))
    check_history(run)

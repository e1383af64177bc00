"""The keys of a step that say how it begins and what comes of it: conditions, joins, decisions, items, loops, undoing.

Each key must do something: one that the others leave without effect is a fault (see `validate`). What joins several
steps (a route that is no child, a loop that leads nowhere) is looked at once every step has been read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from tasker.templates import model
from tasker.templates.circuit_breakers import circuit_breaker_of
from tasker.templates.concurrency import concurrency_of
from tasker.templates.expressions import compile_expression
from tasker.templates.fairness import fairness_of
from tasker.templates.graph import Graph, graph_of
from tasker.templates.model import StepSpec, TemplateSpec
from tasker.templates.rate_limits import rate_limit_of
from tasker.templates.reading import VARIABLES_OF_ITEM, VARIABLES_OF_STEP, Faults, ObjectReader, Path, kind_of, quoted
from tasker.templates.requires import requires_of
from tasker.templates.sticky import check_sticky, sticky_keys
from tasker.templates.timeouts import check_on_timeout, on_timeout_of
from tasker.templates.wait_keys import check_wait, wait_keys

STEP_KEYS: Final = tuple(key for key in StepSpec.__struct_fields__ if key != "after_when")
"""Keys of a step's document; `after_when` is spelled within `after`."""

SERVICE_KEYS: Final = ("transform", "asserts", "delay_s", "until", "child", "signal", "approval", "event")
"""Keys of which one makes a step that the service itself completes."""

PARALLEL_TOGETHER_MAX: Final = 4_000
"""Most items of all steps of a template that may run at a time: so many may begin in one turn."""

HANDLER_KEYS: Final = (
    "handler",
    "queue",
    "retry",
    "start_to_close_s",
    "schedule_to_start_s",
    "schedule_to_close_s",
    "heartbeat_s",
    "on_timeout",
    "routes",
    "emits",
    "rate_limit",
    "circuit_breaker",
    "requires",
    "sticky",
    "sticky_wait_s",
    "priority",
    "fairness",
)
"""Keys of a step that a worker runs; they do nothing at others."""

_EACH_KEYS: Final = ("item_key", "max_parallel", "on_item_failure", "tolerate")
_CHILD_KEYS: Final = ("child_namespace", "child_version", "child_input", "child_wait", "on_parent_close")
_UNDO_KEYS: Final = ("compensate_retry", "compensate_start_to_close_s")
_BATCH_KEYS: Final = ("parallelism", "failure_strategy")
_SHARE: Final = re.compile(r"(?:100|[0-9]{1,2})(?:\.[0-9]{1,3})?%")


def has_handler(read: ObjectReader) -> bool:
    """Return whether a step is a worker's: no key says that the service completes it."""
    return not any(key in read for key in SERVICE_KEYS)


def dynamic_keys(read: ObjectReader) -> dict[str, Any]:
    """Return the values of a step's dynamic keys, with the faults of each by itself noted."""
    _check_kind(read)
    join = read.choice("join", model.Join, "all")
    join_count = read.optional_whole("join_count", high=model.STEPS_MAX)
    if (join == "n_of") != ("join_count" in read):
        _fault(read, "join_count", "belongs to join 'n_of', and that needs it: how many results the step waits for")
    return {
        "after_when": _conditions(read),
        "when": read.expression("when"),
        "join": join,
        "join_count": join_count,
        "routes": read.items(
            "routes", "steps", at_most=model.ROUTES_MAX, read=lambda path, item: _name(path, item, read.faults)
        ),
        **_items(read),
        "transform": read.expression("transform"),
        "asserts": read.expression("asserts"),
        "delay_s": read.optional_seconds("delay_s"),
        "until": read.expression("until"),
        **_loop(read),
        **_child(read),
        **_undo(read),
        **wait_keys(read),
        "concurrency": _concurrency(read),
        "rate_limit": rate_limit_of(read),
        "circuit_breaker": circuit_breaker_of(read),
        "requires": requires_of(read),
        **sticky_keys(read),
        "priority": read.whole("priority", 0, low=-model.PRIORITY_MAX, high=model.PRIORITY_MAX),
        "fairness": fairness_of(read),
        "on_timeout": on_timeout_of(read),
    }


def _check_kind(read: ObjectReader) -> None:
    found = [key for key in SERVICE_KEYS if key in read]
    for key in found[1:]:
        read.fault(key, f"cannot stand beside {found[0]}: a step does one thing")
    if not found:
        return
    waits = found in (["child"], ["signal"], ["approval"], ["event"])
    others = () if waits else ("each", "batches", "compensate", "concurrency")
    for key in (*HANDLER_KEYS, *others):
        if key in read:
            read.fault(key, f"does nothing beside {found[0]}, which no worker runs")


def _conditions(read: ObjectReader) -> dict[str, str]:
    found: dict[str, str] = {}
    after = read.get("after")
    for index, item in enumerate(after if isinstance(after, (list, tuple)) else ()):
        if not isinstance(item, dict):
            continue
        path = (*read.path, "after", index)
        for key in item:
            if key not in ("step", "when"):
                read.faults.add_unknown((*path, str(key)), "key", key, ("step", "when"))
        condition = read.checked_expression((*path, "when"), item.get("when"))
        if condition is not None and isinstance(item.get("step"), str):
            found[item["step"]] = condition
    return found


def _items(read: ObjectReader) -> dict[str, Any]:
    default = model.StepSpec(name="a", handler="a")
    each, batches = read.expression("each"), read.name("batches")
    if "each" in read and "batches" in read:
        read.fault("batches", "cannot stand beside each: a step runs for one list")
    for keys, owner in ((_EACH_KEYS, "each"), (_BATCH_KEYS, "batches")):
        for key in keys:
            if key in read and owner not in read:
                read.fault(key, f"does nothing without {owner}")
    on_item_failure = read.choice("on_item_failure", model.ItemFailure, default.on_item_failure)
    tolerate = _tolerate(read)
    if (on_item_failure == "tolerate") != ("tolerate" in read):
        _fault(
            read,
            "tolerate",
            "belongs to on_item_failure 'tolerate', and that needs it: a number, or a share like '10%'",
        )
    return {
        "each": each,
        "item_key": read.expression("item_key", variables=VARIABLES_OF_ITEM),
        "max_parallel": read.whole("max_parallel", default.max_parallel, low=1, high=model.PARALLEL_MAX),
        "on_item_failure": on_item_failure,
        "tolerate": tolerate,
        "batches": batches,
        "parallelism": read.whole("parallelism", default.parallelism, low=1, high=model.PARALLEL_MAX),
        "failure_strategy": read.choice("failure_strategy", model.BatchFailure, default.failure_strategy),
    }


def _tolerate(read: ObjectReader) -> int | str | None:
    value = read.get("tolerate")
    if value is None:
        return None
    if isinstance(value, str):
        if _SHARE.fullmatch(value) is not None and float(value[:-1]) <= 100:  # noqa: PLR2004 - per cent
            return value
        read.fault("tolerate", f"must be a number of items, or a share such as '10%', not {quoted(value)}")
        return None
    return read.whole("tolerate", 0, low=0, high=model.ITEMS_MAX)


def _loop(read: ObjectReader) -> dict[str, Any]:
    return {
        "back_to": read.name("back_to"),
        "max_visits": read.whole("max_visits", 100, low=1, high=model.VISITS_MAX),
        "unchanged_visits_max": read.optional_whole("unchanged_visits_max", high=model.VISITS_MAX),
    }


def _child(read: ObjectReader) -> dict[str, Any]:
    for key in _CHILD_KEYS:
        if key in read and "child" not in read:
            read.fault(key, "does nothing without child")
    waits = read.flag("child_wait", default=True)
    if not waits and "on_parent_close" in read:
        read.fault("on_parent_close", "does nothing with child_wait false: the step is over when the child exists")
    return {
        "child": read.name("child"),
        "child_namespace": read.name("child_namespace"),
        "child_version": _version(read),
        "child_input": read.expression("child_input", variables=VARIABLES_OF_ITEM),
        "child_wait": waits,
        "on_parent_close": read.choice("on_parent_close", model.OnParentClose, "cancel"),
    }


def _concurrency(read: ObjectReader) -> model.Concurrency | None:
    runs_for_items = "each" in read or "batches" in read
    return concurrency_of(read, variables=VARIABLES_OF_ITEM if runs_for_items else VARIABLES_OF_STEP)


def _version(read: ObjectReader) -> str | None:
    value = read.get("child_version")
    if value is None or (isinstance(value, str) and 0 < len(value) <= model.VERSION_CHARS_MAX):
        return value
    read.fault("child_version", f"must be a version such as '1.0.0', not {quoted(value)}")
    return None


def _undo(read: ObjectReader) -> dict[str, Any]:
    for key in _UNDO_KEYS:
        if key in read and "compensate" not in read:
            read.fault(key, "does nothing without compensate")
    return {
        "compensate": read.name("compensate"),
        "compensate_start_to_close_s": read.optional_seconds("compensate_start_to_close_s"),
    }


def _name(path: Path, value: object, faults: Faults) -> str | None:
    if isinstance(value, str):
        return value
    faults.add(path, f"must be the name of a step, not {kind_of(value)}")
    return None


def _fault(read: ObjectReader, key: str, detail: str) -> None:
    """Note a fault at a key that may be absent."""
    read.faults.add((*read.path, key) if key in read else read.path, f"{key} {detail}")


# ---------------------------------------------------------------- steps together


def check_paths(spec: TemplateSpec, places: Mapping[str, int], known: Collection[str], faults: Faults) -> None:
    """Note what is wrong with how the steps of a template lead to each other.

    Args:
        spec: as it was read; of a step with faults a key may have its default.
        places: of every step in the document, by name, those that could not be read among them.
        known: steps of which all that lies ahead is known, and makes a DAG; the others are looked at by themselves.
        faults: found so far.
    """
    steps: dict[str, StepSpec] = {}
    for step in spec.steps:
        steps.setdefault(step.name, step)
    graph = graph_of([step for name, step in steps.items() if name in known])
    all_known = len(known) == len(places)
    for step in steps.values():

        def fault(key: str, detail: str, at: int = places[step.name]) -> None:
            faults.add(("steps", at, key), detail)

        _check_names(step, places, faults)
        check_wait(step, steps.values(), fault)
        check_on_timeout(step, steps.values(), fault)
        _check_routes(step, steps, graph, fault)
        _check_reads(step, places, graph, fault)
        if step.name in known:
            _check_join(step, fault)
            _check_items(step, fault)
            _check_loop(step, steps, graph, fault)
            check_sticky(step, steps, graph, fault)
    if all_known:
        _check_depth(spec, graph, faults)
    _check_visits(steps, places, faults)
    parallel = sum(step.items_at_a_time for step in spec.steps if step.expands)
    if parallel > PARALLEL_TOGETHER_MAX:
        faults.add(("steps",), f"{parallel} items at a time are more than the {PARALLEL_TOGETHER_MAX} of a template")
    if all_known and spec.compensate_on != "both" and not any(step.compensate for step in spec.steps):
        faults.add(("compensate_on",), "does nothing: no step has a key compensate")
    if spec.result in steps and steps[spec.result].back_to is not None:
        faults.add(("result",), f"step {spec.result} leads back, so it has no last result")


Fault = Callable[[str, str], None]


def _check_names(step: StepSpec, places: Mapping[str, int], faults: Faults) -> None:
    """Note names of steps that there are not; those of `after` have been looked at."""
    named: list[tuple[Path, str]] = [(("routes", at), route) for at, route in enumerate(step.routes)]
    named += [((key,), name) for key, name in (("back_to", step.back_to), ("sticky", step.sticky)) if name is not None]
    for path, name in named:
        if name not in places:
            faults.add_unknown(("steps", places[step.name], *path), "step", name, places)


def _check_routes(step: StepSpec, steps: dict[str, StepSpec], graph: Graph, fault: Fault) -> None:
    if step.routes and step.expands:
        fault("routes", "does nothing beside each or batches: items cannot choose for their step")
    for route in step.routes:
        if route in graph.parents and step.name not in graph.parents[route]:
            fault("routes", f"step {quoted(route)} is no child of {step.name}: name {step.name} in its `after`")
        elif route in steps and step.name in steps[route].after_when:
            fault("routes", f"step {quoted(route)} has a condition on this edge too; a decision alone chooses it")
    if len(set(step.routes)) != len(step.routes):
        fault("routes", "names a step twice")


def _check_join(step: StepSpec, fault: Fault) -> None:
    if step.join != "all" and not step.after:
        fault("join", f"{step.join!r} does nothing without parents")
    if step.join_count is not None and step.join_count > len(step.after):
        fault("join_count", f"is above the {len(step.after)} parents of the step")


def _check_items(step: StepSpec, fault: Fault) -> None:
    if step.batches is not None and step.batches not in step.after:
        fault("batches", f"step {quoted(step.batches)} is no parent: name it in `after`")


def _check_loop(step: StepSpec, steps: dict[str, StepSpec], graph: Graph, fault: Fault) -> None:
    """Note what is wrong with where a step leads back to, when all that is ahead of it is known."""
    target = step.back_to
    if target is None or target not in steps:
        return
    if target != step.name and target not in graph.ancestors(step.name):
        fault("back_to", f"step {quoted(target)} does not lead to {step.name}, so nothing leads back")
    if graph.children[step.name]:
        fault("back_to", f"nothing can come behind a step that leads back: {graph.children[step.name][0]} does")
    if not (_takes_time(step) or _takes_time(steps[target])):
        fault("back_to", f"neither {step.name} nor {target} waits for a worker or a time: the loop would turn at once")


def _check_visits(steps: dict[str, StepSpec], places: Mapping[str, int], faults: Faults) -> None:
    """Note bounds of visits at a step that no loop comes back to: nobody counts there."""
    targets = {step.back_to for step in steps.values() if step.back_to is not None}
    if len(steps) < len(places) or not targets.issubset(places):
        return  # what cannot be read, or there is not, may lead back to it
    default = model.StepSpec(name="a", handler="a")
    for step in steps.values():
        for key in ("max_visits", "unchanged_visits_max"):
            if step.name not in targets and getattr(step, key) != getattr(default, key):
                there = f"{step.name} leads back to {step.back_to}; give it there" if step.back_to else "there is none"
                detail = f"does nothing: it belongs to the step that a loop comes back to ({there})"
                faults.add(("steps", places[step.name], key), detail)


def _check_reads(step: StepSpec, places: Mapping[str, int], graph: Graph, fault: Fault) -> None:
    """An expression can only read results that are there when its step begins."""
    is_known = step.name in graph.parents
    ahead = graph.ancestors(step.name) if is_known else frozenset()
    texts = {
        key: getattr(step, key)
        for key in (
            "when",
            "each",
            "item_key",
            "transform",
            "asserts",
            "until",
            "child_input",
            "signal_when",
            "event_when",
        )
    }
    if step.approval is not None:
        texts["approval"] = step.approval.assignees_from
    if step.concurrency is not None:
        texts["concurrency"] = step.concurrency.key
    for key, text in (*texts.items(), *(("after", text) for text in step.after_when.values())):
        if text is None:
            continue
        for name in sorted(compile_expression(text).results_read or ()):
            if name not in (ahead if is_known else places):
                fault(key, f"{text!r:.80} reads the result of {quoted(name)}, which is no step ahead of {step.name}")


def _takes_time(step: StepSpec) -> bool:
    return step.kind == "delay" or ((step.kind in ("handler", "child") or step.waits) and not step.expands)


def _check_depth(spec: TemplateSpec, graph: Graph, faults: Faults) -> None:
    depth: dict[str, int] = {}
    routes = {step.name: bool(step.routes) for step in spec.steps}
    for name in graph.order:
        depth[name] = max((depth[parent] for parent in graph.parents[name]), default=0) + routes[name]
        if depth[name] > model.DECISIONS_DEEP_MAX and routes[name]:
            index = next(at for at, step in enumerate(spec.steps) if step.name == name)
            detail = f"is decision {depth[name]} on one way; at most {model.DECISIONS_DEEP_MAX} may follow each other"
            faults.add(("steps", index, "routes"), detail)
            return

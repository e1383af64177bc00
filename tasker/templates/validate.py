"""A document becomes a `TemplateSpec`, or every one of its faults is named at once.

A key must do something: one that would have no effect beside the others is a fault, since whoever
wrote it expects otherwise. So `factor` belongs to exponential backoff only, no other key of `retry`
stands beside `max_attempts: 1`, and a `heartbeat_s` that is written but not shorter than
`start_to_close_s` is refused (the default may be longer: a short step simply never gets to it).

In a DAG where a step waits for all its parents, a step cannot be reached when it is in a cycle or
behind one; a step behind an unknown parent is not told twice. What lies ahead of a step is looked at
where all of it is known: one fault hides no other, and causes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec

from tasker.errors import FieldError
from tasker.events import codec
from tasker.ids import RESERVED_NAMESPACE, is_event_name
from tasker.templates import model
from tasker.templates.budgets import budget_of
from tasker.templates.concurrency import VARIABLES_OF_TASK, concurrency_of
from tasker.templates.debounce import debounce_of
from tasker.templates.dynamic import STEP_KEYS, check_paths, dynamic_keys, has_handler
from tasker.templates.fairness import fairness_of
from tasker.templates.graph import cycles, topological
from tasker.templates.hash import VERSION_PATTERN
from tasker.templates.model import UNUSED_RETRY_KEYS, Emit, Retry, StaleAfter, StepSpec, TemplateSpec
from tasker.templates.reading import OTHER_STEP_NAMES, Faults, Lines, ObjectReader, Path, kind_of, quoted
from tasker.templates.state_keys import state_keys

_CYCLE_STEPS_MAX: Final = 20


def validate(document: object, *, lines: Lines | None = None, found: Iterable[FieldError] = ()) -> TemplateSpec:
    """Return the spec that `document` spells, defaults filled in.

    Args:
        document: what JSON or YAML gave. Anything at all may be given.
        lines: where the document came from a text; then each fault names its line.
        found: faults that its text had already; they are told with the others.

    Raises:
        TemplateInvalid: it has faults; `errors` has all of them.
    """
    faults = Faults(lines, found)
    spec = _template(document, faults)
    faults.refuse()
    return spec


def _template(document: object, faults: Faults) -> TemplateSpec:
    read = ObjectReader(document, (), "a template", TemplateSpec.__struct_fields__, faults)
    name = read.name("name", required=True) if isinstance(document, dict) else None
    version = _version(read)
    input_schema = read.schema("input_schema")
    steps = read.items("steps", "steps", at_most=model.STEPS_MAX, read=lambda path, item: _step(path, item, faults))
    if isinstance(document, dict) and not document.get("steps"):
        faults.add(("steps",) if "steps" in document else (), "a template needs at least one step")
    places, known = _check_steps(read, frozenset(step.name for step in steps), faults)
    identity = cast("model.Identity", read.choice("identity", model.Identity, "key"))
    if "identity_bucket_s" in read and identity != "strict":
        read.fault("identity_bucket_s", "does nothing without identity 'strict'")
    namespace = read.name("namespace") or "default"
    if namespace == RESERVED_NAMESPACE:
        read.fault("namespace", f"{RESERVED_NAMESPACE!r} is the service's own; choose another")
    spec = TemplateSpec(
        name=name or "",
        namespace=namespace,
        version=version,
        input_schema=input_schema,
        steps=steps,
        queue=read.name("queue"),
        timeout_s=read.optional_seconds("timeout_s"),
        on_failure=cast("model.OnFailure", read.choice("on_failure", model.OnFailure, "block")),
        on_timeout=cast("model.OnDeadline", read.choice("on_timeout", model.OnDeadline, "fail")),
        result=_result(read, faults),
        identity=identity,
        identity_bucket_s=read.optional_seconds("identity_bucket_s"),
        max_steps=read.optional_whole("max_steps", high=model.INSTANCES_MAX),
        compensate_on=cast("model.CompensateOn", read.choice("compensate_on", model.CompensateOn, "both")),
        budget=budget_of(read, faults),
        concurrency=concurrency_of(read, variables=VARIABLES_OF_TASK),
        stale_after=_stale_after(read, faults),
        fairness=fairness_of(read),
        priority=read.whole("priority", 0, low=-model.PRIORITY_MAX, high=model.PRIORITY_MAX),
        state=state_keys(read, faults),
        max_running=read.optional_whole("max_running", high=model.CONCURRENCY_LIMIT_MAX),
        singleton=read.expression("singleton", variables=VARIABLES_OF_TASK),
        max_ready=_max_ready(read, steps),
        debounce=debounce_of(read),
    )
    check_paths(spec, places, known, faults)
    return spec


def _version(read: ObjectReader) -> str | None:
    value = read.get("version")
    if value is None:
        return None
    if not isinstance(value, str):
        read.fault("version", f"must be text such as '1.0.0', not {kind_of(value)}; put it in quotes")
        return None
    if len(value) > model.VERSION_CHARS_MAX or VERSION_PATTERN.fullmatch(value) is None:
        read.fault("version", f"must be a semantic version such as '1.0.0', not {quoted(value)}")
        return None
    return value


def _result(read: ObjectReader, faults: Faults) -> str | None:
    result = read.name("result")
    known = [name for _, name, _ in _outlines(read)]
    if result is not None and result not in known:
        faults.add_unknown(("result",), "step", result, known)
        return None
    return result


def _step(path: Path, value: object, faults: Faults) -> StepSpec | None:
    read = ObjectReader(value, path, "a step", STEP_KEYS, faults, other_names=OTHER_STEP_NAMES)
    if not isinstance(value, dict):
        return None
    name = read.name("name", required=True)
    served = has_handler(read)
    start_to_close_s = read.seconds("start_to_close_s", 30.0)
    heartbeat_s = read.seconds("heartbeat_s", 10.0)
    if "heartbeat_s" in read and heartbeat_s >= start_to_close_s:
        read.fault(
            "heartbeat_s",
            f"does nothing: the attempt is over after {start_to_close_s:g} s (start_to_close_s), "
            f"before {heartbeat_s:g} s of silence",
        )
    step = StepSpec(
        name=name or "",
        handler=(read.name("handler") or name or "") if served else "",
        after=read.items("after", "steps", at_most=model.STEPS_MAX, read=lambda at, item: _parent(at, item, faults)),
        queue=read.name("queue"),
        retry=_retry(read, "retry", faults) or Retry(),
        start_to_close_s=start_to_close_s,
        schedule_to_start_s=_start(read),
        heartbeat_s=heartbeat_s,
        schedule_to_close_s=_close(read, start_to_close_s),
        compensate_retry=_retry(read, "compensate_retry", faults),
        **dynamic_keys(read),
        emits=_emits(read, faults),
    )
    return step if name is not None else None


def _max_ready(template: ObjectReader, steps: Sequence[StepSpec]) -> int | None:
    most = template.optional_whole("max_ready", high=model.READY_MAX)
    if most is not None and steps and not any(step.handler for step in steps):
        template.fault("max_ready", "does nothing: no step of the template waits for a worker")
    return most


def _stale_after(template: ObjectReader, faults: Faults) -> StaleAfter | None:
    if "stale_after" not in template:
        return None
    keys = StaleAfter.__struct_fields__
    read = ObjectReader(template.get("stale_after"), ("stale_after",), "stale_after", keys, faults)
    found = StaleAfter(**{key: read.optional_seconds(key) for key in keys})
    if found == StaleAfter() and template.get("stale_after") == {}:
        template.fault("stale_after", f"does nothing without one of {', '.join(keys)}")
    return found


def _start(read: ObjectReader) -> float | None:
    """Return the limit of the wait for a worker; the step may not be over before it."""
    start_s = read.optional_seconds("schedule_to_start_s")
    told_s, close_s = read.told_seconds("schedule_to_start_s"), read.told_seconds("schedule_to_close_s")
    if told_s is not None and close_s is not None and close_s <= told_s:
        read.fault(
            "schedule_to_start_s",
            f"does nothing: the step is over after {close_s:g} s (schedule_to_close_s), "
            f"not later than a wait of {told_s:g} s",
        )
    return start_s


def _close(read: ObjectReader, start_to_close_s: float) -> float | None:
    """Return the limit over all attempts; one that ends within the first attempt would cut that short alone."""
    limit_s = read.optional_seconds("schedule_to_close_s")
    if limit_s is not None and "start_to_close_s" in read and limit_s <= start_to_close_s:
        read.fault(
            "start_to_close_s",
            f"does nothing: the step is over after {limit_s:g} s (schedule_to_close_s), "
            f"not later than an attempt of {start_to_close_s:g} s",
        )
    return limit_s


def _retry(step: ObjectReader, key: str, faults: Faults) -> Retry | None:
    if key not in step:
        return None
    default = Retry()
    read = ObjectReader(step.get(key), (*step.path, key), key, Retry.__struct_fields__, faults)
    backoff = cast("model.Backoff", read.choice("backoff", model.Backoff, default.backoff))
    retry = Retry(
        max_attempts=read.whole("max_attempts", default.max_attempts, low=1, high=model.ATTEMPTS_MAX),
        backoff=backoff,
        delay_s=read.seconds("delay_s", default.delay_s),
        factor=read.number("factor", default.factor, low=1, high=model.FACTOR_MAX),
        delay_s_max=read.seconds("delay_s_max", default.delay_s_max),
        jitter=read.number("jitter", default.jitter, low=0, high=1),
        non_retryable=read.items(
            "non_retryable",
            "error types",
            at_most=model.ERROR_TYPES_MAX,
            read=lambda path, item: _error_type(path, item, faults),
        ),
    )
    unused = [key for key in Retry.__struct_fields__ if key in read]
    if retry.max_attempts == 1 and "max_attempts" in read:
        for one in unused:
            if one != "max_attempts":
                read.fault(one, "does nothing beside max_attempts 1, which never retries")
        return retry
    for one in unused:
        if one in UNUSED_RETRY_KEYS[backoff]:
            read.fault(one, f"does nothing with backoff {backoff!r}")
    grows = "delay_s_max" not in UNUSED_RETRY_KEYS[backoff]
    if grows and retry.delay_s > retry.delay_s_max:
        fault_at = "delay_s_max" if "delay_s_max" in read else "delay_s"
        read.fault(
            fault_at,
            f"delay_s {retry.delay_s:g} is above delay_s_max {retry.delay_s_max:g}, so that no wait would be it",
        )
    if backoff == "constant":
        return msgspec.structs.replace(retry, delay_s_max=max(default.delay_s_max, retry.delay_s))
    return retry


def _emits(step: ObjectReader, faults: Faults) -> tuple[Emit, ...]:
    """Return the domain events that a step declares."""
    emits = step.items(
        "emits", "domain events", at_most=model.EMITS_MAX, read=lambda path, item: _emit(path, item, faults)
    )
    names: set[str] = set()
    for index, emit in enumerate(emits):
        if emit.name in names:
            step.faults.add((*step.path, "emits", index, "name"), f"{quoted(emit.name)} stands twice in one step")
        names.add(emit.name)
    size = sum(len(codec.canonical(emit.schema)) for emit in emits if emit.schema is not None)
    if size > model.EMITS_BYTES_MAX:
        step.fault("emits", f"schemas of {size} bytes are more than the {model.EMITS_BYTES_MAX} allowed")
    return emits


def _emit(path: Path, value: object, faults: Faults) -> Emit | None:
    read = ObjectReader(value, path, "a domain event", Emit.__struct_fields__, faults)
    if not isinstance(value, dict):
        return None
    name = read.get("name")
    if not isinstance(name, str) or not is_event_name(name):
        what = "is missing" if name is None else f"must be a name such as 'payment.captured', not {quoted(name)}"
        faults.add(path if name is None else (*path, "name"), f"'name' {what}" if name is None else what)
        return None
    on = cast("model.EmitOn", read.choice("on", model.EmitOn, "success"))
    auto = read.get("auto")
    if auto is not None and not isinstance(auto, bool):
        read.fault("auto", f"must be true or false, not {kind_of(auto)}")
    if auto is True and "schema" in read and on != "success":
        read.fault("schema", f"does nothing beside auto with on {on!r}: the data is not the step's result")
    return Emit(name=name, on=on, schema=read.schema("schema"), auto=auto is True)


def _parent(path: Path, value: object, faults: Faults) -> str | None:
    """Return the parent that one item of `after` names; its condition is read with the dynamic keys."""
    name = value.get("step") if isinstance(value, dict) else value
    if isinstance(name, str):
        return name
    faults.add(path, f"must be the name of a step, or {{step: ..., when: ...}}, not {kind_of(value)}")
    return None


def _error_type(path: Path, value: object, faults: Faults) -> str | None:
    if not isinstance(value, str) or not value:
        faults.add(path, f"must be the name of an error type, not {kind_of(value) if value != '' else 'empty'}")
        return None
    if len(value) > model.ERROR_TYPE_CHARS_MAX or not value.isprintable():
        faults.add(path, f"must be at most {model.ERROR_TYPE_CHARS_MAX} printable characters")
        return None
    return value


def _outlines(read: ObjectReader) -> list[tuple[int, str, list[tuple[int, str]]]]:
    """Return (index, name, parents) of each step that has a name, right or wrong in other ways."""
    steps = read.get("steps")
    if not isinstance(steps, (list, tuple)) or len(steps) > model.STEPS_MAX:
        return []
    found = []
    for index, step in enumerate(steps):
        if isinstance(step, dict) and isinstance(step.get("name"), str):
            after = step.get("after")
            parents = list(enumerate(after)) if isinstance(after, (list, tuple)) else []
            named = [(at, one.get("step") if isinstance(one, dict) else one) for at, one in parents]
            found.append((index, step["name"], [(at, name) for at, name in named if isinstance(name, str)]))
    return found


def _check_steps(read: ObjectReader, readable: frozenset[str], faults: Faults) -> tuple[dict[str, int], frozenset[str]]:
    """Note what is wrong with the steps together: names, parents, cycles.

    Returns:
        The place of each step by name, and those `readable` ones of which everything that lies ahead is known.
    """
    outlines = _outlines(read)
    edges = sum(len(after) for _, _, after in outlines)
    first: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    for index, name, _ in outlines:
        if name in first:
            faults.add(("steps", index, "name"), f"duplicate step {quoted(name)}: /steps/{first[name]} has it too")
        else:
            first[name] = index
            parents[name] = []
    if edges > model.EDGES_MAX:
        faults.add(("steps",), f"{edges} dependencies are more than the {model.EDGES_MAX} allowed")
        return first, frozenset()
    unsure = {name for index, name, after in outlines if len(after) != _parents_told(read.get("steps")[index])}
    for index, name, after in outlines:
        if first[name] != index:
            unsure.add(name)
            continue
        for at, parent in after:
            path = ("steps", index, "after", at)
            if parent not in first:
                faults.add_unknown(path, "step", parent, (known for known in first if known != name))
                unsure.add(name)
            elif parent in parents[name]:
                faults.add(path, f"{quoted(parent)} stands twice in one list")
                unsure.add(name)
            else:
                parents[name].append(parent)
    known: set[str] = set()
    for name in _check_reach(first, parents, faults):
        if name in readable and name not in unsure and known.issuperset(parents[name]):
            known.add(name)
    return first, frozenset(known)


def _parents_told(step: dict[str, object]) -> int:
    """Return how many parents a step names, right or wrong; -1 when that is no list."""
    after = step.get("after")
    if after is None:
        return 0
    return len(after) if isinstance(after, (list, tuple)) else -1


def _check_reach(index: dict[str, int], parents: dict[str, list[str]], faults: Faults) -> tuple[str, ...]:
    """Note which steps can never start; return those that can, parents first."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, after in parents.items():
        for parent in after:
            children[parent].append(name)
    order = topological(parents, children)
    stuck = dict.fromkeys(parents)
    for name in order:
        del stuck[name]
    if not stuck:
        return order
    knots = cycles({name: [parent for parent in parents[name] if parent in stuck] for name in stuck})
    told: set[str] = set()
    for cycle in knots:
        told.update(cycle)
        shown = [*cycle[:_CYCLE_STEPS_MAX], *(["..."] if len(cycle) > _CYCLE_STEPS_MAX else []), cycle[0]]
        faults.add(("steps", index[cycle[0]], "after"), f"cycle: {' -> '.join(name[:63] for name in shown)}")
    for name in stuck:
        if name not in told:
            behind = next(parent for parent in parents[name] if parent in stuck)
            faults.add(
                ("steps", index[name], "after"),
                f"step {quoted(name)} can never start: it waits for {quoted(behind)}, which is in or behind a cycle",
            )
    return order

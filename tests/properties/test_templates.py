"""Random DAGs are templates; random documents are refused in one way only; forms round-trip."""

import itertools
import json
import random
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import TemplateInvalid
from tasker.ids import NAME_PATTERN
from tasker.templates import (
    canonical_bytes,
    compile_template,
    content_hash,
    document_of,
    from_canonical,
    load_yaml,
    validate,
)
from tasker.templates.model import UNUSED_RETRY_KEYS, Retry, StepSpec, TemplateSpec
from tasker.templates.yaml import parse_yaml

names = st.from_regex(NAME_PATTERN, fullmatch=True)
seconds = st.floats(min_value=0.001, max_value=1000) | st.integers(min_value=1, max_value=1000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(
    [*TemplateSpec.__struct_fields__, *StepSpec.__struct_fields__, *Retry.__struct_fields__, "type", "$ref", "other"]
)


@st.composite
def retries(draw: st.DrawFn) -> dict[str, Any]:
    backoff = draw(st.sampled_from(list(UNUSED_RETRY_KEYS)))
    retry: dict[str, Any] = {"backoff": backoff, "max_attempts": draw(st.integers(2, 1000))}
    values = {
        "delay_s": st.floats(0.001, 30),
        "factor": st.floats(1, 100),
        "delay_s_max": st.integers(30, 1000),
        "jitter": st.floats(0, 1),
        "non_retryable": st.lists(st.sampled_from(["ValueError", "shop.errors.CardDeclined"]), max_size=2),
    }
    for key, value in values.items():
        if key not in UNUSED_RETRY_KEYS[backoff] and draw(st.booleans()):
            retry[key] = draw(value)
    return retry


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document: a random DAG whose steps are declared in any order."""
    step_names = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    steps = []
    for index, name in enumerate(step_names):
        step: dict[str, Any] = {"name": name}
        optional = {
            "after": st.lists(st.sampled_from(step_names[:index]), unique=True) if index else st.just([]),
            "handler": names,
            "queue": names,
            "retry": retries(),
            "start_to_close_s": seconds,
            "schedule_to_start_s": seconds,
        }
        step |= {key: draw(value) for key, value in optional.items() if draw(st.booleans())}
        steps.append(step)
    document: dict[str, Any] = {"name": draw(names), "steps": draw(st.permutations(steps))}
    optional = {
        "namespace": names,
        "version": st.sampled_from(["1.0.0", "0.3.0-rc.1"]),
        "input_schema": st.sampled_from([{}, {"type": "object", "required": ["no", "1.0"]}]),
        "queue": names,
        "timeout_s": seconds,
        "on_failure": st.sampled_from(["block", "fail"]),
        "result": st.sampled_from(step_names),
        "identity": st.sampled_from(["key", "strict"]),
    }
    return document | {key: draw(value) for key, value in optional.items() if draw(st.booleans())}


@given(documents())
def test_a_dag_is_a_template_and_its_order_respects_every_edge(document: dict[str, Any]) -> None:
    template = compile_template(validate(document))
    rank = {name: index for index, name in enumerate(template.graph.order)}
    assert set(rank) == set(template.steps)
    for name in template.steps:
        for parent in template.graph.parents[name]:
            assert rank[parent] < rank[name]
            assert name in template.children_of(parent)
            assert parent in template.graph.ancestors(name)
        assert (name in template.roots) == (not template.graph.ancestors(name))
        assert (name in template.sinks) == (not template.graph.descendants(name))


@given(documents())
def test_forms_round_trip(document: dict[str, Any]) -> None:
    spec = validate(document)
    assert validate(document_of(spec)) == spec
    stored = from_canonical(canonical_bytes(spec))
    assert canonical_bytes(stored) == canonical_bytes(spec)
    assert document_of(stored) == {key: value for key, value in document_of(spec).items() if key != "version"}


@given(documents(), st.randoms())
def test_the_hash_does_not_depend_on_the_order_of_keys(document: dict[str, Any], source: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if isinstance(value, dict):
            found = list(value)
            source.shuffle(found)
            return {key: shuffled(value[key]) for key in found}
        return value

    assert content_hash(validate(shuffled(document))) == content_hash(validate(document))


@given(documents())
def test_yaml_spells_the_same_template(document: dict[str, Any]) -> None:
    spec = validate(document)
    assert load_yaml(yaml.safe_dump(document)) == spec
    assert load_yaml(yaml.safe_dump(document_of(spec), default_flow_style=True)) == spec
    assert load_yaml(json.dumps(document)) == spec


@given(json_values | st.dictionaries(keys, json_values | st.lists(st.dictionaries(keys, json_values)), max_size=6))
def test_a_random_document_is_only_ever_refused_as_a_template(document: object) -> None:
    try:
        validate(document)
    except TemplateInvalid as error:
        assert error.errors  # noqa: PT017 - it may also be valid


@given(documents(), st.data())
def test_a_template_with_something_wrong_in_it_is_only_ever_refused(
    document: dict[str, Any], data: st.DataObject
) -> None:
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    try:
        spec = validate(document)
    except TemplateInvalid as error:
        assert error.errors  # noqa: PT017 - it may also be valid
    else:
        assert validate(document_of(spec)) == spec


@given(st.lists(st.lists(st.integers(0, 7), unique=True, max_size=3), min_size=1, max_size=8))
def test_any_graph_is_a_dag_or_has_its_cycles_told(shape: list[list[int]]) -> None:
    steps = [
        {"name": f"s{index}", "after": [f"s{parent}" for parent in after if parent < len(shape)]}
        for index, after in enumerate(shape)
    ]
    try:
        template = compile_template(validate({"name": "t", "steps": steps}))
    except TemplateInvalid as error:
        cycles = [fault.detail for fault in error.errors if fault.detail.startswith("cycle: ")]
        assert cycles
        after = {step["name"]: step["after"] for step in steps}
        for cycle in cycles:
            path = cycle.removeprefix("cycle: ").split(" -> ")
            assert path[0] == path[-1]
            assert all(earlier in after[later] for earlier, later in itertools.pairwise(path))
    else:
        assert len(template.graph.order) == len(shape)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"\n\t #,?<0.1~%"), max_size=40) | st.text(max_size=30))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    try:
        parse_yaml(text)
    except TemplateInvalid as error:
        assert error.errors  # noqa: PT017 - it may also be valid

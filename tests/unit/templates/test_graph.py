"""The DAG's lookups, and the reference shapes of WORKLOADS."""

import pytest

from tasker.templates import CompiledTemplate, compile_template, validate

MIXED = {
    "init": [],
    "left": ["init"],
    "right": ["init"],
    "validate": ["left", "right"],
    "transform": ["left"],
    "analyze": ["right"],
    "finalize": ["validate", "transform", "analyze"],
}


def compiled(shape: dict[str, list[str]], **keys: object) -> CompiledTemplate:
    steps = [{"name": name, "after": after} for name, after in shape.items()]
    return compile_template(validate({"name": "t", "steps": steps, **keys}))


def test_parents_and_children_are_in_declared_order() -> None:
    template = compiled(MIXED)
    assert template.graph.parents["finalize"] == ("validate", "transform", "analyze")
    assert template.children_of("left") == ("validate", "transform")
    assert template.children_of("right") == ("validate", "analyze")
    assert (template.roots, template.sinks) == (("init",), ("finalize",))
    assert template.graph.order == ("init", "left", "right", "validate", "transform", "analyze", "finalize")


def test_ancestors_and_descendants_are_transitive() -> None:
    graph = compiled(MIXED).graph
    assert graph.ancestors("transform") == {"init", "left"}
    assert graph.descendants("right") == {"validate", "analyze", "finalize"}
    assert graph.ancestors("init") == frozenset()


def test_a_step_may_be_declared_before_its_parents() -> None:
    assert compiled({"end": ["a", "b"], "b": ["a"], "a": []}).graph.order == ("a", "b", "end")


def test_the_result_is_that_of_the_named_step_or_of_the_only_last_one() -> None:
    assert compiled(MIXED).result_step == "finalize"
    assert compiled(MIXED, result="left").result_step == "left"
    assert compiled({"a": [], "b": []}).result_step is None


def test_equal_content_is_compiled_once() -> None:
    assert compiled(MIXED) is compiled(MIXED)
    assert compiled(MIXED, version="1.0.0") is compiled(MIXED, version="2.0.0")


def test_steps_are_looked_up_by_name() -> None:
    template = compiled(MIXED)
    assert template.step("left").after == ("init",)
    assert "left" in template
    assert "other" not in template
    assert template.queue_of("left") == "t"
    with pytest.raises(KeyError):
        template.step("other")


def test_a_chain_of_a_thousand_is_no_deep_recursion() -> None:
    chain = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(1000)}
    assert len(compiled(chain).graph.ancestors("s999")) == 999

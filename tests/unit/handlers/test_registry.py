"""What is found in an app's module, and which work it serves."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tasker.errors import ConfigurationError, TemplateInvalid
from tasker.handlers.app_module import load_app
from tasker.handlers.handler import handler
from tasker.handlers.hooks import middleware
from tasker.handlers.registry import collect
from tasker.handlers.template import Template
from tests.unit.handlers import sample_app


def module(**names: Any) -> ModuleType:
    made = ModuleType("app")
    vars(made).update(names)
    return made


def loaded(*steps: str, name: str = "t", queue: str | None = None) -> Template:
    lines = [
        f"name: {name}",
        *([f"queue: {queue}"] if queue else []),
        "steps:",
        *(f"- {{name: {step}}}" for step in steps),
    ]
    return Template.from_yaml("\n".join(lines))


@handler("a")
def plain_a() -> None: ...


@handler("a")
def other_a() -> None: ...


@handler("b", queue="q")
def plain_b() -> None: ...


def test_labels_say_which_queues_are_served() -> None:
    films = Template.from_yaml(
        "{name: films, steps: [{name: a}, {name: cut, handler: a, requires: {gpu: a100}}, "
        "{name: grade, handler: a, requires: {gpu: h100}, compensate: a}]}"
    )

    @handler("b", queue="q", requires={"gpu": "h100"})
    def plain_h100() -> None: ...

    everything = module(films=films, a=plain_a, b=plain_h100)
    assert collect(everything).queues() == {
        ("default", queue) for queue in ("films", "films~gpu=a100", "films~gpu=h100", "q~gpu=h100")
    }
    some = collect(everything, labels={"gpu": "a100", "zone": "eu"})
    assert some.queues() == {("default", "films"), ("default", "films~gpu=a100")}
    assert some.left == {("default", "films~gpu=h100"), ("default", "q~gpu=h100")}
    assert {queue for _, queue, _ in some.specs_of_work()} == {"films", "films~gpu=a100"}
    assert collect(everything, labels={}).queues() == {("default", "films")}


@pytest.mark.parametrize("keys", [{"requires": {"gpu": "a"}}, {"queue": "q", "requires": {"gpu": "a.b"}}])
def test_labels_that_no_step_can_require_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="requires"):
        handler("a", **keys)


def test_steps_and_plain_handlers_are_found() -> None:
    registry = collect(sample_app)
    assert registry.queues() == {("shop", "order_fulfillment"), ("shop", "carrier")}
    found = registry.lookup("shop", "order_fulfillment", "charge")
    assert found is not None
    assert found.function is sample_app.charge
    found = registry.lookup("shop", "carrier", "send")
    assert found is not None
    assert found.function is sample_app.ship
    assert registry.lookup("shop", "carrier", "charge") is None
    plain = registry.lookup("shop", "carrier", "notify")
    assert plain is not None
    assert plain.function is sample_app.notify
    assert [document["name"] for document in registry.documents()] == ["order_fulfillment"]


def test_a_loaded_template_is_served_by_plain_handlers() -> None:
    registry = collect(module(t=loaded("a"), one=plain_a, again=plain_a))
    assert registry.queues() == {("default", "t")}
    found = registry.lookup("default", "t", "a")
    assert found is not None
    assert found.function is plain_a


def test_plain_handlers_alone_serve_the_default_queue() -> None:
    assert collect(module(a=plain_a)).queues() == {("default", "default")}


def test_a_handler_with_a_queue_serves_it_alone() -> None:
    registry = collect(module(b=plain_b))
    assert registry.queues() == {("default", "q")}
    assert registry.lookup("default", "default", "b") is None


def test_a_queue_without_any_function_here_is_left_to_others() -> None:
    registry = collect(module(t=loaded("x"), u=loaded("a", name="u"), a=plain_a))
    assert registry.queues() == {("default", "u")}


def test_a_steps_function_comes_before_a_plain_handler() -> None:
    t = Template("t")

    @t.step
    def a() -> None: ...

    found = collect(module(t=t, plain=plain_a)).lookup("default", "t", "a")
    assert found is not None
    assert found.function is a


def _two_functions_for_one_handler() -> ModuleType:
    t = Template("t")
    t.step(name="a", handler="h")(lambda: 1)
    t.step(name="b", handler="h")(lambda: 2)
    return module(t=t)


def _parameter_that_is_no_parent() -> ModuleType:
    @handler("a")
    def run(other: Any) -> None: ...

    return module(t=loaded("a"), run=run)


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (module(), "has no Template"),
        (module(a=plain_a, b=other_a), "two functions for handler 'a'"),
        (_two_functions_for_one_handler(), "two functions for handler 'h' of queue 't'"),
        (module(t=loaded("a", "x"), a=plain_a), "step 'x' of template 't' has no function here"),
        (_parameter_that_is_no_parent(), "parameter 'other' is no parent of step 'a'"),
        (module(t=loaded("a"), u=loaded("a"), a=plain_a), "two templates are called 't'"),
    ],
)
def test_what_cannot_be_served_stops_the_start(made: ModuleType, detail: str) -> None:
    with pytest.raises(ConfigurationError, match=detail):
        collect(made)


def test_a_template_with_faults_stops_the_start() -> None:
    with pytest.raises(TemplateInvalid):
        collect(module(t=Template("t")))


def test_one_function_may_run_two_steps() -> None:
    t = Template("t")

    def square(input: int) -> int:
        return input * input

    t.step(name="a", handler="square")(square)
    t.step(name="b", handler="square")(square)
    assert collect(module(t=t)).queues() == {("default", "t")}


def test_names_choose_of_what_the_app_declares_and_hooks_always_come() -> None:
    @middleware
    def hook(ctx: Any) -> Any:
        yield

    app = module(a=loaded("a", name="a"), b=loaded("a", name="b"), plain=plain_a, both=[plain_a, plain_b], hook=hook)
    registry = collect(app, "b,both")
    assert [template.name for template in registry.templates] == ["b"]
    assert registry.middlewares == (hook,)
    with pytest.raises(ConfigurationError, match=r"has no 'plian'.*did you mean 'plain'"):
        collect(app, "plian")
    with pytest.raises(ConfigurationError, match="has no Template"):
        collect(app, "hook")


def test_an_app_may_be_named_with_what_is_wanted_of_it() -> None:
    name = sample_app.__name__
    assert load_app(f"{name}:orders").specs[0].name == "order_fulfillment"
    assert load_app(f"{sample_app.__file__}:orders").specs[0].name == "order_fulfillment"
    with pytest.raises(ConfigurationError, match="has no 'nothing'"):
        load_app(f"{name}:nothing")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def broken(:\n", 1),
        ("\nimport nothing_like_it\n", 2),
        ("\n\nraise ValueError('no')\n", 3),
        ("import tasker\ntasker.Tmplate('a')\n", 2),
    ],
)
def test_an_app_that_cannot_be_loaded_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    """And not the one of ours that stumbled over what it gave."""
    path = tmp_path / "broken_app.py"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_app(str(path))
    assert refused.value.detail.endswith(f"({path}:{line})")


@pytest.mark.parametrize(("keys", "words"), [({"concurrency": 0}, "at least 1"), ({"process": True}, "write `def`")])
def test_a_function_that_cannot_be_run_so_is_refused(keys: dict[str, Any], words: str) -> None:
    async def slow() -> None: ...

    with pytest.raises(ConfigurationError, match=words):
        handler("slow", **keys)(slow)
    flow = Template("flow")
    flow.step(**keys)(slow)
    with pytest.raises(TemplateInvalid) as refused:
        flow.spec()
    assert words in refused.value.errors[0].detail


UNDONE = "name: t\nsteps: [{name: a, compensate: u}, {name: b, after: [a]}]"


def test_a_compensation_of_a_loaded_template_is_a_plain_handler() -> None:
    @handler("u")
    def undo(a: Any) -> None: ...

    registry = collect(module(t=Template.from_yaml(UNDONE), a=plain_a, b=plain_of("b"), u=undo))
    found = registry.lookup("default", "t", "u")
    assert found is not None
    assert found.function is undo


def test_a_compensation_without_a_function_or_with_other_results_is_refused() -> None:
    @handler("u")
    def undo(b: Any) -> None: ...

    served = {"t": Template.from_yaml(UNDONE), "a": plain_a, "b": plain_of("b")}
    with pytest.raises(ConfigurationError, match=r"compensation of step 'a' .* mark one @handler\('u'\)"):
        collect(module(**served))
    with pytest.raises(ConfigurationError, match="parameter 'b': a compensation gets the input and the result of its"):
        collect(module(**served, u=undo))


def plain_of(name: str) -> Any:
    @handler(name)
    def plain() -> None: ...

    return plain

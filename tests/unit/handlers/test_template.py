"""Templates in Python: the DAG from signatures, and its faults."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasker.errors import ConfigurationError, TaskerError, TemplateInvalid
from tasker.handlers.api import api_step
from tasker.handlers.classification import errors_are
from tasker.handlers.emits import Emits
from tasker.handlers.handler import handler
from tasker.handlers.hooks import middleware
from tasker.handlers.template import Template
from tasker.templates import Retry, differences, effective_version, load_yaml, validate
from tasker.templates.dynamic import STEP_KEYS
from tasker.templates.model import Approval, Concurrency, StaleAfter, TemplateSpec
from tests.unit.handlers import sample_app


def faults(template: Template) -> list[tuple[str, str]]:
    with pytest.raises(TemplateInvalid) as caught:
        template.spec()
    return [(fault.pointer, fault.detail) for fault in caught.value.errors]


def test_python_and_yaml_say_the_same() -> None:
    from_python, from_yaml = sample_app.orders.spec(), load_yaml(sample_app.ORDERS_YAML)
    assert differences(from_yaml, from_python) == ()
    assert from_python == from_yaml


def test_parents_are_the_parameters_then_after() -> None:
    t = Template("t")
    t.step(name="c")(lambda a: a)
    t.step(name="a")(lambda: 1)
    t.step(name="d", after=("a", "c"))(lambda c, input: c)
    assert [step.after for step in t.spec().steps] == [("a",), (), ("c", "a")]


def test_a_decorated_function_stays_a_function() -> None:
    assert sample_app.reserve(sample_app.Order("o", [sample_app.Item("s")])) == ["s"]


def test_a_parameter_that_is_no_step_is_told_with_its_function() -> None:
    t = Template("t")

    @t.step
    def validate_cart(input: Any) -> Any: ...

    @t.step
    def charge(inptu: Any, valdate_cart: Any, charge: Any) -> Any: ...

    found = faults(t)
    assert [pointer for pointer, _ in found] == ["/steps/1", "/steps/1", "/steps/1"]
    details = [detail for _, detail in found]
    assert details[0].startswith("charge() in test_template.py:")
    assert "parameter 'inptu' is neither the context, nor input, nor a step (did you mean 'input'?)" in details[0]
    assert "did you mean 'validate_cart'?" in details[1]
    assert "parameter 'charge'" in details[2]


def test_faults_of_functions_and_of_the_template_are_told_together() -> None:
    t = Template("t", result="zz")

    @t.step(after="b")
    def a(*more: Any) -> Any: ...

    @t.step(retry=Retry(backoff="none", delay_s=5), start_to_close_s=-1)
    def b(a: Any) -> Any:
        yield a

    assert [pointer for pointer, _ in faults(t)] == [
        "/steps/0",
        "/steps/1",
        "/steps/1/start_to_close_s",
        "/steps/1/retry/delay_s",
        "/steps/0/after",
        "/result",
    ]


def test_the_version_is_that_of_the_content_and_follows_edits() -> None:
    t = Template("t")
    t.step(name="a")(lambda: 1)
    before = effective_version(t.spec())
    t.step(name="b")(lambda: 1)
    assert effective_version(t.spec()) != before


def test_no_schema_is_derived_from_types_that_differ_or_are_no_records() -> None:
    t = Template("t")

    @t.step
    def a(input: sample_app.Order) -> Any: ...

    assert t.spec().input_schema is not None

    @t.step
    def b(input: dict[str, Any]) -> Any: ...

    assert t.spec().input_schema is None


def test_a_schema_that_was_given_stands() -> None:
    t = Template("t", input_schema={"type": "object"})

    @t.step
    def a(input: sample_app.Order) -> Any: ...

    assert t.spec().input_schema == {"type": "object"}


def test_a_template_without_steps_is_refused() -> None:
    assert faults(Template("t")) == [("/steps", "a template needs at least one step")]


def test_a_template_is_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(sample_app.ORDERS_YAML)
    template = Template.load(path)
    assert template.spec() == sample_app.orders.spec()
    assert (template.name, template.namespace, template.handlers()) == ("order_fulfillment", "shop", ())
    with pytest.raises(ConfigurationError, match="loaded whole"):
        template.step(lambda: 1)


def test_a_file_with_faults_is_named(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text("name: t\nsteps: 7\n")
    with pytest.raises(TemplateInvalid, match=r"orders\.yaml.*line 2"):
        Template.load(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Template.load(tmp_path / "none.yaml")


def test_what_is_registered_validates_to_the_same() -> None:
    from tasker.templates import validate

    assert validate(sample_app.orders.document()) == sample_app.orders.spec()


def test_a_decorator_used_wrongly_says_how() -> None:
    wrong: Any = "name"
    with pytest.raises(ConfigurationError, match=r"write @step or @step\(name=\.\.\.\)"):
        Template("t").step(wrong)


def undone(function: Any, step: str = "a", **keys: Any) -> Template:
    """A template whose step `a` runs for a list and comes before `b`; `function` undoes `step`."""
    t = Template("t")
    t.step(name="a", each="[1]")(lambda item: item)
    t.step(name="b")(lambda a: a)
    t.compensation(step, **keys)(function)
    return t


def test_a_compensation_is_keys_of_its_step_and_a_function_of_its_queue() -> None:
    def refund(ctx: Any, input: Any, a: Any, item: Any, b: Any = None) -> None: ...

    t = undone(refund, retry=Retry(max_attempts=9), start_to_close_s=60)
    (a, b) = t.spec().steps
    assert (a.compensate, a.compensate_start_to_close_s, b.compensate) == ("refund", 60.0, None)
    assert a.compensate_retry == Retry(max_attempts=9)
    *_, found = t.handlers()
    assert (found.queue, found.spec.name, found.spec.function) == ("t", "refund", refund)


@pytest.mark.parametrize(
    ("function", "step", "words"),
    [
        (lambda a: a, "c", "there is no step 'c' that it could undo"),
        (lambda b: b, "a", "parameter 'b': a compensation gets the input and the result of 'a' alone"),
        (lambda item: item, "b", "parameter 'item' is of a step that runs for a list"),
        (lambda other: other, "a", "parameter 'other' is neither the context"),
    ],
)
def test_a_compensation_that_cannot_be_called_is_a_fault(function: Any, step: str, words: str) -> None:
    assert [words in detail for _, detail in faults(undone(function, step, handler="u"))] == [True]


def test_two_compensations_of_a_step_are_a_fault() -> None:
    t = undone(lambda a: a, handler="u")
    t.compensation("a", handler="v")(lambda a: a)
    assert "another compensation already" in faults(t)[0][1]


def test_a_template_that_was_loaded_takes_no_compensation() -> None:
    loaded = Template.from_yaml("name: t\nsteps: [{name: a, compensate: u}]")
    with pytest.raises(ConfigurationError, match="@handler"):
        loaded.compensation("a")


ONLY_IN_PYTHON = {"self", "function", "process", "keys", "after_when"}


@pytest.mark.parametrize(
    "method", ["step", "compensation", "transform", "asserts", "delay", "wait", "approval", "wait_event", "child"]
)
def test_what_a_method_takes_by_keyword_is_a_key_of_yaml(method: str) -> None:
    parameters = inspect.signature(getattr(Template, method)).parameters.values()
    keywords = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} - ONLY_IN_PYTHON
    assert keywords <= {*STEP_KEYS, *Approval.__struct_fields__}


def test_the_keywords_of_a_template_are_keys_of_yaml() -> None:
    keywords = set(inspect.signature(Template.__init__).parameters) - {"self"}
    assert keywords == set(TemplateSpec.__struct_fields__) - {"steps"}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("timeout_s", "'start_to_close_s'"),
        ("when_after", "'after_when'"),
        ("retries", "'retry'"),
        ("depends_on", "'after'"),
        ("heartbeat", "'heartbeat_s'"),
    ],
)
def test_a_keyword_that_there_is_not_is_refused_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    keys: dict[str, Any] = {wrong: 5}
    with pytest.raises(ConfigurationError) as caught:
        Template("t").step(**keys)
    place, _, told = caught.value.detail.partition(": ")
    assert told == f"step() has no keyword {wrong!r} (did you mean {meant}?)"
    assert place.startswith("test_template.py:")


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda keys: Template("t", **keys), "Template() has no keyword 'on_failur' (did you mean 'on_failure'?)"),
        (lambda keys: Template("t").approval("a", **keys), "approval() has no keyword 'role' (did you mean 'roles'?)"),
        (
            lambda keys: Template("t").wait("w", "go", **keys),
            "wait() has no keyword 'timeout_s' (did you mean 'wait_deadline_s'?)",
        ),
        (lambda keys: Template("t").wait("w", **keys), "wait() has no keyword 'signl' (did you mean 'signal'?)"),
        (lambda keys: Template("t").wait_event("w", "e", **keys), "wait_event() has no keyword 'zzz'"),
        (lambda keys: Template("t").delay("d", **keys), "delay() has no keyword 'seconds' (did you mean 'delay_s'?)"),
        (lambda keys: Template("t").child("c", "t", **keys), "child() has no keyword 'eech' (did you mean 'each'?)"),
        (lambda keys: Template("t").transform("v", "1", **keys), "transform() has no keyword 'transfrm'"),
        (lambda keys: Template("t").asserts("v", "1", **keys), "asserts() has no keyword 'wen' (did you mean 'when'?)"),
        (lambda keys: handler("h", **keys), "handler() has no keyword 'proces' (did you mean 'process'?)"),
        (lambda keys: api_step(**keys), "api_step() has no keyword 'timeouts' (did you mean 'timeout_s'?)"),
        (lambda keys: errors_are(**keys), "errors_are() has no keyword 'permanet' (did you mean 'permanent'?)"),
        (lambda keys: middleware(**keys), "middleware() has no keyword 'ordr' (did you mean 'order'?)"),
        (lambda keys: Emits("e", **keys), "Emits() has no keyword 'shema' (did you mean 'schema'?)"),
        (lambda keys: Retry(**keys), "Retry() has no keyword 'max_attempt' (did you mean 'max_attempts'?)"),
        (lambda keys: Concurrency(key="1", **keys), "Concurrency() has no keyword 'limt' (did you mean 'limit'?)"),
        (lambda keys: StaleAfter(**keys), "StaleAfter() has no keyword 'pending' (did you mean 'pending_s'?)"),
    ],
)
def test_every_declaration_tells_of_its_keywords(declare: Callable[[dict[str, Any]], object], told: str) -> None:
    """Planted bug: `approval(role=...)` means `routes`, which no approval has."""
    keys: dict[str, Any] = {told.split("'")[1]: 5}
    with pytest.raises(ConfigurationError) as caught:
        declare(keys)
    place, _, said = caught.value.detail.partition(": ")
    assert said == told
    assert place.startswith("test_template.py:")


def test_keys_of_every_kind_of_step_are_taken_where_no_worker_runs_it() -> None:
    template = Template("t")
    template.transform("v", "1", when="true")
    template.child("c", "t", after="v", after_when={"v": "results.v == 1"}, join="any", each="[1]")
    assert [step.name for step in template.spec().steps] == ["v", "c"]
    template.transform("w", "1", heartbeat_s=1)
    with pytest.raises(
        TemplateInvalid, match=r"heartbeat_s: .*: step w: does nothing beside transform, which no worker runs"
    ):
        template.spec()


def test_a_compensation_tells_of_its_keywords_too() -> None:
    keys: dict[str, Any] = {"timeout_s": 5}
    with pytest.raises(
        ConfigurationError, match=r"compensation\(\) has no keyword 'timeout_s' \(did you mean 'start_to"
    ):
        Template("t").compensation("a", **keys)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("timeout_s", "'start_to_close_s' or 'wait_deadline_s'"),
        ("role", "'approval'"),
        ("assignees", "'approval'"),
        ("four_eyes", "'approval'"),
        ("deadline_s", "'wait_deadline_s'"),
        ("on_deadline", "'on_wait_deadline'"),
        ("matching", "'signal_when' or 'event_when'"),
        ("schema", "'signal_schema'"),
        ("take", "'signal_take'"),
        ("count", "'signal_count' or 'join_count'"),
        ("input", "'child_input'"),
        ("namespace", "'child_namespace'"),
        ("version", "'child_version'"),
        ("wait", "'child_wait'"),
        ("seconds", "'delay_s'"),
    ],
)
def test_a_key_of_a_document_that_there_is_not_is_refused_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        validate({"name": "t", "steps": [{"name": "a", "signal": "go", wrong: 1}]})
    told = caught.value.errors[0]
    assert (told.pointer, told.detail) == (f"/steps/0/{wrong}", f"unknown key {wrong!r} (did you mean {meant}?)")


def charge(input: int) -> int:
    return input


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"after": charge}, "after is the name of a step, or a list of names, not a function"),
        ({"after": {"a", "b"}}, "after is the name of a step, or a list of names, not a set"),
        ({"after": None}, "after is the name of a step, or a list of names, not null"),
        ({"routes": charge}, "must be a list of steps, not a function"),
        ({"routes": "pack"}, "must be a list of steps, not the text 'pack'"),
        ({"requires": "gpu"}, "must be labels with their values, such as {gpu: a100}, not the text"),
        ({"rate_limit": 5}, "rate_limit must be an object, not the number 5"),
        ({"retry": Retry}, "retry must be an object, not the class Retry"),
        ({"emits": None}, "emits is a list of names of domain events, or of Emits(...), not null"),
        ({"emits": [{"name": "a"}]}, "emits is a list of names of domain events, or of Emits(...), not an object"),
        ({"after_when": "ask"}, "after_when is an object, such as {'judge': 'results.judge.ok'}, not the text 'ask'"),
        ({"after_when": {"ask": "true"}}, "after_when: charge has no parent 'ask'; name it in after, or take its"),
        ({"name": 5}, "the name of a step is text, not the number 5"),
        ({"process": "no"}, "process is 'no': True or False"),
        ({"concurrency": "2"}, "concurrency is '2': how many attempts run at a time, a whole number, at least 1"),
        ({"concurrency": 2.5}, "concurrency is 2.5: how many attempts run at a time, a whole number, at least 1"),
        ({"concurrency": {"key": "1", "limt": 2}}, "unknown key 'limt' (did you mean 'limit'?)"),
    ],
)
def test_what_is_no_value_of_a_keyword_is_refused_in_words(keys: dict[str, Any], told: str) -> None:
    """Not with the TypeError of whatever stumbled over it; and a set would give each process another order."""

    def declare() -> TemplateSpec:
        template = Template("t")
        template.step(**keys)(charge)
        return template.spec()

    with pytest.raises(TaskerError, match=re.escape(told)):
        declare()


def called(declaration: Any) -> object:
    return declaration()


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda flow: flow.transform("a"), "transform(): missing a required argument: 'expression'"),
        (lambda flow: flow.delay("a", 5, "b"), "delay(): too many positional arguments"),
        (lambda _flow: called(handler), "handler(): missing a required argument: 'name'"),
        (lambda _flow: called(Template), "Template(): missing a required argument: 'name'"),
    ],
)
def test_arguments_that_a_declaration_lacks_are_told_at_its_line(declare: Callable[[Any], object], told: str) -> None:
    """Planted bug: the line of ours that stumbled over it."""
    with pytest.raises(ConfigurationError, match=rf"^test_template\.py:\d+: {re.escape(told)}$"):
        declare(Template("flow"))


def test_a_form_may_be_spelled_as_in_a_document() -> None:
    """Planted bug: `concurrency`, alone among them, was taken for a number."""
    flow = Template("flow", fairness={"key": "input.who"})  # type: ignore[arg-type]
    spelled: Any = {"concurrency": {"key": "input.x", "limit": 2}, "retry": {"max_attempts": 5}}
    flow.step(**spelled)(charge)
    flow.child("more", "other", after="charge", concurrency=Concurrency(key="1"))
    step = flow.spec().steps[0]
    assert (step.concurrency, step.retry) == (Concurrency(key="input.x", limit=2), Retry(max_attempts=5))
    assert flow.handlers()[0].spec.concurrency is None


@pytest.mark.parametrize("emits", ["paid", Emits("paid"), ["paid"]])
def test_one_domain_event_need_not_stand_in_a_list(emits: Any) -> None:
    """Planted bug: the events `p`, `a`, `i` and `d`."""
    flow = Template("flow")
    flow.step(emits=emits)(charge)
    assert [event.name for event in flow.spec().steps[0].emits] == ["paid"]


def test_a_form_that_lacks_what_it_needs_says_where() -> None:
    form: Any = Concurrency
    with pytest.raises(
        ConfigurationError, match=r"^test_template\.py:\d+: Concurrency\(\): Missing required argument 'key'"
    ):
        form()


def test_faults_of_a_step_are_told_with_the_line_of_its_declaration() -> None:
    """Planted bug: `/steps/1/delay_s`, for whoever counts decorators."""
    flow = Template("flow")
    flow.step(start_to_close_s=-1)(charge)
    late: Any = "5"
    flow.delay("later", late, after="charge")
    undo: Any = "2"

    @flow.compensation("charge", start_to_close_s=undo)
    def give_back(charge: int) -> None: ...

    found = dict(faults(flow))
    told = {pointer: re.sub(r"\d+", "N", detail.partition(": must")[0]) for pointer, detail in found.items()}
    assert told == {
        "/steps/0/start_to_close_s": "charge() in test_template.py:N",
        "/steps/0/compensate_start_to_close_s": "give_back() in test_template.py:N",
        "/steps/1/delay_s": "test_template.py:N: step later",
    }


@pytest.mark.parametrize(
    "declare",
    [
        lambda flow: flow.delay("a"),
        lambda flow: flow.transform("a", None),
        lambda flow: flow.asserts("a", None),
        lambda flow: flow.wait("a", None),
        lambda flow: flow.wait_event("a", None),
        lambda flow: flow.child("a", None),
    ],
)
def test_a_step_of_the_service_says_what_it_does(declare: Callable[[Any], object]) -> None:
    """Planted bug: one that says nothing was a worker's, and waited for one for ever."""
    with pytest.raises(ConfigurationError, match=r"^test_template\.py:\d+: the step needs .*; None says nothing"):
        declare(Template("flow"))


@pytest.mark.parametrize("assignees", [5, {"ann"}])
def test_who_may_answer_is_a_text_or_a_list(assignees: Any) -> None:
    flow = Template("flow")
    flow.approval("ask", assignees=assignees)
    assert [pointer for pointer, _ in faults(flow)] == ["/steps/0/approval/assignees"]


@pytest.mark.parametrize("decorator", [api_step, errors_are])
def test_a_decorator_without_its_parentheses_says_so(decorator: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"write @{decorator.__name__}\(\.\.\.\)"):
        decorator(charge)


@pytest.mark.parametrize("text", [None, b"name: x"])
def test_yaml_is_text(text: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes the text itself"):
        Template.from_yaml(text)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Template.load(None)  # type: ignore[arg-type]


def test_a_compensation_names_its_step() -> None:
    undone: Any = charge
    number: Any = 5
    with pytest.raises(ConfigurationError, match=r"such as 'charge', not a function"):
        Template("t").compensation(undone)
    with pytest.raises(ConfigurationError, match="5 is no function"):
        Template("t").compensation("charge")(number)


def test_a_condition_in_after_is_told_where_it_belongs() -> None:
    """Planted bug: a `TypeError` of a dict that cannot be hashed, once the app is run."""
    flow = Template("flow")
    edge: Any = {"step": "ask", "when": "results.ask"}
    with pytest.raises(ConfigurationError, match=r"after lists names of steps, .*after_when=\{step: expression\}"):
        flow.transform("pay", "1", after=["judge", edge])

"""What a step says of its wait, in a document and in Python."""

from typing import Any, TypedDict

import pytest

from tasker import Template
from tasker.errors import ConfigurationError, TemplateInvalid
from tasker.templates import content_hash, document_of, from_canonical, load_yaml, validate
from tasker.templates.hash import canonical_bytes
from tasker.templates.model import SIGNALS_MAX, WAITS_PARALLEL_MAX

YAML = """
name: paid_orders
steps:
  - name: paid
    signal: order.paid
    signal_schema: {type: object, required: [cents]}
    signal_when: signal.cents == input.cents
    wait_deadline_s: 3600
    on_wait_deadline: continue
  - name: votes
    after: [paid]
    signal: vote
    signal_take: all
    signal_count: 3
"""


def python() -> Template:
    template = Template("paid_orders")
    template.wait(
        "paid",
        "order.paid",
        signal_schema={"type": "object", "required": ["cents"]},
        signal_when="signal.cents == input.cents",
        wait_deadline_s=3600,
        on_wait_deadline="continue",
    )
    template.wait("votes", "vote", signal_count=3, after="paid")
    return template


def faults(*steps: dict[str, Any]) -> dict[str, str]:
    document = {"name": "t", "steps": [{"name": f"s{index}", **step} for index, step in enumerate(steps)]}
    with pytest.raises(TemplateInvalid) as caught:
        validate(document)
    return {fault.pointer.removeprefix("/steps/"): fault.detail for fault in caught.value.errors}


def test_yaml_and_python_say_the_same() -> None:
    spec = load_yaml(YAML)
    assert spec == python().spec()
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert spec.steps[0].kind == "signal"


def test_the_content_of_a_template_without_waits_stays_what_it_was() -> None:
    spec = validate({"name": "t", "steps": [{"name": "a"}]})
    assert b"signal" not in canonical_bytes(spec)
    assert content_hash(spec) == content_hash(validate(document_of(spec)))


@pytest.mark.parametrize(
    ("step", "place", "words"),
    [
        ({"signal": "no name"}, "0/signal", "must be a name such as 'approved'"),
        ({"signal": 7}, "0/signal", "must be a name"),
        ({"signal_when": "signal.n"}, "0/signal_when", "does nothing without signal"),
        ({"wait_deadline_s": 5}, "0/wait_deadline_s", "does nothing without signal"),
        ({"signal": "go", "on_wait_deadline": "continue"}, "0/on_wait_deadline", "without wait_deadline_s"),
        ({"signal": "go", "signal_take": "all"}, "0", "signal_count belongs to signal_take 'all', and that needs it"),
        ({"signal": "go", "signal_count": 2}, "0/signal_count", "belongs to signal_take 'all'"),
        ({"signal": "go", "signal_take": "all", "signal_count": SIGNALS_MAX + 1}, "0/signal_count", "at most 1000"),
        ({"signal": "go", "signal_take": "frist"}, "0/signal_take", "did you mean 'first'"),
        ({"signal": "go", "signal_when": "sginal.n"}, "0/signal_when", "no variable 'sginal'"),
        ({"signal": "go", "signal_when": "results.x == 1"}, "0/signal_when", "is no step ahead"),
        ({"signal": "go", "signal_schema": {"type": "objekt"}}, "0/signal_schema/type", "not a usable JSON Schema"),
        ({"signal": "go", "handler": "h"}, "0/handler", "does nothing beside signal"),
        ({"signal": "go", "retry": {"max_attempts": 2}}, "0/retry", "does nothing beside signal"),
        ({"signal": "go", "delay_s": 5}, "0/signal", "cannot stand beside delay_s"),
        ({"when": "signal.n == 1"}, "0/when", "no variable 'signal'"),
        (
            {"signal": "go", "each": "[1]", "max_parallel": WAITS_PARALLEL_MAX + 1},
            "0/max_parallel",
            f"at most {WAITS_PARALLEL_MAX} items may wait at a time",
        ),
    ],
)
def test_faults_are_named_with_their_place(step: dict[str, Any], place: str, words: str) -> None:
    found = faults(step)
    assert words in found[place]


def test_a_signal_has_one_schema() -> None:
    found = faults({"signal": "go", "signal_schema": {"type": "object"}}, {"signal": "go"})
    assert "step 's0' waits for this signal with another schema" in found["1/signal_schema"]


def test_a_loop_that_waits_for_signals_takes_time() -> None:
    steps = [{"name": "w", "signal": "go"}, {"name": "back", "after": ["w"], "transform": "1", "back_to": "w"}]
    assert validate({"name": "t", "steps": steps}).steps[1].back_to == "w"


APPROVAL_YAML = """
name: reviewed
steps:
  - name: review
    approval:
      title: Publish it?
      assignees: [ada]
      assignees_from: input.reviewers
      roles: [editors]
      form: {type: object, properties: {channel: {type: string}}}
      approvals: 2
      four_eyes: true
      may_delegate: false
      escalate_to: [carol]
      escalate_roles: [heads]
    wait_deadline_s: 172800
    on_wait_deadline: escalate
"""


def test_an_approval_in_yaml_and_python_says_the_same() -> None:
    template = Template("reviewed")
    template.approval(
        "review",
        title="Publish it?",
        assignees="ada",
        assignees_from="input.reviewers",
        roles=["editors"],
        form={"type": "object", "properties": {"channel": {"type": "string"}}},
        approvals=2,
        four_eyes=True,
        may_delegate=False,
        escalate_to="carol",
        escalate_roles=["heads"],
        wait_deadline_s=48 * 3600,
        on_wait_deadline="escalate",
    )
    spec = load_yaml(APPROVAL_YAML)
    assert spec == template.spec()
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


def test_a_form_may_be_a_type() -> None:
    class Answer(TypedDict):
        channel: str

    template = Template("reviewed")
    template.approval("review", form=Answer)
    approval = template.spec().steps[0].approval
    assert approval is not None
    assert approval.form is not None
    with pytest.raises(ConfigurationError, match="the form of again"):
        template.approval("again", form=7)


@pytest.mark.parametrize(
    ("approval", "place", "words"),
    [
        (True, "approval", "approval must be an object"),
        ({"asignees": ["ada"]}, "approval/asignees", "did you mean 'assignees'"),
        ({"assignees": ["ada", "ada"]}, "approval/assignees", "names somebody twice"),
        ({"assignees": [""]}, "approval/assignees/0", "must be text of 1 to 200"),
        ({"roles": [7]}, "approval/roles/0", "must be text"),
        ({"assignees_from": "inputs.x"}, "approval/assignees_from", "no variable 'inputs'"),
        ({"assignees_from": "results.x"}, "approval", "is no step ahead"),
        ({"form": {"type": "objekt"}}, "approval/form/type", "not a usable JSON Schema"),
        ({"form": {"description": "x" * 20_000}}, "approval/form", "bytes of a form"),
        ({"approvals": 11}, "approval/approvals", "at most 10"),
        ({"title": "x" * 501}, "approval/title", "at most 500"),
        ({"assignees": ["ada"], "may_delegate": False, "approvals": 2}, "approval/approvals", "never approve"),
        ({"roles": ["r"], "escalate_after_s": 5}, "approval/escalate_after_s", "without escalate_to"),
        ({"roles": ["r"], "escalate_to": ["bob"]}, "approval/escalate_to", "without escalate_after_s"),
        ({"escalate_to": ["bob"], "escalate_after_s": 5}, "approval/escalate_to", "where everybody may answer"),
    ],
)
def test_faults_of_an_approval_are_named_with_their_place(approval: Any, place: str, words: str) -> None:
    assert words in faults({"approval": approval})[f"0/{place}"]


@pytest.mark.parametrize(
    ("step", "place", "words"),
    [
        ({"signal": "go", "on_wait_deadline": "escalate"}, "0/on_wait_deadline", "belongs to an approval"),
        ({"approval": {"roles": ["r"]}, "on_wait_deadline": "escalate"}, "0/on_wait_deadline", "needs escalate_to"),
        (
            {
                "approval": {"roles": ["r"], "escalate_to": ["bob"], "escalate_after_s": 5},
                "on_wait_deadline": "escalate",
            },
            "0/on_wait_deadline",
            "does nothing beside escalate_after_s",
        ),
        (
            {"approval": {"roles": ["r"], "escalate_to": ["bob"], "escalate_after_s": 5}},
            "0/approval/escalate_after_s",
            "does nothing: the wait is over after 5 s (wait_deadline_s), not later than 5 s",
        ),
        ({"approval": {}, "signal": "go"}, "0/approval", "cannot stand beside signal"),
        ({"approval": {}, "emits": [{"name": "x"}]}, "0/emits", "does nothing beside approval"),
    ],
)
def test_faults_of_deadlines_and_neighbours(step: dict[str, Any], place: str, words: str) -> None:
    assert words in faults({"wait_deadline_s": 5, **step})[place]


def test_a_wait_for_an_event_in_yaml_and_python_says_the_same() -> None:
    template = Template("paid")
    template.wait_event("paid", "payment.captured", event_when="event.data.order == input.order", wait_deadline_s=60)
    spec = load_yaml("""
name: paid
steps:
  - name: paid
    event: payment.captured
    event_when: event.data.order == input.order
    wait_deadline_s: 60
""")
    assert spec == template.spec()
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec
    assert "must be a name" in faults({"event": "no name"})["0/event"]
    assert "does nothing without event" in faults({"event_when": "event.n"})["0/event_when"]
    assert "no variable 'signal'" in faults({"event": "x", "event_when": "signal.n"})["0/event_when"]
    assert "cannot stand beside signal" in faults({"event": "x", "signal": "y"})["0/event"]

"""Keys of dynamic steps: every fault is named at once, with its place."""

from typing import Any

import pytest

from tasker.errors import TemplateInvalid
from tasker.templates import compile_template, document_of, from_canonical, load_yaml, validate
from tasker.templates.hash import canonical_bytes


def faults(*steps: dict[str, Any], **keys: Any) -> dict[str, str]:
    """Return what is wrong with a template: place -> what."""
    with pytest.raises(TemplateInvalid) as refused:
        validate({"name": "t", "steps": list(steps), **keys})
    return {fault.pointer: fault.detail for fault in refused.value.errors}


A = {"name": "a"}


@pytest.mark.parametrize(
    ("steps", "place", "words"),
    [
        ([A, {"name": "b", "after": ["a"], "join": "n_of"}], "/steps/1", "join_count belongs to join 'n_of'"),
        ([A, {"name": "b", "after": ["a"], "join_count": 1}], "/steps/1/join_count", "belongs to join 'n_of'"),
        (
            [A, {"name": "b", "after": ["a"], "join": "n_of", "join_count": 2}],
            "/steps/1/join_count",
            "above the 1 parents",
        ),
        ([{"name": "a", "join": "any"}], "/steps/0/join", "does nothing without parents"),
        ([{"name": "a", "join": "some"}], "/steps/0/join", "must be one of all, deferred"),
        ([{"name": "a", "routes": ["z"]}], "/steps/0/routes/0", "unknown step 'z'"),
        ([{"name": "a", "routes": ["b"]}, {"name": "b"}], "/steps/0/routes", "is no child of a"),
        ([{"name": "a", "routes": ["b", "b"]}, {"name": "b", "after": ["a"]}], "/steps/0/routes", "a step twice"),
        ([{"name": "a", "max_parallel": 2}], "/steps/0/max_parallel", "does nothing without each"),
        ([{"name": "a", "parallelism": 2}], "/steps/0/parallelism", "does nothing without batches"),
        ([{"name": "a", "each": "[1]", "tolerate": 2}], "/steps/0/tolerate", "belongs to on_item_failure 'tolerate'"),
        (
            [{"name": "a", "each": "[1]", "on_item_failure": "tolerate", "tolerate": "200%"}],
            "/steps/0/tolerate",
            "a share such as '10%'",
        ),
        ([{"name": "a", "each": "[1]", "max_parallel": 1001}], "/steps/0/max_parallel", "at most 1000"),
        ([A, {"name": "b", "batches": "a"}], "/steps/1/batches", "is no parent"),
        ([{"name": "a", "transform": "1", "handler": "x"}], "/steps/0/handler", "which no worker runs"),
        ([{"name": "a", "transform": "1", "delay_s": 5}], "/steps/0/delay_s", "cannot stand beside transform"),
        ([{"name": "a", "when": "input."}], "/steps/0/when", "no usable expression"),
        ([{"name": "a", "when": "item == 1"}], "/steps/0/when", "item"),
        ([{"name": "a", "when": "results.b == 1"}, {"name": "b"}], "/steps/0/when", "no step ahead of a"),
        ([{"name": "a", "when": 1}], "/steps/0/when", "must be an expression, as text"),
        ([{"name": "a", "transform": "1", "compensate": "u"}], "/steps/0/compensate", "does nothing beside transform"),
        ([{"name": "a", "compensate_retry": {}}], "/steps/0/compensate_retry", "does nothing without compensate"),
        (
            [{"name": "a", "compensate_start_to_close_s": 5}],
            "/steps/0/compensate_start_to_close_s",
            "does nothing without compensate",
        ),
        (
            [{"name": "a", "compensate": "u", "compensate_retry": {"max_attempts": 1, "delay_s": 2}}],
            "/steps/0/compensate_retry/delay_s",
            "does nothing beside max_attempts 1",
        ),
        ([{"name": "a", "back_to": "z"}], "/steps/0/back_to", "unknown step 'z'"),
        ([A, {"name": "b", "back_to": "a"}], "/steps/1/back_to", "does not lead to b"),
        (
            [{"name": "a", "back_to": "a"}, {"name": "b", "after": ["a"]}],
            "/steps/0/back_to",
            "nothing can come behind a step that leads back",
        ),
        (
            [{"name": "a", "transform": "1"}, {"name": "b", "after": ["a"], "transform": "2", "back_to": "a"}],
            "/steps/1/back_to",
            "the loop would turn at once",
        ),
        ([A, {"name": "b", "after": [{"step": "a", "if": "true"}]}], "/steps/1/after/0/if", "unknown key 'if'"),
        ([A, {"name": "b", "after": [{"step": "a", "when": "1 +"}]}], "/steps/1/after/0/when", "no usable expression"),
        ([{"name": "a", "after_when": {}}], "/steps/0/after_when", "unknown key 'after_when'"),
    ],
)
def test_a_key_that_does_nothing_or_cannot_work_is_a_fault(steps: list[Any], place: str, words: str) -> None:
    assert words in faults(*steps)[place]


def test_faults_of_single_steps_and_of_steps_together_are_told_at_once() -> None:
    found = faults({"name": "a", "routes": ["z"], "retry": {"max_attempts": 0}}, {"name": "b", "when": "1 +"})
    assert set(found) == {"/steps/0/routes/0", "/steps/0/retry/max_attempts", "/steps/1/when"}


def test_a_fault_among_the_parents_hides_no_other() -> None:
    found = faults(
        {"name": "lost", "after": ["nobody"], "sticky": "nowhere", "when": "results.never > 1"},
        {"name": "behind", "after": ["lost"], "when": "results.lost > results.nobody", "sticky": "lost"},
        {"name": "check", "back_to": "chek"},
        {"name": "ends", "after": ["check"], "when": "results.behind > 1", "join": "any"},
        {"name": "starts", "join": "any", "routes": ["ends", "behind", "start"]},
        {"name": "x", "after": ["x"], "on_timeout": {"start_to_close": "block"}, "each": "[1]"},
        {"name": "x"},
        {"neme": "x"},
    )
    assert found == {
        "/steps/0/after/0": "unknown step 'nobody'",
        "/steps/0/sticky": "unknown step 'nowhere'",
        "/steps/0/when": "'results.never > 1' reads the result of 'never', which is no step ahead of lost",
        "/steps/1/when": "'results.lost > results.nobody' reads the result of 'nobody', which is no step ahead of "
        "behind",
        "/steps/2/back_to": "unknown step 'chek' (did you mean 'check'?)",
        "/steps/3/when": "'results.behind > 1' reads the result of 'behind', which is no step ahead of ends",
        "/steps/4/join": "'any' does nothing without parents",
        "/steps/4/routes": "step 'ends' is no child of starts: name starts in its `after`",
        "/steps/4/routes/2": "unknown step 'start' (did you mean 'starts'?)",
        "/steps/5/after": "cycle: x -> x",
        "/steps/5/on_timeout": "'block' cannot hold back a single item, unless on_item_failure is 'isolate'",
        "/steps/6/name": "duplicate step 'x': /steps/5 has it too",
        "/steps/7": "'name' is missing",
        "/steps/7/neme": "unknown key 'neme' (did you mean 'name'?)",
    }


def test_visits_are_bounded_where_a_loop_comes_back_to() -> None:
    """At the step that leads back the bound did nothing: the loop turned a hundred times."""
    loop: list[dict[str, Any]] = [
        {"name": "check"},
        {"name": "pause", "after": ["check"], "back_to": "check", "max_visits": 5},
    ]
    assert faults(*loop) == {
        "/steps/1/max_visits": "does nothing: it belongs to the step that a loop comes back to "
        "(pause leads back to check; give it there)"
    }
    assert faults(*loop, {"name": "x", "after": ["nobody"]}).keys() == {"/steps/1/max_visits", "/steps/2/after/0"}
    assert faults(*loop, {"name": "x", "afterr": ["check"]}).keys() == {"/steps/1/max_visits", "/steps/2/afterr"}
    assert faults(*loop, {"name": 7}).keys() == {"/steps/1/max_visits", "/steps/2/name"}
    assert faults({**A, "unchanged_visits_max": 2}) == {
        "/steps/0/unchanged_visits_max": "does nothing: it belongs to the step that a loop comes back to "
        "(there is none)"
    }
    assert faults({**A, "max_visits": 5, "back_to": "b"}) == {"/steps/0/back_to": "unknown step 'b'"}
    assert validate({"name": "t", "steps": [{**A, "max_visits": 5, "back_to": "a"}]}).steps[0].max_visits == 5


def test_decisions_are_bounded_in_depth() -> None:
    steps = [{"name": "d0", "routes": ["d1"]}]
    steps += [{"name": f"d{n}", "after": [f"d{n - 1}"], "routes": [f"d{n + 1}"]} for n in range(1, 22)]
    steps.append({"name": "d22", "after": ["d21"]})
    assert "decision 21 on one way" in faults(*steps)["/steps/20/routes"]


def test_items_of_all_steps_together_are_bounded() -> None:
    steps = [{"name": f"s{n}", "each": "[1]", "max_parallel": 1000} for n in range(5)]
    assert "5000 items at a time" in faults(*steps)["/steps"]


DOCUMENT = """
name: t
max_steps: 500
steps:
  - name: a
    routes: [b, c]
    max_visits: 3
    unchanged_visits_max: 2
  - name: b
    after:
      - {step: a, when: results.a == 1}
    each: input.list
    item_key: item.sku
    max_parallel: 5
    on_item_failure: tolerate
    tolerate: 10%
  - name: c
    after: [a]
    batches: a
    parallelism: 2
    failure_strategy: isolate
  - name: d
    after: [b, c]
    join: n_of
    join_count: 1
    transform: '1'
  - name: e
    after: [d]
    delay_s: 5.0
    back_to: a
"""


def test_yaml_and_documents_say_the_same_and_round_trip() -> None:
    text = DOCUMENT.replace("routes: [b, c]", "routes: [c]")
    spec = load_yaml(text)
    assert validate(document_of(spec)) == spec
    assert spec.steps[1].after_when == {"a": "results.a == 1"}


def test_a_route_with_a_condition_on_its_edge_is_chosen_twice() -> None:
    with pytest.raises(TemplateInvalid, match="a decision alone chooses it") as refused:
        load_yaml(DOCUMENT)
    assert refused.value.errors[0].detail.startswith("line 6: ")


def test_new_keys_at_their_default_are_no_part_of_the_content() -> None:
    plain = validate({"name": "t", "steps": [A]})
    assert b"join" not in canonical_bytes(plain)
    assert b"max_visits" not in canonical_bytes(plain)
    assert b'"join":"any"' in canonical_bytes(
        validate({"name": "t", "steps": [A, {"name": "b", "after": ["a"], "join": "any"}]})
    )


def test_a_policy_without_compensations_does_nothing() -> None:
    assert faults(A, compensate_on="cancel") == {"/compensate_on": "does nothing: no step has a key compensate"}


def test_limits_of_standing_still_are_read_and_written_back() -> None:
    document = {"name": "t", "steps": [{"name": "a"}], "stale_after": {"blocked_s": 86400.0, "waiting_s": 5.0}}
    spec = validate(document)
    assert document_of(spec) == document
    assert from_canonical(canonical_bytes(spec)) == spec
    assert b"stale_after" not in canonical_bytes(validate({"name": "t", "steps": [{"name": "a"}]}))
    assert faults(A, stale_after={"blocked_s": -1, "waits_s": 1}).keys() == {
        "/stale_after/blocked_s",
        "/stale_after/waits_s",
    }
    assert "does nothing without one of pending_s" in faults(A, stale_after={})["/stale_after"]
    assert "/stale_after" in faults(A, stale_after=60)


def test_compensations_are_written_back_as_they_were_read() -> None:
    undone = {"name": "a", "compensate": "u", "compensate_retry": {}, "compensate_start_to_close_s": 5.0}
    retried = {"name": "b", "compensate": "v", "compensate_retry": {"max_attempts": 9}}
    document = {"name": "t", "steps": [undone, retried], "compensate_on": "failure"}
    spec = validate(document)
    assert document_of(spec) == document
    assert from_canonical(canonical_bytes(spec)) == spec
    plain = {"name": "t", "steps": [{"name": "a"}]}
    assert b"compensate" not in canonical_bytes(validate(plain))


def test_a_compensation_runs_with_the_keys_of_its_step_where_it_has_none() -> None:
    step = {"name": "a", "queue": "q", "retry": {"max_attempts": 7}, "start_to_close_s": 5.0, "heartbeat_s": 2.0}
    template = compile_template(validate({"name": "t", "steps": [{**step, "compensate": "u"}]}))
    for instance in ("a~undo", "a#3~undo", "a[x]~undo"):
        undo = template.step(instance)
        assert (undo.handler, undo.after, undo.retry.max_attempts) == ("u", ("a",), 7)
        assert (undo.start_to_close_s, undo.heartbeat_s, template.queue_of(instance)) == (5.0, 2.0, "q")
    assert template.step("a").handler == "a"

"""What a document must be to become a template, and how its faults are told."""

import time
from typing import Any

import pytest

from tasker.errors import TemplateInvalid
from tasker.templates import Retry, TemplateSpec, document_of, validate
from tasker.templates.model import EDGES_MAX, STEPS_MAX


def document(*steps: Any, **keys: Any) -> dict[str, Any]:
    return {"name": "t", "steps": list(steps) or [{"name": "a"}], **keys}


def faults(value: object, **more: Any) -> dict[str, str]:
    """Return the faults of a document by pointer."""
    with pytest.raises(TemplateInvalid) as caught:
        validate(value, **more)
    return {fault.pointer: fault.detail for fault in caught.value.errors}


def retry_of(**keys: Any) -> Retry:
    return validate(document({"name": "a", "retry": keys})).steps[0].retry


def test_defaults_are_filled_in() -> None:
    spec = validate(document())
    assert spec == TemplateSpec(name="t", steps=spec.steps)
    step = spec.steps[0]
    assert (step.handler, step.queue, spec.queue_of(step)) == ("a", None, "t")
    assert (step.start_to_close_s, step.schedule_to_start_s, step.heartbeat_s) == (30.0, None, 10.0)
    assert step.retry == Retry(max_attempts=3, backoff="exponential", delay_s=1, factor=2, delay_s_max=30, jitter=0.15)


def test_a_step_goes_to_its_queue_else_to_the_templates() -> None:
    spec = validate(document({"name": "a"}, {"name": "b", "queue": "own"}, queue="common"))
    assert [spec.queue_of(step) for step in spec.steps] == ["common", "own"]


def test_every_fault_is_named_at_once() -> None:
    found = faults(
        {
            "name": "Bad",
            "vesion": "1.0.0",
            "version": "1.0",
            "steps": [
                {"name": "a", "after": ["bb"], "start_to_close_s": 0},
                {"name": "b", "retry": {"max_attempts": "5"}},
                {"name": "b"},
                7,
            ],
            "result": "c",
        }
    )
    assert found == {
        "/name": "name 'Bad' must match [a-z][a-z0-9_-]{0,62}",
        "/vesion": "unknown key 'vesion' (did you mean 'version'?)",
        "/version": "must be a semantic version such as '1.0.0', not '1.0'",
        "/steps/0/start_to_close_s": "must be above 0 and at most 2.592e+06, not 0",
        "/steps/0/after/0": "unknown step 'bb' (did you mean 'b'?)",
        "/steps/1/retry/max_attempts": "must be a whole number, not the text '5'",
        "/steps/2/name": "duplicate step 'b': /steps/1 has it too",
        "/steps/3": "a step must be an object, not the number 7",
        "/result": "unknown step 'c'",
    }


def test_a_cycle_is_told_with_its_path_and_what_stands_behind_it() -> None:
    found = faults(
        document(
            {"name": "start"},
            {"name": "a", "after": ["start", "c"]},
            {"name": "b", "after": ["a"]},
            {"name": "c", "after": ["b"]},
            {"name": "behind", "after": ["c", "start"]},
            {"name": "far", "after": ["behind"]},
        )
    )
    assert found == {
        "/steps/1/after": "cycle: a -> b -> c -> a",
        "/steps/4/after": "step 'behind' can never start: it waits for 'c', which is in or behind a cycle",
        "/steps/5/after": "step 'far' can never start: it waits for 'behind', which is in or behind a cycle",
    }


def test_each_knot_has_its_own_cycle() -> None:
    found = faults(
        document(
            {"name": "a", "after": ["a"]}, {"name": "b", "after": ["c"]}, {"name": "c", "after": ["b"]}, {"name": "d"}
        )
    )
    assert found == {"/steps/0/after": "cycle: a -> a", "/steps/1/after": "cycle: b -> c -> b"}


def test_a_step_behind_an_unknown_parent_is_not_told_twice() -> None:
    assert faults(document({"name": "a", "after": ["x"]}, {"name": "b", "after": ["a"]})) == {
        "/steps/0/after/0": "unknown step 'x'"
    }


@pytest.mark.parametrize(
    ("keys", "pointer"),
    [
        ({"backoff": "none", "delay_s": 1.0}, "delay_s"),
        ({"backoff": "none", "jitter": 0.1}, "jitter"),
        ({"backoff": "none", "delay_s_max": 5}, "delay_s_max"),
        ({"backoff": "none", "factor": 3}, "factor"),
        ({"backoff": "constant", "factor": 3}, "factor"),
        ({"backoff": "constant", "delay_s_max": 3}, "delay_s_max"),
        ({"backoff": "linear", "factor": 3}, "factor"),
        ({"backoff": "fibonacci", "factor": 3}, "factor"),
        ({"max_attempts": 1, "delay_s": 1}, "delay_s"),
        ({"max_attempts": 1, "non_retryable": ["E"]}, "non_retryable"),
        ({"delay_s": 60}, "delay_s"),
        ({"delay_s": 5, "delay_s_max": 4}, "delay_s_max"),
    ],
)
def test_a_retry_key_that_does_nothing_is_refused(keys: dict[str, Any], pointer: str) -> None:
    assert list(faults(document({"name": "a", "retry": keys}))) == [f"/steps/0/retry/{pointer}"]


def test_a_constant_delay_is_never_cut() -> None:
    retry = retry_of(backoff="constant", delay_s=60)
    assert (retry.delay_s, retry.delay_s_max) == (60.0, 60.0)
    spec = validate(document({"name": "a", "retry": {"backoff": "constant", "delay_s": 60}}))
    assert validate(document_of(spec)) == spec


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (document(identity_bucket_s=60), "/identity_bucket_s"),
        (document({"name": "a", "heartbeat_s": 30}), "/steps/0/heartbeat_s"),
        (document({"name": "a"}, {"name": "b", "after": ["a", "a"]}), "/steps/1/after/1"),
    ],
)
def test_other_keys_that_do_nothing_are_refused(value: dict[str, Any], pointer: str) -> None:
    assert list(faults(value)) == [pointer]


def test_a_step_shorter_than_the_default_heartbeat_is_fine() -> None:
    assert validate(document({"name": "a", "start_to_close_s": 5})).steps[0].heartbeat_s == 10.0


@pytest.mark.parametrize(
    "value",
    [None, 7, "text", [], {}, {"name": "t"}, {"name": "t", "steps": []}, {"name": "t", "steps": {"a": {}}}, {1: 2}],
)
def test_what_is_no_template_is_refused(value: object) -> None:
    assert faults(value)


@pytest.mark.parametrize("number", [True, "1", float("nan"), float("inf"), -1, 10**400, [1], {}])
def test_a_number_is_a_finite_number_within_bounds(number: Any) -> None:
    assert list(faults(document(timeout_s=number))) == ["/timeout_s"]
    assert list(faults(document({"name": "a", "retry": {"max_attempts": number}}))) == ["/steps/0/retry/max_attempts"]


@pytest.mark.parametrize("version", ["1.0.0", "0.0.1-rc.1+build.5", "10.20.30"])
def test_versions_are_semantic(version: str) -> None:
    assert validate(document(version=version)).version == version


@pytest.mark.parametrize("version", ["1", "v1.0.0", "01.0.0", "sha-0123456789ab", "1.0.0\n", "٣.0.0", 1.0])
def test_other_versions_are_refused(version: Any) -> None:
    assert list(faults(document(version=version))) == ["/version"]


def test_counts_are_bounded() -> None:
    assert list(faults(document(*({"name": f"s{n}"} for n in range(1001))))) == ["/steps"]
    wide = [{"name": f"s{n}", "after": [f"s{m}" for m in range(n)]} for n in range(200)]
    assert faults(document(*wide)) == {"/steps": "19900 dependencies are more than the 10000 allowed"}
    assert len(validate(document(*({"name": f"s{n}"} for n in range(1000)))).steps) == 1000


def test_a_graph_of_the_largest_size_is_taken_and_one_edge_more_is_not() -> None:
    early, late = EDGES_MAX // 100, 100
    largest: list[dict[str, Any]] = [{"name": f"e{n}"} for n in range(early + 1)]
    largest += [{"name": f"l{n}", "after": [f"e{m}" for m in range(early)]} for n in range(late)]
    assert len(validate(document(*largest)).steps) == early + 1 + late
    largest[-1]["after"].append(f"e{early}")
    assert faults(document(*largest)) == {"/steps": "10001 dependencies are more than the 10000 allowed"}


def test_the_list_of_faults_is_bounded_and_says_so() -> None:
    found = faults(document(*({"name": "a", "after": ["x"] * 10} for _ in range(1000))))
    assert len(found) == 101
    assert found[""].endswith("more faults are not listed")


def test_a_fault_names_the_line_of_the_nearest_place() -> None:
    found = faults(document({"name": "a", "x": 1}), lines={"": 1, "/steps/0": 4})
    assert found == {"/steps/0/x": "line 4: unknown key 'x'"}


def test_a_pointer_escapes_its_keys() -> None:
    assert list(faults(document(**{"a/b~": 1}))) == ["/a~1b~0"]


def test_suggestions_take_bounded_time() -> None:
    """A thousand unknown names, each compared with a thousand long ones, would take minutes."""
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    names = [f"a{letters[number % 26 :]}{letters}"[:57] + f"{number:03}" for number in range(STEPS_MAX)]
    begun_s = time.process_time()
    with pytest.raises(TemplateInvalid) as caught:
        validate({"name": "t", "steps": [{"name": name, "after": [name[::-1]]} for name in names]})
    assert time.process_time() - begun_s < 2
    assert len(caught.value.errors) == 101


def test_few_names_all_get_their_suggestion() -> None:
    steps = [{"name": f"charge-{number}", "after": [f"chargd-{number}"]} for number in range(20)]
    with pytest.raises(TemplateInvalid) as caught:
        validate({"name": "t", "steps": steps})
    assert all("did you mean" in fault.detail for fault in caught.value.errors)


def test_a_limit_over_all_attempts_is_longer_than_one_attempt() -> None:
    step = {"name": "a", "schedule_to_close_s": 60}
    assert validate({"name": "t", "steps": [step]}).steps[0].schedule_to_close_s == 60.0
    validate({"name": "t", "steps": [step | {"start_to_close_s": 59}]})
    for wrong, key, detail in (
        ({"start_to_close_s": 60}, "start_to_close_s", "the step is over after 60 s (schedule_to_close_s)"),
        ({"schedule_to_close_s": 0}, "schedule_to_close_s", "must be above 0"),
    ):
        with pytest.raises(TemplateInvalid) as refused:
            validate({"name": "t", "steps": [step | wrong]})
        [fault] = refused.value.errors
        assert fault.pointer == f"/steps/0/{key}"
        assert detail in fault.detail
    with pytest.raises(TemplateInvalid) as refused:
        validate({"name": "t", "steps": [{"name": "a", "delay_s": 5, "schedule_to_close_s": 60}]})
    assert "which no worker runs" in refused.value.errors[0].detail

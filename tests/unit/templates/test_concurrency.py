"""The key `concurrency` of templates and steps: read, refused with the line, and the same in Python."""

from __future__ import annotations

import pytest

from tasker import Concurrency, Template
from tasker.errors import ExpressionFailed, TemplateInvalid
from tasker.templates import canonical_bytes, document_of, from_canonical, load_yaml, validate
from tasker.templates.concurrency import KEY_CHARS_MAX, key_text

YAML = """
name: transfers
concurrency: {key: input.account, limit: 2}
steps:
  - name: check
  - name: book
    after: [check]
    concurrency:
      key: results.check
      strategy: drop
"""


def test_yaml_and_python_say_the_same() -> None:
    made = Template("transfers", concurrency=Concurrency(key="input.account", limit=2))

    @made.step
    def check() -> str:
        return ""

    @made.step(after="check", concurrency=Concurrency(key="results.check", strategy="drop"))
    def book() -> None: ...

    assert made.spec() == load_yaml(YAML)


def test_it_is_a_part_of_the_content() -> None:
    spec = load_yaml(YAML)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("key: input.account, ", "", "line 3: 'key' is missing"),
        ("input.account", "results.check", "line 3: no usable expression"),
        ("limit: 2", "limit: 0", "line 3: must be at least 1"),
        ("limit: 2", "most: 2", "line 3: unknown key 'most'"),
        ("strategy: drop", "strategy: dropp", "line 10: must be one of queue, drop, cancel_oldest, cancel_newest"),
        ("results.check", "results.book", "line 9: 'results.book' reads the result of 'book'"),
        ("results.check", "item", "line 9: no usable expression"),
        ("{key: input.account, limit: 2}", "3", "line 3: concurrency must be an object"),
    ],
)
def test_faults_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(YAML.replace(old, new, 1))
    assert len(refused.value.errors) == 1
    assert refused.value.errors[0].detail.startswith(fault)


def test_a_step_of_the_service_takes_no_place() -> None:
    with pytest.raises(TemplateInvalid, match="concurrency"):
        validate({"name": "t", "steps": [{"name": "a", "delay_s": 3, "concurrency": {"key": "1"}}]})


def test_keys_are_told_apart_by_their_kind() -> None:
    assert [key_text(value, "k") for value in ("7", 7, 7.0, True, None)] == ['"7"', "7", "7.0", "true", None]
    for value in ([1], {"a": 1}, "x" * KEY_CHARS_MAX):
        with pytest.raises(ExpressionFailed):
            key_text(value, "k")


CAPPED = """
name: imports
max_running: 20
max_ready: 500
singleton: input.shop
steps:
  - name: load
"""


def test_caps_in_yaml_and_python() -> None:
    made = Template("imports", max_running=20, max_ready=500, singleton="input.shop")

    @made.step
    def load() -> None: ...

    spec = load_yaml(CAPPED)
    assert made.spec() == spec
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)) == spec


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("20", "0", "line 3: must be at least 1 and at most 10000, not 0"),
        ("20", "10001", "line 3: must be at least 1"),
        ("20", "many", "line 3: must be a whole number, not the text 'many'"),
        ("input.shop", "results.load", "line 5: no usable expression"),
        ("500", "0.5", "line 4: must be a whole number"),
        ("name: load", "{name: load, delay_s: 1}", "line 4: does nothing: no step of the template waits for a worker"),
    ],
)
def test_faults_of_caps_name_their_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(CAPPED.replace(old, new, 1))
    assert refused.value.errors[0].detail.startswith(fault)

"""Content, hash, version, differences."""

import pytest

from tasker.errors import Undecodable
from tasker.templates import (
    Retry,
    StepSpec,
    TemplateSpec,
    canonical_bytes,
    content_hash,
    differences,
    effective_version,
    from_canonical,
    validate,
)

SPEC = TemplateSpec(
    name="t", namespace="shop", version="1.2.3", steps=(StepSpec(name="a", handler="a", retry=Retry(max_attempts=5)),)
)


def test_the_content_has_every_default_and_no_version() -> None:
    """A stored form: this text is for ever."""
    assert canonical_bytes(SPEC) == (
        b'{"identity":"key","identity_bucket_s":null,"input_schema":null,"name":"t","namespace":"shop",'
        b'"on_failure":"block","queue":null,"result":null,"steps":[{"after":[],"handler":"a","heartbeat_s":10.0,'
        b'"name":"a","queue":null,"retry":{"backoff":"exponential","delay_s":1.0,"delay_s_max":30.0,"factor":2.0,'
        b'"jitter":0.15,"max_attempts":5,"non_retryable":[]},"schedule_to_start_s":null,"start_to_close_s":30.0}],'
        b'"timeout_s":null}'
    )
    assert from_canonical(canonical_bytes(SPEC)).steps == SPEC.steps
    assert from_canonical(canonical_bytes(SPEC)).version is None


def test_the_hash_is_of_the_content_alone() -> None:
    other = validate(
        {"version": "2.0.0", "namespace": "shop", "steps": [{"retry": {"max_attempts": 5}, "name": "a"}], "name": "t"}
    )
    assert content_hash(other) == content_hash(SPEC)


def test_a_whole_number_is_the_same_content_as_its_float() -> None:
    a = TemplateSpec(name="t", timeout_s=30, steps=SPEC.steps)
    b = TemplateSpec(name="t", timeout_s=30.0, steps=SPEC.steps)
    assert content_hash(a) == content_hash(b)


def test_without_an_explicit_version_the_hash_stands_for_one() -> None:
    assert effective_version(SPEC) == "1.2.3"
    unversioned = from_canonical(canonical_bytes(SPEC))
    assert effective_version(unversioned) == "sha-" + content_hash(SPEC)[:12]


@pytest.mark.parametrize(
    "blob", [b"", b"[]", b"{}", b'{"name":"t","steps":[],"new_key":1}', b'{"name":"t","on_failure":"other"}', b"\xff"]
)
def test_a_blob_of_a_newer_build_is_undecodable(blob: bytes) -> None:
    with pytest.raises(Undecodable):
        from_canonical(blob)


def test_differences_are_told_by_step_and_key() -> None:
    old = validate(
        {"name": "t", "steps": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "input_schema": {"type": "object"}}
    )
    new = validate(
        {
            "name": "t",
            "timeout_s": 60,
            "steps": [{"name": "b"}, {"name": "a", "retry": {"max_attempts": 5}}, {"name": "d", "after": ["a"]}],
            "input_schema": {"type": "array", "maxItems": 3},
        }
    )
    assert differences(old, old) == ()
    assert differences(old, new) == (
        "input_schema/type: object -> array",
        "input_schema/maxItems: + 3",
        "timeout_s: none -> 60.0",
        "steps: - c",
        "steps: + d",
        "steps: the order changed",
        "steps/a/retry/max_attempts: 3 -> 5",
    )


def test_differences_are_bounded() -> None:
    many = validate({"name": "t", "steps": [{"name": f"s{n}"} for n in range(200)]})
    lines = differences(SPEC, many)
    assert len(lines) == 51
    assert lines[-1] == "..."

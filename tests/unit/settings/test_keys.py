"""Keys: each is told of, each is read by something, and secrets stay hidden."""

import ast
import re
from collections.abc import Iterable
from functools import cache

import msgspec
import pytest

from tasker.settings import Settings
from tasker.settings.keys import keys, parts, shown, suggestion, variables
from tests.architecture.tree import modules

# Under which names the code holds a part that it was handed.
HELD_AS = {
    "": {"settings", "found"},
    "http": {"http", "settings", "asked"},
    "streams": {"streams", "settings"},
    "direct": {"settings"},
    "embedded": {"embedded", "settings"},
    "doctor": {"doctor", "bounds"},
    "log": {"log"},
}


@cache
def reads() -> frozenset[tuple[str, str]]:
    """Return every `holder.name` that the package reads; of the settings themselves only what rules read."""
    found = set()
    for name, path in modules():
        if name in {"tasker.settings.keys", "tasker.settings.sources"}:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                match node.value:
                    case ast.Name(id=holder) | ast.Attribute(attr=holder):
                        found.add((holder.lstrip("_"), node.attr))
                    case _:
                        pass
    return frozenset(found)


def unread(names: Iterable[str]) -> list[str]:
    """Return the keys that no code reads from its part."""
    missing = []
    for name in names:
        part, _, last = name.rpartition(".")
        if not any((holder, last) in reads() for holder in HELD_AS.get(part, {part})):
            missing.append(name)
    return missing


def test_no_setting_does_nothing() -> None:
    assert unread(keys()) == []


def test_a_key_that_nothing_reads_is_seen() -> None:
    assert unread(["pace.lease_minutes", "http.flavour", "pace.port"]) == [
        "pace.lease_minutes",
        "http.flavour",
        "pace.port",
    ]


def test_every_key_is_told_of() -> None:
    assert len(keys()) == len(variables()) > 50
    for key in keys().values():
        assert re.match(r"[A-Z`].*\.$", key.doc, re.DOTALL), key.name
        assert key.form
    assert all(part.doc for part in parts())


def test_the_defaults_keep_to_their_own_bounds() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Settings()), type=Settings) == Settings()


def test_a_name_carries_its_unit() -> None:
    units = {name: keys()[name].unit for name in ("pace.lease_s", "streams.events_age_s_max", "limits.batch_bytes_max")}
    assert units == {
        "pace.lease_s": "seconds",
        "streams.events_age_s_max": "seconds",
        "limits.batch_bytes_max": "bytes",
    }
    for key in keys().values():
        if key.form == "number":
            assert key.unit, key.name


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("database.url", "postgresql://u:secret@h:5/d", "postgresql://u:***@h:5/d"),
        ("database.url", "postgresql://tasker@/tasker?host=/run/x", "postgresql://tasker@/tasker?host=/run/x"),
        ("database.url", "postgresql://h/d?user=u&password=secret", "postgresql://h/d?user=u&password=***"),
        ("database.url", "host=h password=secret", "***"),
        ("nats.url", "u:secret@h:4222", "***"),
        ("nats.url", ["nats://u:secret@h:4222"], "***"),
        ("nats.url", "nats://secret@h:4222", "nats://***@h:4222"),
        ("nats.url", "nats://u:secret@a:1,nats://b:1", "nats://u:***@a:1,nats://b:1"),
        ("http.url", "https://u:secret@h/x", "https://u:***@h/x"),
        ("tenant", "secret:no", "secret:no"),
    ],
)
def test_secrets_are_masked(key: str, value: object, told: str) -> None:
    assert shown(keys()[key], value) == told


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("pace.leas_s", "pace.lease_s"),
        ("lease_s", "pace.lease_s"),
        ("http.prot", "http.port"),
        ("worker.max_tasks", "worker.steps_max"),
        ("xyzzy", None),
    ],
)
def test_what_was_meant(wrong: str, meant: str | None) -> None:
    assert suggestion(wrong, list(keys())) == (f"; did you mean {meant}?" if meant else "")


def test_a_variable_is_found_by_another_name_too() -> None:
    assert suggestion("TASKER_WORKER_MAX_TASKS", list(variables())) == "; did you mean TASKER_WORKER_STEPS_MAX?"

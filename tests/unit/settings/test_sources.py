"""Where settings come from: defaults < running stack < file < environment < flags; every fault at once."""

from pathlib import Path

import pytest

from tasker.settings import Settings, SettingsInvalid, read_settings
from tasker.settings.keys import keys

UNBOUNDED = [name for name, key in keys().items() if key.form == "number" and "at most" not in key.bounds]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "tasker.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def faults(environ: dict[str, str] | None = None, **more: object) -> dict[str, str]:
    """Return what is refused, by place."""
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(environ or {}, **more)  # type: ignore[arg-type]
    return {fault.pointer: fault.detail for fault in caught.value.errors}


def test_without_any_source_the_defaults_hold() -> None:
    found = read_settings({})
    assert found.settings == Settings()
    assert set(found.sources.values()) == {"default"}
    assert (found.file, found.warnings) == (None, ())


def test_later_sources_win() -> None:
    stack = {"TASKER_HTTP_URL": "http://stack:1", "TASKER_NATS_URL": "nats://stack:1"}
    write('[http]\nport = 1\nhost = "localhost"\npoll_s = 1\nurl = "http://file:1"')
    found = read_settings(
        {"TASKER_HTTP_PORT": "2", "TASKER_HTTP_POLL_S": "2"}, flags={"http.port": 3, "http.host": None}, stack=stack
    )
    http = found.settings.http
    assert (http.host, http.poll_s, http.port, http.url) == ("localhost", 2.0, 3, "http://file:1")
    assert found.settings.nats.url == "nats://stack:1"
    assert [found.sources[f"http.{name}"] for name in ("wait_s_max", "host", "poll_s", "port", "url")] == [
        "default",
        "tasker.toml",
        "environment TASKER_HTTP_POLL_S",
        "--http-port",
        "tasker.toml",
    ]
    assert found.sources["nats.url"] == "the stack that runs here"


def test_the_file_is_the_named_one_or_the_one_here() -> None:
    write('tenant = "here"')
    other = write('tenant = "other"', "other.toml")
    assert read_settings({}).settings.tenant == "here"
    assert read_settings({"TASKER_CONFIG": str(other)}).settings.tenant == "other"
    assert read_settings({"TASKER_CONFIG": "tasker.toml"}, file=other).settings.tenant == "other"


def test_texts_of_the_environment_become_values() -> None:
    found = read_settings(
        {
            "TASKER_HTTP_INSECURE_BIND": "true",
            "TASKER_HTTP_HOST": "0.0.0.0",  # noqa: S104 - that is the point
            "TASKER_SERVICE_ROLES": "http, projections",
            "TASKER_POSTGRES_BIN": "elsewhere/bin",
            "TASKER_EMBEDDED_NATS_PORT": "4222",
            "TASKER_NATS_PREFIX": "",
        }
    ).settings
    assert found.http.insecure_bind
    assert found.service.roles == ("http", "projections")
    assert (found.embedded.postgres_bin, found.embedded.nats_port) == ("elsewhere/bin", 4222)
    assert found.nats.prefix == "tasker"


def test_every_fault_is_told_at_once_with_its_place() -> None:
    write('[pace]\nlease = 2\nrenew_s = "1"\n[htpp]\nport = 1\n[doctor]\n[nats]\nprefix = "A b"\nlease_s = 1')
    found = faults({"TASKER_HTTP_PORT": "99999", "TASKER_LOGGING_LEVEL": "loud"}, flags={"worker.slots": 0})
    assert found == {
        "tasker.toml: pace.lease": "there is no such key; did you mean pace.lease_s?",
        "tasker.toml: pace.renew_s": "'1': expected a number, got a text",
        "tasker.toml: [htpp]": "there is no such part; did you mean http?",
        "tasker.toml: nats.prefix": "'A b': expected a text matching regex '^[a-z][a-z0-9_-]{0,62}$'",
        "tasker.toml: nats.lease_s": "there is no such key; did you mean pace.lease_s?",
        "TASKER_HTTP_PORT": "'99999': expected an integer <= 65535",
        "TASKER_LOGGING_LEVEL": "'loud': invalid enum value 'loud' (debug | info | warning | error)",
        "--slots": "0: expected an integer >= 1",
    }


def test_a_value_that_another_source_outdoes_is_checked_as_well() -> None:
    write("[http]\nport = -1")
    assert list(faults({"TASKER_HTTP_PORT": "1"})) == ["tasker.toml: http.port"]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"TASKER_PACE_LEASE_S": "1.5"}, "default: pace.renew_s"),
        ({"TASKER_PACE_RENEW_S": "3"}, "TASKER_PACE_RENEW_S"),
        ({"TASKER_SERVICE_ROLES": "shards,http"}, "TASKER_SERVICE_ROLES"),
        ({"TASKER_SERVICE_ROLES": "http,http"}, "TASKER_SERVICE_ROLES"),
        ({"TASKER_WORKER_LABELS": "gpu"}, "TASKER_WORKER_LABELS"),
        ({"TASKER_WORKER_LABELS": "gpu=a,gpu=b"}, "TASKER_WORKER_LABELS"),
        ({"TASKER_STREAMS_REPLICAS": "2"}, "TASKER_STREAMS_REPLICAS"),
        ({"TASKER_HTTP_HOST": "0.0.0.0"}, "TASKER_HTTP_HOST"),  # noqa: S104 - that is the point
    ],
)
def test_what_contradicts_another_key_is_refused(environ: dict[str, str], place: str) -> None:
    assert list(faults(environ)) == [place]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[pace", "is no TOML"),
        ("pace = 1", "is a part: write [pace]"),
        ("tenant = 1", "expected a text"),
        (None, "read"),
    ],
)
def test_a_file_that_cannot_be_used(text: str | None, why: str) -> None:
    file = Path("missing.toml") if text is None else write(text)
    [detail] = faults(file=file).values()
    assert why in detail


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_number_without_an_end_is_none(name: str) -> None:
    """Planted bug: JSON has no infinity, so a worker's processes could not read the options that they are given."""
    part, _, key = name.partition(".")
    write(f"[{part}]\n{key} = inf")
    assert faults({keys()[name].variable: "inf"}) == {
        keys()[name].variable: "'inf': expected a number that is finite",
        f"tasker.toml: {name}": "inf: expected a number that is finite",
    }


def test_a_password_is_not_told_with_its_fault() -> None:
    [detail] = faults({"TASKER_DATABASE_URL": "mysql://u:secret@h/d"}).values()
    assert "secret" not in detail
    assert "mysql://u:***@h/d" in detail


def test_an_unknown_variable_is_warned_of() -> None:
    """It need not be ours: Kubernetes names such for every Service."""
    found = read_settings({"TASKER_NATSURL": "x", "TASKER_SERVICE_HOST": "10.0.0.1", "TASKER_FAILPOINT": "x:1"})
    assert found.settings == Settings()
    assert [warning.partition(" ")[0] for warning in found.warnings] == ["TASKER_NATSURL", "TASKER_SERVICE_HOST"]
    assert found.warnings[0].endswith("; did you mean TASKER_NATS_URL?")


@pytest.mark.parametrize("name", keys())
def test_each_key_can_be_set_in_the_file_and_in_the_environment(name: str) -> None:
    """Whatever its type, the value of the default's neighbourhood comes through from both."""
    key = keys()[name]
    text, toml = OTHERS.get(name) or (another(key.default), None)
    part, _, last = name.rpartition(".")
    literal = toml or (text if key.form in {"integer", "number", "true | false"} else f'"{text}"')
    also = {"TASKER_HTTP_INSECURE_BIND": "true"} if name == "http.host" else {}
    write((f"[{part}]\n" if part else "") + f"{last} = {literal}\n")
    of_file = read_settings(also)
    Path("tasker.toml").unlink()
    of_environment = read_settings({key.variable: text} | also)
    assert of_file.value(key) == of_environment.value(key) != key.default
    assert (of_file.sources[name], of_environment.sources[name]) == ("tasker.toml", f"environment {key.variable}")


OTHERS = {
    "output": ("json", None),
    "database.url": ("postgresql://h/d", None),
    "nats.url": ("nats://h:1", None),
    "http.url": ("https://h", None),
    "service.roles": ("http,projections", '["http", "projections"]'),
    "logging.level": ("debug", None),
    "logging.form": ("json", None),
    "embedded.nats_port": ("4222", "4222"),
    "worker.processes": ("2", "2"),
    "worker.health_port": ("9300", "9300"),
    "worker.labels": ("gpu=a100,zone=eu", '["gpu=a100", "zone=eu"]'),
    "limits.tenant_weights": ("acme=3,bolt=0.5", '["acme=3", "bolt=0.5"]'),
    "worker.steps_max": ("500", "500"),
    "worker.rss_mib_max": ("800", "800"),
    "doctor.stream_full_share_max": ("0.5", None),
    "streams.replicas": ("3", None),
    "nats.inbox_prefix": ("_INBOX_tasker", None),
    "pace.renew_s": ("0.5", None),
}


def another(default: object) -> str:
    """Return a text that is another value of the default's type."""
    match default:
        case bool():
            return "false" if default else "true"
        case int() | float():
            return str(default + 1)
        case _:
            return "other"

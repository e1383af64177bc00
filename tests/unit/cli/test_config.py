"""`tasker config`: what holds, why, and what is wrong with it; and the settings of the command line itself."""

import json
import os
from pathlib import Path

import pytest

from tasker.cli import main
from tasker.cli.options import take_config
from tasker.settings.keys import keys


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TASKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TASKER_DATA", str(tmp_path / "data"))
    # `--config` sets it for the processes that a command starts; set here, so that it is unset afterwards.
    monkeypatch.setenv("TASKER_CONFIG", "")
    monkeypatch.chdir(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    return capsys.readouterr().out


def test_show_tells_values_with_their_sources_and_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tasker.toml").write_text('[database]\nurl = "postgresql://u:secret@h/d"')
    monkeypatch.setenv("TASKER_NATS_URL", "nats://secret@h:1")
    rows = {row["key"]: row for row in json.loads(shown(capsys, "config", "show", "-o", "json"))}
    assert set(rows) == set(keys())
    assert rows["database.url"] == {
        "key": "database.url",
        "value": "postgresql://u:***@h/d",
        "source": "tasker.toml",
    }
    assert rows["nats.url"]["value"] == "nats://***@h:1"
    assert rows["pace.lease_s"] == {"key": "pace.lease_s", "value": 5.0, "source": "default"}
    table = shown(capsys, "config", "show", "nats")
    assert "nats.url     " in table
    assert "environment TASKER_NATS_URL" in table
    assert "secret" not in table
    assert "pace" not in table


def test_show_warns_of_a_variable_that_does_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_HTTP_PROT", "1")
    assert main(["config", "show", "http", "-o", "jsonl"]) == 0
    assert "did you mean TASKER_HTTP_PORT?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pace.lease_s", "TASKER_PACE_LEASE_S", "tasker_pace_lease_s"])
def test_explain_by_key_or_variable(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tasker.toml").write_text("[pace]\nlease_s = 8")
    told = json.loads(shown(capsys, "config", "explain", name, "-o", "json"))
    assert (told["value"], told["source"], told["default"], told["unit"]) == (8.0, "tasker.toml", 5.0, "seconds")
    text = shown(capsys, "config", "explain", name)
    assert text.startswith("How long the lease of a shard lasts")
    assert "[pace] lease_s" in text


def test_explain_a_variable_that_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tasker.toml" in shown(capsys, "config", "explain", "TASKER_CONFIG")


@pytest.mark.parametrize("arguments", [["explain", "pace.leas_s"], ["show", "pcae"]])
def test_an_unknown_name_is_not_found(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", *arguments]) == 3
    assert "did you mean pace" in capsys.readouterr().err


def test_validate_prints_every_fault_and_ends_with_9(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_WORKER_SLOTS", "none")
    Path("other.toml").write_text('[pace]\nlease = 2\n[nats]\nprefix = "A"')
    told = json.loads(shown(capsys, "config", "validate", "other.toml", "-o", "json", code=9))
    assert not told["ok"]
    assert [fault["place"] for fault in told["faults"]] == ["other.toml: pace.lease", "other.toml: nats.prefix"]
    assert "TASKER_WORKER_SLOTS" in shown(capsys, "config", "validate", code=9)
    monkeypatch.delenv("TASKER_WORKER_SLOTS")
    assert shown(capsys, "config", "validate") == ""


def test_a_command_with_faulty_settings_tells_them_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKER_WORKER_SLOTS", "none")
    monkeypatch.setenv("TASKER_OUTPUT", "xml")
    assert main(["stats"]) == 2
    said = capsys.readouterr().err
    assert "TASKER_WORKER_SLOTS" in said
    assert "TASKER_OUTPUT" in said


def test_config_names_the_file_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    Path("sub/prod.toml").write_text("[http]\nport = 9000")
    told = json.loads(shown(capsys, "config", "explain", "http.port", "--config", "sub/prod.toml", "-o", "json"))
    assert (told["value"], told["source"]) == (9000, str(Path.cwd() / "sub/prod.toml"))
    assert os.environ["TASKER_CONFIG"] == str(Path.cwd() / "sub/prod.toml"), "for the processes that it starts"


def test_a_config_that_is_not_there_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config=nowhere.toml", "config", "show"]) == 2
    assert "nowhere.toml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "kept", "file"),
    [
        (["a", "--config", "f", "b"], ["a", "b"], "f"),
        (["--config=f", "a"], ["a"], "f"),
        (["a", "--", "--config", "f"], ["a", "--", "--config", "f"], None),
        (["a", "--config"], ["a"], ""),
    ],
)
def test_taking_the_config_out(arguments: list[str], kept: list[str], file: str | None) -> None:
    assert take_config(arguments) == (kept, file)


def test_the_usual_output_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tasker.toml").write_text('output = "json"')
    assert json.loads(shown(capsys, "config", "explain", "tenant"))["key"] == "tenant"
    assert shown(capsys, "config", "explain", "tenant", "-o", "table").startswith("Whose tasks")
    assert main(["config", "explain", "nothing"]) == 3
    assert json.loads(capsys.readouterr().err)["code"] == "setting_unknown"

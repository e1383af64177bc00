"""Commands of these tests reach no service, whatever the machine has."""

from pathlib import Path

import pytest

NO_SERVICE = ("TASKER_NATS_URL", "TASKER_HTTP_URL", "TASKER_DATABASE_URL", "TASKER_OUTPUT")


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NO_SERVICE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TASKER_DATA", str(tmp_path))

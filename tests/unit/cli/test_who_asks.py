"""Who asks: the person who is named, else the user of the process; whatever the command."""

import getpass

import pytest

from tasker.cli.failures import UsageError
from tasker.cli.options import By


def test_the_user_asks_unless_another_is_named() -> None:
    assert By().options()["requested_by"] == getpass.getuser()
    assert By(requested_by="ada").options()["requested_by"] == "ada"


def test_where_the_system_names_no_user_somebody_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no name")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(UsageError, match="say who asks with --requested-by"):
        By().options()
    assert By(requested_by="ada").options()["requested_by"] == "ada"

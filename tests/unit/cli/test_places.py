"""A name as lists show it, NAMESPACE/NAME, is taken wherever something of a namespace is named."""

import pytest

from tasker.cli import main
from tasker.cli.failures import UsageError
from tasker.cli.given import named_place, place_of


@pytest.mark.parametrize(
    ("name", "namespace", "place"),
    [
        (None, None, (None, None)),
        (None, "shop", (None, "shop")),
        ("orders", None, ("orders", None)),
        ("orders", "shop", ("orders", "shop")),
        ("shop/orders", None, ("orders", "shop")),
        ("shop/orders", "shop", ("orders", "shop")),
    ],
)
def test_a_name_may_have_its_namespace(
    name: str | None, namespace: str | None, place: tuple[str | None, str | None]
) -> None:
    assert place_of(name, namespace) == place


def test_two_namespaces_are_refused() -> None:
    with pytest.raises(UsageError, match="'shop/orders' is not in the namespace 'lab'"):
        place_of("shop/orders", "lab")


@pytest.mark.parametrize(
    "command",
    [
        ["task", "list"],
        ["task", "bulk", "cancel", "--reason", "x"],
        ["approval", "list"],
        ["dlq", "list"],
        ["dlq", "groups"],
        ["usage"],
        ["schedule", "list"],
        ["log", "tail"],
    ],
)
def test_every_filter_takes_it(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--template", "shop/orders", "--namespace", "lab"]) == 2
    assert "is not in the namespace" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["schedule", "create", "shop/nightly", "--template", "report", "--every-s", "60"],
        ["schedule", "create", "nightly", "--template", "shop/report", "--every-s", "60"],
        ["schedule", "update", "shop/nightly", "--template", "report", "--every-s", "60"],
        ["schedule", "show", "shop/nightly"],
        ["schedule", "pause", "shop/nightly"],
        ["schedule", "resume", "shop/nightly"],
        ["schedule", "trigger", "shop/nightly"],
        ["schedule", "backfill", "shop/nightly", "--start", "2026-01-01T00:00:00Z", "--end", "2026-01-02T00:00:00Z"],
        ["schedule", "stop-backfill", "shop/nightly"],
        ["schedule", "next", "shop/nightly"],
        ["schedule", "events", "shop/nightly"],
        ["schedule", "delete", "shop/nightly"],
        ["template", "use", "shop/report", "1.0.0"],
        ["template", "show", "shop/report"],
        ["template", "list", "--name", "shop/report"],
        ["pause", "queue", "shop/report", "--reason", "x"],
        ["resume", "template", "shop/report", "--reason", "x"],
        ["limits", "set", "queue", "shop/report", "--per-s", "1", "--reason", "x"],
        ["limits", "remove", "queue", "shop/report", "--reason", "x"],
        ["circuits", "open", "shop/charge", "--reason", "x"],
        ["circuits", "close", "shop/charge", "--reason", "x"],
        ["circuits", "events", "shop/charge"],
    ],
)
def test_every_name_takes_it(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--namespace", "lab"]) == 2
    assert "is not in the namespace 'lab'" in capsys.readouterr().err
    assert main([*command, "--namespace", "shop"]) == 2
    assert "no service is known" in capsys.readouterr().err


def test_a_schedule_lies_where_its_template_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "create", "lab/nightly", "--template", "shop/report", "--every-s", "60"]) == 2
    assert "'shop/report' is not in the namespace 'lab'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "namespace", "place"),
    [
        ("orders", None, ("orders", "default")),
        ("orders", "shop", ("orders", "shop")),
        ("shop/orders", None, ("orders", "shop")),
        ("/orders", None, ("orders", "")),
    ],
)
def test_what_has_no_namespace_has_the_default_one(name: str, namespace: str | None, place: tuple[str, str]) -> None:
    assert named_place(name, namespace) == place

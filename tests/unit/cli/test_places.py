"""A name as lists show it, NAMESPACE/NAME, is taken wherever a template is named."""

import pytest

from tasker.cli import main
from tasker.cli.failures import UsageError
from tasker.cli.given import place_of


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

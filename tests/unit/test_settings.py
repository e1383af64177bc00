"""Settings of a service process, from its environment."""

import pytest

from tasker.errors import ConfigurationError
from tasker.settings import Pace, checked_roles, from_environment

SERVERS = {"TASKER_DATABASE_URL": "postgresql:///t", "TASKER_NATS_URL": "nats://x"}


def test_the_defaults_suit_production() -> None:
    settings = from_environment(SERVERS)
    assert settings.pace == Pace()
    assert settings.nats_prefix == "tasker"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="set TASKER_NATS_URL, or run `tasker up`"):
        from_environment({"TASKER_DATABASE_URL": "postgresql:///t"})


def test_another_pace() -> None:
    settings = from_environment(SERVERS | {"TASKER_PACE": '{"lease_s": 2, "renew_s": 0.5}'})
    assert settings.pace == Pace(lease_s=2.0, renew_s=0.5)


@pytest.mark.parametrize(
    "pace", ["2", "{", '{"lease": 2}', '{"lease_s": "2"}', '{"idle_s": 0}', '{"lease_s": 2, "renew_s": 1.5}']
)
def test_a_pace_that_does_not_fit_is_refused(pace: str) -> None:
    with pytest.raises(ConfigurationError, match="TASKER_PACE: "):
        from_environment(SERVERS | {"TASKER_PACE": pace})


@pytest.mark.parametrize("roles", [(), ("shard",), ("shards",), ("publisher", "http")])
def test_roles_that_do_not_fit_are_refused(roles: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        checked_roles(roles)


def test_roles_come_in_their_usual_order() -> None:
    assert checked_roles(("http", "publisher", "shards")) == ("shards", "publisher", "http")

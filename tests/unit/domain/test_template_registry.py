"""Which versions of a template there are, and what "no version" means."""

import pytest

from tasker.errors import TemplateConflict, TemplateLimit, TemplateUnknown
from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.service.domain.template_registry import (
    VERSIONS_MAX,
    RegisterTemplate,
    TemplateRegistry,
    UseTemplate,
    decide_template,
    evolve_template,
)


class Registrations:
    """A registry under its decider."""

    def __init__(self) -> None:
        self.registry = TemplateRegistry()

    def register(self, version: str, digest: str, *, by_content: bool = False) -> list[object]:
        return self._do(
            RegisterTemplate(namespace="shop", name="orders", version=version, hash=digest, by_content=by_content)
        )

    def use(self, version: str, *, command_id: str | None = None) -> list[object]:
        return self._do(UseTemplate(version=version), command_id)

    def _do(self, command: RegisterTemplate | UseTemplate, command_id: str | None = None) -> list[object]:
        events = decide_template(self.registry, command, command_id=command_id)
        for event in events:
            evolve_template(self.registry, event, command_id=command_id)
        return list(events)


def registered(version: str, digest: str) -> TemplateRegistered:
    return TemplateRegistered(namespace="shop", name="orders", version=version, hash=digest)


def test_the_last_registration_is_what_no_version_means() -> None:
    one = Registrations()
    assert one.register("1.0.0", "h1") == [registered("1.0.0", "h1")]
    assert one.register("2.0.0", "h2") == [registered("2.0.0", "h2")]
    assert one.registry.hash_of(None) == ("2.0.0", "h2")
    assert one.registry.hash_of("1.0.0") == ("1.0.0", "h1")
    assert one.registry.seq == 2


def test_the_same_registration_changes_nothing() -> None:
    one = Registrations()
    one.register("1.0.0", "h1")
    assert one.register("1.0.0", "h1") == []


def test_other_content_under_a_named_version_is_a_conflict() -> None:
    one = Registrations()
    one.register("1.0.0", "h1")
    with pytest.raises(TemplateConflict) as refused:
        one.register("1.0.0", "h2")
    assert refused.value.context == {"registered_hash": "h1", "offered_hash": "h2"}


def test_an_older_worker_that_starts_again_chooses_nothing() -> None:
    one = Registrations()
    one.register("1.0.0", "h1")
    one.register("2.0.0", "h2")
    assert one.register("1.0.0", "h1") == []
    assert one.registry.in_use == "2.0.0"


def test_going_back_to_an_earlier_content_is_a_choice() -> None:
    """Without a version, what was registered last is what its author means."""
    one = Registrations()
    one.register("sha-1", "h1", by_content=True)
    one.register("sha-2", "h2", by_content=True)
    assert one.register("sha-1", "h1", by_content=True) == [registered("sha-1", "h1")]
    assert one.registry.in_use == "sha-1"


def test_a_person_may_choose_a_version() -> None:
    one = Registrations()
    one.register("1.0.0", "h1")
    one.register("2.0.0", "h2")
    assert one.use("1.0.0") == [TemplateUsed(namespace="shop", name="orders", version="1.0.0", hash="h1")]
    assert one.use("1.0.0") == []
    assert one.registry.hash_of(None) == ("1.0.0", "h1")


def test_a_repeated_choice_does_not_win_over_a_later_one() -> None:
    """Its reply was lost; meanwhile somebody else has chosen."""
    one = Registrations()
    one.register("1.0.0", "h1")
    one.register("2.0.0", "h2")
    assert len(one.use("1.0.0", command_id="mine")) == 1
    assert len(one.use("2.0.0", command_id="theirs")) == 1
    assert one.use("1.0.0", command_id="mine") == []
    assert one.registry.in_use == "2.0.0"
    with pytest.raises(TemplateUnknown):
        one.use("9.9.9", command_id="mine")


def test_a_version_that_is_not_there_is_unknown() -> None:
    one = Registrations()
    with pytest.raises(TemplateUnknown, match="template default/shp has never been registered"):
        one.registry.hash_of(None, "default", "shp")
    with pytest.raises(TemplateUnknown, match="template default/shp has never been registered"):
        one.registry.hash_of("1.0.0", "default", "shp")
    one.register("1.0.0", "h1")
    with pytest.raises(TemplateUnknown, match=r"the last are 1\.0\.0"):
        one.use("9.9.9")


def test_a_template_has_most_versions() -> None:
    """One more is refused; those that are there can still be chosen and registered again."""
    one = Registrations()
    for number in range(VERSIONS_MAX):
        one.register(f"1.0.{number}", f"h{number}")
    with pytest.raises(TemplateLimit, match="shop/orders has 10000 versions"):
        one.register("2.0.0", "h")
    assert one.register("1.0.7", "h7") == []
    assert len(one.use("1.0.7")) == 1
    assert one.registry.seq == VERSIONS_MAX + 1

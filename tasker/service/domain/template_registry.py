"""The registrations of one template: which versions there are and what "no version" means."""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from tasker.errors import TemplateConflict, TemplateLimit, TemplateUnknown
from tasker.events.command_memory import CommandMemory
from tasker.events.envelope import RecordedEvent, StreamKind
from tasker.events.state_form import StateForm
from tasker.events.stored import from_recorded, meta_of
from tasker.events.template_events import AnyTemplateEvent, TemplateEvent, TemplateRegistered, TemplateUsed

VERSIONS_MAX: Final = 10_000
"""Versions of one template."""


class RegisterTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """Make a version known; its content is stored under `hash` already.

    Attributes:
        by_content: the version is derived from the content (the author named none), so that going back
            to an earlier content is a new choice; a named version that is known stays as it is.
    """

    namespace: str
    name: str
    version: str
    hash: str
    by_content: bool


class UseTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """Choose the version that "no version" means. `namespace`, `name`: what was asked for."""

    version: str
    namespace: str = ""
    name: str = ""


class TemplateRegistry(msgspec.Struct):
    """What is registered. Owned by one actor. Kept in snapshots as it is (`TEMPLATE_FORM`).

    Attributes:
        hashes: version -> content hash, in the order of registration.
        in_use: the version that "no version" means; None before the first registration.
        commands: the last commands that changed it.
    """

    seq: int = 0
    namespace: str = ""
    name: str = ""
    hashes: dict[str, str] = {}
    in_use: str | None = None
    commands: CommandMemory = msgspec.field(default_factory=CommandMemory)

    def hash_of(self, version: str | None, namespace: str = "", name: str = "") -> tuple[str, str]:
        """Return version and content hash of `version`, or of the one in use.

        Args:
            version: None: the one in use.
            namespace: with `name`, what was asked for: a registry of nothing does not know what it is called.
            name: see `namespace`.

        Raises:
            TemplateUnknown: there is none.
        """
        chosen = version if version is not None else self.in_use
        if chosen is None or not self.hashes:
            wanted = f"template {namespace}/{name}" if name else "the template"
            raise TemplateUnknown(f"{wanted} has never been registered; register it or start its worker")
        if chosen not in self.hashes:
            known = ", ".join(list(self.hashes)[-5:])
            raise TemplateUnknown(
                f"template {self.namespace}/{self.name} has no version {chosen[:80]!r}; the last are {known}"
            )
        return chosen, self.hashes[chosen]


def decide_template(
    registry: TemplateRegistry,
    command: RegisterTemplate | UseTemplate,
    *,
    command_id: str | None = None,
    request: str | None = None,
) -> tuple[AnyTemplateEvent, ...]:
    """Return the events that `command` causes; () when it says what is so already, or was done before.

    A repeat must not win over what others chose since.

    Raises:
        KeyConflict: a command with its id asked for something else.
        TemplateConflict: the version is registered with other content.
        TemplateUnknown: the version to use, or of a repeated command, is not registered.
        TemplateLimit: the template has as many versions as it may have.
    """
    if registry.commands.knows(command_id, request):
        registry.hash_of(command.version)  # the id may have been another command's, of which no more is known
        return ()
    events = _decide(registry, command)
    name = f"{registry.namespace}/{registry.name}"
    if events and len(registry.hashes) >= VERSIONS_MAX and events[0].version not in registry.hashes:
        raise TemplateLimit(f"{name} has {VERSIONS_MAX} versions; use one of them, or register it under another name")
    return events


def _decide(registry: TemplateRegistry, command: RegisterTemplate | UseTemplate) -> tuple[AnyTemplateEvent, ...]:
    match command:
        case RegisterTemplate():
            known = registry.hashes.get(command.version)
            if known == command.hash and registry.in_use == command.version:
                return ()
            if known is not None and known != command.hash:
                raise TemplateConflict(
                    f"version {command.version} of {command.namespace}/{command.name} is registered with other "
                    "content; give the change a new version",
                    registered_hash=known,
                    offered_hash=command.hash,
                )
            if known is not None and not command.by_content:
                # A worker with an older build starts again: it makes its version known, it does not choose it.
                return ()
            return (
                TemplateRegistered(
                    namespace=command.namespace, name=command.name, version=command.version, hash=command.hash
                ),
            )
        case UseTemplate(version=version):
            found, digest = registry.hash_of(version, command.namespace, command.name)
            if registry.in_use == found:
                return ()
            return (TemplateUsed(namespace=registry.namespace, name=registry.name, version=found, hash=digest),)
        case _:
            assert_never(command)


def evolve_template(
    registry: TemplateRegistry, event: AnyTemplateEvent, *, command_id: str | None = None, request: str | None = None
) -> TemplateRegistry:
    """Return `registry` moved on by `event`; `command_id` and `request` are those of its `Meta`. Total."""
    registry.seq += 1
    registry.commands.remember(command_id, request, registry.seq)
    registry.namespace = event.namespace
    registry.name = event.name
    match event:
        case TemplateRegistered() | TemplateUsed():
            registry.hashes[event.version] = event.hash
            registry.in_use = event.version
        case _:
            assert_never(event)
    return registry


def fold_template(registry: TemplateRegistry, recorded: RecordedEvent) -> None:
    """Move `registry` on by a recorded event.

    Raises:
        Undecodable: this build cannot read it.
    """
    event = from_recorded(recorded)
    assert isinstance(event, TemplateEvent)  # noqa: S101 - a template's stream holds only these
    meta = meta_of(recorded)
    evolve_template(registry, event, command_id=meta.command_id, request=meta.request)  # type: ignore[arg-type]


TEMPLATE_FORM: Final = StateForm[TemplateRegistry](
    kind=StreamKind.TEMPLATE,
    number=2,
    new=TemplateRegistry,
    fold=fold_template,
    kept=TemplateRegistry,
)

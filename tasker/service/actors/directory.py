"""Where templates are found: registrations from their actors, contents from the log's blobs.

Contents are immutable and kept by hash. Registrations are read from what is committed in the template's
actor, on the node that owns its shard; another node asks that one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from tasker.bus.bus import Message
from tasker.errors import TaskerError, TemplateUnknown, Unavailable, Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.envelope import StreamKind
from tasker.events.log import EventLog
from tasker.ids import template_stream_id
from tasker.service.actors.template_actor import ResolveMessage, TemplateActor
from tasker.service.domain.template_registry import TemplateRegistry
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.templates import CompiledTemplate, compiled_from

COMPILED_MAX: Final = 2_000


class RegistrationsOf(msgspec.Struct, kw_only=True):
    """Node to node: which registrations does this template have?"""

    tenant: str
    namespace: str
    name: str


class Registrations(msgspec.Struct, kw_only=True):
    """Node to node: these, as committed; not `ok`: ask again."""

    ok: bool
    hashes: dict[str, str] = {}
    in_use: str | None = None


class TemplateDirectory:
    """Finds templates for new and for recorded tasks."""

    def __init__(self, log: EventLog, shards: Shards, routes: Routes, clock: NodeClock) -> None:
        self._log = log
        self._shards = shards
        self._routes = routes
        self._clock = clock
        self._actors: dict[UUID, TemplateActor] = {}
        self._compiled: OrderedDict[str, CompiledTemplate] = OrderedDict()

    # ---------------------------------------------------------------- shards

    async def open_shard(self, shard: int, epoch: int) -> None:
        """Do nothing: actors show themselves when they are revived."""

    def close_shard(self, shard: int) -> None:
        """Forget what the shard's actors showed: when it comes back, another node may have registered more."""
        for stream_id in [one for one in self._actors if self._routes.shard_of(one) == shard]:
            del self._actors[stream_id]

    # ---------------------------------------------------------------- registrations

    def show(self, actor: TemplateActor) -> None:
        """Let an actor's committed registrations be read from now on."""
        self._actors[actor.stream_id] = actor

    def registry_now(self, tenant: str, namespace: str, name: str) -> TemplateRegistry | None:
        """Return the registrations when they are at hand and nobody else can own them; None: ask `registry`.

        A node whose lease may have run out could know old registrations: another one may own the shard and have
        newer ones. `registry` is answered after our ownership was confirmed.
        """
        if not self._clock.leased():
            return None
        stream_id = template_stream_id(tenant, namespace, name)
        actor = self._actors.get(stream_id)
        if actor is None or not self._shards.owns(self._routes.shard_of(stream_id)):
            return None
        return actor.committed

    async def registry(self, tenant: str, namespace: str, name: str) -> TemplateRegistry:
        """Return the committed registrations of a template (empty when there are none).

        Raises:
            Unavailable, Fenced: its owner does not answer.
        """
        stream_id = template_stream_id(tenant, namespace, name)
        shard = self._routes.shard_of(stream_id)
        if not self._shards.owns(shard):
            return await self._ask_owner(shard, tenant, namespace, name)
        answer: asyncio.Future[TemplateRegistry] = asyncio.get_running_loop().create_future()
        self._resolve(stream_id, shard, _setter(answer))
        return await answer

    def _resolve(self, stream_id: UUID, shard: int, done: Callable[[TemplateRegistry | TaskerError], None]) -> None:
        self._shards.send(shard, stream_id, StreamKind.TEMPLATE, ResolveMessage(done, done))

    async def _ask_owner(self, shard: int, tenant: str, namespace: str, name: str) -> TemplateRegistry:
        answer: asyncio.Future[TemplateRegistry] = asyncio.get_running_loop().create_future()
        done = _setter(answer)

        def on_reply(known: Registrations | TaskerError) -> None:
            if isinstance(known, TaskerError):
                done(known)
                return
            registry = TemplateRegistry()
            registry.namespace, registry.name = namespace, name
            registry.hashes, registry.in_use = known.hashes, known.in_use
            done(registry if known.ok else Unavailable("the template's owner does not answer", retry_after_s=0.5))

        ask = RegistrationsOf(tenant=tenant, namespace=namespace, name=name)
        self._routes.ask(shard, "registry", ask, Registrations, on_reply)
        return await answer

    def on_registry_asked(self, message: Message) -> None:
        """Answer another node's question for the registrations of a template of ours."""

        def done(found: TemplateRegistry | TaskerError) -> None:
            known = (
                Registrations(ok=False)
                if isinstance(found, TaskerError)
                else Registrations(ok=True, hashes=found.hashes, in_use=found.in_use)
            )
            self._routes.respond(message, encode_message(known))

        try:
            asked = decode_message(message.data, RegistrationsOf)
        except Undecodable as error:
            done(error)
            return
        stream_id = template_stream_id(asked.tenant, asked.namespace, asked.name)
        self._resolve(stream_id, self._routes.shard_of(stream_id), done)

    # ---------------------------------------------------------------- contents

    def compiled_now(self, digest: str) -> CompiledTemplate | None:
        """Return the content with this hash when it is at hand."""
        found = self._compiled.get(digest)
        if found is not None:
            self._compiled.move_to_end(digest)
        return found

    async def compiled(self, digest: str) -> CompiledTemplate:
        """Return the content with this hash.

        Raises:
            TemplateUnknown: the log does not have it.
            Undecodable: this build does not understand it.
        """
        found = self.compiled_now(digest)
        if found is None:
            try:
                blob = await self._log.get_blob(bytes.fromhex(digest))
            except ValueError as error:
                raise Undecodable(f"{digest[:80]!r} is no hash of a template") from error
            if blob is None:
                raise TemplateUnknown(f"the log has no template content {digest}")
            found = compiled_from(blob)
            self.keep(found)
        return found

    def keep(self, compiled: CompiledTemplate) -> None:
        """Hold a content at hand."""
        self._compiled[compiled.hash] = compiled
        if len(self._compiled) > COMPILED_MAX:
            self._compiled.popitem(last=False)


def _setter(answer: asyncio.Future[TemplateRegistry]) -> Callable[[TemplateRegistry | TaskerError], None]:
    def done(found: TemplateRegistry | TaskerError) -> None:
        if answer.done():
            return
        if isinstance(found, TaskerError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    return done

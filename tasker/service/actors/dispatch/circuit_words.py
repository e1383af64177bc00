"""What nodes say of circuits to the owner of the controls; a word that is lost is said again."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from tasker.bus.bus import Message
from tasker.errors import TaskerError, Undecodable
from tasker.events.codec import decode_message
from tasker.events.envelope import Meta, StreamKind
from tasker.ids import control_stream_id
from tasker.service.actors.control_actor import ControlMessage
from tasker.service.domain.circuits import CircuitWord, SettleCircuit, TripCircuit, TryCircuit
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards

CIRCUIT: Final = "circuit"
"""How the word is called between nodes."""

BY_ITSELF: Final = "tasker"
"""Who asks, where no person does."""

_log = structlog.get_logger(__name__)


class _Words(msgspec.Struct, kw_only=True):
    """Node to node: what was found of a handler of a tenant."""

    tenant: str
    word: CircuitWord


class CircuitWords:
    """Tells the owner of the controls, here or on another node."""

    def __init__(self, shards: Shards, routes: Routes) -> None:
        self._shards = shards
        self._routes = routes
        self._stream_id = control_stream_id()
        self._shard = routes.shard_of(self._stream_id)

    def tell(self, tenant: str, word: CircuitWord) -> None:
        """Say it once."""
        if self._shards.owns(self._shard):
            self._take(tenant, word)
        else:
            self._routes.tell(self._shard, CIRCUIT, _Words(tenant=tenant, word=word))

    def on_told(self, message: Message) -> None:
        """Take another node's word."""
        try:
            words = decode_message(message.data, _Words)
        except Undecodable as error:
            # A newer node says more than this one understands; it says it again.
            _log.warning("circuit_word_undecodable", error=error.detail)
            return
        self._take(words.tenant, words.word)

    def _take(self, tenant: str, word: CircuitWord) -> None:
        message = ControlMessage(
            tenant=tenant,
            command=word,
            meta=Meta(requested_by=BY_ITSELF, reason=_reason(word)),
            answered=_answered,
            fail=_failed,
        )
        self._shards.send(self._shard, self._stream_id, StreamKind.CONTROL, message)


def _reason(word: CircuitWord) -> str:
    match word:
        case TripCircuit(failures=failures, attempts=attempts):
            return f"{failures} of {attempts} attempts failed"
        case TryCircuit():
            return "its wait is over"
        case SettleCircuit(error=None):
            return "its trial succeeded"
        case SettleCircuit():
            return "its trial failed"


def _answered(position: int, *, duplicate: bool) -> None:
    """Whoever said it learns from the log what became of it."""


def _failed(error: TaskerError) -> None:
    _log.debug("circuit_word_not_taken", error=error.detail)

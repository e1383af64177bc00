"""Says to readers when attempts have their turn under rate limits."""

from __future__ import annotations

from tasker.bus.bus import Message
from tasker.errors import Undecodable
from tasker.events.codec import decode_message, encode_message
from tasker.events.reads import TurnFacts
from tasker.events.turns import TurnWords
from tasker.service.actors.dispatch.gate import Gate
from tasker.service.runtime.routes import Routes


class TurnLooks:
    """Answers for the tasks that this node owns."""

    def __init__(self, gate: Gate, routes: Routes) -> None:
        self._gate = gate
        self._routes = routes

    def on_asked(self, message: Message) -> None:
        """Answer with the turns of those attempts that wait for one here; of what is not understood there are none."""
        self._routes.respond(message, encode_message(self._found(message.data)))

    def _found(self, data: bytes) -> dict[str, TurnFacts]:
        try:
            words = decode_message(data, TurnWords)
            stream_id, _ = self._routes.locate(words.task_id)
        except (Undecodable, ValueError):
            return {}
        turns = ((step, self._gate.turn_of((stream_id, step, attempt))) for step, attempt in words.attempts.items())
        return {step: turn for step, turn in turns if turn is not None}

"""A concurrency key against a model that is a list: never above the limit, in turn, and nothing is lost.

Words between tasks and the key are lost, doubled and late, as `act` draws them. In the end every place has come back.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker.events.places import KeyName
from tasker.ids import concurrency_stream_id
from tasker.replay.checkers.checker import feed
from tasker.replay.checkers.placed import PlacedChecker
from tasker.replay.findings import Finding
from tasker.service.domain.limits.concurrency import (
    CONCURRENCY_FORM,
    Ask,
    ConcurrencyState,
    advance_concurrency,
    evolve_concurrency,
)
from tests.histories import Recorder

NAME = KeyName(tenant="default", namespace="shop", template="t", key="7")
STRATEGIES = ["queue", "queue", "drop", "cancel_oldest", "cancel_newest"]


class World:
    """One key, and the requests as their owners see them: open ones ask, hold, or have ended."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.state = ConcurrencyState()
        self.events: list[tuple[int, Any]] = []
        self.open: dict[str, str] = {}
        self.begun: list[str] = []
        self.now_us = 0

    def decide(self, asks: list[Ask], returned: list[str]) -> None:
        self.now_us += 1
        events, refused = advance_concurrency(self.state, NAME, asks, returned, at_us=self.now_us)
        self.events += [(self.now_us, event) for event in events]
        for request in refused:
            self.open.pop(request, None)
        assert len(self.state.holders) <= self.limit
        assert not self.state.waiting or len(self.state.holders) == self.limit
        assert len({*self.state.holders, *self.state.waiting}) == len(self.state.holders) + len(self.state.waiting)

    def look(self, request: str) -> None:
        """The key tells an owner; one whose request is over says so."""
        if request not in self.open:
            self.decide([], [request])
        elif request in self.state.evicted:
            del self.open[request]
        elif request not in self.begun:
            self.begun.append(request)


@settings(deadline=None)
@given(st.integers(1, 3), st.data())
def test_no_word_that_is_lost_loses_a_place(limit: int, data: st.DataObject) -> None:
    world = World(limit=limit)
    known: list[str] = []
    for _ in range(data.draw(st.integers(0, 40), label="words")):
        what = data.draw(st.sampled_from(["ask", "ask", "again", "end", "end", "leave", "look"]), label="what")
        some = data.draw(st.sampled_from(known), label="who") if known else None
        if what == "ask":
            request = str(len(known))
            known.append(request)
            world.open[request] = data.draw(st.sampled_from(STRATEGIES), label="strategy")
            world.decide([Ask(request=request, limit=limit, strategy=world.open[request])], [])  # type: ignore[arg-type]
        elif some is None:
            continue
        elif what == "again":  # also of a request that is over: a word that was late
            world.decide([Ask(request=some, limit=limit, strategy="queue")], [])
        elif what == "end":
            world.open.pop(some, None)  # and the word that it left is lost
        elif what == "leave" and some not in world.open:
            world.decide([], [some])
        elif what == "look" and some in world.state.looked_at():
            world.look(some)
    for _ in range(3 * len(known) + 3):
        for request in world.state.looked_at():
            world.look(request)
            world.open.pop(request, None)
    assert [*world.state.holders, *world.state.waiting, *world.state.evicted] == []
    again = ConcurrencyState()
    for at_us, event in world.events:
        evolve_concurrency(again, event, at_us=at_us)
    assert CONCURRENCY_FORM.encode(again) == CONCURRENCY_FORM.encode(world.state)
    recorder = Recorder(shards=1)
    recorder.record(concurrency_stream_id("default", "shop", "t", "", "7"), [event for _, event in world.events])
    findings: list[Finding] = []
    feed(recorder.events, [PlacedChecker(0, findings.append)])
    assert findings == []

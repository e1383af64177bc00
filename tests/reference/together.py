"""Several tasks beside each other, each in the real core and in the model, and one log that tells them of each other.

The log and the watch over it are the service's own. What a node does for its tasks is done here: what they record is
appended to the log, what they wait for is told to the watch, and what the watch finds is told to them: at once or late,
once or twice, and not at all by a node that is killed. The next one looks into the same log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
from hypothesis import event
from hypothesis import strategies as st

from tasker.errors import Unavailable
from tasker.events.envelope import StreamKind
from tasker.events.memory_log import MemoryLog
from tasker.events.task_events import AnyTaskEvent, DomainEventRaised, TaskCancelled, TaskCompleted, TaskFailed
from tasker.ids import shard_of
from tasker.service.actors.waits.event_news import EventNews, Watched
from tasker.service.actors.waits.event_watch import EventWatch
from tasker.service.domain.commands import NoteEvent
from tasker.service.domain.obligations import Kind, obligations_of, parse_obligation
from tasker.service.domain.waits.event_waits import fits_of, is_seen_anew, looking, waiting_for_event
from tasker.templates import CompiledTemplate
from tasker.testing.virtual_loop import VirtualLoop
from tests.reference.both import Both, plain_event, same
from tests.reference.model import Company, Said
from tests.runs import append_all

SHARDS = 2
LOOK_S = 2.0
"""Longer than the watch takes to look twice."""

HEARD = (DomainEventRaised, TaskCompleted, TaskFailed, TaskCancelled)
"""What the model says as well."""


class Letters:
    """What the watch has found, on its way to the tasks."""

    def __init__(self) -> None:
        self.open: list[tuple[UUID, EventNews]] = []

    def owns(self, shard: int) -> bool:
        """Return True: the node has all shards."""
        return True

    def send(self, shard: int, stream_id: UUID, kind: StreamKind, news: EventNews) -> None:
        """Take a letter."""
        self.open.append((stream_id, news))


class Beside(Both):
    """One of several tasks; the log alone tells it of events."""

    together: Together

    def go_on(self) -> None:
        """Let something happen, mostly by itself: who is always meddled with says little."""
        acts = ["tell"] * 16 * bool(self.said.open()) + ["edit", "edit", "pause", "meddle"]
        match self.data.draw(st.sampled_from(acts), label="what") if self._goes() else "meddle":
            case "tell":
                self._tell()
            case "edit":
                self._edit()
            case "pause":
                self._pause()
            case _:
                super().go_on()

    def _goes(self) -> bool:
        return self.said.status == "running" and not self.said.ending

    def _event(self, name: str, attempt: int) -> None:
        """Do nothing: what there is to tell the watch finds."""

    def _end_wait(self, name: str, attempt: int) -> None:
        """Let a wait end without its event, now and then."""
        if self.data.draw(st.integers(0, 3), label="ends without") == 0:
            super()._end_wait(name, attempt)

    def _edit(self) -> None:
        """Change a result, once all are told what they waited for by the old one."""
        self.together.settle()
        if self._goes() or (self.said.status == "blocked" and not self.said.ending):
            super()._edit()


class Together:
    """Some tasks, each twice.

    Attributes:
        tasks: those that there are; one that was not created yet is `absent`.
    """

    def __init__(self, kinds: Sequence[tuple[CompiledTemplate, dict[str, Any]]], data: st.DataObject) -> None:
        self._data = data
        self._company = Company()
        self.tasks = [
            Beside(template, document, data, task_id=uuid5(NAMESPACE_OID, str(number)), company=self._company)
            for number, (template, document) in enumerate(kinds)
        ]
        for one in self.tasks:
            one.together = self
        self._appended = {one.run.task_id: 0 for one in self.tasks}
        self._log = MemoryLog(shards=SHARDS)
        self._loop = VirtualLoop()
        self._begin_to_watch()

    def close(self) -> None:
        """End what runs. Once."""
        self._stop_watching()
        self._loop.close()

    def turn(self) -> None:
        """Let something happen: to a task, or to the node."""
        acts = ["act"] * 10 + ["look", "settle", "crash"] + ["deliver"] * 6 * bool(self._letters.open)
        getattr(self, f"_{self._data.draw(st.sampled_from(acts), label='turn')}")()

    def settle(self) -> None:
        """Let every task be told all that there is; then nothing that one waits for was missed."""
        self._look()
        while self._letters.open:
            self._deliver(is_sure=True)
            if not self._letters.open:
                self._look()
        for one in self.begun():
            for name in one.said.open():
                missed = [found for other in self.tasks if (found := one.said.first_for(name, other.said.task_id))]
                assert one.said.holds or not missed, f"{name} of {one.said.task_id} missed {missed}"

    _settle = settle

    def begun(self) -> list[Beside]:
        """Return the tasks that were created."""
        return [one for one in self.tasks if one.said.status != "absent"]

    # ---------------------------------------------------------------- tasks

    def _act(self) -> None:
        going = [one for one in self.tasks if not one.said.is_over]
        if not going:
            return
        one = self._data.draw(st.sampled_from(going), label="task")
        self._tick()
        before = len(one.run.events)
        if one.said.status == "absent":
            one.create()
        else:
            one.go_on()
        self._happened(one, one.run.events[before:])

    def _tick(self) -> None:
        """Let a little time pass: no two things happen at the same one."""
        self._pass_until(max(one.run.now_us for one in self.tasks) + 1)

    def _pass_until(self, at_us: int) -> None:
        for one in self.tasks:
            one.pass_until(at_us)

    def _happened(self, one: Beside, events: Sequence[AnyTaskEvent]) -> None:
        """Take up what a task recorded."""
        one.said.speak()
        self._pass_until(one.run.now_us)
        if units := one.run.units[self._appended[one.run.task_id] :]:
            self._appended[one.run.task_id] += len(units)
            self._loop.run_until_complete(append_all(self._log, units))
            self._watch.on_committed(self._shard_of(one), 0, [event for unit in units for event in unit])
        self._tell_the_watch(one, events)

    # ---------------------------------------------------------------- the node

    def _begin_to_watch(self) -> None:
        self._letters = Letters()
        shards: Any = self._letters  # what the watch asks of them
        self._watch = EventWatch(self._log, shards, range(SHARDS), self._now_us)
        self._watcher = self._loop.create_task(self._watch.run(), name="watch")
        self._owed: dict[UUID, set[str]] = {one.run.task_id: set() for one in self.tasks}

    def _stop_watching(self) -> None:
        self._watcher.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._watcher)

    def _now_us(self) -> int:
        return max(one.run.now_us for one in self.tasks)

    def _crash(self) -> None:
        """Let another node take over, which knows what is in the log."""
        self._stop_watching()
        self._begin_to_watch()
        for one in self.tasks:
            self._tell_the_watch(one, ())

    def _tell_the_watch(self, one: Beside, events: Sequence[AnyTaskEvent]) -> None:
        """Say what a task waits for: what it owes by now, and what sees something else since `events`."""
        owed = {name for name in obligations_of(one.run.state) if name.startswith(f"{Kind.EVENT}:")}
        new, self._owed[one.run.task_id] = owed - self._owed[one.run.task_id], owed
        for _, step, attempt in map(parse_obligation, sorted(new)):
            self._watch_for(one, step, attempt)
        for step, attempt in looking(one.run.state) if any(map(is_seen_anew, events)) else ():
            self._watch_for(one, step, attempt)

    def _watch_for(self, one: Beside, step: str, attempt: int) -> None:
        wait = waiting_for_event(one.run.state, step, attempt)
        if wait is None or one.run.state.stopping is not None:
            return
        self._watch.watch(
            Watched(
                shard=self._shard_of(one),
                stream_id=one.run.task_id,
                tenant=one.run.tenant,
                step=step,
                attempt=attempt,
                event=wait.event,
                since_us=wait.since_us,
                fits=fits_of(one.run.state, one.run.template, step),
            )
        )

    @staticmethod
    def _shard_of(one: Beside) -> int:
        return shard_of(one.run.task_id, SHARDS)

    def _look(self) -> None:
        """Let the watch look into the log."""
        self._loop.run_until_complete(self._loop.pass_until(self._loop.time() + LOOK_S))
        if self._watcher.done():
            self._watcher.result()  # it raises what ended it

    def _deliver(self, *, is_sure: bool = False) -> None:
        """Tell a task of an event that the watch found for it, or fail to."""
        letters = self._letters.open
        at = self._data.draw(st.integers(0, len(letters) - 1), label="letter") if len(letters) > 1 else 0
        stream_id, news = letters.pop(at)
        if not is_sure and self._data.draw(st.integers(0, 4), label="it is lost") == 0:
            news.fail(Unavailable("the log did not take it"))
            return
        [one] = [task for task in self.tasks if task.run.task_id == stream_id]
        self._tick()
        command = news.command(one.run.now_us)
        said = self._said(command)
        entry = one.run.state.steps.get(news.step)
        is_its = entry is not None and entry.attempt == news.attempt
        events = one.run.do(command)
        is_heard = is_its and one.said.hear(news.step, said)
        same(f"{news.step} takes {said}", bool(events), is_heard)
        event("an event is taken" if is_heard else "an event is told late, or once more")
        assert not one.run.do(command), "told twice it is one"
        if not events:
            self._watch_for(one, news.step, news.attempt)
        self._happened(one, events)

    def _said(self, command: NoteEvent) -> Said:
        """Return what the model says of an event that a task is told of; it must be the same."""
        [by] = [one for one in self.tasks if str(one.run.task_id) == command.task_id]
        numbers = [seq for seq, event in enumerate(by.run.events, 1) if isinstance(event, HEARD)]
        said = self._company.of(command.task_id)[numbers.index(command.seq)]
        same("the event", plain_event(msgspec.json.decode(command.event)), said.document())
        return said

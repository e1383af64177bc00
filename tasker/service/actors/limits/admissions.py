"""Admission of new tasks under the caps of their template.

    create -> the task's owner: is it new, is it right? -> max_ready: do too many steps wait in its queues?
                                                        -> singleton: does one of its kind run?
                                                        -> debounce: does one wait for more starts?
                                                        -> max_running: its key gives a place, or none
                                    created, or `busy` <-'

Only new tasks are asked after. What a task does later (its next steps, retries, compensations) asks nobody, and the
children that it starts are let in whether or not there is room: a task that runs never waits for one that may not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from tasker.errors import Busy, KeyConflict, TaskerError, Unavailable
from tasker.events.envelope import StreamKind
from tasker.events.places import KeyName, parse_request
from tasker.service.actors.children.standing import Standing, Standings
from tasker.service.actors.dispatch.backlogs import Backlogs, Given
from tasker.service.actors.limits.admission_news import Admission, Admitted
from tasker.service.actors.limits.concurrency_actor import Verdict
from tasker.service.actors.limits.places import Places
from tasker.service.actors.limits.postponing import Postponed, PostponeMessage, Postponing
from tasker.service.actors.task_actor import TaskActor
from tasker.service.actors.task_messages import CreateMessage
from tasker.service.domain.commands import PostponeTask
from tasker.service.domain.limits.admission import admission_key, admission_keys, admission_request
from tasker.service.domain.limits.concurrency import Ask, AskStrategy
from tasker.service.domain.limits.debounce import debounce_key, debounce_of, debounce_request
from tasker.service.runtime.shards import Shards
from tasker.templates import CompiledTemplate

CAPS: Final = ("max_running", "max_ready")
MEETINGS_MAX: Final = 3
"""So often a start finds that the task it met has begun, until it is to come again."""

BUSY_S: Final = 1.0
"""Who was refused may ask again after this."""

SOON_S: Final = 0.2
"""The same of what is over in a moment."""


class Admissions:
    """Implements `AdmissionPorts`.

    Attributes:
        refused: how many creations were answered `busy`, by the cap that was reached.
    """

    def __init__(
        self, shards: Shards, places: Places, backlogs: Backlogs, standings: Standings, postponing: Postponing
    ) -> None:
        self._postponing = postponing
        self._standings = standings
        self.refused = Counter(dict.fromkeys(CAPS, 0))
        self._shards = shards
        self._places = places
        self._backlogs = backlogs

    def ask(self, actor: TaskActor, template: CompiledTemplate, admission: Admission) -> None:
        """Ask for room, then for a place; the answer comes as `Admitted`."""
        if template.spec.max_ready is None or admission.waiting[0].goes_on:
            self._ask_to_be_the_one(actor, template, admission)
        else:
            self._ask_for_room(actor, template, admission, _queues_of(template))

    def _ask_for_room(
        self,
        actor: TaskActor,
        template: CompiledTemplate,
        admission: Admission,
        queues: Sequence[tuple[str, int]],
    ) -> None:
        most, tenant, namespace = template.spec.max_ready, admission.waiting[0].tenant, template.spec.namespace
        assert most is not None  # noqa: S101 - the caller looked
        if not queues:
            self._ask_to_be_the_one(actor, template, admission)
            return
        (queue, adds), *others = queues

        def answered(room: Given | bool | None) -> None:  # noqa: FBT001 - an answer
            if room:
                if isinstance(room, Given):
                    admission.given.append(room)
                self._ask_for_room(actor, template, admission, others)
            elif room is None:
                self._tell(actor, admission, _nobody_says())
            else:
                detail = f"{most} steps or more wait for a worker in queue {namespace}/{queue} (max_ready)"
                self._tell(actor, admission, self._full("max_ready", detail, queue=queue))

        self._backlogs.ask((tenant, namespace, queue), most, adds, answered)

    def _ask_to_be_the_one(self, actor: TaskActor, template: CompiledTemplate, admission: Admission) -> None:
        if admission.debounce is not None:
            self._ask_to_wait(actor, template, admission, admission.debounce, None, MEETINGS_MAX)
            return
        if admission.singleton is None:
            self._ask_for_place(actor, template, admission)
            return
        spec, tenant = template.spec, admission.waiting[0].tenant
        key = admission_key(tenant, spec.namespace, spec.name, admission.singleton)
        admission.has_place = True

        def answered(verdict: Verdict | None, held_by: str | None) -> None:
            if verdict == "waits":
                self._ask_for_place(actor, template, admission)
            elif verdict == "met" and held_by is not None:
                self._tell(actor, admission, None, parse_request(held_by)[0])
            elif verdict == "full" and held_by is not None:
                self._meet(actor, admission, key, held_by)
            else:
                self._tell(actor, admission, _nobody_says())

        request = admission_request(actor.task_id, admission.at_us)
        # A child and a schedule's start get no foreign task: they come again, and what they met is nothing to keep.
        strategy: AskStrategy = "admit" if admission.waiting[0].attached is None else "single"
        self._places.ask_key(key, Ask(request=request, limit=1, strategy=strategy), answered)

    def _meet(self, actor: TaskActor, admission: Admission, key: KeyName, held_by: str) -> None:
        """Answer with the task that has the place, once it is certain that it runs: it may not be created yet.

        The key remembers it first: an answer that is lost is asked for again, maybe when that task has ended.
        """
        running = parse_request(held_by)[0]
        moment = Busy("the task of the same singleton begins or ends at this moment", retry_after_s=SOON_S)

        def remembered(verdict: Verdict | None, met: str | None) -> None:
            if verdict == "met" and met is not None:
                self._tell(actor, admission, None, parse_request(met)[0])
            else:
                self._tell(actor, admission, _nobody_says() if verdict is None else moment)

        def answered(standing: Standing | None) -> None:
            if standing is not None and not standing.ended:
                if admission.waiting[0].attached is None:
                    self._tell(actor, admission, None, running)
                    return
                request = admission_request(actor.task_id, admission.at_us)
                self._places.ask_key(key, Ask(request=request, limit=1, strategy="meet", holder=held_by), remembered)
                return
            if standing is not None and standing.state != "gone":
                self._places.leave_key(key, (held_by,))  # its own word of it was lost, or comes
            self._tell(actor, admission, moment)

        self._standings.ask(key.tenant, running, answered)

    def _ask_to_wait(  # noqa: PLR0917 - the facts of a start
        self,
        actor: TaskActor,
        template: CompiledTemplate,
        admission: Admission,
        debounce: str,
        past: str | None,
        meetings: int,
    ) -> None:
        """Ask to be the one that waits for more starts; else go to the one that does."""
        key = debounce_key(admission.waiting[0].tenant, template, debounce)
        admission.has_place = True

        def answered(verdict: Verdict | None, held_by: str | None) -> None:
            if verdict == "waits":
                self._ask_for_place(actor, template, admission)
            elif verdict == "full" and held_by is not None and meetings:
                self._go_to(actor, template, admission, debounce, held_by, meetings - 1)
            else:
                self._tell(actor, admission, _nobody_says())

        request = debounce_request(actor.task_id, admission.at_us)
        self._places.ask_key(key, Ask(request=request, limit=1, strategy="debounce", past=past), answered)

    def _go_to(  # noqa: PLR0917 - the facts of a start
        self,
        actor: TaskActor,
        template: CompiledTemplate,
        admission: Admission,
        debounce: str,
        held_by: str,
        meetings: int,
    ) -> None:
        first, command = admission.waiting[0], admission.command

        def done(told: Postponed) -> None:
            if told.position is not None:
                self._tell(actor, admission, None, parse_request(held_by)[0], told.position)
            elif told.over:
                self._ask_to_wait(actor, template, admission, debounce, held_by, meetings)
            else:
                self._tell(actor, admission, _other_start() if told.conflict else _nobody_says())

        postpone = PostponeTask(
            at_us=command.at_us,
            start=actor.task_id,
            request_hash=command.request_hash,
            input=command.input,
            not_before_us=command.not_before_us,
            timeout_s=command.timeout_s,
            by=command.created_by,
        )
        self._postponing.ask(first.tenant, held_by, postpone, first.meta, done)

    def _ask_for_place(self, actor: TaskActor, template: CompiledTemplate, admission: Admission) -> None:
        first, spec = admission.waiting[0], template.spec
        if spec.max_running is None:
            self._tell(actor, admission, None)
            return
        most = spec.max_running
        admission.has_place = True

        def answered(verdict: Verdict | None, _held_by: str | None) -> None:
            if verdict != "waits" and admission.singleton is not None:
                key = admission_key(first.tenant, spec.namespace, spec.name, admission.singleton)
                self._places.leave_key(key, (admission_request(actor.task_id, admission.at_us),))
            if verdict != "waits" and admission.debounce is not None:
                key = debounce_key(first.tenant, template, admission.debounce)
                self._places.leave_key(key, (debounce_request(actor.task_id, admission.at_us),))
            match verdict:
                case "waits":
                    self._tell(actor, admission, None)
                case "full":
                    detail = f"{most} tasks of {spec.namespace}/{spec.name} have not ended (max_running)"
                    self._tell(actor, admission, self._full("max_running", detail))
                case _:
                    self._tell(actor, admission, _nobody_says())

        self._places.ask_key(
            admission_key(first.tenant, spec.namespace, spec.name),
            Ask(
                request=admission_request(actor.task_id, admission.at_us),
                limit=most,
                strategy="admit_always" if first.goes_on else "admit",
            ),
            answered,
        )

    def _tell(
        self,
        actor: TaskActor,
        admission: Admission,
        error: TaskerError | None,
        running: str | None = None,
        position: str | None = None,
    ) -> None:
        news = Admitted(admission, error, running, position)
        self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, news)

    def _full(self, cap: str, detail: str, **facts: Any) -> Busy:
        self.refused[cap] += 1
        return Busy(detail, retry_after_s=BUSY_S, cap=cap, **facts)

    def again(self, actor: TaskActor, messages: Iterable[CreateMessage | PostponeMessage]) -> None:
        """Give the actor commands that waited for the first of them."""
        for message in messages:
            self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, message)

    def leave(self, actor: TaskActor, tenant: str, template: CompiledTemplate, at_us: int) -> None:
        """Tell that its places are free; a word that is lost is no harm."""
        self.begun(actor, tenant, template, at_us)
        over = (admission_request(actor.task_id, at_us),)
        for key in admission_keys(tenant, template, actor.state.input):
            self._places.leave_key(key, over)

    def begun(self, actor: TaskActor, tenant: str, template: CompiledTemplate, at_us: int) -> None:
        """Tell that it waits for no more starts; a word that is lost is no harm."""
        debounce = debounce_of(template, actor.state.input)
        if debounce is not None:
            self._places.leave_key(debounce_key(tenant, template, debounce), (debounce_request(actor.task_id, at_us),))


@lru_cache(maxsize=1024)
def _queues_of(template: CompiledTemplate) -> tuple[tuple[str, int], ...]:
    """Return the queues of a template's steps, and how many of its first steps each gets."""
    roots = frozenset(template.roots)
    found: Counter[str] = Counter()
    for step in template.spec.steps:
        if step.handler:
            found[template.spec.work_queue_of(step)] += step.name in roots
    return tuple(found.items())


def _other_start() -> KeyConflict:
    return KeyConflict("the key belongs to a start with another input or version; use a new key for another request")


def _nobody_says() -> Unavailable:
    return Unavailable("it is not known whether the task may be let in", retry_after_s=BUSY_S)

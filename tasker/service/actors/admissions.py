"""Admission of new tasks under the `max_running` of their template.

    create -> the task's owner: is it new, is it right? -> the key of `max_running`: a place, or none
                                    created, or `busy` <-'

Only new tasks are asked after. What a task does later (its next steps, retries, compensations) asks nobody, and the
children that it starts are let in whether or not a place is free: a task that runs never waits for one that may not.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasker.events.envelope import StreamKind
from tasker.service.actors.admission_news import Admission, Admitted
from tasker.service.actors.concurrency_actor import Verdict
from tasker.service.actors.places import Places
from tasker.service.actors.task_actor import CreateMessage, TaskActor
from tasker.service.domain.admission import admission_key, admission_request
from tasker.service.domain.concurrency import Ask
from tasker.service.runtime.shards import Shards
from tasker.templates import CompiledTemplate


class Admissions:
    """Implements `AdmissionPorts`.

    Attributes:
        refused: how many creations were answered `busy`.
    """

    def __init__(self, shards: Shards, places: Places) -> None:
        self.refused = 0
        self._shards = shards
        self._places = places

    def ask(self, actor: TaskActor, template: CompiledTemplate, admission: Admission) -> None:
        """Ask for a place; the answer comes as `Admitted`."""
        first, spec = admission.waiting[0], template.spec
        assert spec.max_running is not None  # noqa: S101 - the caller looked

        def answered(verdict: Verdict | None) -> None:
            self.refused += verdict == "full"
            self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, Admitted(admission, verdict))

        self._places.ask_key(
            admission_key(first.tenant, spec.namespace, spec.name),
            Ask(
                request=admission_request(actor.task_id, admission.at_us),
                limit=spec.max_running,
                strategy="admit_always" if first.goes_on else "admit",
            ),
            answered,
        )

    def again(self, actor: TaskActor, messages: Iterable[CreateMessage]) -> None:
        """Give the actor commands that waited for the first of them."""
        for message in messages:
            self._shards.send(actor.shard, actor.stream_id, StreamKind.TASK, message)

    def leave(self, actor: TaskActor, tenant: str, template: CompiledTemplate, at_us: int) -> None:
        """Tell that a place is free; a word that is lost is no harm."""
        spec = template.spec
        key = admission_key(tenant, spec.namespace, spec.name)
        self._places.leave_key(key, (admission_request(actor.task_id, at_us),))

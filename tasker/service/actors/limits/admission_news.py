"""What the actor of a task is told about its being let in under the caps of its template."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tasker.errors import TaskerError
from tasker.service.domain.limits.debounce import waiting

if TYPE_CHECKING:
    from tasker.service.actors.dispatch.backlogs import Given
    from tasker.service.actors.limits.postponing import PostponeMessage
    from tasker.service.actors.task_messages import CreateMessage
    from tasker.service.domain.commands import CreateTask
    from tasker.templates import CompiledTemplate


class Admission:
    """A task that asks to be let in, and the commands that wait for it.

    Attributes:
        at_us: when it asked, which names its request for a place.
        singleton: the key of which it is to be the only one; None: it need not be.
        debounce: the key under which it waits for more starts, or goes to the task that does; None: it does neither.
        command: what is to become of it.
        behind: other starts, which wait for this task to be there.
        has_place: it has asked for one, so when it is let in it has it.
        given: the room in queues that it was given (`max_ready`).
    """

    __slots__ = ("at_us", "behind", "command", "debounce", "given", "has_place", "singleton", "template", "waiting")

    def __init__(
        self,
        first: CreateMessage,
        template: CompiledTemplate,
        command: CreateTask,
        singleton: str | None,
        debounce: str | None,
    ) -> None:
        self.singleton = singleton
        self.debounce = debounce
        self.template = template
        self.command = command
        self.behind: list[PostponeMessage] = []
        self.at_us = command.at_us
        self.has_place = False
        self.given: list[Given] = []
        self.waiting: list[CreateMessage] = [first]

    def plan(self, at_us: int) -> tuple[CompiledTemplate, CreateTask]:
        """Return template and command of the task, which is let in at `at_us`."""
        admitted_us = self.at_us if self.has_place else None
        command = msgspec.structs.replace(self.command, at_us=at_us, admitted_us=admitted_us)
        if self.debounce is not None and self.template.spec.debounce is not None:
            command = waiting(self.template.spec.debounce, command)
        return self.template, command

    def settle(self) -> None:
        """Need the room no more: the task waits where all wait, or never will."""
        for one in self.given:
            one.is_settled = True

    def fail(self, error: TaskerError) -> None:
        """Refuse them all."""
        self.settle()
        for one in self.waiting:
            one.fail(error)
        for other in self.behind:
            other.fail(error)


class Admitted:
    """What came of it: it is let in, or `error` says why it is not.

    Attributes:
        running: the task that stands for it.
        position: where that one took it, as a token; None: it just runs (`singleton`).
    """

    __slots__ = ("admission", "error", "position", "running")

    def __init__(
        self, admission: Admission, error: TaskerError | None, running: str | None = None, position: str | None = None
    ) -> None:
        self.running = running
        self.position = position
        self.admission = admission
        self.error = error

    def fail(self, error: TaskerError) -> None:
        """Refuse who waits."""
        self.admission.fail(error)


class AdmissionLook:
    """The key asks whether the task that asked at `at_us` is there; `answered` gets None while that is open.

    Attributes:
        until_begun: the place is only for the time in which the task waits for more starts (`debounce`).
    """

    __slots__ = ("answered", "at_us", "fail", "tenant", "until_begun")

    def __init__(
        self,
        tenant: str,
        at_us: int,
        answered: Callable[[bool | None], None],
        fail: Callable[[TaskerError], None],
        *,
        until_begun: bool = False,
    ) -> None:
        self.until_begun = until_begun
        self.tenant = tenant
        self.at_us = at_us
        self.answered = answered
        self.fail = fail

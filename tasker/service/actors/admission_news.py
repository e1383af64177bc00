"""What the actor of a task is told about its being let in under the caps of its template."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasker.errors import TaskerError

if TYPE_CHECKING:
    from tasker.service.actors.task_actor import CreateMessage


class Admission:
    """A task that asks to be let in, and the commands that wait for it.

    Attributes:
        at_us: when it asked, which names its request for a place.
        singleton: the key of which it is to be the only one; None: it need not be.
        has_place: it has asked for one, so when it is let in it has it.
    """

    __slots__ = ("at_us", "has_place", "singleton", "waiting")

    def __init__(self, at_us: int, first: CreateMessage, singleton: str | None) -> None:
        self.singleton = singleton
        self.at_us = at_us
        self.has_place = False
        self.waiting: list[CreateMessage] = [first]

    def fail(self, error: TaskerError) -> None:
        """Refuse them all."""
        for one in self.waiting:
            one.fail(error)


class Admitted:
    """What came of it: it is let in, or `error` says why it is not; `running`: the task that stands for it."""

    __slots__ = ("admission", "error", "running")

    def __init__(self, admission: Admission, error: TaskerError | None, running: str | None = None) -> None:
        self.running = running
        self.admission = admission
        self.error = error

    def fail(self, error: TaskerError) -> None:
        """Refuse who waits."""
        self.admission.fail(error)


class AdmissionLook:
    """The key asks whether the task that asked at `at_us` is there; `answered` gets None while that is open."""

    __slots__ = ("answered", "at_us", "fail", "tenant")

    def __init__(
        self, tenant: str, at_us: int, answered: Callable[[bool | None], None], fail: Callable[[TaskerError], None]
    ) -> None:
        self.tenant = tenant
        self.at_us = at_us
        self.answered = answered
        self.fail = fail

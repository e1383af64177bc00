"""Places under concurrency keys: of the task, and of its steps."""

from __future__ import annotations

from tests.reference.model.beginnings import Beginnings


class Places(Beginnings):
    """What begins once it has its place."""

    def create(self) -> None:
        """Ask for the task's place, or begin the first steps."""
        self.status = "pending"
        if self._key(self.document) is None:
            self.take("")

    def take(self, name: str) -> None:
        """Give the task, or an instance, the place that it waits for."""
        if name:
            self.instances[name].has_place = True
        else:
            self._begin_first()

    def deny(self, name: str) -> None:
        """There is no place, or it is wanted back: make room."""
        if not name:
            self.cancel(graceful=True)
            return
        self._cancelled(name)
        if "[" in name and not self.ending:
            self._next_items(name.partition("[")[0])
        self._rest()

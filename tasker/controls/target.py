"""What a control holds for."""

from __future__ import annotations

from typing import NamedTuple

from tasker.events.control_events import target_words


class Target(NamedTuple):
    """What a control holds for. `tenant` is "" for everything; `namespace` and `name` are "" but for one of a name."""

    scope: str
    tenant: str
    namespace: str
    name: str

    def words(self) -> str:
        """Return how it is called in a sentence."""
        return target_words(self.scope, self.namespace, self.name or self.tenant)

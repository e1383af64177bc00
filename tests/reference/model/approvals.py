"""What people answer to what steps ask them."""

from __future__ import annotations

from tests.reference.model.moves import Moves
from tests.reference.model.waits import Asked


class Approvals(Moves):
    """Steps that wait for a decision."""

    def answer(self, name: str, by: str, decision: str, roles: tuple[str, ...] = ()) -> bool:
        """Take what somebody answers; False: they may not."""
        asked = self._asked(name)
        before = asked.decision()
        if not asked.answer(by, decision, roles):
            return False
        decided = asked.decision()
        if decided is not None and before is None:
            self._done(name, {"decision": decided, "by": by})
            self._rest()
        return True

    def delegate(self, name: str, by: str, to: str, roles: tuple[str, ...] = ()) -> bool:
        """Let somebody hand it to another; False: they may not."""
        return self._asked(name).delegate(by, to, roles)

    def escalate(self, name: str) -> None:
        """From now on others may answer as well."""
        self._asked(name).is_escalated = True

    def _asked(self, name: str) -> Asked:
        wait = self.instances[name].wait
        assert wait is not None
        assert wait.asked is not None
        return wait.asked

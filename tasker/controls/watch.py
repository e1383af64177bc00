"""Follows the log's stream of controls: what a node, or a reader, knows of them.

The log is asked, and nobody else: an answer is complete, and a node that has just started knows what all know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from tasker.controls.fold import CONTROL_FORM, Controls
from tasker.errors import Undecodable
from tasker.events.history import read_history
from tasker.events.log import EventLog
from tasker.ids import control_stream_id

PAGE_EVENTS: Final = 500

_log = structlog.get_logger(__name__)


class ControlsWatch:
    """The controls as they were at the last look.

    Attributes:
        changed_us: when they changed last; 0: never.
    """

    def __init__(self, log: EventLog, monotonic_s: Callable[[], float]) -> None:
        self.controls = Controls()
        self.changed_us = 0
        self._log = log
        self._monotonic_s = monotonic_s
        self._looked_s: float | None = None

    async def look(self) -> bool:
        """Take what is new; returns whether there was anything.

        Raises:
            Unavailable: the log cannot be read.
        """
        changed = not self.controls.seq and await self._begin()
        while True:
            asked_s = self._monotonic_s()
            after = self.controls.seq
            page = await self._log.load_stream(control_stream_id(), after_seq=after, limit=PAGE_EVENTS)
            for recorded in page:
                if recorded.seq != self.controls.seq + 1:
                    continue  # another look, at the same time, has taken it
                try:
                    self.controls.take_recorded(recorded)
                except Undecodable as error:
                    # A newer build wrote it: nodes of that build heed it, and this one must not stop for it.
                    _log.error("control_undecodable", seq=recorded.seq, error=error.detail)
                self.changed_us = recorded.at_us
                changed = True
            if len(page) < PAGE_EVENTS:
                self._looked_s = asked_s
                return changed

    async def _begin(self) -> bool:
        """Begin with the snapshot, where there is one that this build can read; returns whether there was."""
        history = await read_history(self._log, control_stream_id())
        kept = history.resumed(CONTROL_FORM)
        if kept is None or kept.seq <= self.controls.seq:
            return False
        self.controls, self.changed_us = kept, history.at_us
        return True

    async def look_if_older(self, age_s: float) -> Controls:
        """Return the controls, after a look when the last one is older than `age_s`.

        Raises:
            Unavailable: the log cannot be read.
        """
        if self._looked_s is None or self._monotonic_s() - self._looked_s > age_s:
            await self.look()
        return self.controls

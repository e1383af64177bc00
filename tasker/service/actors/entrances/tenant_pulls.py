"""Submitted commands of all tenants, of each by a consumer of its own: none stands behind what another left before.

Within a stream what came first is first for good, so one consumer for all of them would serve a tenant that left a
million commands before anybody who comes later. Here each tenant has a *lane*: a consumer, filtered by its subjects,
and what pulls from it.

    the subjects that the stream holds messages under -> tenants -> a lane each
    a lane holds no more than its share of the room, by weight, among the lanes that hold something or have a backlog

A lane that holds nothing has asked for a few messages, so that its next command comes at once. Of such idle lanes a
number stays open; beyond it the one without a command for longest is closed, and its consumer goes with time. Its
tenant is found again by its subjects, within `LOOK_S`. So an idle tenant costs nothing, and nobody has to be told
which tenants there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Final

import structlog

from tasker.bus.bus import Bus
from tasker.bus.jetstream import ApiRefused
from tasker.bus.pull import Delivery, PullLoop
from tasker.bus.streams import ensure_command_consumer
from tasker.bus.subject_counts import count_subjects
from tasker.errors import Unavailable
from tasker.events.messages import DEFAULT_TENANT
from tasker.events.subjects import Subjects
from tasker.outages import Outage
from tasker.settings import StreamSettings

LOOK_S: Final = 0.25
"""Between two looks for tenants without a lane that have left something."""

LOOK_SHARE: Final = 20.0
"""A look is followed by a pause of so many times its own length: many subjects take long to list."""

AGAIN_S: Final = 0.5
LANES_IDLE_MAX: Final = 32

_log = structlog.get_logger(__name__)


class _Lane:
    """One tenant's.

    Attributes:
        held: messages that were handed on and are not done with.
        backlog: whether the stream had more of it at the last look. What is held may be nothing for a moment.
        shares: whether it takes a share of the room: it holds something, or has a backlog.
        asked: how many more it takes. It does not shrink with the share: what is given back comes after what follows.
        used_s: when it was opened, or had a message last.
    """

    __slots__ = ("asked", "backlog", "held", "missing", "pull", "shares", "tenant", "used_s", "weight")

    def __init__(self, tenant: str, weight: float, used_s: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.used_s = used_s
        self.pull: PullLoop | None = None
        self.held = 0
        self.asked = 0
        self.backlog = False
        self.shares = False
        self.missing = True


class TenantPulls:
    """Takes messages of the stream of submitted commands while it runs.

    Args:
        on_message: takes a tenant and its delivery, on the loop, of each tenant in the stream's order; `done` is to be
            called for it once.
        room: how many messages may be held, all tenants together.
        pull: makes what takes a consumer's messages.
        weights: those of tenants; all others have 1.
    """

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        bus: Bus,
        subjects: Subjects,
        settings: StreamSettings,
        on_message: Callable[[str, Delivery], None],
        room: Callable[[], int],
        pull: Callable[..., PullLoop] = PullLoop,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._settings = settings
        self._on_message = on_message
        self._room = room
        self._open_pull = pull
        self._weights = weights or {}
        self._lanes: dict[str, _Lane] = {}
        self._refused: set[str] = set()
        self._wanted = asyncio.Event()
        self._sharing = 0
        self._weight = 0.0
        self._stopped = False
        self.held = 0

    async def run(self) -> None:
        """Keep a lane for each tenant that has left something, for ever."""
        loop = asyncio.get_running_loop()
        outage = Outage(_log, "commands_not_taken", loop.time)
        while not self._stopped:
            self._wanted.clear()
            began_s = loop.time()
            try:
                await self._look(began_s)
                outage.is_over()
            except Unavailable as error:
                # Whoever keeps the streams makes a missing one again.
                outage.goes_on(error.detail)
                await asyncio.sleep(AGAIN_S)
                continue
            pause_s = max(LOOK_S, LOOK_SHARE * (loop.time() - began_s))
            try:
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Ask for no more, and give back what is on its way. Twice is fine."""
        self._stopped = True
        await asyncio.gather(*(lane.pull.stop() for lane in self._lanes.values() if lane.pull is not None))

    def ack(self, delivery: Delivery) -> None:
        """Tell the stream that the message is done with."""
        self._pull_of(delivery).ack(delivery)

    def nak(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Give a message back, to be delivered again after `delay_s`."""
        self._pull_of(delivery).nak(delivery, delay_s=delay_s)

    def done(self, delivery: Delivery) -> None:
        """Hold a message no more: there is room for the next one."""
        lane = self._lanes[self._subjects.tenant_of(delivery.subject)]
        self.held -= 1
        lane.held -= 1
        self._share_out(lane)
        if lane.pull is not None:
            lane.pull.wake()

    def _pull_of(self, delivery: Delivery) -> PullLoop:
        pull = self._lanes[self._subjects.tenant_of(delivery.subject)].pull
        assert pull is not None  # noqa: S101 - it delivered the message
        return pull

    # ---------------------------------------------------------------- lanes come and go

    async def _look(self, now_s: float) -> None:
        """Open the lanes that are missing, and close idle ones beyond their number."""
        if not self._lanes:
            # Whose commands are likely: these need not be found first.
            for tenant in islice({DEFAULT_TENANT: None} | dict.fromkeys(self._weights), LANES_IDLE_MAX):
                self._lanes[tenant] = self._lane(tenant, now_s)
        stream, pattern = self._subjects.command_stream, self._subjects.submits_all
        subjects = await count_subjects(self._bus, stream, pattern)
        found: Counter[str] = Counter()
        for subject, count in subjects.items():
            found[self._subjects.tenant_of(subject)] += count
        for tenant in found.keys() - self._lanes.keys():
            self._lanes[tenant] = self._lane(tenant, now_s)
        few = self._room() // LANES_IDLE_MAX
        for lane in self._lanes.values():
            lane.backlog = found[lane.tenant] > max(lane.held, few)
            self._share_out(lane)
        for lane in [lane for lane in self._lanes.values() if lane.missing]:
            await self._open(lane)
        idle = [lane for lane in self._lanes.values() if not lane.shares and not found[lane.tenant]]
        if len(idle) > LANES_IDLE_MAX:
            idle.sort(key=lambda lane: lane.used_s)
            await asyncio.gather(*(self._close(lane) for lane in idle[:-LANES_IDLE_MAX]))

    def _lane(self, tenant: str, now_s: float) -> _Lane:
        return _Lane(tenant, self._weights.get(tenant, 1.0), now_s)

    async def _open(self, lane: _Lane) -> None:
        try:
            name = await ensure_command_consumer(self._bus, self._subjects, self._settings, lane.tenant)
        except ApiRefused as refused:
            # The server has its limits: that of one tenant is none of the others'.
            if lane.tenant not in self._refused:
                self._refused.add(lane.tenant)
                _log.warning("commands_of_tenant_not_taken", tenant=lane.tenant, error=refused.detail)
            return
        self._refused.discard(lane.tenant)
        lane.missing = False
        if self._stopped:
            return
        if lane.pull is not None:
            lane.pull.restart()
            return
        lane.pull = self._open_pull(
            self._bus,
            self._subjects.command_stream,
            name,
            partial(self._take, lane),
            partial(self._credit, lane),
            on_missing=partial(self._on_missing, lane),
        )

    async def _close(self, lane: _Lane) -> None:
        """Take nothing more from an idle lane; what is on its way to it goes back."""
        if lane.shares:
            return
        del self._lanes[lane.tenant]
        self._refused.discard(lane.tenant)
        if lane.pull is not None:
            await lane.pull.stop()

    def _on_missing(self, lane: _Lane) -> None:
        lane.missing = True
        self._wanted.set()

    # ---------------------------------------------------------------- a message

    def _take(self, lane: _Lane, delivery: Delivery) -> None:
        lane.asked -= 1
        self.held += 1
        if not lane.held:
            lane.used_s = asyncio.get_running_loop().time()
        lane.held += 1
        self._share_out(lane)
        self._on_message(lane.tenant, delivery)

    def _share_out(self, lane: _Lane) -> None:
        """Count the lane among those that share the room, or no more."""
        shares = lane.held > 0 or lane.backlog
        if shares == lane.shares:
            return
        lane.shares = shares
        self._sharing += 1 if shares else -1
        self._weight = self._weight + (lane.weight if shares else -lane.weight) if self._sharing else 0.0

    def _credit(self, lane: _Lane) -> int:
        """Return how many messages a lane takes: what it has asked for, and up to its share of the room."""
        room = self._room()
        if lane.shares:
            share = room * lane.weight / self._weight
        else:
            share = min(room / LANES_IDLE_MAX, room * lane.weight / (self._weight + lane.weight))
        lane.asked = max(lane.asked, max(1, int(share)) - lane.held)
        return lane.asked

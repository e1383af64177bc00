"""Commands of callers that do not wait: from the stream to the entrance, and the verdict to where it is wanted.

The stream's ack told the caller that the command lies there, not that it is accepted. Every node takes from
one durable consumer a tenant (`tenant_pulls`). A message is acked once its verdict is final and told; before that it
comes again, and is the same command again: its key, or its place in the stream, names it.

    verdict                        what happens to the message
    accepted                       verdict to `Tasker-Reply-To`, ack
    refused for good               into the list of refusals, verdict to `Tasker-Reply-To`, ack
    busy, unavailable, fenced      given back with a growing delay; told to nobody

What is under way is bounded, in commands, well below what the entrance takes, so callers that wait do not
stand behind a stream that was filled while the service was away. Both bounds are shared by weight among the tenants
that have something there: that of messages held in `tenant_pulls`, that of commands by stride scheduling. Of one
tenant the order is that of the stream.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
import structlog

from tasker.bus.bus import Bus
from tasker.bus.publish import AckedPublisher
from tasker.bus.pull import Delivery, PullLoop
from tasker.errors import ParameterInvalid, Problem, TaskerError, is_passing
from tasker.events.codec import BATCH_ITEMS_MAX, BODY_BYTES_MAX, decode_message, encode_message, split_array
from tasker.events.messages import (
    HEADER_IDEMPOTENCY_KEY,
    HEADER_MESSAGE_ID,
    HEADER_REPLY_TO,
    HEADER_SUBMITTED,
    Refused,
    RefusedCommand,
    Reply,
)
from tasker.events.subjects import Subjects
from tasker.failpoints import failpoint
from tasker.ids import check_name
from tasker.service.actors.entrances.entrance import Entrance
from tasker.service.actors.entrances.tenant_pulls import TenantPulls
from tasker.service.runtime.tenants import TenantLine
from tasker.settings import StreamSettings
from tasker.times import to_rfc3339

MESSAGES_MAX: Final = 256
"""Messages held at once by a node; each tenant that has some gets its share of the room."""

COMMANDS_MAX: Final = 1_000
"""Commands of them under way at once."""

DELAY_S_BASE: Final = 0.5
DELAY_S_MAX: Final = 30.0
BODY_CHARS_MAX: Final = 1_000
DETAIL_CHARS_MAX: Final = 2_000
FAULTS_MAX: Final = 20

_log = structlog.get_logger(__name__)
_subject = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


class _Held(NamedTuple):
    """A message in hand, and how many commands it is."""

    delivery: Delivery
    commands: int


class Submissions:
    """Takes submitted commands while it runs."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        bus: Bus,
        subjects: Subjects,
        settings: StreamSettings,
        entrance: Entrance,
        pull: Callable[..., PullLoop] = PullLoop,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._entrance = entrance
        self._publisher = AckedPublisher(bus)
        self._pulls = TenantPulls(bus, subjects, settings, self._take, lambda: MESSAGES_MAX, pull, weights)
        self._waiting: TenantLine[_Held] = TenantLine(weights, cost=lambda held: held.commands)
        self._commands = 0
        self._telling: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._beginning = False

    async def run(self) -> None:
        """Take commands, for ever; a consumer is made anew whenever it is missing."""
        await self._pulls.run()

    async def stop(self) -> None:
        """Take no more, and give back what has not begun. What is under way is answered by the entrance's drain."""
        self._stopped = True
        await self._pulls.stop()
        while self._waiting:
            self._give_back(self._waiting.take().delivery, 0.0)

    async def drain(self) -> None:
        """Return when every verdict that was found is told."""
        if self._telling:
            await asyncio.wait(self._telling)

    # ---------------------------------------------------------------- a message

    def _take(self, tenant: str, delivery: Delivery) -> None:
        self._waiting.add(tenant, _Held(delivery, _count(delivery)))
        self._begin()

    def _begin(self) -> None:
        """Hand on what may be under way, in order; a verdict that is found at once comes back here, while we do."""
        if self._beginning:
            return
        self._beginning = True
        try:
            while self._waiting and not self._stopped:
                count = self._waiting.first().commands
                if self._commands and self._commands + count > COMMANDS_MAX:
                    return
                self._commands += count
                self._enter(self._waiting.take().delivery, count)
        finally:
            self._beginning = False

    def _enter(self, delivery: Delivery, count: int) -> None:
        def respond(verdict: bytes) -> None:
            self._commands -= count
            told = asyncio.get_running_loop().create_task(self._settle(delivery, verdict), name="verdict")
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)
            self._begin()

        try:
            self._reply_to(delivery)
        except ParameterInvalid as error:
            respond(encode_message(Refused(ok=False, error=error.problem())))
            return
        self._entrance.on_submitted(delivery, respond)

    async def _settle(self, delivery: Delivery, verdict: bytes) -> None:
        """Tell the verdict and ack, or give the message back to be tried again."""
        many = verdict[:1] == b"["
        try:
            replies = decode_message(verdict, list[Reply]) if many else [decode_message(verdict, Reply)]
            passing = [error for reply in replies if (error := _passing_error(reply)) is not None]
            if passing:
                delay_s = min(DELAY_S_MAX, DELAY_S_BASE * 2.0 ** min(delivery.num_delivered - 1, 16))
                self._give_back(delivery, max(delay_s, *(error.retry_after_s or 0.0 for error in passing)))
                return
            await self._list(delivery, [reply.error for reply in replies], many=many)
            failpoint("before_submit_ack")
            self._tell(delivery, verdict)
            self._pulls.ack(delivery)
        except TaskerError as error:
            # It comes again, as the same command, with the same verdict.
            _log.warning("verdict_not_told", submitted=delivery.stream_seq, error=error.detail)
            self._give_back(delivery, DELAY_S_BASE)
            return
        self._pulls.done(delivery)

    def _tell(self, delivery: Delivery, verdict: bytes) -> None:
        try:
            subject = self._reply_to(delivery)
        except ParameterInvalid:
            return
        if subject is not None:
            self._bus.publish(subject, verdict, headers={HEADER_SUBMITTED: str(delivery.stream_seq)})

    async def _list(self, delivery: Delivery, problems: list[Problem | None], *, many: bool) -> None:
        """Put what was refused into the list of refusals; return once it is there.

        Raises:
            TaskerError: it could not be put there.
        """
        if not any(problems):
            return
        tenant, verb = self._subjects.parse_submit(delivery.subject)
        subject = self._subjects.refused(_listed_tenant(tenant))
        headers = delivery.headers or {}
        bodies = split_array(delivery.data) if many else [delivery.data]
        for index, (problem, body) in enumerate(zip(problems, bodies, strict=True)):
            if problem is None:
                continue
            refused = RefusedCommand(
                tenant=tenant,
                verb=verb[:BODY_CHARS_MAX],
                submitted=delivery.stream_seq,
                submitted_at=to_rfc3339(delivery.at_us),
                error=_bounded(problem),
                item=index if many else None,
                key=None if many else headers.get(HEADER_IDEMPOTENCY_KEY) or headers.get(HEADER_MESSAGE_ID),
                body=body[: 4 * BODY_CHARS_MAX].decode(errors="replace")[:BODY_CHARS_MAX],
            )
            identity = f"{delivery.stream_seq}:{delivery.at_us}:{index}"
            await self._publisher.wait_room()
            await self._publisher.publish(subject, encode_message(refused), msg_id=identity)

    def _reply_to(self, delivery: Delivery) -> str | None:
        """Return where the verdict is wanted; None: nowhere.

        Raises:
            ParameterInvalid: no verdict may go there.
        """
        subject = (delivery.headers or {}).get(HEADER_REPLY_TO)
        if not subject:
            return None
        if (
            _subject.fullmatch(subject) is None
            or not subject.isprintable()
            or not self._subjects.is_callers(f"{subject}.")
        ):
            raise ParameterInvalid(
                f"{HEADER_REPLY_TO} {subject[:80]!r} is no subject for a verdict: without wildcards, and not below "
                f"`$` or `{self._subjects.prefix}`"
            )
        return subject

    def _give_back(self, delivery: Delivery, delay_s: float) -> None:
        self._pulls.nak(delivery, delay_s=delay_s)
        self._pulls.done(delivery)


def _passing_error(reply: Reply) -> TaskerError | None:
    error = None if reply.error is None else TaskerError.from_problem(reply.error)
    return error if error is not None and is_passing(error) else None


def _count(delivery: Delivery) -> int:
    """Return how many commands a message is; what the entrance will refuse as a whole is one."""
    if delivery.data.lstrip()[:1] != b"[" or len(delivery.data) > BODY_BYTES_MAX:
        return 1
    try:
        count = len(split_array(delivery.data))
    except TaskerError:
        return 1
    return count if 0 < count <= BATCH_ITEMS_MAX else 1


def _listed_tenant(tenant: str) -> str:
    """Return under which name a tenant's refusals are kept; all that are no names share one."""
    try:
        return check_name(tenant, "tenant")
    except TaskerError:
        return "_"


def _bounded(problem: Problem) -> Problem:
    return msgspec.structs.replace(
        problem, detail=problem.detail[:DETAIL_CHARS_MAX], errors=problem.errors[:FAULTS_MAX], context={}
    )

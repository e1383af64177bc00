"""The entrance of workers' reports: one or an array, each to the actor of its task, one answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Message
from tasker.errors import BodyInvalid, BodyTooLarge, Busy, StateInvalid, TaskerError, ValueInvalid
from tasker.events.codec import (
    BATCH_ITEMS_MAX,
    BODY_BYTES_MAX,
    INPUT_BYTES_MAX,
    canonicalize,
    decoder_of,
    encode_message,
    split_array,
    split_field,
)
from tasker.events.envelope import StreamKind
from tasker.events.messages import HEADER_RELEASED, HEADER_RELEASED_PARTS, Report, ReportReply
from tasker.events.subjects import Subjects, is_token
from tasker.events.task_events import NULL, Choice, ErrorInfo
from tasker.remedies import with_result_remedy
from tasker.service.actors.dispatch.copies import Copies
from tasker.service.actors.dispatch.direct import DirectWork
from tasker.service.actors.dispatch.first_offers import FirstOffers
from tasker.service.actors.dispatch.own_queues import OwnQueues
from tasker.service.actors.entrances.asked import Answer, Answers
from tasker.service.actors.task_actor import TaskActor
from tasker.service.actors.task_messages import ReportMessage
from tasker.service.runtime.routes import Routes
from tasker.service.runtime.shards import Shards
from tasker.templates.model import ROUTES_MAX, SECONDS_MAX
from tasker.templates.writes import checked_writes

MESSAGE_CHARS_MAX = 2_000
STACK_CHARS_MAX = 8_000
ERROR_TYPE_CHARS_MAX = 128
COUNT_DIGITS_MAX = 18

_log = structlog.get_logger(__name__)
_decode_one = decoder_of(Report).decode
_decode_many = decoder_of(list[Report]).decode


class _Placed(NamedTuple):
    """A report and where its task is; `task_id`: None: there is no such task. `is_anothers`: of another tenant's."""

    report: Report
    task_id: UUID | None
    shard: int
    is_anothers: bool


class Reports:
    """Takes reports of workers on the shards that this node owns."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        subjects: Subjects,
        shards: Shards,
        routes: Routes,
        direct: DirectWork,
        own_queues: OwnQueues,
        first_offers: FirstOffers,
        copies: Copies,
    ) -> None:
        self._subjects = subjects
        self._direct = direct
        self._own_queues = own_queues
        self._first_offers = first_offers
        self._copies = copies
        self._shards = shards
        self._routes = routes
        self.unrecorded: Counter[str] = Counter()
        """Reports that changed nothing, by reason."""

    def on_report(self, message: Message) -> None:
        """Take a message with one report or an array of them."""
        respond = partial(self._respond, message)
        tenant = self._subjects.tenant_of(message.subject)
        try:
            if len(message.data) > BODY_BYTES_MAX:
                raise BodyTooLarge(f"{len(message.data)} bytes are more than the {BODY_BYTES_MAX} of a report")
            many = message.data[:1] == b"["
            reports: list[Report] = _decode_many(message.data) if many else [_decode_one(message.data)]
            if len(reports) > BATCH_ITEMS_MAX:
                raise BodyTooLarge(f"{len(reports)} items are more than the {BATCH_ITEMS_MAX} of an array")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._take_apart(tenant, message, respond)
            return
        except TaskerError as error:
            respond(_refusal(error))
            return
        placed = [self._place(tenant, report) for report in reports]
        self._tell_direct(tenant, message, placed)
        if not many:
            self._take(tenant, placed[0], self._alone(respond))
            return
        if not placed:
            respond(b"[]")
            return
        answers = Answers(len(placed), respond, self._fitted)
        for index, one in enumerate(placed):
            self._take(tenant, one, answers.at(index))

    def _respond(self, message: Message, data: bytes) -> None:
        """Answer behind the work that follows from the reports, so that a worker takes up that first."""
        asyncio.get_running_loop().call_soon(self._routes.respond, message, data)

    def _place(self, tenant: str, report: Report) -> _Placed:
        try:
            task_id, shard = self._routes.locate(report.task_id)
        except ValueError:
            return _Placed(report, None, 0, is_anothers=False)
        actor = self._shards.actor_of(shard, task_id)
        return _Placed(report, task_id, shard, isinstance(actor, TaskActor) and actor.tenant not in ("", tenant))

    def _tell_direct(self, tenant: str, message: Message, placed: Sequence[_Placed]) -> None:
        direct = self._direct
        for report, _, _, is_anothers in placed:
            if report.kind == "reserve" or is_anothers:
                continue  # it is not begun
            direct.begun(report.task_id, report.step, report.attempt)
            self._own_queues.let_go(report.task_id, report.step, report.attempt)
            if report.kind == "returned":
                direct.returned += 1
                self._first_offers.returned(report.task_id, report.step, report.attempt)
        headers = message.headers or {}
        counts = {"": headers.get(HEADER_RELEASED, "")}
        if HEADER_RELEASED_PARTS in headers:
            pairs = (pair.partition("=") for pair in headers[HEADER_RELEASED_PARTS].split(","))
            counts |= {part: count for part, _, count in pairs if part}
        for part, count in counts.items():
            if placed and count.isdecimal() and len(count) <= COUNT_DIGITS_MAX:
                direct.released(tenant, placed[0].report.worker, int(count), part)

    def _take_apart(self, tenant: str, message: Message, respond: Answer) -> None:
        """Take a message that does not decode as a whole: each report in it by itself."""
        data = message.data
        many = data[:1] == b"["
        try:
            items = split_array(data) if many else [data]
            if len(items) > BATCH_ITEMS_MAX:
                raise BodyTooLarge(f"{len(items)} items are more than the {BATCH_ITEMS_MAX} of an array")
        except TaskerError as error:
            respond(_refusal(error))
            return
        answers = Answers(len(items), respond, self._fitted) if many else None
        taken: list[tuple[_Placed, Answer]] = []
        for index, item in enumerate(items):
            answer = self._alone(respond) if answers is None else answers.at(index)
            try:
                taken.append((self._place(tenant, _decoded(item)), answer))
            except TaskerError as error:
                answer(_refusal(error))
        self._tell_direct(tenant, message, [one for one, _ in taken])
        for one, answer in taken:
            self._take(tenant, one, answer)

    def _take(self, tenant: str, placed: _Placed, answer: Answer) -> None:
        report, task_id, shard, is_anothers = placed
        if task_id is None:
            self._answer(answer, ReportReply(ok=True, recorded=False, reason="task_unknown"))
            return
        try:
            checked = _checked(report)
        except TaskerError as error:
            answer(_refusal(error))
            return
        if not is_anothers:
            # Whoever has the work stream's copy may be done with it as soon as this is answered.
            self._copies.forget(shard, (task_id, report.step, report.attempt))
        message = ReportMessage(
            tenant=tenant,
            report=checked,
            answered=lambda reply: self._answer(answer, reply),
            fail=lambda error: answer(_refusal(error)),
        )
        self._shards.send(shard, task_id, StreamKind.TASK, message)

    def _alone(self, respond: Answer) -> Answer:
        """Return the way to give one answer in a message of its own."""
        return lambda data: respond(*self._fitted([data]))

    def _fitted(self, answers: list[bytes]) -> list[bytes]:
        return fitted(answers, self._routes.answer_bytes_max)

    def _answer(self, answer: Answer, reply: ReportReply) -> None:
        if reply.reason is not None:
            self.unrecorded[reply.reason] += 1
        answer(encode_message(reply))


def fitted(answers: list[bytes], bytes_max: int) -> list[bytes]:
    """Return `answers` so that they fit into one message: what does not is asked for again, in a message of its own.

    Only answers with a value are large. One that no message can carry is refused for good.
    """
    room = bytes_max - 1 - len(answers)
    if sum(map(len, answers)) <= room:
        return answers
    room -= sum(min(len(answer), len(_LATER)) for answer in answers)
    kept = []
    for answer in answers:
        more = len(answer) - len(_LATER)
        if more <= max(0, room):
            room -= max(0, more)
            kept.append(answer)
        elif len(answer) > bytes_max - 2:
            kept.append(_refusal(BodyTooLarge(f"{len(answer)} bytes; a message carries {bytes_max}")))
        else:
            kept.append(_LATER)
    return kept


def _decoded(data: bytes) -> Report:
    """Return a report; one whose result alone cannot be read keeps it as it is, for `_checked`.

    Raises:
        BodyInvalid, ValueInvalid: it is no report.
    """
    try:
        return _decode_one(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"\\u" in data or isinstance(error, RecursionError):
            report = _with_bad_result(data)
            if report is not None:
                return report
            canonicalize(data)
        raise BodyInvalid(f"the body is no report: {error}") from error


def _with_bad_result(data: bytes) -> Report | None:
    """Return a report that is one apart from its result; None when it is not."""
    parts = split_field(data, "result")
    if parts is None:
        return None
    try:
        report = _decode_one(parts[0])
    except msgspec.DecodeError:
        return None
    report.result = msgspec.Raw(parts[1])
    return report


def _checked(report: Report) -> Report:
    """Return `report` with its result in canonical form; a result that cannot be kept fails the attempt.

    Raises:
        BodyInvalid: a field is missing or too long.
    """
    if not is_token(report.worker):
        # It becomes a part of the subject on which the worker is told to stop.
        raise BodyInvalid("/worker: a worker's id is 1 to 128 letters, digits, `-` and `_`")
    if report.writes:
        _check_writes(report)
    if report.kind == "completed":
        try:
            report.result = msgspec.Raw(canonicalize(bytes(report.result), bytes_max=INPUT_BYTES_MAX))
        except (BodyTooLarge, BodyInvalid, ValueInvalid) as error:
            report.kind = "failed"
            report.result = NULL
            told = with_result_remedy(error.detail, error)[:MESSAGE_CHARS_MAX]
            report.error = ErrorInfo(type="result_invalid", message=told, retryable=False)
        if report.choice is not None:
            report.choice = _bounded_choice(report.choice)
    elif report.kind == "yielded":
        if not 0 <= report.after_s <= SECONDS_MAX:
            raise BodyInvalid(f"/after_s: must be at least 0 and at most {SECONDS_MAX:g}")
        try:
            report.checkpoint = msgspec.Raw(canonicalize(bytes(report.checkpoint), bytes_max=INPUT_BYTES_MAX))
        except (BodyTooLarge, BodyInvalid, ValueInvalid) as error:
            report.kind = "failed"
            report.checkpoint = NULL
            told = with_result_remedy(error.detail, error)[:MESSAGE_CHARS_MAX]
            report.error = ErrorInfo(type="checkpoint_invalid", message=told, retryable=False)
    elif report.kind == "failed":
        if report.error is None:
            raise BodyInvalid("a failed report names its error")
        report.error = _bounded(report.error)
    return report


def _check_writes(report: Report) -> None:
    """Bring what a report writes to the state into canonical form; what cannot be kept fails the attempt."""
    if report.kind not in ("completed", "yielded"):
        report.writes = {}
        return
    try:
        report.writes = checked_writes(report.writes)
    except (StateInvalid, BodyInvalid, ValueInvalid) as error:
        report.kind = "failed"
        report.result = report.checkpoint = NULL
        report.choice = None
        report.writes = {}
        report.error = ErrorInfo(type="state_invalid", message=error.detail[:MESSAGE_CHARS_MAX], retryable=False)


def _bounded_choice(choice: Choice) -> Choice:
    if len(choice.routes) > ROUTES_MAX:
        raise BodyInvalid(f"/choice/routes: {len(choice.routes)} are more than the {ROUTES_MAX} of a decision")
    return Choice(routes=choice.routes, reason=_shown(choice.reason[:MESSAGE_CHARS_MAX]))


def _bounded(error: ErrorInfo) -> ErrorInfo:
    if (
        len(error.message) <= MESSAGE_CHARS_MAX
        and len(error.stack or "") <= STACK_CHARS_MAX
        and len(error.type) <= ERROR_TYPE_CHARS_MAX
        and "\0" not in error.message
        and "\0" not in error.type
        and "\0" not in (error.stack or "")
    ):
        return error
    return ErrorInfo(
        type=_shown(error.type[:ERROR_TYPE_CHARS_MAX]),
        message=_shown(error.message[:MESSAGE_CHARS_MAX]),
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        stack=None if error.stack is None else _shown(error.stack[-STACK_CHARS_MAX:]),
    )


def _shown(text: str) -> str:
    """Return `text` without U+0000, which no store takes; what an error says is worth more than how."""
    return text.replace("\0", "\ufffd")


def _refusal(error: TaskerError) -> bytes:
    return encode_message(ReportReply(ok=False, recorded=False, error=error.problem()))


_LATER: Final = _refusal(Busy("the answer did not fit into the message with the others; ask again"))

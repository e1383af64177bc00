"""What arrives from outside, checked at the door: names, bounds, keys.

Each function turns a decoded command into what the actors take, or raises the typed refusal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec

from tasker.errors import BodyInvalid, BodyTooLarge, KeyAmbiguous, TaskUnknown, UsageInvalid
from tasker.events.codec import META_BYTES_MAX, canonicalize, encode_message, is_text
from tasker.events.envelope import Meta
from tasker.events.messages import (
    Command,
    OperatorCommand,
    TaskBudget,
    TaskCreate,
    TaskDeadline,
    TaskUpdate,
    TemplateUse,
)
from tasker.events.stored import encode_meta
from tasker.events.task_events import ErrorInfo
from tasker.events.usage import amount_of, amount_text
from tasker.ids import KEY_CHARS_MAX, PERSON_CHARS_MAX, check_name, digest_of, fault_of_tag, is_person
from tasker.service.domain.repairs.amend import TAGS_MAX
from tasker.service.domain.steps.begin import RESULT_BYTES_MAX
from tasker.templates import CompiledTemplate
from tasker.templates.model import PRIORITY_MAX, SECONDS_MAX, TOKENS_MAX
from tasker.times import from_rfc3339

TIMEOUT_S_MAX: Final = 10 * 365 * 24 * 3600.0
GRACE_S_MAX: Final = 3600.0
VERSION_CHARS_MAX: Final = 128
ERROR_CHARS_MAX: Final = 2000
_FINGERPRINT_CHARS: Final = 16

_traceparent = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def key_of(field: str | None, header: str | None, *, name: str = "idempotency_key") -> str | None:
    """Return the one key that a command's field, which is called `name`, and its header name.

    Raises:
        KeyAmbiguous: they differ. BodyInvalid: it is empty or too long.
    """
    if field is not None and header is not None and field != header:
        raise KeyAmbiguous("the field and the header name different keys; send one of them")
    key = field if field is not None else header
    if key is not None and not 1 <= len(key) <= KEY_CHARS_MAX:
        raise BodyInvalid.at(f"/{name}", f"a key has 1 to {KEY_CHARS_MAX} characters")
    if header is not None and not is_text(header):
        raise BodyInvalid.at(f"/{name}", "the header's key is no text in UTF-8 without U+0000")
    return key


def traceparent_of(header: str | None) -> str | None:
    """Return the trace context that a header names; None when it names none.

    One that is no trace context is not a fault of the command: it is left out (W3C Trace Context, section 2.2).
    """
    return header if header is not None and _traceparent.fullmatch(header) is not None else None


def check_create(command: TaskCreate) -> None:
    """Return when the fields of a `task.create` (other than its input) may be used.

    Raises:
        NameInvalid, BodyInvalid: one may not.
    """
    check_name(command.namespace, "namespace")
    check_name(command.template, "template")
    if command.version is not None:
        check_version(command.version)
    check_tags(command.tags)
    check_priority(command.priority)
    if command.timeout_s is not None and not _within(command.timeout_s, TIMEOUT_S_MAX):
        raise BodyInvalid.at("/timeout_s", f"a timeout is above 0 and at most {TIMEOUT_S_MAX:.0f} s")


def check_priority(priority: int | None) -> None:
    """Return when a priority is one.

    Raises:
        BodyInvalid: it is not.
    """
    if priority is not None and not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise BodyInvalid.at("/priority", f"a priority is a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}")


def check_tags(tags: Mapping[str, str | None]) -> None:
    """Return when tags are as many and as short as they may be.

    Raises:
        BodyInvalid: they are not.
    """
    if len(tags) > TAGS_MAX:
        raise BodyInvalid.at("/tags", f"a task has at most {TAGS_MAX} tags")
    for key, value in tags.items():
        if (fault := fault_of_tag(key, value or "")) is not None:
            raise BodyInvalid.at("/tags", fault)


def check_update(command: TaskUpdate) -> None:
    """Return when the fields of a `task.update` say what to change, and may.

    Raises:
        BodyInvalid: they do not.
    """
    if not command.tags and not command.metadata and command.priority is None:
        raise BodyInvalid.at("", "say what to change: give tags, metadata, priority or several of them")
    check_tags(command.tags)
    check_priority(command.priority)


def creator_of(command: TaskCreate, template: CompiledTemplate) -> str:
    """Return who creates a task, an approval of which may not be theirs.

    Raises:
        BodyInvalid: the command does not say who.
    """
    by = command.requested_by
    if by is None or not is_person(by):
        raise BodyInvalid.at(
            "/requested_by", f"say who creates it: an approval of {template.spec.name} may not be theirs (four_eyes)"
        )
    return by


def time_us_of(text: str | None, pointer: str) -> int | None:
    """Return the time that the field at `pointer` names, in microseconds.

    Raises:
        BodyInvalid: it is no RFC 3339 time with a zone.
    """
    if text is None:
        return None
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise BodyInvalid.at(pointer, f"{text[:40]!r} is no RFC 3339 time with a zone") from error


def deadline_of(command: TaskDeadline) -> tuple[int | None, float | None]:
    """Return the deadline that is asked for: a time in microseconds, or the seconds from now on; neither: none.

    Raises:
        BodyInvalid: it does not say exactly one of the three.
    """
    if sum((command.deadline is not None, command.within_s is not None, command.remove)) != 1:
        raise BodyInvalid.at("/deadline", "say one of deadline, within_s and remove")
    if command.within_s is not None and not _within(command.within_s, TIMEOUT_S_MAX):
        raise BodyInvalid.at("/within_s", f"is above 0 and at most {TIMEOUT_S_MAX:.0f} s")
    return time_us_of(command.deadline, "/deadline"), command.within_s


def forced_error(message: str) -> ErrorInfo:
    """Return the error of a task that a person makes fail.

    Raises:
        BodyInvalid: it is empty.
    """
    if not message.strip():
        raise BodyInvalid.at("/message", "say why: it is the error that the task ends with")
    return ErrorInfo(type="failed_by_operator", message=message[:ERROR_CHARS_MAX], retryable=False)


def request_hash_of(command: TaskCreate, canonical_input: bytes) -> str:
    """Return what tells a repetition of a `task.create` from another request with its key."""
    return digest_of(canonical_input, (command.version or "").encode()).hex()


def check_grace(grace_s: float) -> float:
    """Return a grace within its bounds.

    Raises:
        BodyInvalid: it is not.
    """
    if not (grace_s == 0 or _within(grace_s, GRACE_S_MAX)):
        raise BodyInvalid.at("/grace_s", f"a grace is from 0 to {GRACE_S_MAX:.0f} s")
    return grace_s


def check_person(name: str | None, field: str) -> str:
    """Return the name of a person or a role.

    Raises:
        BodyInvalid: it is none.
    """
    if name is None or not is_person(name):
        what = "say who answers" if field == "requested_by" else "a person or a role"
        raise BodyInvalid.at(f"/{field}", f"{what}, in 1 to {PERSON_CHARS_MAX} printable characters")
    return name


def check_budget(command: TaskBudget) -> str | None:
    """Return the cost that a person allows a task, in its one text; the rest is as it has to be.

    Raises:
        BodyInvalid: nothing is given, or something is not what it has to be.
    """
    cost_max, tokens_max, running_s_max = command.cost_max, command.tokens_max, command.running_s_max
    if cost_max is None and tokens_max is None and running_s_max is None:
        raise BodyInvalid.at("", "give cost_max, tokens_max, running_s_max or several of them")
    if tokens_max is not None and not 1 <= tokens_max <= TOKENS_MAX:
        raise BodyInvalid.at("/tokens_max", f"tokens are from 1 to {TOKENS_MAX}")
    if running_s_max is not None and not 0 < running_s_max <= SECONDS_MAX:
        raise BodyInvalid.at("/running_s_max", f"seconds are more than 0 and at most {SECONDS_MAX:g}")
    if cost_max is None:
        return None
    try:
        return amount_text(amount_of(cost_max, "cost_max", money=True))
    except UsageInvalid as error:
        raise BodyInvalid.at("/cost_max", error.detail) from error


def check_result(result: msgspec.Raw, what: str = "a result") -> msgspec.Raw:
    """Return a result that a person gives a step, or `what` else: a part of a canonical body, so canonical itself.

    Raises:
        BodyTooLarge: it is larger than a result may be.
    """
    if len(bytes(result)) > RESULT_BYTES_MAX:
        raise BodyTooLarge(f"{what} of {len(bytes(result))} bytes is more than the {RESULT_BYTES_MAX} allowed")
    return result


def fingerprint_of(verb: str, command: OperatorCommand) -> str:
    """Return what tells a repetition of a command from another one with its id.

    Why it is asked for, and what undertaking it is of, may be said otherwise the next time.
    """
    asked = msgspec.structs.replace(command, command_id=None, dry_run=False, reason=None, correlation_id=None)
    return digest_of(verb.encode(), canonicalize(encode_message(asked))).hex()[:_FINGERPRINT_CHARS]


def meta_of_command(
    command: Command, *, traceparent: str | None, command_id: str | None = None, request: str | None = None
) -> Meta:
    """Return who and what asked; `request` is the command's fingerprint.

    Raises:
        BodyInvalid: it is more than is kept.
    """
    meta = Meta(
        command_id=command_id,
        correlation_id=command.correlation_id,
        causation_id=command_id,
        traceparent=traceparent,
        requested_by=command.requested_by,
        reason=command.reason,
        request=request,
    )
    if len(encode_meta(meta)) > META_BYTES_MAX:
        raise BodyInvalid.at(
            "", f"correlation_id, requested_by and reason together have at most {META_BYTES_MAX} bytes"
        )
    return meta


def task_id_of_text(text: str) -> UUID:
    """Return the task id that `text` spells.

    Raises:
        TaskUnknown: it spells none, so there is no such task.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise TaskUnknown(f"{text[:80]!r} is no task id") from error


def check_use(command: TemplateUse) -> None:
    """Return when the fields of a `template.use` may be used.

    Raises:
        NameInvalid, BodyInvalid: one may not.
    """
    check_name(command.namespace, "namespace")
    check_name(command.name, "template")
    check_version(command.version)


def check_version(version: str) -> None:
    """Return when a template's version may be called so.

    Raises:
        BodyInvalid: it may not.
    """
    if not 1 <= len(version) <= VERSION_CHARS_MAX:
        raise BodyInvalid.at("/version", f"a version has 1 to {VERSION_CHARS_MAX} characters")


def _within(value: float, maximum: float) -> bool:
    return math.isfinite(value) and 0 < value <= maximum

"""The streams and their consumers: made when missing, changed when they differ, otherwise left alone.

Streams are buffers; the log in Postgres is what lasts. So a stream may vanish at any time and come back
empty: `created` tells, and whoever fills a stream compares it with the one he knew.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from tasker.bus.bus import Bus
from tasker.bus.jetstream import (
    CONSUMER_NOT_UNIQUE,
    NS_PER_S,
    STORAGE_INSUFFICIENT,
    STREAM_NAME_IN_USE,
    ApiRefused,
    StreamMissing,
    api_request,
)
from tasker.errors import Unavailable
from tasker.events.envelope import US_PER_S
from tasker.events.subjects import Subjects
from tasker.settings import StreamSettings
from tasker.times import from_rfc3339

FAST_INGEST_VERSION = (2, 14)
"""The first server that knows `allow_batched`."""

_BYTES_WANTED = "tasker_bytes_wanted"
"""Metadata of a stream: the bytes of the settings, of which it may have got less."""

SHARED_COMMAND_CONSUMER = "service"
"""What earlier versions took the commands of all tenants with. A work queue lets no other one beside it."""

COMMANDS_IDLE_S = 60.0
"""After so long in which no node asked, the server drops the consumer of a tenant; what it left stays in the stream."""


_SHARE_MAX = 256
_ATTEMPTS = 5


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds at the moment."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0

    @property
    def missing(self) -> int:
        """Return how many messages are missing between the first and the last one."""
        return max(0, self.last_seq - self.first_seq + 1 - self.messages) if self.messages else 0


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as the server tells of it.

    Attributes:
        created: when it was made: another text after a re-creation.
        ts: what the time was when the server told this, by the same clock.
    """

    created: str
    state: StreamState
    config: dict[str, Any]
    ts: str = ""

    @property
    def age_s(self) -> float:
        """Return how long ago it was made; 0.0 when the server does not say."""
        try:
            return (from_rfc3339(self.ts) - from_rfc3339(self.created)) / US_PER_S
        except ValueError:
            return 0.0


class Streams(msgspec.Struct, frozen=True):
    """All of them."""

    work: StreamInfo
    events: StreamInfo
    commands: StreamInfo
    refusals: StreamInfo


class WorkConsumer(msgspec.Struct, frozen=True):
    """The consumer of a queue, as it is configured now."""

    tenant: str
    namespace: str
    queue: str
    name: str
    config: dict[str, Any]


class _ConsumerState(msgspec.Struct, frozen=True):
    name: str
    config: dict[str, Any]


class _ConsumerPage(msgspec.Struct, frozen=True):
    total: int = 0
    consumers: list[_ConsumerState] | None = None


class _Deleted(msgspec.Struct, frozen=True):
    success: bool = False


class _ConsumerInfo(msgspec.Struct, frozen=True):
    name: str
    created: str
    num_pending: int = 0


async def ensure_streams(bus: Bus, subjects: Subjects, settings: StreamSettings) -> Streams:
    """Make the streams, or bring them to the settings; several processes may do so at once.

    Raises:
        ApiRefused: the server refused (`as_configuration` for a start).
        Unavailable: NATS does not answer.
    """
    share = 1
    while True:
        try:
            work = await _ensure_stream(bus, work_config(subjects, settings), share)
            events = await _ensure_stream(bus, events_config(subjects, settings, bus.server_version), share)
            commands = await _ensure_stream(bus, commands_config(subjects, settings), share)
            refusals = await _ensure_stream(bus, refusals_config(subjects, settings), share)
        except ApiRefused as refused:
            if refused.api_error.err_code != STORAGE_INSUFFICIENT or share >= _SHARE_MAX:
                raise
            # The server has not that much storage: every stream gets half as much, and so on.
            share *= 2
        else:
            return Streams(work, events, commands, refusals)


def work_config(subjects: Subjects, settings: StreamSettings) -> dict[str, Any]:
    """Return the configuration of the work stream."""
    return {
        "name": subjects.work_stream,
        "subjects": [subjects.work_all],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": settings.replicas,
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": settings.work_messages_per_queue_max,
        "max_bytes": settings.work_bytes_max,
        "duplicate_window": round(settings.dedupe_s * NS_PER_S),
    }


def events_config(subjects: Subjects, settings: StreamSettings, server_version: tuple[int, int]) -> dict[str, Any]:
    """Return the configuration of the event stream."""
    source, destination = subjects.stored_events_transform
    config: dict[str, Any] = {
        "name": subjects.event_stream,
        "subjects": [subjects.evt_all, subjects.domain_all, subjects.marks_all],
        "subject_transform": {"src": source, "dest": destination},
        "retention": "limits",
        "storage": "file",
        "num_replicas": settings.replicas,
        "discard": "old",
        "max_age": round(settings.events_age_s_max * NS_PER_S),
        "max_bytes": settings.events_bytes_max,
        "duplicate_window": round(settings.dedupe_s * NS_PER_S),
    }
    if server_version >= FAST_INGEST_VERSION:
        config["allow_batched"] = True
    return config


def commands_config(subjects: Subjects, settings: StreamSettings) -> dict[str, Any]:
    """Return the configuration of the stream of submitted commands: full, it refuses rather than forgets."""
    return {
        "name": subjects.command_stream,
        "subjects": [subjects.submits_all],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": settings.replicas,
        "discard": "new",
        "max_age": round(settings.commands_age_s_max * NS_PER_S),
        "max_bytes": settings.commands_bytes_max,
        "duplicate_window": round(settings.dedupe_s * NS_PER_S),
    }


def refusals_config(subjects: Subjects, settings: StreamSettings) -> dict[str, Any]:
    """Return the configuration of the list of refusals: bounded for each tenant, so that none crowds out another."""
    return {
        "name": subjects.refusal_stream,
        "subjects": [subjects.refused_all],
        "retention": "limits",
        "storage": "file",
        "num_replicas": settings.replicas,
        "discard": "old",
        "max_msgs_per_subject": settings.refusals_per_tenant_max,
        "max_age": round(settings.refusals_age_s_max * NS_PER_S),
        "max_bytes": settings.refusals_bytes_max,
        "duplicate_window": round(settings.dedupe_s * NS_PER_S),
    }


async def stream_info(bus: Bus, stream: str) -> StreamInfo:
    """Return what the server tells of a stream.

    Raises:
        StreamMissing: there is none of that name.
        Unavailable: NATS does not answer.
    """
    return await api_request(bus, f"STREAM.INFO.{stream}", None, StreamInfo)


async def stream_created(bus: Bus, stream: str) -> str | None:
    """Return when a stream was made, as a text to compare; None when there is none."""
    try:
        return (await stream_info(bus, stream)).created
    except StreamMissing:
        return None


async def delete_stream(bus: Bus, stream: str) -> bool:
    """Delete a stream; return whether there was one."""
    try:
        return (await api_request(bus, f"STREAM.DELETE.{stream}", None, _Deleted)).success
    except StreamMissing:
        return False


def work_consumer_config(
    subjects: Subjects, settings: StreamSettings, *, tenant: str, namespace: str, queue: str
) -> dict[str, Any]:
    """Return the configuration of a queue's consumer."""
    filter_subject = subjects.work(tenant, namespace, queue)
    return _pull_config(subjects.work_consumer(tenant, namespace, queue), settings) | {"filter_subject": filter_subject}


def command_consumer_config(subjects: Subjects, settings: StreamSettings, tenant: str) -> dict[str, Any]:
    """Return the configuration of the consumer of a tenant's submitted commands."""
    return _pull_config(subjects.command_consumer(tenant), settings) | {
        "filter_subject": subjects.submits_of(tenant),
        "inactive_threshold": round(COMMANDS_IDLE_S * NS_PER_S),
    }


async def ensure_work_consumer(
    bus: Bus, subjects: Subjects, settings: StreamSettings, *, tenant: str, namespace: str, queue: str
) -> str:
    """Make the one durable pull consumer of a queue when missing, or bring it to the settings; return its name.

    Exhausted messages would stay in a work queue for ever, so deliveries have no bound: the log counts attempts.

    Raises:
        StreamMissing: there is no work stream.
        ApiRefused: the server refused (too many consumers, ...).
        Unavailable: NATS does not answer.
    """
    config = work_consumer_config(subjects, settings, tenant=tenant, namespace=namespace, queue=queue)
    name: str = config["name"]
    await create_consumer(bus, subjects.work_stream, name, config, filter_subject=config["filter_subject"])
    return name


async def ensure_command_consumer(bus: Bus, subjects: Subjects, settings: StreamSettings, tenant: str) -> str:
    """Make the durable pull consumer of a tenant's submitted commands, which all nodes share; return its name.

    The one for all tenants, of earlier versions, gives way; what it had not done with is delivered again.

    Raises:
        StreamMissing: there is no stream of commands.
        ApiRefused: the server refused.
        Unavailable: NATS does not answer.
    """
    stream, config = subjects.command_stream, command_consumer_config(subjects, settings, tenant)
    name, filter_subject = config["name"], config["filter_subject"]
    try:
        await create_consumer(bus, stream, name, config, filter_subject=filter_subject)
    except ApiRefused as refused:
        if refused.api_error.err_code != CONSUMER_NOT_UNIQUE:
            raise
        await delete_consumer(bus, stream, SHARED_COMMAND_CONSUMER)
        await create_consumer(bus, stream, name, config, filter_subject=filter_subject)
    return str(name)


def _pull_config(name: str, settings: StreamSettings) -> dict[str, Any]:
    """Return the configuration of a durable pull consumer that delivers until it is acked."""
    return {
        "name": name,
        "durable_name": name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": round(settings.ack_wait_s * NS_PER_S),
        "max_deliver": -1,
        "max_ack_pending": settings.ack_pending_max,
        # Pulls that wait at once: several for each worker.
        "max_waiting": 8192,
    }


async def work_consumers(bus: Bus, subjects: Subjects) -> list[WorkConsumer]:
    """Return the consumers of all queues.

    Raises:
        StreamMissing: there is no work stream.
        Unavailable: NATS does not answer.
    """
    found: list[_ConsumerState] = []
    while True:
        page = await api_request(bus, f"CONSUMER.LIST.{subjects.work_stream}", {"offset": len(found)}, _ConsumerPage)
        found += page.consumers or ()
        if not page.consumers or len(found) >= page.total:
            break
    consumers = []
    for one in found:
        parsed = subjects.parse_work_consumer(one.name)
        if parsed is not None:
            consumers.append(WorkConsumer(*parsed, one.name, one.config))
    return consumers


async def update_work_consumers(bus: Bus, subjects: Subjects, settings: StreamSettings) -> int:
    """Bring the consumers that workers made to the settings; return how many were changed.

    Raises: as `ensure_work_consumer`.
    """
    changed = 0
    for one in await work_consumers(bus, subjects):
        place = {"tenant": one.tenant, "namespace": one.namespace, "queue": one.queue}
        if differences(work_consumer_config(subjects, settings, **place), one.config):
            await ensure_work_consumer(bus, subjects, settings, **place)
            changed += 1
    return changed


async def create_consumer(
    bus: Bus, stream: str, name: str, config: dict[str, Any], *, filter_subject: str = ""
) -> None:
    """Make a consumer, or change the one of that name; `filter_subject` only when it has exactly one filter.

    Raises:
        StreamMissing: there is no such stream.
        ApiRefused: the server refused.
        Unavailable: NATS does not answer.
    """
    verb = f"CONSUMER.CREATE.{stream}.{name}" + (f".{filter_subject}" if filter_subject else "")
    body = {"stream_name": stream, "config": config, "action": ""}
    await api_request(bus, verb, body, _ConsumerInfo)


async def consumer_config(bus: Bus, stream: str, consumer: str) -> dict[str, Any] | None:
    """Return the configuration of a consumer; None when there is none of that name.

    Raises:
        Unavailable: NATS does not answer.
    """
    try:
        return (await api_request(bus, f"CONSUMER.INFO.{stream}.{consumer}", None, _ConsumerState)).config
    except StreamMissing:
        return None


async def delete_consumer(bus: Bus, stream: str, consumer: str) -> bool:
    """Delete a consumer; return whether there was one."""
    try:
        return (await api_request(bus, f"CONSUMER.DELETE.{stream}.{consumer}", None, _Deleted)).success
    except StreamMissing:
        return False


async def _ensure_stream(bus: Bus, wanted: dict[str, Any], share: int) -> StreamInfo:
    """Make or change a stream; of the bytes wanted it gets the `share`-th part."""
    name = wanted["name"]
    bytes_wanted = wanted["max_bytes"]
    config = wanted | {"max_bytes": bytes_wanted // share, "metadata": {_BYTES_WANTED: str(bytes_wanted)}}
    for _ in range(_ATTEMPTS):
        try:
            found = await stream_info(bus, name)
        except StreamMissing:
            try:
                return await api_request(bus, f"STREAM.CREATE.{name}", config | _beginning(config), StreamInfo)
            except ApiRefused as refused:
                if refused.api_error.err_code != STREAM_NAME_IN_USE:
                    raise
                # Another process was quicker, with other settings: compare with what it made.
                continue
        if not _differs(config, found.config, share):
            return found
        merged = found.config | config | {"metadata": found.config.get("metadata", {}) | config["metadata"]}
        try:
            return await api_request(bus, f"STREAM.UPDATE.{name}", merged, StreamInfo)
        except StreamMissing:
            continue
    raise Unavailable(f"stream {name} changes faster than it can be ensured")


def _beginning(config: dict[str, Any]) -> dict[str, int]:
    """Return where a new work queue begins to count: behind all that an earlier one of its name ever had.

    An ack names a sequence and nothing else. One that comes late, for a message of a stream that is gone, would take a
    message of the new stream for the one it means, which nobody would deliver again.
    """
    return {"first_seq": time.time_ns() // 1000} if config["retention"] == "workqueue" else {}


def _differs(config: dict[str, Any], found: dict[str, Any], share: int) -> bool:
    """Return whether an update is due.

    A stream that holds fewer bytes than wanted is what the server had room for, unless something else was wanted then.
    """
    if found.get("metadata", {}).get(_BYTES_WANTED) != config["metadata"][_BYTES_WANTED]:
        return True
    if share > 1 and found["max_bytes"] > config["max_bytes"]:
        return True
    return bool(differences(config, found))


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return the keys of a configuration that are not as wanted; the bytes are what the server had room for."""
    return [key for key, value in wanted.items() if key not in {"max_bytes", "metadata"} and found.get(key) != value]


def bytes_lacking(wanted: dict[str, Any], found: dict[str, Any]) -> int:
    """Return how many bytes fewer than wanted a stream may hold."""
    return max(0, int(wanted["max_bytes"]) - int(found["max_bytes"]))

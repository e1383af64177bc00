"""What can be wrong with NATS: the server, permissions, JetStream, the streams and their consumers.

Nothing is stored: what is published to try a permission names a stream that is not there, so that JetStream
refuses it, and a tenant that cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tasker.bus.jetstream import ApiRefused, StreamMissing, api_request
from tasker.bus.nats_bus import NatsBus
from tasker.bus.streams import (
    bytes_lacking,
    commands_config,
    differences,
    events_config,
    refusals_config,
    work_config,
    work_consumer_config,
    work_consumers,
)
from tasker.doctor.finding import Finding
from tasker.errors import ConfigurationError, Unavailable
from tasker.events.codec import BODY_BYTES_MAX
from tasker.events.subjects import Subjects
from tasker.settings import Settings
from tasker.settings.keys import keys, shown

VERSION_MIN: Final = (2, 12)

PAYLOAD_BYTES_MIN: Final = BODY_BYTES_MAX + 64 * 1024
"""The largest body of ours, with its headers and envelope."""

STORE_SHARE_MAX: Final = 0.9

_NOT_ENABLED: Final = frozenset({10039, 10076})
_NAMED_MAX: Final = 5


class _Limits(msgspec.Struct, frozen=True):
    max_storage: int = -1


class _Account(msgspec.Struct, frozen=True):
    storage: int = 0
    reserved_storage: int = 0
    limits: _Limits = _Limits()


class _State(msgspec.Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    subjects: dict[str, int] = {}


class _Stream(msgspec.Struct, frozen=True):
    config: dict[str, Any]
    state: _State


async def examine_nats(settings: Settings) -> list[Finding]:
    """Return what is wrong with NATS and with what is kept in it."""
    url = settings.nats.url
    if url is None:
        return [
            Finding(
                code="nats_unset",
                detail="no NATS is named",
                remedy="set nats.url (TASKER_NATS_URL), or start one here with `tasker up`",
            )
        ]
    try:
        bus = await NatsBus.connect(url, name="tasker-doctor", inbox_prefix=settings.nats.inbox_prefix)
    except (Unavailable, ConfigurationError) as error:
        return [_unreachable(url, error.detail)]
    try:
        return await _examine(bus, settings)
    except Unavailable as error:
        return [_unreachable(url, error.detail)]
    finally:
        await bus.close()


def _unreachable(url: str, why: str) -> Finding:
    return Finding(
        code="nats_unreachable",
        detail=f"NATS at {shown(keys()['nats.url'], url)} cannot be used: {why}",
        remedy="start nats-server, or correct nats.url (TASKER_NATS_URL)",
    )


async def _examine(bus: NatsBus, settings: Settings) -> list[Finding]:
    subjects = Subjects(settings.nats.prefix)
    findings = list(server_findings(bus.server_version, bus.payload_bytes_max))
    refused = await _permissions(bus, subjects)
    if refused:
        named = ", ".join(refused[:_NAMED_MAX]) + (" and more" if len(refused) > _NAMED_MAX else "")
        findings.append(
            Finding(
                code="nats_permissions",
                detail=f"NATS refuses this user to {named}",
                remedy=f'allow publish and subscribe on "{settings.nats.prefix}.>", and publish on "$JS.API.>", '
                '"$JS.ACK.>" and where answers come in (nats.inbox_prefix), in the permissions of the user',
            )
        )
    try:
        account = await api_request(bus, "INFO", None, _Account)
    except ApiRefused as error:
        if error.api_error.err_code not in _NOT_ENABLED:
            raise
        return [*findings, _jetstream_off(error.detail)]
    except Unavailable as error:
        # Without the permission to ask there is no answer either; that has its finding.
        return findings if refused else [*findings, _jetstream_off(error.detail)]
    findings += _store(account)
    findings += await _streams(bus, subjects, settings)
    return findings


def server_findings(version: tuple[int, int], payload_bytes_max: int) -> Iterator[Finding]:
    """Yield what is wrong with the server itself."""
    if version < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        yield Finding(
            code="nats_version",
            detail=f"nats-server is {version[0]}.{version[1]}; {wanted} and later are supported",
            remedy=f"upgrade nats-server to {wanted} or later",
        )
    if payload_bytes_max < PAYLOAD_BYTES_MIN:
        yield Finding(
            code="nats_payload",
            detail=f"NATS takes messages of {payload_bytes_max} bytes; ours have up to {PAYLOAD_BYTES_MIN}",
            remedy="set max_payload: 1MB in nats-server's configuration and reload it",
        )


def _jetstream_off(why: str) -> Finding:
    return Finding(
        code="jetstream_off",
        detail=f"JetStream does not answer this account: {why}",
        remedy="add `jetstream { store_dir: ... }` to nats-server's configuration, `jetstream: enabled` to the account",
    )


async def _permissions(bus: NatsBus, subjects: Subjects) -> list[str]:
    """Return what the server refuses of what a service does, in words."""
    prefix = subjects.prefix
    heard = (
        subjects.commands_all,
        f"{prefix}.*.report.*",
        subjects.slots_all,
        subjects.node_shard(0, "*"),
        subjects.views("*"),
        subjects.log_head,
        subjects.work_all,
        subjects.evt_all,
        f"{prefix}.*.live.>",
    )
    said = (
        subjects.work("_doctor", "doctor", "doctor"),
        subjects.event("_doctor", "doctor", "doctor", "doctor", "doctor"),
        f"{prefix}._log.mark.doctor",
        subjects.command("_doctor", "doctor", "examine"),
        subjects.worker_cancel("_doctor", "doctor"),
        subjects.domain_event("_doctor", "doctor"),
        subjects.refused("_doctor"),
        f"{prefix}._node.doctor",
        f"$JS.ACK.{subjects.work_stream}.doctor",
    )
    return await bus.refused_of(heard=heard, said=said)


def _store(account: _Account) -> Iterator[Finding]:
    limit = account.limits.max_storage
    if limit > 0 and account.storage > STORE_SHARE_MAX * limit:
        yield Finding(
            code="jetstream_full",
            detail=f"JetStream's store has {account.storage} bytes of at most {limit}",
            remedy="raise max_file_store of nats-server (or the account's), or lower streams.events_bytes_max",
        )


async def _streams(bus: NatsBus, subjects: Subjects, settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    work: _Stream | None = None
    for wanted in (
        work_config(subjects, settings.streams),
        events_config(subjects, settings.streams, bus.server_version),
        commands_config(subjects, settings.streams),
        refusals_config(subjects, settings.streams),
    ):
        name = wanted["name"]
        try:
            found = await api_request(bus, f"STREAM.INFO.{name}", {"subjects_filter": ">"}, _Stream)
        except StreamMissing:
            findings.append(
                Finding(
                    code="stream_missing",
                    detail=f"the stream {name} is not there",
                    remedy="start `tasker serve`: it makes it, and fills it from the log",
                )
            )
            continue
        findings += _stream(name, wanted, found)
        if name == subjects.work_stream:
            work = found
    if work is not None:
        findings += _fullness(work, subjects, settings)
        findings += await _consumers(bus, work, subjects, settings)
    return findings


def _stream(name: str, wanted: dict[str, Any], found: _Stream) -> Iterator[Finding]:
    different = differences(wanted, found.config)
    if different:
        facts = ", ".join(f"{key} is {found.config.get(key)!r}, not {wanted[key]!r}" for key in different)
        yield Finding(
            code="stream_differs",
            detail=f"the stream {name} is not as the settings say: {facts}",
            remedy="restart `tasker serve` with these settings: it brings the stream to them "
            f"(`tasker config show streams`); what cannot be changed needs `nats stream rm {name}` before",
        )
    lacking = bytes_lacking(wanted, found.config)
    if lacking:
        yield Finding(
            code="stream_small",
            detail=f"the stream {name} may hold {found.config['max_bytes']} of {wanted['max_bytes']} bytes: "
            "JetStream had no more room",
            remedy="raise max_file_store of nats-server, or lower streams.work_bytes_max and streams.events_bytes_max",
        )


def _fullness(work: _Stream, subjects: Subjects, settings: Settings) -> Iterator[Finding]:
    share = settings.doctor.stream_full_share_max
    of = int(work.config["max_bytes"])
    if work.state.bytes > share * of:
        yield Finding(
            code="stream_full",
            detail=f"the stream {subjects.work_stream} holds {work.state.bytes} of {of} bytes",
            remedy="start more workers, or raise streams.work_bytes_max",
        )
    queue_max = settings.streams.work_messages_per_queue_max
    for subject, messages in sorted(work.state.subjects.items()):
        if messages > share * queue_max:
            yield Finding(
                code="stream_full",
                detail=f"{messages} of {queue_max} messages wait in {subject}",
                remedy="start more workers for it, or raise streams.work_messages_per_queue_max",
            )


async def _consumers(bus: NatsBus, work: _Stream, subjects: Subjects, settings: Settings) -> list[Finding]:
    consumers = await work_consumers(bus, subjects)
    findings = []
    for one in consumers:
        wanted = work_consumer_config(
            subjects, settings.streams, tenant=one.tenant, namespace=one.namespace, queue=one.queue
        )
        different = differences(wanted, one.config)
        if different:
            facts = ", ".join(f"{key} is {one.config.get(key)!r}, not {wanted[key]!r}" for key in different)
            findings.append(
                Finding(
                    code="consumer_differs",
                    detail=f"the consumer {one.name} is not as the settings say: {facts}",
                    remedy="restart `tasker serve` with these settings: it brings the consumers to them "
                    "(`tasker config show streams`)",
                )
            )
    served = {str(one.config.get("filter_subject")) for one in consumers}
    for subject, messages in sorted(work.state.subjects.items()):
        if subject not in served:
            findings.append(
                Finding(
                    code="consumer_missing",
                    detail=f"{messages} messages wait in {subject}, and no worker has ever served it",
                    remedy="start `tasker worker` with the app whose template has this queue",
                )
            )
    return findings

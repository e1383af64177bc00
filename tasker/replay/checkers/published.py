"""I4: the published stream, deduplicated by event id, equals the log up to the publisher's cursor.

After healing the cursor is the head, and the stream holds the whole log and nothing else. A stream that keeps only
a window is compared from the window's first position on. Beyond the cursor an event may be published already (the
cursor moves later), and must be the log's, too. One larger than any body may be is told without its data where the
server takes no message of its size.

A domain event is published twice: as the event of the log that it is, and under its own subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from tasker.errors import Undecodable
from tasker.events.codec import BODY_BYTES_MAX, decode_message, hash_of
from tasker.events.envelope import RecordedEvent, domain_event_id, event_id
from tasker.events.messages import DomainEventMessage, LifecycleEvent
from tasker.events.stored import meta_of
from tasker.events.task_events import NULL, DomainEventRaised
from tasker.replay.checkers.checker import Decoded
from tasker.replay.findings import Finding, Invariant, Report
from tasker.times import to_rfc3339

_UNREADABLE: Final = "an unreadable body"


class PublishedChecker:
    """Checks all shards of a log, one after the other, against what its event stream holds.

    Args:
        published: bodies of the stream's messages, in any order and with repetitions.
        cursors: shard -> the position up to which everything must be there.
        window: shard -> the first position that the stream still keeps; 1 where it is not named.
        domain: bodies of what was published under subjects of domain events; None: they are not looked at.
    """

    def __init__(
        self,
        log_id: str,
        published: Iterable[bytes],
        report: Report,
        *,
        cursors: Mapping[int, int],
        window: Mapping[int, int] | None = None,
        domain: Iterable[bytes] | None = None,
    ) -> None:
        self._log_id = log_id
        self._report = report
        self._cursors = cursors
        self._window = window or {}
        self._heads: dict[int, int] = {}
        self._documents: dict[str, LifecycleEvent] = {}
        hashes: dict[str, str] = {}
        for body in published:
            try:
                document = decode_message(body, LifecycleEvent)
            except Undecodable as error:
                report(Finding(invariant=Invariant.PUBLISHED, detail=f"{_UNREADABLE} was published: {error.detail}"))
                continue
            if hashes.setdefault(document.id, hash_of(body)) != hash_of(body):
                self._find_document(document, f"event {document.id} was published with two bodies")
            self._documents[document.id] = document
        self._domain: dict[str, DomainEventMessage] | None = None
        if domain is not None:
            self._domain = self._domain_documents(domain)

    def _domain_documents(self, bodies: Iterable[bytes]) -> dict[str, DomainEventMessage]:
        found: dict[str, DomainEventMessage] = {}
        for body in bodies:
            try:
                document = decode_message(body, DomainEventMessage)
            except Undecodable as error:
                self._report(
                    Finding(invariant=Invariant.PUBLISHED, detail=f"{_UNREADABLE} was published: {error.detail}")
                )
                continue
            found[document.id] = document
        return found

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:
        """Compare the next event of a shard with what was published of it."""
        if self._domain is not None and isinstance(event, DomainEventRaised):
            self._take_domain(self._domain, recorded, event)
        shard, position = recorded.shard, recorded.position
        self._heads[shard] = position
        document = self._documents.pop(event_id(self._log_id, shard, position), None)
        if document is None:
            if self._window.get(shard, 1) <= position <= self._cursors.get(shard, 0):
                detail = f"{recorded.type} at {shard}:{position} is behind the cursor and was not published"
                self._find(recorded, detail)
            return
        try:
            wanted = _document_of(self._log_id, recorded)
        except Undecodable as error:
            self._find(recorded, error.detail)
            return
        if len(recorded.payload) > BODY_BYTES_MAX and document.data == NULL:
            wanted.data = document.data
        differing = [
            name for name in LifecycleEvent.__struct_fields__ if getattr(document, name) != getattr(wanted, name)
        ]
        if differing:
            detail = f"{recorded.type} at {shard}:{position} was published with another {', '.join(differing)}"
            self._find(recorded, detail)

    def _take_domain(
        self, documents: dict[str, DomainEventMessage], recorded: RecordedEvent, event: DomainEventRaised
    ) -> None:
        shard, position = recorded.shard, recorded.position
        document = documents.pop(domain_event_id(self._log_id, shard, position), None)
        if document is None:
            if self._window.get(shard, 1) <= position <= self._cursors.get(shard, 0):
                detail = f"domain event {event.name} at {shard}:{position} is behind the cursor and was not published"
                self._find(recorded, detail)
            return
        wanted = {
            "type": event.name,
            "subject": str(recorded.stream_id),
            "step": event.step,
            "attempt": event.attempt,
            "outcome": event.outcome,
            "data": event.data,
            "time": to_rfc3339(recorded.at_us),
            "tenant": recorded.tenant,
            "seq": recorded.seq,
        }
        differing = [name for name, value in wanted.items() if getattr(document, name) != value]
        if differing:
            self._find(recorded, f"domain event {event.name} was published with another {', '.join(differing)}")

    def close(self) -> None:
        """Do nothing: a shard is not the log; see `close_log`."""

    def close_log(self) -> None:
        """Check that nothing was published that the log does not have, now that every shard was read."""
        for document in self._documents.values():
            self._find_document(document, f"event {document.id} was published and is not in the log")
        for identity in self._domain or ():
            detail = f"domain event {identity} was published and is not in the log"
            self._report(Finding(invariant=Invariant.PUBLISHED, detail=detail))
        for shard, cursor in self._cursors.items():
            head = self._heads.get(shard, 0)
            if cursor > head:
                detail = f"the cursor of shard {shard} stands at {cursor}, beyond the log's end at {head}"
                self._report(Finding(invariant=Invariant.PUBLISHED, shard=shard, position=cursor, detail=detail))

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.PUBLISHED,
                shard=recorded.shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )

    def _find_document(self, document: LifecycleEvent, detail: str) -> None:
        position = int(document.position) if document.position.isdecimal() else None
        self._report(
            Finding(
                invariant=Invariant.PUBLISHED,
                shard=document.shard,
                position=position,
                task_id=document.subject,
                detail=detail,
            )
        )


def _document_of(log_id: str, recorded: RecordedEvent) -> LifecycleEvent:
    """Return what must be published of an event: made from its columns, not with the publisher's own function."""
    meta = meta_of(recorded)
    return LifecycleEvent(
        id=event_id(log_id, recorded.shard, recorded.position),
        source=f"/tasker/{log_id}",
        type=f"tasker.{recorded.type}.v{recorded.version}",
        subject=str(recorded.stream_id),
        time=to_rfc3339(recorded.at_us),
        tenant=recorded.tenant,
        shard=recorded.shard,
        position=str(recorded.position),
        seq=recorded.seq,
        data=msgspec.Raw(recorded.payload),
        correlationid=meta.correlation_id,
        causationid=meta.causation_id,
        traceparent=meta.traceparent,
    )

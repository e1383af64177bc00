"""Streams and pull consumers of the in-process twin: as much of JetStream as our own code uses.

It speaks the protocol itself (`$JS.API...`, `$JS.ACK...`), so that streams, publisher, pull loop and reader run over it
unchanged and `tests/contracts` holds twin and server to the same answers. Not in it: fast ingest, limits by bytes
and age, clusters.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tasker.bus.bus import MSG_ID, Message
from tasker.bus.jetstream import (
    API_PREFIX,
    CONSUMER_NOT_ALONE,
    CONSUMER_NOT_FOUND,
    CONSUMER_NOT_UNIQUE,
    NO_MESSAGE_FOUND,
    NS_PER_S,
    STORE_FAILED,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
)
from tasker.bus.subject import matches
from tasker.clock import Clock
from tasker.times import from_rfc3339, to_rfc3339

_ACK_WAIT_NS = 30 * NS_PER_S
_API = f"{API_PREFIX}."
_WILDCARD = re.compile(r"\{\{wildcard\((\d+)\)\}\}")


class Sender(Protocol):
    """The part of the broker that streams need."""

    loop: asyncio.AbstractEventLoop

    def interested(self, subject: str) -> bool:
        """Return whether anybody listens."""
        ...

    def send(self, subject: str, message: Message) -> int:
        """Send to whoever listens."""
        ...


class _Refusal(Exception):
    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(description)
        self.answer = {"error": {"code": code, "err_code": err_code, "description": description}}


class _Stored(msgspec.Struct):
    seq: int
    subject: str
    data: bytes
    headers: dict[str, str] | None
    at_us: int


class _Delivered(msgspec.Struct):
    """A delivery without an ack. `attempt` tells a late timer that it is not its own any more."""

    count: int
    attempt: int = 0
    timer: asyncio.TimerHandle | None = None


class _Waiting(msgspec.Struct):
    """A pull that waits."""

    reply: str
    left: int
    timers: list[asyncio.TimerHandle]


class _Stream:
    def __init__(self, config: dict[str, Any], created: str) -> None:
        self.config = config
        self.created = created
        self.messages: dict[int, _Stored] = {}
        self.last_seq = max(1, config.get("first_seq", 1)) - 1
        self.seen: dict[str, tuple[int, int]] = {}
        self.per_subject: dict[str, int] = {}
        self.consumers: dict[str, _Consumer] = {}

    def takes(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    def remove(self, seq: int) -> None:
        stored = self.messages.pop(seq, None)
        if stored is not None:
            self.per_subject[stored.subject] -= 1

    def info(self) -> dict[str, Any]:
        return {
            "config": self.config,
            "created": self.created,
            "state": {
                "messages": len(self.messages),
                "bytes": sum(len(each.data) for each in self.messages.values()),
                "first_seq": min(self.messages, default=self.last_seq + 1),
                "last_seq": self.last_seq,
            },
        }


class _Consumer:
    def __init__(self, stream: _Stream, config: dict[str, Any]) -> None:
        self.stream = stream
        self.config = config
        self.filters: list[str] = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        self.next_seq = min(stream.messages, default=stream.last_seq + 1)
        self.delivered_seq = 0
        self.open: dict[int, _Delivered] = {}
        self.redeliver: list[int] = []
        self.pulls: list[_Waiting] = []
        self.explicit = config.get("ack_policy") == "explicit"

    def wants(self, stored: _Stored) -> bool:
        return any(matches(pattern, stored.subject) for pattern in self.filters)


class MemoryJetStream:
    """The streams of a broker."""

    def __init__(self, broker: Sender, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._streams: dict[str, _Stream] = {}
        self._made = itertools.count(1)
        self._verbs: dict[str, Callable[[list[str], bytes], dict[str, Any]]] = {
            "STREAM.INFO": self._stream_info,
            "STREAM.CREATE": self._stream_create,
            "STREAM.UPDATE": self._stream_update,
            "STREAM.DELETE": self._stream_delete,
            "STREAM.MSG": self._stream_message,
            "CONSUMER.CREATE": self._consumer_create,
            "CONSUMER.INFO": self._consumer_info,
            "CONSUMER.DELETE": self._consumer_delete,
            "CONSUMER.LIST": self._consumer_list,
        }

    def take(self, message: Message) -> bool:
        """Take what is for us: requests, acks, and what a stream keeps; return whether it was."""
        if message.subject.startswith(f"{_API}CONSUMER.MSG.NEXT."):
            return self._pull(message)
        if message.subject.startswith(_API):
            tokens = message.subject.removeprefix(_API).split(".")
            verb = self._verbs.get(".".join(tokens[:2]))
            if verb is None:
                return False
            try:
                answer = verb(tokens[2:], message.data)
            except _Refusal as refusal:
                answer = refusal.answer
            self._answer(message.reply, answer)
            return True
        if message.subject.startswith("$JS.ACK."):
            self._acked(message)
            return True
        return any(self._store(stream, message) for stream in self._streams.values() if stream.takes(message.subject))

    def stored(self, stream: str, pattern: str) -> list[bytes]:
        """Return the bodies that a stream holds under subjects of a pattern, for whoever looks from outside."""
        kept = self._find(stream).messages.values()
        return [each.data for each in kept if matches(pattern, each.subject)]

    def drop_pulls(self) -> None:
        """Forget all pulls: the broker went down."""
        for stream in self._streams.values():
            for consumer in stream.consumers.values():
                for pull in consumer.pulls:
                    _cancel(pull)
                consumer.pulls.clear()

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        if reply:
            self._broker.send(reply, Message(reply, msgspec.json.encode(answer)))

    def _find(self, name: str) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            raise _Refusal(404, STREAM_NOT_FOUND, "stream not found")
        return stream

    def _told(self, stream: _Stream) -> dict[str, Any]:
        return stream.info() | {"ts": to_rfc3339(self._clock.now_us())}

    def _stream_info(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        told = self._told(stream)
        asked = msgspec.json.decode(data) if data else {}
        if (pattern := asked.get("subjects_filter")) is not None:
            counts = {subject: count for subject, count in stream.per_subject.items() if count}
            told["state"]["subjects"] = {one: count for one, count in counts.items() if matches(pattern, one)}
        if asked.get("deleted_details"):
            first = min(stream.messages, default=stream.last_seq + 1)
            told["state"]["deleted"] = [seq for seq in range(first, stream.last_seq + 1) if seq not in stream.messages]
        return told

    def _stream_create(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        config = msgspec.json.decode(data)
        found = self._streams.get(tokens[0])
        if found is not None:
            if found.config != config:
                raise _Refusal(400, STREAM_NAME_IN_USE, "stream name already in use with a different configuration")
            return self._told(found)
        # Two of one microsecond differ as well.
        created = f"{to_rfc3339(self._clock.now_us())[:-1]}{next(self._made):03}Z"
        stream = self._streams[tokens[0]] = _Stream(config, created)
        return self._told(stream)

    def _stream_update(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        stream.config = msgspec.json.decode(data)
        return self._told(stream)

    def _stream_delete(self, tokens: list[str], _data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        for name in tuple(stream.consumers):
            self._end_consumer(stream, name)
        del self._streams[tokens[0]]
        return {"success": True}

    def _stream_message(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        """Answer `STREAM.MSG.DELETE`, and `STREAM.MSG.GET`: see `_asked_message`."""
        asked = msgspec.json.decode(data)
        stream = self._find(tokens[1])
        stored = _asked_message(asked, stream.messages)
        if stored is None:
            raise _Refusal(404, NO_MESSAGE_FOUND, "no message found")
        if tokens[0] == "DELETE":
            stream.remove(stored.seq)
            return {"success": True}
        body = base64.b64encode(stored.data).decode()
        at = to_rfc3339(stored.at_us)
        return {"message": {"subject": stored.subject, "seq": stored.seq, "data": body, "time": at}}

    def _consumer_create(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        config = msgspec.json.decode(data)["config"]
        name = tokens[1]
        consumer = stream.consumers.get(name)
        if consumer is None:
            consumer = _Consumer(stream, config)
            _check_unique(stream, consumer)
            stream.consumers[name] = consumer
            match config.get("deliver_policy"):
                case "by_start_sequence":
                    consumer.next_seq = config["opt_start_seq"]
                case "by_start_time":
                    start_us = from_rfc3339(config["opt_start_time"])
                    later = [each.seq for each in stream.messages.values() if each.at_us >= start_us]
                    consumer.next_seq = min(later, default=stream.last_seq + 1)
                case "new":
                    consumer.next_seq = stream.last_seq + 1
                case _:
                    pass
        consumer.config = config
        return {"name": name, "created": stream.created}

    def _consumer_info(self, tokens: list[str], _data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        consumer = stream.consumers.get(tokens[1])
        if consumer is None:
            raise _Refusal(404, CONSUMER_NOT_FOUND, "consumer not found")
        kept = (stored for stored in stream.messages.values() if stored.seq >= consumer.next_seq)
        return {
            "name": tokens[1],
            "config": consumer.config,
            "created": stream.created,
            "delivered": {"consumer_seq": consumer.delivered_seq, "stream_seq": consumer.next_seq - 1},
            "num_waiting": len(consumer.pulls),
            "num_pending": sum(consumer.wants(stored) for stored in kept),
            "num_redelivered": sum(delivered.count > 1 for delivered in consumer.open.values()),
        }

    def _consumer_delete(self, tokens: list[str], _data: bytes) -> dict[str, Any]:
        stream = self._find(tokens[0])
        if tokens[1] not in stream.consumers:
            raise _Refusal(404, CONSUMER_NOT_FOUND, "consumer not found")
        self._end_consumer(stream, tokens[1])
        return {"success": True}

    def _consumer_list(self, tokens: list[str], data: bytes) -> dict[str, Any]:
        consumers = self._find(tokens[0]).consumers
        start = msgspec.json.decode(data)["offset"]
        found = [{"name": name, "config": consumer.config} for name, consumer in consumers.items()]
        return {"total": len(found), "offset": start, "consumers": found[start:]}

    def _end_consumer(self, stream: _Stream, name: str) -> None:
        consumer = stream.consumers.pop(name)
        for delivered in consumer.open.values():
            if delivered.timer is not None:
                delivered.timer.cancel()
        for pull in consumer.pulls:
            _cancel(pull)
            self._status(pull.reply, "409", "Consumer Deleted")
        consumer.pulls.clear()

    def _store(self, stream: _Stream, message: Message) -> bool:
        now_us = self._clock.now_us()
        msg_id = (message.headers or {}).get(MSG_ID, "")
        window_us = stream.config.get("duplicate_window", 0) // 1000
        if msg_id and msg_id in stream.seen:
            seq, at_us = stream.seen[msg_id]
            if now_us - at_us < window_us:
                self._answer(message.reply, {"stream": stream.config["name"], "seq": seq, "duplicate": True})
                return True
        subject = _transformed(stream.config.get("subject_transform"), message.subject)
        most = stream.config.get("max_msgs_per_subject", 0)
        if most > 0 and stream.config.get("discard") == "new" and stream.per_subject.get(subject, 0) >= most:
            refusal = _Refusal(503, STORE_FAILED, "maximum messages per subject exceeded")
            self._answer(message.reply, {"stream": stream.config["name"], "seq": 0} | refusal.answer)
            return True
        if most > 0 and stream.per_subject.get(subject, 0) >= most:
            stream.remove(next(seq for seq, stored in stream.messages.items() if stored.subject == subject))
        stream.last_seq += 1
        seq = stream.last_seq
        stream.messages[seq] = _Stored(seq, subject, message.data, message.headers, now_us)
        stream.per_subject[subject] = stream.per_subject.get(subject, 0) + 1
        if msg_id:
            stream.seen[msg_id] = (seq, now_us)
        self._answer(message.reply, {"stream": stream.config["name"], "seq": seq})
        for consumer in stream.consumers.values():
            self._serve(consumer)
        return True

    def _pull(self, message: Message) -> bool:
        stream_name, name = message.subject.split(".")[-2:]
        stream = self._streams.get(stream_name)
        consumer = stream.consumers.get(name) if stream is not None else None
        if consumer is None:
            return False
        request = msgspec.json.decode(message.data)
        pull = _Waiting(message.reply, request.get("batch", 1), [])
        if expires_ns := request.get("expires"):
            pull.timers.append(self._broker.loop.call_later(expires_ns / NS_PER_S, self._expire, consumer, pull))
        if heartbeat_ns := request.get("idle_heartbeat"):
            self._beat(consumer, pull, heartbeat_ns / NS_PER_S)
        consumer.pulls.append(pull)
        self._serve(consumer)
        return True

    def _beat(self, consumer: _Consumer, pull: _Waiting, every_s: float) -> None:
        def beat() -> None:
            if pull in consumer.pulls:
                self._status(pull.reply, "100", "Idle Heartbeat")
                pull.timers[-1] = self._broker.loop.call_later(every_s, beat)

        pull.timers.append(self._broker.loop.call_later(every_s, beat))

    def _expire(self, consumer: _Consumer, pull: _Waiting) -> None:
        if pull in consumer.pulls:
            consumer.pulls.remove(pull)
            _cancel(pull)
            self._status(pull.reply, "408", "Request Timeout", {"Nats-Pending-Messages": str(pull.left)})

    def _status(self, reply: str, status: str, description: str, more: dict[str, str] | None = None) -> None:
        headers = {"Status": status, "Description": description} | (more or {})
        self._broker.send(reply, Message(reply, b"", headers))

    def _serve(self, consumer: _Consumer) -> None:
        """Deliver what the waiting pulls ask for, to each in turn."""
        while consumer.pulls:
            pull = consumer.pulls[0]
            if not self._broker.interested(pull.reply):
                consumer.pulls.pop(0)
                _cancel(pull)
                continue
            stored = self._next(consumer)
            if stored is None:
                return
            consumer.pulls.pop(0)
            pull.left -= 1
            if pull.left:
                consumer.pulls.append(pull)
            else:
                _cancel(pull)
            self._deliver(consumer, pull, stored)

    def _next(self, consumer: _Consumer) -> _Stored | None:
        stream = consumer.stream
        while consumer.redeliver:
            stored = stream.messages.get(consumer.redeliver[0])
            if stored is not None and stored.seq in consumer.open:
                consumer.redeliver.pop(0)
                return stored
            consumer.redeliver.pop(0)
        most = consumer.config.get("max_ack_pending", 1000)
        if consumer.explicit and len(consumer.open) >= most > 0:
            return None
        while consumer.next_seq <= stream.last_seq:
            stored = stream.messages.get(consumer.next_seq)
            consumer.next_seq += 1
            if stored is not None and consumer.wants(stored):
                return stored
        return None

    def _deliver(self, consumer: _Consumer, pull: _Waiting, stored: _Stored) -> None:
        consumer.delivered_seq += 1
        delivered = consumer.open.get(stored.seq) or _Delivered(0)
        delivered.count += 1
        if consumer.explicit:
            consumer.open[stored.seq] = delivered
            self._await_ack(consumer, stored.seq, consumer.config.get("ack_wait", _ACK_WAIT_NS) / NS_PER_S)
        name = consumer.config["name"]
        reply = (
            f"$JS.ACK.{consumer.stream.config['name']}.{name}.{delivered.count}.{stored.seq}"
            f".{consumer.delivered_seq}.{stored.at_us * 1000}.0"
        )
        self._broker.send(pull.reply, Message(stored.subject, stored.data, stored.headers, reply))

    def _await_ack(self, consumer: _Consumer, seq: int, wait_s: float) -> None:
        delivered = consumer.open[seq]
        delivered.attempt += 1
        if delivered.timer is not None:
            delivered.timer.cancel()
        delivered.timer = self._broker.loop.call_later(wait_s, self._again, consumer, seq, delivered.attempt)

    def _again(self, consumer: _Consumer, seq: int, attempt: int) -> None:
        delivered = consumer.open.get(seq)
        if delivered is not None and delivered.attempt == attempt:
            consumer.redeliver.append(seq)
            self._serve(consumer)

    def _acked(self, message: Message) -> None:
        tokens = message.subject.split(".")
        stream = self._streams.get(tokens[2])
        consumer = stream.consumers.get(tokens[3]) if stream is not None else None
        seq = int(tokens[5])
        if stream is None or consumer is None or seq not in consumer.open:
            return
        if message.data.startswith(b"-NAK"):
            delay = msgspec.json.decode(message.data[4:]) if len(message.data) > len("-NAK") else {}
            self._await_ack(consumer, seq, delay.get("delay", 0) / NS_PER_S)
        elif message.data == b"+WPI":
            self._await_ack(consumer, seq, consumer.config.get("ack_wait", _ACK_WAIT_NS) / NS_PER_S)
        else:
            timer = consumer.open.pop(seq).timer
            if timer is not None:
                timer.cancel()
            if stream.config.get("retention") == "workqueue":
                stream.remove(seq)
            self._serve(consumer)


def _asked_message(asked: dict[str, Any], messages: dict[int, _Stored]) -> _Stored | None:
    """Return the message at a sequence, the last one of a subject, or the next one of it from a sequence on."""
    if "last_by_subj" in asked:
        return next((each for each in reversed(messages.values()) if each.subject == asked["last_by_subj"]), None)
    if "next_by_subj" not in asked:
        return messages.get(asked["seq"])
    wanted, first = asked["next_by_subj"], asked["seq"]
    return next((each for each in messages.values() if each.seq >= first and each.subject == wanted), None)


def _check_unique(stream: _Stream, consumer: _Consumer) -> None:
    """Refuse a consumer of a work queue that would take what another one takes."""
    if stream.config.get("retention") != "workqueue":
        return
    for other in stream.consumers.values():
        pairs = [(mine, its) for mine in consumer.filters for its in other.filters]
        if any(mine == its or matches(its, mine) or matches(mine, its) for mine, its in pairs):
            if ">" in consumer.filters:
                raise _Refusal(
                    400, CONSUMER_NOT_ALONE, "multiple non-filtered consumers not allowed on workqueue stream"
                )
            raise _Refusal(400, CONSUMER_NOT_UNIQUE, "filtered consumer not unique on workqueue stream")


def _cancel(pull: _Waiting) -> None:
    for timer in pull.timers:
        timer.cancel()


def _transformed(transform: dict[str, str] | None, subject: str) -> str:
    """Return the subject under which a stream stores."""
    if not transform or not matches(transform["src"], subject):
        return subject
    tokens = subject.split(".")
    wild = [part for pattern, part in zip(transform["src"].split("."), tokens, strict=True) if pattern == "*"]
    return _WILDCARD.sub(lambda found: wild[int(found[1]) - 1], transform["dest"])

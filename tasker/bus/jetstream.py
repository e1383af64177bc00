"""JetStream's API over the bus: requests in JSON, errors, and what an ack subject tells.

Written by hand because nats-py's typed configuration drops fields that it does not know (`allow_batched`).
Sources: https://docs.nats.io/reference (JetStream API), ADR-15 of nats-io/nats-architecture-and-design.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tasker.bus.bus import Bus, NoResponders
from tasker.errors import Busy, ConfigurationError, TaskerError, Unavailable

API_PREFIX = "$JS.API"
API_TIMEOUT_S = 5.0
NS_PER_S = 1_000_000_000

CONSUMER_NOT_FOUND = 10014
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_ALONE = 10099
CONSUMER_NOT_UNIQUE = 10100
NO_MESSAGE_FOUND = 10037
STREAM_NAME_IN_USE = 10058
STORE_FAILED = 10077
STORAGE_INSUFFICIENT = 10047
_MISSING = frozenset({CONSUMER_NOT_FOUND, STREAM_NOT_FOUND})


class StreamMissing(Unavailable):
    """The stream or the consumer is not there (any more): whoever owns it makes it anew."""


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream says of a request that it refused."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    @property
    def is_missing(self) -> bool:
        """Return whether the stream or consumer does not exist."""
        return self.err_code in _MISSING


class _Reply(msgspec.Struct, frozen=True):
    error: ApiError | None = None


class PubAck(msgspec.Struct, frozen=True):
    """The stream has the message, at `seq`; `duplicate`: it had it before."""

    stream: str
    seq: int
    duplicate: bool = False


class _PubReply(msgspec.Struct, frozen=True):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


_T = TypeVar("_T")
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_pub_reply = msgspec.json.Decoder(_PubReply).decode


async def api_request(bus: Bus, verb: str, body: dict[str, Any] | None, answer: type[_T]) -> _T:
    """Ask JetStream for `verb` ("STREAM.INFO.NAME") and return its answer.

    Raises:
        StreamMissing: the stream or consumer does not exist.
        ApiRefused: JetStream refused it for another reason.
        Unavailable: no connection, no JetStream, no answer in time, or one that cannot be read.
    """
    data = b"" if body is None else msgspec.json.encode(body)
    try:
        message = await bus.request(f"{API_PREFIX}.{verb}", data, timeout_s=API_TIMEOUT_S)
    except NoResponders as error:
        raise Unavailable("JetStream does not answer; is it enabled on this NATS server?") from error
    try:
        error_told = _decode_reply(message.data).error
        if error_told is None:
            return msgspec.json.decode(message.data, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"the answer to {verb} cannot be read: {error}") from error
    if error_told.err_code in _MISSING:
        raise StreamMissing(f"{verb}: {error_told.description}")
    raise ApiRefused(verb, error_told)


def parse_api_error(data: bytes) -> ApiError | None:
    """Return what JetStream says of a request that it refused; None: it did not.

    Raises:
        msgspec.DecodeError: the answer cannot be read.
    """
    return _decode_reply(data).error


class ApiRefused(Unavailable):
    """JetStream refused a request; `api_error` says why."""

    def __init__(self, verb: str, api_error: ApiError) -> None:
        super().__init__(f"{verb}: {api_error.description} ({api_error.err_code})")
        self.api_error = api_error

    def as_configuration(self) -> ConfigurationError:
        """Return it as the reason why we cannot start."""
        return ConfigurationError(self.detail, remedy="`tasker doctor` says what NATS lacks, and what to change")


def parse_pub_ack(data: bytes) -> PubAck | TaskerError:
    """Return what a stream answered to a publication: the ack, or the error that stands for its refusal."""
    try:
        reply = _decode_pub_reply(data)
    except msgspec.DecodeError as error:
        return Unavailable(f"the answer to a publication is no ack: {error}")
    if reply.error is not None:
        return publish_error(reply.error)
    return PubAck(reply.stream, reply.seq, reply.duplicate)


def publish_error(error: ApiError) -> TaskerError:
    """Return the error that stands for a refused publication; a full queue is `Busy`."""
    if error.err_code == STORE_FAILED and "maximum" in error.description:
        return Busy(f"the stream is full: {error.description}", retry_after_s=1.0)
    if error.err_code in _MISSING:
        return StreamMissing(error.description)
    return Unavailable(f"the stream refused the message: {error.description} ({error.err_code})")


class AckInfo(msgspec.Struct, frozen=True):
    """What the reply subject of a delivered message tells."""

    stream: str
    consumer: str
    num_delivered: int
    stream_seq: int
    consumer_seq: int
    at_us: int
    pending: int


def parse_ack_subject(reply: str) -> AckInfo:
    """Return what an ack subject tells, in its older form (9 tokens) or the one with domain and account.

    Raises:
        ValueError: it is none.
    """
    tokens = reply.split(".")
    if len(tokens) < 9 or tokens[0] != "$JS" or tokens[1] != "ACK":  # noqa: PLR2004 - see the docstring
        raise ValueError(reply)
    stream, consumer, delivered, stream_seq, consumer_seq, at_ns, pending = (
        tokens[2:9] if len(tokens) == 9 else tokens[4:11]  # noqa: PLR2004 - see the docstring
    )
    return AckInfo(
        stream, consumer, int(delivered), int(stream_seq), int(consumer_seq), int(at_ns) // 1000, int(pending)
    )

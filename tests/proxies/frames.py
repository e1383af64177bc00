"""The frames of two protocols, cut out of a stream of bytes: nothing is changed, and every byte is in one frame.

    PostgreSQL  type (1) | length (4, itself included) | ...        a client's first message has no type
    NATS        a line; PUB, HPUB, MSG and HMSG name the size of what follows it

Sources: "Message Formats" of the PostgreSQL manual; "Client Protocol" of the NATS documentation.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

STARTUP: Final = "startup"
_ENCRYPTION_REQUESTS: Final = (80877103, 80877104)
_LINE_BYTES_MAX: Final = 1024 * 1024
"""The longest line: an INFO, or a CONNECT with a credential."""

_HEADER_BYTES: Final = 5


class Frame(NamedTuple):
    """One message of a protocol, as it stands on the wire.

    Attributes:
        kind: of PostgreSQL the type's character, of NATS the verb in upper case.
        subject, reply: of a NATS message; "" else.
    """

    kind: str
    data: bytes
    subject: str = ""
    reply: str = ""


class Framing(Protocol):
    """Cuts one direction of a connection into frames."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole with `data`.

        Raises:
            ValueError: this is not the protocol.
        """
        ...


class PostgresFraming:
    """One direction of a connection to PostgreSQL, unencrypted (`sslmode=disable`)."""

    def __init__(self, *, from_client: bool) -> None:
        self._rest = b""
        self._begins = from_client

    def feed(self, data: bytes) -> list[Frame]:
        """See `Framing.feed`."""
        self._rest += data
        frames = []
        while (size := self._size()) and len(self._rest) >= size:
            whole, self._rest = self._rest[:size], self._rest[size:]
            if self._begins:
                self._begins = False
                if int.from_bytes(whole[4:8], "big") in _ENCRYPTION_REQUESTS:
                    raise ValueError("the client asks for encryption: give it sslmode=disable")
                frames.append(Frame(STARTUP, whole))
            else:
                frames.append(Frame(chr(whole[0]), whole))
        return frames

    def _size(self) -> int:
        """Return the size of the next frame; 0 when its length has not come yet."""
        before = 0 if self._begins else 1
        if len(self._rest) < before + 4:
            return 0
        length = int.from_bytes(self._rest[before : before + 4], "big")
        if length < 4:
            raise ValueError(f"a frame of {length} bytes")
        return before + length


class NatsFraming:
    """One direction of a connection to NATS, unencrypted."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """See `Framing.feed`."""
        self._rest += data
        frames: list[Frame] = []
        while True:
            line, found, _ = self._rest.partition(b"\r\n")
            if not found:
                if len(line) > _LINE_BYTES_MAX:
                    raise ValueError("a line without an end")
                return frames
            words = line.decode().split()
            kind = words[0].upper() if words else ""
            size = len(line) + 2
            subject = reply = ""
            if kind in _PAYLOAD:
                fixed, sizes = _PAYLOAD[kind]
                if not fixed + sizes < len(words) <= fixed + sizes + 2:
                    raise ValueError(f"{line[:100]!r}")
                subject = words[1]
                reply = words[fixed + 1] if len(words) == fixed + sizes + 2 else ""
                size += int(words[-1]) + 2
            if len(self._rest) < size:
                return frames
            whole, self._rest = self._rest[:size], self._rest[size:]
            if kind in _PAYLOAD and not whole.endswith(b"\r\n"):
                raise ValueError(f"{line[:100]!r} is followed by another size")
            frames.append(Frame(kind, whole, subject, reply))


_PAYLOAD: Final = {"PUB": (1, 1), "HPUB": (1, 2), "MSG": (2, 1), "HMSG": (2, 2)}
"""Verb -> how many words stand before the reply that may be missing, and how many sizes at the end."""

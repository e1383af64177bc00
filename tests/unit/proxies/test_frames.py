"""The proxies' own framing: whole frames, whatever pieces the bytes come in."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proxies.frames import STARTUP, Frame, Framing, NatsFraming, PostgresFraming


def typed(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def untyped(body: bytes) -> bytes:
    return struct.pack("!i", len(body) + 4) + body


def fed(framing: Framing, data: bytes, cuts: list[int]) -> list[Frame]:
    """Feed `data` in pieces that end at `cuts`."""
    frames = []
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    start = 0
    for end in ends:
        frames += framing.feed(data[start:end])
        start = end
    return frames


tokens = st.text("abcDEF.*>_$-0123456789", min_size=1, max_size=20)
bodies = st.binary(max_size=60)


@st.composite
def nats_frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(["PUB", "HPUB", "MSG", "HMSG", "PING", "PONG", "+OK", "-ERR", "SUB", "INFO"]))
    if kind not in {"PUB", "HPUB", "MSG", "HMSG"}:
        rest = {"-ERR": " 'Permissions Violation'", "SUB": " a.> 7", "INFO": ' {"port": 1}'}.get(kind, "")
        return Frame(kind, f"{kind}{rest}\r\n".encode())
    subject, reply, body = draw(tokens), draw(st.sampled_from(["", "r.1"])), draw(bodies)
    words = [kind if draw(st.booleans()) else kind.lower(), subject]
    if "MSG" in kind:
        words.append("7")
    words.append(reply)  # nothing between two spaces, as nats-py and our client send it
    if kind.startswith("H"):
        words.append(str(len(body) // 2))
    words.append(str(len(body)))
    return Frame(kind, " ".join(words).encode() + b"\r\n" + body + b"\r\n", subject, reply)


@given(st.lists(nats_frames(), max_size=12), st.lists(st.integers(0, 10_000), max_size=12))
def test_nats_frames_are_whole_however_the_bytes_come(frames: list[Frame], cuts: list[int]) -> None:
    assert fed(NatsFraming(), b"".join(frame.data for frame in frames), cuts) == frames


@given(
    st.lists(st.tuples(st.sampled_from("PBESQXZ1CD"), bodies), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from(["client", "server"]),
)
def test_postgres_frames_are_whole_however_the_bytes_come(
    frames: list[tuple[str, bytes]], cuts: list[int], of: str
) -> None:
    wanted = [Frame(kind, typed(kind, body)) for kind, body in frames]
    if of == "client":
        wanted.insert(0, Frame(STARTUP, untyped(struct.pack("!i", 196608) + b"user\0tasker\0\0")))
    assert fed(PostgresFraming(from_client=of == "client"), b"".join(frame.data for frame in wanted), cuts) == wanted


def test_a_payload_may_look_like_commands() -> None:
    framing = NatsFraming()
    data = b"PUB a  13\r\nPUB b 2\r\nhi\r\n\r\nPING\r\n"
    assert framing.feed(data) == [Frame("PUB", data[:26], "a"), Frame("PING", b"PING\r\n")]


@pytest.mark.parametrize(
    "data", [b"PUB a b c d 1\r\nx\r\n", b"PUB a\r\n", b"PUB a x\r\n", b"MSG a 1\r\n", b"PUB a 1\r\nxxx\r\n"]
)
def test_what_is_no_nats_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message quotes the line
        NatsFraming().feed(data)


def test_encryption_cannot_be_looked_into() -> None:
    with pytest.raises(ValueError, match="sslmode=disable"):
        PostgresFraming(from_client=True).feed(untyped(struct.pack("!i", 80877103)))


def test_a_length_without_room_for_itself_is_none() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        PostgresFraming(from_client=False).feed(b"Z" + struct.pack("!i", 3))

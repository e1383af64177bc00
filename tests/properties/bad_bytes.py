"""Bytes that are nearly what a decoder takes, and bytes that are nothing of the kind."""

from __future__ import annotations

import json
from typing import Final

from hypothesis import strategies as st

from tasker.events.codec import BODY_BYTES_MAX

FRAGMENTS = (
    b"",
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xa8",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"0.1e-400",
    b"9" * 19,
    b"9" * 309,
    b"9" * 1001,
    b"9" * 5000,
    b"[" * 70,
    b'{"a":' * 70,
    b"[" * 3000,
    b"{}",
    b"[]",
    b'""',
    b'{"a":1,"a":2}',
    b'"' + b"x" * 3000 + b'"',
    b" " * 200,
    b"\r\n",
    b": ",
    b"- ",
    b"&a ",
    b"*a ",
    b"!!python/object:os.system ",
    b"<<: *a\n",
    b"{{",
    b"%00",
    b"=",
    b"/",
    b",",
    b"-",
    b'"',
    b"\\",
    b"urn:uuid:",
    "\N{ARABIC-INDIC DIGIT ONE}".encode(),
    "\N{FULLWIDTH DIGIT ONE}".encode(),
)
"""What has upset decoders before."""


@st.composite
def spoilt(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of `seeds` with up to four places cut, doubled, swapped with another or overwritten by a fragment."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 24)))
        fragment = draw(
            st.sampled_from(FRAGMENTS)
            | st.binary(max_size=6)
            | st.sampled_from(seeds)
            | st.just(data[start:end] * 2)
            | st.just(data[start:end][::-1])
        )
        data = data[:start] + fragment + data[end:]
    return data


def bad_bytes(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Mostly spoilt seeds; some made of fragments; some of nothing."""
    pieces = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=8).map(b"".join)
    return spoilt(seeds) | spoilt(seeds) | spoilt(seeds) | pieces | st.binary(max_size=40)


def _filled(piece: bytes, *, head: bytes = b"", tail: bytes = b"") -> bytes:
    """Return `piece` repeated up to the size of a body."""
    return head + piece * ((BODY_BYTES_MAX - len(head) - len(tail)) // len(piece)) + tail


def _suggestions() -> bytes:
    """A template in which no dependency is known, and each is like every step."""
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    names = [f"a{letters[number % 26 :]}{letters[: number % 26]}{number:03}"[:60] for number in range(1000)]
    return json.dumps({"name": "t", "steps": [{"name": name, "after": [name[::-1]]} for name in names]}).encode()


BOMBS: Final[dict[str, bytes]] = {
    "open lists": _filled(b"["),
    "open objects": _filled(b'{"a":'),
    "pairs of brackets": _filled(b"[]"),
    "brackets in a string": _filled(b'\\"[', head=b'"', tail=b'"'),
    "backslashes": _filled(b"\\", head=b"[" * 65 + b'"'),
    "lists and quotes": _filled(b'["'),
    "one long string": _filled(b"x", head=b'"', tail=b'"'),
    "escapes": _filled(b"\\u0041", head=b'"', tail=b'"'),
    "half a pair in every item": _filled(b'"\\ud800",', head=b"[", tail=b"1]"),
    "one long number": _filled(b"7"),
    "long numbers": _filled(b"7" * 1000 + b",", head=b"[", tail=b"1]"),
    "numbers too long": _filled(b"7" * 4001 + b",", head=b"[", tail=b"1]"),
    "digits behind a point": _filled(b"7", head=b"0."),
    "empty items": _filled(b"{},", head=b"[", tail=b"{}]"),
    "one key again and again": _filled(b'"a":1,', head=b"{", tail=b'"a":1}'),
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(45_000)) + b"}",
    "white space": _filled(b" ", tail=b"1"),
    "bytes of no text": _filled(b"\xff"),
    "zeros": _filled(b"\0"),
    "suggestions": _suggestions(),
    "doubling aliases": b"a0: &a0 x\n"
    + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 99)),
    "aliases of a long text": b'name: t\nsteps: [{name: a}]\ninput_schema:\n  a: &a "%b"\n  enum: [%b]\n'
    % (b"x" * 250_000, b"*a, " * 60_000),
    "aliases of a long key": b'? &a "%b"\n: 1\nb: [%b]\n' % (b"x" * 250_000, b"*a, " * 60_000),
    "values below a long key": b'? "%b"\n: [%b]\n' % (b"k" * 250_000, b"1, " * 80_000),
    "values below long keys": b"".join(b"%b? %b\n%b:\n" % (b" " * n, b"k" * 1000, b" " * n) for n in range(60))
    + b" " * 61
    + b"["
    + b"1, " * 100_000
    + b"]\n",
    "anchors": b"".join(b"- &a%d x\n" % number for number in range(40_000)),
    "dashes": _filled(b"- "),
    "question marks": _filled(b"? "),
    "flow keys": b"{" + b", ".join(b"%d: 1" % number for number in range(40_000)) + b"}",
    "directives": _filled(b"%YAML 1.1\n"),
    "exclamation marks": _filled(b"!"),
    "lines of a folded text": _filled(b" \n", head=b"a: >\n"),
    "positions": b",".join(b"%d:1" % (number % 16) for number in range(100_000)),
    "shards": b",".join(b"%d:1" % number for number in range(60_000)),
    "header lines": _filled(b"a:\r\n", head=b"NATS/1.0\r\n"),
    "queues": b'{"worker":"w","slots":1,"queues":['
    + b",".join(b'["a","q%d"]' % number for number in range(35_000))
    + b"]}",
    "nodes": b'{"worker":"w","slots":1,"nodes":{'
    + b",".join(b'"n%d":[1,1]' % number for number in range(30_000))
    + b"}}",
}
"""As large as a body may be, each against one way of reading it."""

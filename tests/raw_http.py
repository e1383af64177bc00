"""HTTP as bytes: requests that no client library would send."""

import asyncio
import json
from typing import Any, NamedTuple


class RawResponse(NamedTuple):
    """What came back. `body` is JSON where it says that it is, else text."""

    status: int
    media_type: str
    body: Any


async def raw_request(
    port: int, method: bytes, target: bytes, headers: dict[bytes, bytes] | None = None, body: bytes | None = None
) -> RawResponse:
    """Return the answer to a request with these bytes in its target, headers and body."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: localhost", b"Connection: close"]
    lines += [b"%b: %b" % pair for pair in (headers or {}).items()]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""))
    async with asyncio.timeout(25):
        answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *told = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in told)}
    media_type = named.get("content-type", "").partition(";")[0]
    is_json = media_type.endswith("json") and rest
    return RawResponse(
        int(first.split()[1]), media_type, json.loads(rest) if is_json else rest.decode(errors="replace")
    )

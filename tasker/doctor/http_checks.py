"""Whether the HTTP API answers, and what it says of itself."""

from __future__ import annotations

from typing import Final

import aiohttp

from tasker.doctor.finding import Finding
from tasker.settings import Settings
from tasker.settings.keys import keys, shown

ANSWER_S: Final = 5.0
_OK: Final = 200
_NOT_READY: Final = 503


async def examine_http(settings: Settings) -> list[Finding]:
    """Return what is wrong with the API, where its address is known."""
    url = settings.http.url
    if url is None:
        return []
    where = shown(keys()["http.url"], url)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as session,
            session.get(f"{url.rstrip('/')}/health/ready") as response,
        ):
            status = response.status
            body = await response.json(content_type=None) if status in {_OK, _NOT_READY} else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return [
            Finding(
                code="http_unreachable",
                detail=f"{where} does not answer: {str(error) or type(error).__name__}",
                remedy="start `tasker serve` with the role http, or correct http.url (TASKER_HTTP_URL)",
            )
        ]
    if not isinstance(body, dict) or "ready" not in body:
        return [
            Finding(
                code="http_unreachable",
                detail=f"{where} answers with HTTP status {status}, and not as Tasker does",
                remedy="correct http.url (TASKER_HTTP_URL): another service has that address",
            )
        ]
    if status == _OK:
        return []
    checks = body.get("checks", {})
    why = "; ".join(f"{name}: {wrong}" for name, wrong in checks.items() if wrong) or f"HTTP status {status}"
    return [
        Finding(
            code="http_not_ready",
            detail=f"{where} is not ready: {why}",
            remedy="what it names is what to look at; `tasker health` says it again",
        )
    ]

"""Makes an app's templates known to the service, before its queues are served."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from tasker.bus.bus import Bus
from tasker.errors import TaskerError, is_passing
from tasker.events.codec import decode_message, encode_message
from tasker.events.messages import Reply, TemplateRegister
from tasker.events.subjects import Subjects

COMMAND_TIMEOUT_S: Final = 10.0
_RETRY_S_BASE: Final = 0.1
_RETRY_S_MAX: Final = 2.0

_log = structlog.get_logger(__name__)


async def register_templates(bus: Bus, subjects: Subjects, tenant: str, documents: tuple[dict[str, Any], ...]) -> None:
    """Make templates known to the service; wait for the service where it is not there yet.

    Raises:
        CommandRejected: the service refused one (`TemplateConflict`, `TemplateInvalid`).
    """
    for document in documents:
        await _register(bus, subjects.command(tenant, "template", "register"), document)


async def _register(bus: Bus, subject: str, document: dict[str, Any]) -> None:
    body = encode_message(TemplateRegister(template=document))
    failures = 0
    while True:
        try:
            reply = decode_message((await bus.request(subject, body, timeout_s=COMMAND_TIMEOUT_S)).data, Reply)
            if reply.error is not None:
                raise TaskerError.from_problem(reply.error)
        except TaskerError as error:
            if not is_passing(error):
                raise
            failures += 1
            if failures == 3 or failures % 30 == 0:  # noqa: PLR2004 - one line soon, then one a minute
                _log.warning("waiting_for_the_service", template=document["name"], error=str(error))
            delay_s = min(_RETRY_S_MAX, _RETRY_S_BASE * 1.5 ** min(failures, 20))
            await asyncio.sleep(max(error.retry_after_s or 0.0, delay_s))
        else:
            _log.info("template_registered", template=reply.template, duplicate=reply.duplicate)
            return

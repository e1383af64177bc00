"""The `max_running` of a template: so many tasks of it that have not ended, for each tenant.

It is a concurrency key (`domain.concurrency`), in whose stream it stands who was let in. A task asks before it exists:
only once it has its place is it created, with the time at which it asked (`TaskCreated.admitted_us`), which names the
request. It has the place until it ends. A creation that comes to nothing leaves a place whose request nobody knows:
the key's look finds it.
"""

from __future__ import annotations

from typing import Final

from tasker.events.places import KeyName, request_of

MAX_RUNNING: Final = "max_running"
"""The key; what an expression gives is JSON, so never this."""

ADMISSION: Final = "~admission"
"""Stands in a request where others have a step; no step is called so."""


def admission_key(tenant: str, namespace: str, template: str) -> KeyName:
    """Return the key of a template's `max_running`."""
    return KeyName(tenant=tenant, namespace=namespace, template=template, key=MAX_RUNNING)


def admission_request(task_id: str, at_us: int) -> str:
    """Return what names the request of a task that asked at `at_us` to be let in."""
    return request_of(task_id, ADMISSION, at_us)

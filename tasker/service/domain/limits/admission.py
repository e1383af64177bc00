"""The caps of a template: so many tasks of it that have not ended (`max_running`), one of a kind (`singleton`).

Each is a concurrency key (`domain.limits.concurrency`), in whose stream it stands who was let in. A task asks before it
exists: only once it has its place is it created, with the time at which it asked (`TaskCreated.admitted_us`), which
names the request. It has the place until it ends. A creation that comes to nothing leaves a place whose request nobody
knows: the key's look finds it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tasker.events.places import KeyName, request_of
from tasker.service.domain.limits.input_keys import key_of_start
from tasker.templates import CompiledTemplate

MAX_RUNNING: Final = "max_running"
"""The key; what an expression gives is JSON, so never this."""

ADMISSION: Final = "~admission"
"""Stands in a request where others have a step; no step is called so."""


_SINGLETON: Final = "singleton "
DEBOUNCE_PREFIX: Final = "debounce "


def is_admission_key(key: str) -> bool:
    """Return whether tasks ask for a place under the key before they exist."""
    return key == MAX_RUNNING or key.startswith((_SINGLETON, DEBOUNCE_PREFIX))


def singleton_of(template: CompiledTemplate, task_input: msgspec.Raw) -> str | None:
    """Return the key of which one task may be there that has not ended; None: as many as want to.

    Raises:
        InputInvalid: the input has no value for it.
    """
    expression = template.spec.singleton
    if expression is None:
        return None
    text = key_of_start("singleton", expression, template, task_input)
    return None if text is None else f"{_SINGLETON}{text}"


def admission_keys(tenant: str, template: CompiledTemplate, task_input: msgspec.Raw) -> tuple[KeyName, ...]:
    """Return the keys under which a task of the template that was let in has a place."""
    spec, singleton = template.spec, singleton_of(template, task_input)
    keys: list[KeyName] = []
    if singleton is not None:
        keys.append(admission_key(tenant, spec.namespace, spec.name, singleton))
    if spec.max_running is not None:
        keys.append(admission_key(tenant, spec.namespace, spec.name))
    return tuple(keys)


def admission_key(tenant: str, namespace: str, template: str, key: str = MAX_RUNNING) -> KeyName:
    """Return the name of such a key."""
    return KeyName(tenant=tenant, namespace=namespace, template=template, key=key)


def admission_request(task_id: str, at_us: int) -> str:
    """Return what names the request of a task that asked at `at_us` to be let in."""
    return request_of(task_id, ADMISSION, at_us)

"""What a test names as the source of its workflows: templates, modules, handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from tasker.errors import ConfigurationError
from tasker.handlers.handler import HandlerSpec, plain_handlers_of
from tasker.handlers.hooks import Middleware
from tasker.handlers.registry import Registry
from tasker.handlers.template import Template

Source = Template | ModuleType
"""What declares workflows: a template, or a module with templates and handlers."""


def registry_of(
    sources: Sequence[Source], handlers: Sequence[Any] = (), labels: Mapping[str, str] | None = None
) -> Registry:
    """Return what templates, modules and functions marked `@handler` or `@middleware` declare together.

    Raises:
        TemplateInvalid, ConfigurationError: as `Registry`; also when there is no template among them.
    """
    templates: list[Template] = []
    hooks: list[Middleware] = [hook for hook in handlers if isinstance(hook, Middleware)]
    specs: list[HandlerSpec] = [spec for function in handlers for spec in plain_handlers_of(function)]
    for source in sources:
        values = list(vars(source).values()) if isinstance(source, ModuleType) else [source]
        templates += [value for value in values if isinstance(value, Template) and value not in templates]
        specs += [spec for value in values for spec in plain_handlers_of(value) if spec not in specs]
        hooks += [value for value in values if isinstance(value, Middleware) and value not in hooks]
    if not templates:
        raise ConfigurationError("there is no template to test: give a Template, or a module that has one")
    return Registry(templates, specs, hooks, labels=labels)

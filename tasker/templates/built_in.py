"""The templates that the service brings itself, in the namespace `tasker`. Every tenant has them, registered or not.

Their content never changes in place: a running task keeps the one it began with, and finds it by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tasker.ids import RESERVED_NAMESPACE
from tasker.templates.compiled import CompiledTemplate, compile_template
from tasker.templates.hash import effective_version
from tasker.templates.model import Retry, StepSpec, TemplateSpec

BULK: Final = "bulk"
"""Gives one command to everything that matches, part by part."""

BULK_STEP: Final = "run"

_SPECS: Final = (
    TemplateSpec(
        name=BULK,
        namespace=RESERVED_NAMESPACE,
        steps=(
            StepSpec(
                name=BULK_STEP,
                handler=BULK_STEP,
                start_to_close_s=120.0,  # of a part, which takes a few seconds
                heartbeat_s=5.0,
                retry=Retry(max_attempts=100, delay_s=0.5, delay_s_max=30.0),
            ),
        ),
    ),
)

BUILT_IN: Final[Mapping[str, tuple[str, CompiledTemplate]]] = MappingProxyType(
    {spec.name: (effective_version(spec), compile_template(spec)) for spec in _SPECS}
)
"""Name -> version and content."""

"""The domain events of a step, as its decorator is told of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasker.errors import ConfigurationError
from tasker.handlers.models import schema_of
from tasker.templates.model import EmitOn


@dataclasses.dataclass(frozen=True, slots=True)
class Emits:
    """A domain event that a step may raise.

    ```python
    @orders.step(emits=[Emits("payment.captured", Payment), Emits("payment.lost", on="permanent", auto=True)])
    async def charge(ctx: StepContext, input: Order) -> Receipt: ...
    ```

    Args:
        name: one to four names with dots between them, such as `payment.captured`.
        schema: what its data must match: a JSON Schema, or a type that one is derived from, as for inputs; None: any.
        on: how the attempt has to end for it to be raised: `success`; `failure`: in any other way; `always`;
            `retryable`: failed, and another attempt follows; `permanent`: failed, and with it the step.
        auto: the service raises it by itself, with the step's result or its error as data; the handler does not.
    """

    name: str
    schema: dict[str, Any] | type | None = None
    on: EmitOn = "success"
    auto: bool = False


def emits_document(emits: Sequence[Emits | str]) -> list[dict[str, Any]] | None:
    """Return what a template's document says of them; None: there are none.

    Raises:
        ConfigurationError: no JSON Schema can be derived from a type.
    """
    return [_document(Emits(one) if isinstance(one, str) else one) for one in emits] or None


def _document(emits: Emits) -> dict[str, Any]:
    schema = emits.schema
    if isinstance(schema, type):
        derived = schema_of(schema)
        if derived is None:
            raise ConfigurationError(
                f"domain event {emits.name}: no JSON Schema can be derived from {schema.__name__}; give a struct, "
                "dataclass, TypedDict, attrs class or Pydantic model, or the schema itself"
            )
        schema = derived
    document: dict[str, Any] = {"name": emits.name, "on": emits.on, "schema": schema}
    if emits.auto:
        document["auto"] = True
    return document

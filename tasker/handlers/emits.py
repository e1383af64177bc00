"""The domain events of a step, as its decorator is told of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasker.callers import place_of_caller
from tasker.errors import ConfigurationError
from tasker.handlers.keywords import keywords_told
from tasker.handlers.models import schema_of
from tasker.templates.model import EmitOn
from tasker.templates.reading import kind_of


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


Emits.__init__ = keywords_told(Emits.__init__)  # type: ignore[method-assign]


def emits_document(emits: Emits | str | Sequence[Emits | str]) -> list[dict[str, Any]] | None:
    """Return what a template's document says of them, of one alone as well; None: there are none.

    Raises:
        ConfigurationError: they are no domain events, or no JSON Schema can be derived from a type.
    """
    several = [emits] if isinstance(emits, (str, Emits)) else emits
    if not isinstance(several, (list, tuple)):
        raise _no_events(several)
    return [_document(one) for one in several] or None


def _no_events(value: object) -> ConfigurationError:
    return ConfigurationError(
        f"{place_of_caller()}emits is a list of names of domain events, or of Emits(...), not {kind_of(value)}"
    )


def _document(emits: Emits | str) -> dict[str, Any]:
    if isinstance(emits, str):
        emits = Emits(emits)
    if not isinstance(emits, Emits):
        raise _no_events(emits)
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

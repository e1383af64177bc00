"""Weights: how large a share is beside others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasker.errors import ConfigurationError
from tasker.ids import is_name

WEIGHT_MIN: Final = 0.001
WEIGHT_MAX: Final = 1_000.0


def weights_of(given: Iterable[str]) -> dict[str, float]:
    """Return the weights of tenants, each given as `tenant=weight`.

    Raises:
        ConfigurationError: one is no weight, or a tenant stands twice.
    """
    found: dict[str, float] = {}
    for text in given:
        tenant, _, number = text.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not is_name(tenant) or not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise ConfigurationError(
                f"{text[:80]!r} is no weight of a tenant: write tenant=weight, such as acme=3, with a weight from "
                f"{WEIGHT_MIN:g} to {WEIGHT_MAX:g}"
            )
        if tenant in found:
            raise ConfigurationError(f"tenant {tenant!r} has two weights")
        found[tenant] = weight
    return found

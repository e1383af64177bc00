"""The whole of it: one task, as the documentation says that it is."""

from __future__ import annotations

from tests.reference.model.at_rest import AtRest
from tests.reference.model.by_hand import ByHand
from tests.reference.model.holds import Holds
from tests.reference.model.places import Places


class Reference(ByHand, Places, Holds, AtRest):
    """One task: `Standing` has what can be asked of it."""

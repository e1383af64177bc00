"""What operators and circuits hold back: the fold of the log's stream of controls, and what follows for an attempt."""

from tasker.controls.circuits import Circuit, Circuits
from tasker.controls.fold import CONTROL_FORM, Controls, Hold, Limit, Pause, Place, Ramp, chance_of, target_of
from tasker.controls.target import Target

__all__ = [
    "CONTROL_FORM",
    "Circuit",
    "Circuits",
    "Controls",
    "Hold",
    "Limit",
    "Pause",
    "Place",
    "Ramp",
    "Target",
    "chance_of",
    "target_of",
]

"""What operators hold back: the fold of the log's stream of controls, and what follows from it for an attempt."""

from tasker.controls.fold import CONTROL_FORM, Controls, Hold, Limit, Pause, Place, Ramp, Target, chance_of, target_of

__all__ = ["CONTROL_FORM", "Controls", "Hold", "Limit", "Pause", "Place", "Ramp", "Target", "chance_of", "target_of"]

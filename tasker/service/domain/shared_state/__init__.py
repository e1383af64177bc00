"""The state that the steps of a task share."""

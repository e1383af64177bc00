"""The actor of a schedule and its effects."""

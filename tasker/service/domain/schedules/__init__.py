"""A schedule: a stream of events like a task."""

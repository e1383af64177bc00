"""A step of a task: when it begins, what it gets, how it ends."""

"""Who does the work: the worker SDK."""

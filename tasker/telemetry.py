"""Logs, tracer and meter."""

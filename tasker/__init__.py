"""Tasker: an event-sourced workflow service."""

__version__ = "0.1.0"

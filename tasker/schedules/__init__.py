"""Schedules as data: the document, its checks, and the fire times that it names. Pure: no clock, no draw."""

from tasker.schedules.document import document_of, spec_of
from tasker.schedules.fire_times import due_us_of, fire_times, time_text

__all__ = ["document_of", "due_us_of", "fire_times", "spec_of", "time_text"]

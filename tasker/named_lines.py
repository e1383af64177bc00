"""Lines of the standard library's log that have a fixed name.

What runs in programs of others as well (the bus, the client) logs with the standard library: a sentence, for whoever
sets up logs. In our own processes such a line has the form of all others: a name in `event`, what varies in fields.
"""

from __future__ import annotations

from typing import Final

NAMED: Final = "tasker_line"
"""The attribute of a record that holds name and fields."""


def named(event: str, **fields: object) -> dict[str, object]:
    """Return the `extra` of such a line."""
    return {NAMED: {"event": event, **fields}}

"""Named SQL statements, read from `.sql` files beside the module that says them.

A file holds statements, each led by a line `-- name: <name>`. No value is ever put into a statement's text.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_head = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def statements(name: str, package: str = __name__) -> dict[str, str]:
    """Return the statements of `<name>.sql` in the folder of `package`, by name."""
    text = (files(package) / f"{name}.sql").read_text(encoding="utf-8")
    parts = _head.split(text)
    return {parts[at]: parts[at + 1].strip() for at in range(1, len(parts), 2)}

"""What the views say to Postgres; `{table}` in a statement stands for the table of a view's version."""

from __future__ import annotations

from functools import partial

from tasker.events.sql import statements as statements_of

statements = partial(statements_of, package=__name__)

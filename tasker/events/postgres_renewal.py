"""A new id for a log that was restored to an earlier time.

New events take the positions of those that the restore lost. With a new id, no event, mark or position of the time
that was lost is taken for one of now: ids of events differ, the event stream is filled anew, and stored positions are
refused.
"""

from __future__ import annotations

import msgspec

from tasker.errors import ConfigurationError
from tasker.events.postgres_schema import LOG_ID_CHARS, administering, check_schema
from tasker.events.sql import statements
from tasker.ids import SystemIds
from tasker.times import to_rfc3339

_sql = statements("renewal")


class Renewed(msgspec.Struct, frozen=True):
    """The ids of a log. `before`: which it had; `log_id`: which it has now."""

    before: str
    log_id: str


async def renew_log(dsn: str) -> Renewed:
    """Give the log a new id, and return it with the old one.

    Args:
        dsn: of PostgreSQL itself.

    Raises:
        ConfigurationError: a service owns a part of the log, or the database cannot be used.
        SchemaMismatch: the database is not of this build.
        Unavailable: it cannot be reached.
    """
    log_id = SystemIds().token()[:LOG_ID_CHARS]
    async with administering(dsn, "to renew the log") as connection:
        await check_schema(connection)
        async with connection.transaction():
            before = await connection.fetchval(_sql["lock_log"])
            until_us = await connection.fetchval(_sql["leased_until"])
            if until_us is not None:
                raise ConfigurationError(
                    f"a service owns this log until {to_rfc3339(until_us)}: stop it, and run this again after that"
                )
            await connection.execute(_sql["renew"], log_id)
    return Renewed(before, log_id)

"""A finding: one thing that is wrong, in words, with its remedy; and the list of all that can be found."""

from __future__ import annotations

from typing import Final

import msgspec

CATALOGUE: Final = {
    # settings
    "variable_unknown": "a `TASKER_...` variable does nothing",
    "timeout_above_lease": "a statement may take longer than a lease lasts",
    # database
    "database_unset": "no database is named",
    "database_unreachable": "PostgreSQL cannot be reached",
    "database_version": "PostgreSQL is older than 16",
    "database_encoding": "the database is not in UTF-8",
    "database_read_only": "the database takes no writes: a standby, or read-only by default",
    "database_pooler": "the connection does not keep its session (PgBouncer in transaction mode)",
    "schema": "the schema does not fit this build, or is not there",
    "fsync_off": "`fsync` is off: a power failure destroys the database",
    "full_page_writes_off": "`full_page_writes` is off: a power failure may tear pages",
    "synchronous_commit_off": "`synchronous_commit` is off for the database or the user",
    "connections_few": "the server has fewer free connections than the service needs",
    "connection_limit": "the user's or the database's connection limit is below what the service needs",
    "privileges": "the user may not read or write a table",
    "partitions": "the table of events has no free partition ahead",
    # clock
    "clock_skew": "this machine's clock differs from that of PostgreSQL",
    # lag
    "shards_unowned": "nobody holds the leases of shards",
    "publisher_behind": "the event stream is behind the log",
    "projection_behind": "a view is behind the log",
    "due_overdue": "what was due long ago has not been done",
    "log_restored": "the log ends before what was published: it was restored to an earlier time",
    # nats
    "nats_unset": "no NATS is named",
    "nats_unreachable": "NATS cannot be reached",
    "nats_version": "nats-server is older than 2.12",
    "nats_payload": "`max_payload` of NATS is below what a command may be",
    "nats_permissions": "NATS refuses subjects that the service needs",
    "jetstream_off": "JetStream is not enabled",
    "stream_missing": "a stream is not there",
    "stream_differs": "a stream is not configured as the settings say",
    "stream_small": "JetStream had no room for a stream as large as the settings say",
    "stream_full": "the work stream, or a queue in it, is nearly full",
    "consumer_missing": "work waits in a queue that no worker serves",
    "consumer_differs": "a queue's consumer is not configured as the settings say",
    "jetstream_full": "JetStream's store is nearly full",
    # http
    "http_unreachable": "the HTTP API does not answer",
    "http_not_ready": "the service says that it is not ready",
    # machine
    "python_untested": "this Python is newer than what is tested",
    "package_version": "a package is missing, or outside the versions that this build needs",
    "package_rival": "PyPI's unrelated package `tasker` is installed beside this one",
    "data_open": "others may read the data directory",
    "data_foreign": "the data directory belongs to another user",
    "stack_file_open": "others may read the file with the secrets of a running stack",
    "settings_file_open": "others may read a settings file that holds a password",
    "disk_full": "little space is free where the data directory is",
}
"""Code -> what is wrong."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes:
        code: of `CATALOGUE`, stable.
        detail: what was found, with the facts.
        remedy: the command to run or the setting to change.
    """

    code: str
    detail: str
    remedy: str

    def __post_init__(self) -> None:
        """Keep the catalogue whole."""
        assert self.code in CATALOGUE, self.code  # noqa: S101 - a bug of ours


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What an examination came to."""

    ok: bool
    findings: tuple[Finding, ...]

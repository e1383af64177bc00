"""NATS subjects and stream names: the only place where one is built or parsed.

Every name starts with a prefix (`TASKER_NATS_PREFIX`, default `tasker`), so that several services
share one NATS. Tenants own `<prefix>.<tenant>.>`; a leading `_` is ours (`<prefix>._log`, `._node`) and
no tenant can be named so. Streams are named in upper case: `TASKER_WORK`.

| traffic                         | subject                                                          |
|---------------------------------|------------------------------------------------------------------|
| commands, answered              | `<prefix>.<tenant>.cmd.<noun>.<verb>`                            |
| commands, not waited for        | `<prefix>.<tenant>.submit.<noun>.<verb>`                         |
| work to workers                 | `<prefix>.<tenant>.work.<namespace>.<queue>`                     |
| reports of workers              | `<prefix>.<tenant>.report.<shard>`, `.report.<node>`             |
| workers' free slots             | `<prefix>.<tenant>.slots`                                        |
| to one worker: work, cancel     | `<prefix>.<tenant>.worker.<worker>.work.<node>`, `.cancel`       |
| lifecycle events                | `<prefix>.<tenant>.evt.<namespace>.<template>.<task>.<event>`    |
| what running attempts say live  | `<prefix>.<tenant>.live.<task>.<step>`                           |
| domain events                   | `<prefix>.<tenant>.domain.<name>`                                |
| node to node                    | `<prefix>._node.shard.<n>.<what>`                                |
| to whoever reads the views      | `<prefix>._node.views.<what>`                                    |
| marks in the event stream       | `<prefix>._log.mark.<shard>`                                     |
| refusals of submitted commands  | `<prefix>._log.refused.<tenant>`                                 |
| "the log grew" (a wake-up only) | `<prefix>._log.head`                                             |
"""

from __future__ import annotations

import hashlib
import re

from tasker.errors import ConfigurationError
from tasker.ids import RESERVED_NAMESPACE, is_name
from tasker.settings import NatsSettings
from tasker.settings.model import PREFIX_PATTERN

DEFAULT_PREFIX = NatsSettings().prefix
TOKEN_PATTERN = r"[A-Za-z0-9_-]{1,128}"  # noqa: S105 - a token of a subject, no secret
"""Ids of workers and nodes: a part of subjects."""

HEADER_TENANT = "Tasker-Tenant"
"""Whose a request is where no subject says so: over HTTP, and from node to node."""

EVERY_TENANT = "*"
"""In place of a tenant, for who serves all of them: a pattern."""

_SHARED_CONSUMER = "_every"
"""Stands for every tenant in the name of a consumer; no tenant can be named so."""

_prefix = re.compile(PREFIX_PATTERN)
_token = re.compile(TOKEN_PATTERN)


def is_token(text: str) -> bool:
    """Return whether `text` can stand as one token of a subject."""
    return _token.fullmatch(text) is not None


class Subjects:
    """The subjects under one prefix.

    Raises:
        ConfigurationError: the prefix is not a single lower-case subject token.
    """

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        if _prefix.fullmatch(prefix) is None:
            raise ConfigurationError(f"TASKER_NATS_PREFIX {prefix!r} must match {_prefix.pattern}")
        self.prefix = prefix
        self._below = f"{prefix}."
        self.work_stream = f"{prefix.upper()}_WORK"
        self.event_stream = f"{prefix.upper()}_EVENTS"
        self.command_stream = f"{prefix.upper()}_COMMANDS"
        self.refusal_stream = f"{prefix.upper()}_REFUSALS"
        self.streams = (self.work_stream, self.event_stream, self.command_stream, self.refusal_stream)
        self.work_all = f"{prefix}.*.work.>"
        self.evt_all = f"{prefix}.*.evt.>"
        self.domain_all = f"{prefix}.*.domain.>"
        self.marks_all = f"{prefix}._log.mark.*"
        self.mark_end = f"{prefix}._log.mark.end"
        """Ends a batch of publications: nothing is stored under it."""
        self.log_head = f"{prefix}._log.head"

    def is_callers(self, subject: str) -> bool:
        """Return whether an answer may go to the subject that a caller names: not the server's (`$`), nor one of ours.

        We publish with rights that he may not have: there an answer would be a request, as if it were from us.
        """
        return not subject.startswith(("$", self._below))

    def command(self, tenant: str, noun: str, verb: str) -> str:
        """Return where `noun.verb` is asked for."""
        return f"{self.prefix}.{tenant}.cmd.{noun}.{verb}"

    @property
    def commands_all(self) -> str:
        """Return the pattern of every tenant's commands."""
        return f"{self.prefix}.*.cmd.>"

    def parse_command(self, subject: str) -> tuple[str, str]:
        """Return tenant and `noun.verb` of a command's subject (the verb may hold further dots)."""
        rest = subject[len(self.prefix) + 1 :]
        tenant, _, rest = rest.partition(".")
        return tenant, rest.removeprefix("cmd.")

    def submit(self, tenant: str, noun: str, verb: str) -> str:
        """Return where `noun.verb` is left for the service by who does not wait for the answer."""
        return f"{self.prefix}.{tenant}.submit.{noun}.{verb}"

    @property
    def submits_all(self) -> str:
        """Return the pattern of every tenant's submitted commands."""
        return f"{self.prefix}.*.submit.>"

    def submits_of(self, tenant: str) -> str:
        """Return the pattern of one tenant's submitted commands."""
        return f"{self.prefix}.{tenant}.submit.>"

    def command_consumer(self, tenant: str) -> str:
        """Return the name of the consumer of a tenant's submitted commands.

        What stands in a subject in place of a tenant may be no name of a consumer; then it is a digest.
        """
        named = tenant if is_name(tenant) else f"_{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"
        return f"{named}=submit"

    def parse_submit(self, subject: str) -> tuple[str, str]:
        """Return tenant and `noun.verb` of a submitted command's subject (the verb may hold further dots)."""
        tenant, _, rest = subject[len(self.prefix) + 1 :].partition(".")
        return tenant, rest.removeprefix("submit.")

    def refused(self, tenant: str) -> str:
        """Return where refusals of a tenant's submitted commands are kept."""
        return f"{self.prefix}._log.refused.{tenant}"

    @property
    def refused_all(self) -> str:
        """Return the pattern of every tenant's refusals."""
        return f"{self.prefix}._log.refused.*"

    def work(self, tenant: str, namespace: str, queue: str) -> str:
        """Return the subject of a queue's work."""
        return f"{self.prefix}.{tenant}.work.{namespace}.{queue}"

    def work_consumer(self, tenant: str, namespace: str, queue: str) -> str:
        """Return the name of the one durable consumer of a queue (names cannot hold dots).

        The service's own queues have one for all tenants.
        """
        return f"{_SHARED_CONSUMER if namespace == RESERVED_NAMESPACE else tenant}={namespace}={queue}"

    def parse_work_consumer(self, name: str) -> tuple[str, str, str] | None:
        """Return tenant, namespace and queue of a consumer; None: it is somebody else's."""
        tokens = name.split("=", 2)  # a queue that requires labels has more of them
        if len(tokens) != 3:  # noqa: PLR2004 - as `work_consumer`
            return None
        return EVERY_TENANT if tokens[0] == _SHARED_CONSUMER else tokens[0], tokens[1], tokens[2]

    def report(self, tenant: str, shard: int) -> str:
        """Return where workers report on tasks of `shard`."""
        return f"{self.prefix}.{tenant}.report.{shard}"

    def reports_of_shard(self, shard: int) -> str:
        """Return the pattern of all tenants' reports for a shard."""
        return f"{self.prefix}.*.report.{shard}"

    def report_to_node(self, tenant: str, node: str) -> str:
        """Return where workers report to a node on work that it gave them or published."""
        return f"{self.prefix}.{tenant}.report.{node}"

    def reports_of_node(self, node: str) -> str:
        """Return the pattern of all tenants' reports to a node."""
        return f"{self.prefix}.*.report.{node}"

    def slots(self, tenant: str) -> str:
        """Return where workers tell all nodes of their slots."""
        return f"{self.prefix}.{tenant}.slots"

    @property
    def slots_all(self) -> str:
        """Return the pattern of all tenants' workers' slots."""
        return f"{self.prefix}.*.slots"

    def worker_work(self, tenant: str, worker: str, node: str) -> str:
        """Return where a worker takes work from a node itself; `*` as the node: from any."""
        return f"{self.prefix}.{tenant}.worker.{worker}.work.{node}"

    def tenant_of(self, subject: str) -> str:
        """Return the tenant token of any tenant's subject."""
        start = len(self.prefix) + 1
        return subject[start : subject.index(".", start)]

    def tenant_of_work(self, served: str, report_to: str) -> str:
        """Return whose the work is that is reported to `report_to`, at a worker of the tenant `served`, or of all."""
        return self.tenant_of(report_to) if served == EVERY_TENANT else served

    def worker_cancel(self, tenant: str, worker: str) -> str:
        """Return where a worker hears that attempts of its are to stop."""
        return f"{self.prefix}.{tenant}.worker.{worker}.cancel"

    def event(self, tenant: str, namespace: str, template: str, task_id: str, event: str) -> str:
        """Return the subject of a lifecycle event; for templates `task_id` is `_`."""
        return f"{self.prefix}.{tenant}.evt.{namespace}.{template}.{task_id}.{event}"

    def live(self, tenant: str, task_id: str, step: str) -> str:
        """Return where running attempts of a step of the template say what is for the moment; `*`: of all steps."""
        return f"{self.prefix}.{tenant}.live.{task_id}.{step}"

    def domain_event(self, tenant: str, name: str) -> str:
        """Return the subject of a domain event; a name with wildcards gives a pattern."""
        return f"{self.prefix}.{tenant}.domain.{name}"

    def domain_consumer(self, tenant: str, name: str) -> str:
        """Return the name of the consumer in the event stream of a tenant's durable subscriber `name`."""
        return f"{tenant}=domain={name}"

    def events_of_task(self, tenant: str, task_id: str) -> str:
        """Return the pattern of one task's events, whatever its template."""
        return f"{self.prefix}.{tenant}.evt.*.*.{task_id}.*"

    def stored_events(self, tenant: str, namespace: str = "*", template: str = "*", event: str = "*") -> str:
        """Return the pattern of lifecycle events as the event stream stores them: without the task."""
        return f"{self.prefix}.{tenant}.evt.{namespace}.{template}.{event}"

    @property
    def stored_events_transform(self) -> tuple[str, str]:
        """Return source and destination that leave the task out of *stored* subjects.

        A distinct stored subject costs the server 0.3 KB of memory; live subscribers still see the task.
        """
        return (
            f"{self.prefix}.*.evt.*.*.*.*",
            f"{self.prefix}.{{{{wildcard(1)}}}}.evt.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}.{{{{wildcard(5)}}}}",
        )

    def node_shard(self, shard: int, what: str) -> str:
        """Return where a shard's owner takes `what` ("cmd") from other nodes; closed to tenants."""
        return f"{self.prefix}._node.shard.{shard}.{what}"

    def views(self, what: str) -> str:
        """Return where whoever reads the views takes `what` ("bulk", "free") from nodes; closed to tenants."""
        return f"{self.prefix}._node.views.{what}"

    def mark(self, shard: int) -> str:
        """Return the subject of a shard's marks in the event stream."""
        return f"{self.prefix}._log.mark.{shard}"

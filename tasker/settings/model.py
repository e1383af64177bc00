"""Every setting there is: one frozen struct a part, each key with its rule beside it.

A rule is a default, bounds, and a sentence on what the key does. It stands here and nowhere else: the code
that a key steers gets the part handed in, and `docs/reference/settings.md`, `tasker config explain` and the
names of the environment are made from this page (`keys.py`). Names carry their units.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from tasker.errors import ConfigurationError
from tasker.ids import NAME_PATTERN
from tasker.labels import labels_of
from tasker.weights import WEIGHT_MAX, WEIGHT_MIN, weights_of

ROLES: Final = ("shards", "publisher", "projections", "http")
METRICS_ROLE: Final = "metrics"

PREFIX_PATTERN: Final = NAME_PATTERN
"""A prefix is a single lower-case token of a subject, as names are."""

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

Role = Literal["shards", "publisher", "projections", "http", "metrics"]

_GIB: Final = 1024**3
_MIB: Final = 1024**2


def rule(doc: str, *, env: str = "", flag: str = "", secret: bool = False, **bounds: Any) -> msgspec.Meta:
    """Return what a key is bound to and what is told of it.

    Args:
        doc: what the key does, in full sentences.
        env: its variable, where that is not `TASKER_<PART>_<KEY>`.
        flag: the option of a command that sets it.
        secret: its value holds a password or a token, and is never shown whole.
        bounds: `gt`, `ge`, `le`, `pattern`, ... as msgspec knows them.
    """
    return msgspec.Meta(description=doc, extra={"env": env, "flag": flag, "secret": secret}, **bounds)


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the settings; its docstring says what for."""


class DatabaseSettings(_Part, frozen=True, kw_only=True):
    """The PostgreSQL that holds the log and the views."""

    url: (
        Annotated[
            str,
            rule(
                "Address of the database, `postgresql://user:password@host:port/name`; its `search_path` names the "
                "schema. PostgreSQL itself or a pool in session mode, never PgBouncer in transaction mode.",
                secret=True,
                pattern="^postgres(ql)?://",
            ),
        ]
        | None
    ) = None
    committers: Annotated[
        int, rule("Connections that append to the log. The shards of a node are divided between them.", ge=1, le=16)
    ] = 2
    readers: Annotated[int, rule("Connections that load tasks from the log, on either side.", ge=1, le=64)] = 2
    view_connections: Annotated[
        int, rule("Connections that keep the views up to date: each projection folds on one.", ge=1, le=64)
    ] = 3
    query_connections: Annotated[int, rule("Connections that answer reads over HTTP.", ge=1, le=256)] = 8
    statement_timeout_s: Annotated[
        float,
        rule(
            "How long an append, a lease or a cursor may take before its connection is given up. Below `pace.lease_s`, "
            "so that an owner knows before another takes over.",
            gt=0,
        ),
    ] = 3.0
    read_timeout_s: Annotated[float, rule("How long one read of the log may take.", gt=0)] = 30.0

    def connections(self, roles: tuple[str, ...] = ROLES) -> int:
        """Return how many connections one `tasker serve` with `roles` holds at most."""
        lanes_alone = 4  # leases, settling, control, behind
        write = self.committers + lanes_alone + self.readers if "shards" in roles else 0
        reading = "projections" in roles or "http" in roles
        return write + (lanes_alone + self.readers + self.view_connections + self.query_connections if reading else 0)


class NatsSettings(_Part, frozen=True, kw_only=True):
    """The NATS that carries commands, work and events."""

    url: (
        Annotated[
            str,
            rule(
                "Address of NATS, `nats://user:password@host:port`, several separated by commas; at the end "
                "`?creds=FILE` (what `nsc` writes) or `?nkey=FILE` (a seed).",
                secret=True,
                pattern="^(nats|tls|ws|wss)://",
            ),
        ]
        | None
    ) = None
    prefix: Annotated[
        str,
        rule(
            "First token of every subject and, in upper case, of the names of the streams, so that several services "
            "share one NATS. Clients and workers need the same.",
            pattern=f"^{PREFIX_PATTERN}$",
        ),
    ] = "tasker"
    inbox_prefix: Annotated[
        str,
        rule(
            "Where answers come in, when the permissions of the user demand a place, such as `_INBOX_tasker`; a "
            "private random part follows. Empty: a random place of each connection's own.",
            pattern=r"^([\w-]+(\.[\w-]+)*)?$",
        ),
    ] = ""
    pending_bytes_max: Annotated[
        int,
        rule("How much may wait to be sent while NATS is slow or away; beyond it a publication fails.", ge=_MIB),
    ] = 64 * _MIB


class StreamSettings(_Part, frozen=True, kw_only=True):
    """How large and how old the two streams on NATS may get.

    A worker makes a missing stream, and its queue's consumer; a start of the service brings all to its settings.
    A full queue refuses work (`busy`): that is the backpressure. Events drop their oldest.
    """

    replicas: Annotated[
        int, rule("Copies of each stream in a NATS cluster: 1, 3 or 5. Postgres is what lasts.", ge=1, le=5)
    ] = 1
    dedupe_s: Annotated[
        float, rule("How long NATS remembers a message's id, to drop it when it is published again.", ge=0.1)
    ] = 120.0
    work_messages_per_queue_max: Annotated[int, rule("How much work may wait in one queue.", ge=1)] = 100_000
    work_bytes_max: Annotated[int, rule("How large the work of all queues together may get.", ge=_MIB)] = 2 * _GIB
    events_age_s_max: Annotated[
        float, rule("How long the event stream keeps an event; the log keeps it for ever.", ge=1)
    ] = 72 * 3600.0
    events_bytes_max: Annotated[
        int, rule("How large the event stream may get before it drops its oldest.", ge=_MIB)
    ] = 2 * _GIB
    commands_age_s_max: Annotated[
        float, rule("How long a command of a caller that cannot wait lies in its stream at most.", ge=1)
    ] = 72 * 3600.0
    commands_bytes_max: Annotated[
        int, rule("How large the commands that nobody took yet may get together; a full stream refuses more.", ge=_MIB)
    ] = 512 * _MIB
    refusals_age_s_max: Annotated[float, rule("How long the list of refused commands keeps one.", ge=1)] = (
        30 * 24 * 3600.0
    )
    refusals_per_tenant_max: Annotated[int, rule("Refused commands that are listed for one tenant.", ge=1)] = 1_000
    refusals_bytes_max: Annotated[
        int, rule("How large the list of refused commands may get before it drops its oldest.", ge=_MIB)
    ] = 64 * _MIB
    ack_wait_s: Annotated[
        float,
        rule("How long NATS waits for a worker that took a message before it delivers it again.", ge=0.1),
    ] = 30.0
    ack_pending_max: Annotated[
        int, rule("How many messages of a queue workers may hold before their start is recorded.", ge=1)
    ] = 20_000


class Pace(_Part, frozen=True, kw_only=True):
    """How often the write side does what it does beside the commits. The defaults suit production."""

    lease_s: Annotated[
        float,
        rule(
            "How long the lease of a shard lasts: a killed node's shards are taken over after it at the latest.", gt=0
        ),
    ] = 5.0
    renew_s: Annotated[float, rule("Time between renewals of the leases; at most half of `pace.lease_s`.", gt=0)] = 1.0
    due_write_s: Annotated[
        float,
        rule("Time between writes of the due rows: so much of the log is folded again at a takeover.", gt=0),
    ] = 1.0
    idle_s: Annotated[float, rule("A task without a message for so long is dropped from memory.", gt=0)] = 10.0
    passivate_s: Annotated[float, rule("Time between looks for tasks to drop from memory.", gt=0)] = 2.0


class Limits(_Part, frozen=True, kw_only=True):
    """How much a node takes on at a time. What goes beyond is refused with `busy`, or waits its turn."""

    commands_pending_max: Annotated[
        int,
        rule(
            "Commands under way in one node; a further one is answered `busy`, unless its tenant has less than its "
            "share of them under way.",
            ge=1,
        ),
    ] = 20_000
    tenant_weights: Annotated[
        tuple[str, ...],
        rule(
            "How large the shares of tenants are where a node is short, each as `tenant=weight`, such as `acme=3`; all "
            f"others have 1. A weight is at least {WEIGHT_MIN:g} and at most {WEIGHT_MAX:g}.",
        ),
    ] = ()
    mailbox_messages_max: Annotated[
        int, rule("Messages that wait for one task; a further one is answered `busy`.", ge=1)
    ] = 1_000
    backlog_units_max: Annotated[
        int,
        rule(
            "Units that wait for their commit in one node; beyond it commands are answered `busy`, whosever they are: "
            "at least twice `limits.commands_pending_max`, so that tenants get their shares first.",
            ge=1,
        ),
    ] = 40_000
    batch_events_max: Annotated[int, rule("Events in one commit.", ge=1, le=100_000)] = 1_000
    batch_bytes_max: Annotated[int, rule("Payload in one commit.", ge=1024, le=256 * _MIB)] = 4 * _MIB
    publisher_events_max: Annotated[
        int, rule("Events of one shard that wait in memory to be published; beyond it they come from the log.", ge=1)
    ] = 20_000


class DirectSettings(_Part, frozen=True, kw_only=True):
    """Work that a node sends straight to a free worker, past the work stream. The defaults suit production."""

    enabled: Annotated[
        bool,
        rule("Off: all work goes through the work stream. Either side can switch it off: nodes, or single workers."),
    ] = True
    wait_s: Annotated[
        float,
        rule(
            "How long an offer waits in a node for a worker's free slot before it goes to the work stream, where every "
            "worker finds it; its queue then uses the stream alone for as long again.",
            gt=0,
            le=60,
        ),
    ] = 0.5
    waiting_max: Annotated[
        int, rule("Offers of one queue that wait in a node so; more go to the work stream.", ge=1)
    ] = 10_000
    silent_s: Annotated[
        float,
        rule(
            "A worker that tells a node nothing for so long counts as gone there, and what it has not begun is offered "
            "again. Workers tell something each second.",
            ge=2,
        ),
    ] = 4.0
    hold_s: Annotated[
        float,
        rule("How long a worker holds what a node sent and finds no slot before it gives it back.", gt=0, le=60),
    ] = 0.25
    ahead_per_slot: Annotated[
        int,
        rule(
            "Steps for each of its slots that a worker takes ahead while its handlers are quick, so that the next one "
            "is there when one ends: from nodes, and of a backlog in the work stream; 0: none.",
            ge=0,
            le=100,
        ),
    ] = 4
    quick_s: Annotated[
        float,
        rule("Mean time of a step up to which handlers count as quick; well below `direct.hold_s`.", ge=0),
    ] = 0.02


class HttpSettings(_Part, frozen=True, kw_only=True):
    """The HTTP API: where it binds, where clients find it, and how long it waits."""

    url: (
        Annotated[
            str,
            rule("Where clients find the API, such as `https://tasker.example`.", secret=True, pattern="^https?://"),
        ]
        | None
    ) = None
    host: Annotated[
        str, rule("Address that the API binds; `tasker up` binds loopback.", flag="--http-host", min_length=1)
    ] = "127.0.0.1"
    port: Annotated[
        int,
        rule(
            "Port that the API binds; 0 takes a free one. `tasker up` takes a free one and keeps it unless set.",
            flag="--http-port",
            ge=0,
            le=65535,
        ),
    ] = 8080
    insecure_bind: Annotated[
        bool,
        rule(
            "Bind another address than loopback, although there is no authentication: anyone who reaches it may do "
            "anything.",
            flag="--insecure-bind",
        ),
    ] = False
    wait_s_max: Annotated[float, rule("Longest `wait_s` of a request; a longer one is cut to it.", ge=0)] = 60.0
    at_least_s: Annotated[
        float, rule("How long a read waits for the position that `at_least` names, before it is `behind`.", ge=0)
    ] = 2.0
    command_s: Annotated[float, rule("How long a command may take.", gt=0)] = 15.0
    poll_s: Annotated[float, rule("How often a request that waits looks without having been told.", gt=0)] = 1.0
    gather_s: Annotated[float, rule("How long an event stream lets events gather after the first of them.", ge=0)] = (
        0.02
    )
    keepalive_s: Annotated[float, rule("How often a silent event stream sends a comment.", gt=0)] = 15.0
    check_s: Annotated[float, rule("How long a check of `/health/ready` may take.", gt=0)] = 2.0


class ServiceSettings(_Part, frozen=True, kw_only=True):
    """The processes of `tasker serve`."""

    roles: Annotated[
        tuple[Role, ...],
        rule(
            "Parts that this one runs. `shards` and `publisher` share a process and go together, as commits feed the "
            "publisher; `projections` and `http` share another, so that reads never slow a commit. "
            "`metrics` serves `/metrics` alone at the HTTP address, for a node without `http`, which brings it.",
            flag="--roles",
            min_length=1,
        ),
    ] = ROLES
    connect_s: Annotated[float, rule("How long a start waits for NATS before the process is started anew.", gt=0)] = (
        30.0
    )
    drain_s: Annotated[
        float,
        rule("How long the service may take to end after SIGTERM; what is not done then is done after a start.", ge=1),
    ] = 25.0


class WorkerSettings(_Part, frozen=True, kw_only=True):
    """`tasker worker`."""

    slots: Annotated[int, rule("Steps that it runs at a time.", flag="--slots", ge=1, le=100_000)] = 100
    drain_s: Annotated[float, rule("How long running steps may take to end after SIGTERM.", flag="--drain-s", ge=0)] = (
        30.0
    )
    processes: (
        Annotated[
            int,
            rule(
                "Child processes for handlers with `process=True`. Without it one a core.",
                flag="--processes",
                ge=1,
                le=1024,
            ),
        ]
        | None
    ) = None
    health_port: (
        Annotated[
            int,
            rule(
                "Port on loopback that serves `/health/live` and `/health/ready`. Without it none.",
                flag="--health-port",
                ge=1,
                le=65535,
            ),
        ]
        | None
    ) = None
    labels: Annotated[
        tuple[str, ...],
        rule(
            "What it has that steps may require, each as `name=value`, such as `gpu=a100`. It gets no work that "
            "requires one that it lacks.",
            flag="--label",
        ),
    ] = ()
    steps_max: (
        Annotated[
            int,
            rule(
                "Steps after which its process is replaced by a new one, without a gap. Without it never.",
                flag="--steps-max",
                ge=1,
            ),
        ]
        | None
    ) = None
    rss_mib_max: (
        Annotated[
            int,
            rule(
                "Memory (MiB, with its child processes) above which its process is replaced by a new one, without a "
                "gap. Without it never.",
                flag="--rss-mib-max",
                ge=1,
            ),
        ]
        | None
    ) = None


class ClientDefaults(_Part, frozen=True, kw_only=True):
    """What clients do: `TaskerClient` and the commands that ask a service."""

    timeout_s: Annotated[
        float,
        rule("How long the service may take to answer, repetitions included.", flag="--call-timeout-s", gt=0),
    ] = 30.0


class LogSettings(_Part, frozen=True, kw_only=True):
    """The shape of a log that `tasker migrate` or `tasker up` makes anew; one that is there keeps its own."""

    shards: Annotated[
        int, rule("Shards of a new log: the most nodes that can share its work. A log keeps its own.", ge=1, le=1024)
    ] = 16
    partition_size: Annotated[
        int, rule("Positions in one partition of a new log's table of events. A log keeps its own.", ge=100_000)
    ] = 10_000_000


class EmbeddedSettings(_Part, frozen=True, kw_only=True):
    """The servers that `tasker up` brings."""

    postgres_bin: (
        Annotated[
            str,
            rule(
                "Directory of the programs `postgres` and `initdb`, instead of those of the wheel.",
                env="TASKER_POSTGRES_BIN",
                min_length=1,
            ),
        ]
        | None
    ) = None
    nats_bin: (
        Annotated[
            str,
            rule(
                "The program `nats-server` or its directory, instead of that of the wheel.",
                env="TASKER_NATS_BIN",
                min_length=1,
            ),
        ]
        | None
    ) = None
    nats_port: (
        Annotated[
            int, rule("Port of nats-server on loopback; without it a free one, kept between starts.", ge=1, le=65535)
        ]
        | None
    ) = None
    postgres_connections_max: Annotated[
        int, rule("`max_connections` of the embedded PostgreSQL.", ge=20, le=10_000)
    ] = 100


class LoggingSettings(_Part, frozen=True, kw_only=True):
    """What the processes write to stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], rule("The least that is written.")] = "info"
    form: Annotated[
        Literal["auto", "json", "console"],
        rule("`json`: a line of JSON each; `console`: for people; `auto`: for people on a terminal, else JSON."),
    ] = "auto"


class DoctorSettings(_Part, frozen=True, kw_only=True):
    """From where on `tasker doctor` calls something wrong."""

    clock_skew_s_max: Annotated[float, rule("Difference between this machine's clock and Postgres's.", gt=0)] = 0.5
    disk_free_bytes_min: Annotated[int, rule("Free space where the data directory is.", ge=0)] = _GIB
    lag_events_max: Annotated[
        int, rule("Events of one shard that the publisher or a projection may be behind its log.", ge=0)
    ] = 10_000
    overdue_s_max: Annotated[float, rule("How long a due row may be overdue.", ge=0)] = 30.0
    stream_full_share_max: Annotated[
        float, rule("Share of the work stream's bytes, or of a queue's messages, that may be used.", gt=0, le=1)
    ] = 0.9


class UsageSettings(_Part, frozen=True, kw_only=True):
    """What usage costs."""

    prices: (
        Annotated[
            str,
            rule(
                "TOML file with the price table, read when the service starts: `version`, `currency`, a table "
                "`models.<name>` of meters and the price of a unit for each model, a table `meters` for the others.",
                min_length=1,
            ),
        ]
        | None
    ) = None


class Settings(_Part, frozen=True, kw_only=True):
    """All of it. What has no part of its own is for every command."""

    tenant: Annotated[
        str,
        rule("Whose tasks: of clients, commands and workers.", flag="--tenant", pattern=f"^{NAME_PATTERN}$"),
    ] = "default"
    data: (
        Annotated[
            str,
            rule(
                "Directory of `tasker up`'s data, by which commands also find a running one. Without it "
                "`/var/lib/tasker` for root, else `tasker` in the user's data (XDG).",
                flag="--data",
                min_length=1,
            ),
        ]
        | None
    ) = None
    output: Annotated[
        Literal["table", "json", "jsonl"], rule("The form of what commands print on stdout.", flag="--output")
    ] = "table"
    database: DatabaseSettings = DatabaseSettings()
    nats: NatsSettings = NatsSettings()
    streams: StreamSettings = StreamSettings()
    pace: Pace = Pace()
    limits: Limits = Limits()
    direct: DirectSettings = DirectSettings()
    http: HttpSettings = HttpSettings()
    service: ServiceSettings = ServiceSettings()
    worker: WorkerSettings = WorkerSettings()
    client: ClientDefaults = ClientDefaults()
    log: LogSettings = LogSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    logging: LoggingSettings = LoggingSettings()
    doctor: DoctorSettings = DoctorSettings()
    usage: UsageSettings = UsageSettings()


def contradictions(settings: Settings) -> list[tuple[str, str]]:
    """Return what does not fit together although each value alone is fine: the key to change, and why."""
    found = []
    if settings.pace.renew_s > settings.pace.lease_s / 2:
        found.append(("pace.renew_s", f"must be at most half of pace.lease_s, which is {settings.pace.lease_s:g}"))
    if settings.streams.replicas not in {1, 3, 5}:
        found.append(("streams.replicas", "must be 1, 3 or 5: an even number of copies has no majority to gain"))
    try:
        labels_of(settings.worker.labels)
    except ConfigurationError as error:
        found.append(("worker.labels", error.detail))
    try:
        weights_of(settings.limits.tenant_weights)
    except ConfigurationError as error:
        found.append(("limits.tenant_weights", error.detail))
    roles = settings.service.roles
    if len(set(roles)) != len(roles):
        found.append(("service.roles", "names a role twice"))
    if roles == (METRICS_ROLE,):
        found.append(("service.roles", "must name another role: metrics tells of the other roles of its node"))
    if ("publisher" in roles) != ("shards" in roles):
        found.append(("service.roles", "must have shards and publisher together: commits feed the publisher"))
    if settings.http.host not in LOOPBACK and not settings.http.insecure_bind:
        found.append(
            (
                "http.host",
                (
                    f"{settings.http.host} can be reached from outside, and there is no authentication: bind 127.0.0.1 "
                    "and put a proxy before it, or set http.insecure_bind (--insecure-bind)"
                ),
            )
        )
    return found


def database_url_of(settings: Settings) -> str:
    """Return the address of the database.

    Raises:
        ConfigurationError: none is set.
    """
    if settings.database.url is None:
        raise ConfigurationError("no database is known: set TASKER_DATABASE_URL, or start one here with `tasker up`")
    return settings.database.url


def nats_url_of(settings: Settings) -> str:
    """Return the address of NATS.

    Raises:
        ConfigurationError: none is set.
    """
    if settings.nats.url is None:
        raise ConfigurationError("no NATS is known: set TASKER_NATS_URL, or start one here with `tasker up`")
    return settings.nats.url

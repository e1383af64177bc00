"""The catalogue of metrics: every name that `/metrics` may show, with its kind, labels and meaning.

Names follow Prometheus: base units (seconds, bytes), `_total` on what only grows. A label's values are few and known:
never an id, a subject or a message of a user. What is not here cannot be told (`Samples` refuses it).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


SECONDS_FINE: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds for what should take milliseconds."""

SECONDS_WIDE: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Bounds for what users' handlers and queues decide."""

COUNTS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        process: which side knows it: `write`, `read`, or `both`, which then has a label `process`.
        bounds: upper bounds of a histogram's buckets, rising; the last one, infinity, is implied.
    """

    name: str
    kind: Kind
    process: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

RETRY_REASONS: Final = ("error", "timeout", "worker_lost", "result_invalid", "input_invalid")
"""Why an attempt is repeated; an exception of a user's handler is an `error`, whatever its class."""

OUTCOMES: Final = ("completed", "failed")
STATES_IN_FLIGHT: Final = ("dispatched", "running", "waiting")
STATES_OPEN: Final = ("pending", "running", "blocked", "compensating", "paused")
STATUSES_OPEN: Final = ("open", "investigating")

CATALOGUE: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        # ------------------------------------------------ processes
        Metric(
            "tasker_build_info", _G, "both", "Always 1; the labels say what runs.", ("process", "version", "python")
        ),
        Metric("tasker_process_up", _G, "both", "1 when the process answered this scrape, else 0.", ("process",)),
        Metric("tasker_process_start_time_seconds", _G, "both", "When the process began, in Unix time.", ("process",)),
        Metric("tasker_process_cpu_seconds_total", _C, "both", "Processor time, user and system.", ("process",)),
        Metric(
            "tasker_event_loop_lag_seconds",
            _H,
            "both",
            "How late a timer of the event loop fired, looked at four times a second.",
            ("process",),
            SECONDS_FINE,
        ),
        Metric(
            "tasker_database_connections",
            _G,
            "both",
            "Connections to PostgreSQL by pool: `busy` with a statement, or `idle`.",
            ("process", "pool", "state"),
        ),
        Metric(
            "tasker_database_connections_max",
            _G,
            "both",
            "How many connections the pool may have.",
            ("process", "pool"),
        ),
        Metric("tasker_nats_connected", _G, "both", "1 while there is a connection to NATS, else 0.", ("process",)),
        Metric("tasker_nats_reconnects_total", _C, "both", "Connections to NATS that were made anew.", ("process",)),
        # ------------------------------------------------ the log
        Metric(
            "tasker_append_duration_seconds",
            _H,
            "write",
            "Time of one append: a statement with a batch of each of its shards, until PostgreSQL has it on disk.",
            bounds=SECONDS_FINE,
        ),
        Metric("tasker_append_batch_events", _H, "write", "Events in one append.", bounds=COUNTS),
        Metric("tasker_append_backlog_units", _G, "write", "Decisions that wait for the log or are on their way."),
        Metric("tasker_events_committed_total", _C, "write", "Events in the log, by type.", ("type",)),
        Metric(
            "tasker_fence_rejections_total",
            _C,
            "write",
            "Appends and confirmations that were refused because another node had taken the shard.",
        ),
        # ------------------------------------------------ shards and actors
        Metric("tasker_shards_owned", _G, "write", "Shards that this node serves."),
        Metric(
            "tasker_lease_expirations_total",
            _C,
            "write",
            "Shards whose lease this node lost without giving it up: it was not renewed in time.",
        ),
        Metric("tasker_actors", _G, "write", "Tasks and templates in memory."),
        Metric("tasker_mailbox_messages", _G, "write", "Messages that wait for their task to be loaded."),
        Metric(
            "tasker_timer_delay_seconds",
            _H,
            "write",
            "How late the timers of a tick fired; the latest of them counts.",
            bounds=SECONDS_FINE,
        ),
        # ------------------------------------------------ steps
        Metric(
            "tasker_step_schedule_to_start_seconds",
            _H,
            "write",
            "From an attempt's dispatch to the report that it began. A handler of a few milliseconds is told of by its "
            "outcome alone and counts with its run.",
            bounds=SECONDS_WIDE,
        ),
        Metric(
            "tasker_step_latency_seconds",
            _H,
            "write",
            "From an attempt's dispatch to its outcome.",
            ("outcome",),
            SECONDS_WIDE,
        ),
        Metric(
            "tasker_step_retries_total",
            _C,
            "write",
            "Attempts that will be repeated, by why the one before failed: "
            + ", ".join(f"`{reason}`" for reason in RETRY_REASONS)
            + ".",
            ("reason",),
        ),
        Metric(
            "tasker_reports_unrecorded_total",
            _C,
            "write",
            "Reports of workers that changed nothing, by the reason in their answer.",
            ("reason",),
        ),
        # ------------------------------------------------ usage
        Metric("tasker_usage_tokens_total", _C, "write", "Tokens that attempts used: `in` or `out`.", ("direction",)),
        Metric(
            "tasker_usage_cost_total",
            _C,
            "write",
            "What attempts cost, by currency; a rounded number for graphs, `tasker usage` has the exact one.",
            ("currency",),
        ),
        # ------------------------------------------------ direct work
        Metric("tasker_direct_workers", _G, "write", "Workers that take work straight from this node."),
        Metric("tasker_direct_items_waiting", _G, "write", "Steps that wait here for a worker's free slot."),
        Metric("tasker_direct_items_sent_total", _C, "write", "Steps sent straight to a worker."),
        Metric(
            "tasker_direct_items_returned_total", _C, "write", "Steps that a worker gave back: it had no slot in time."
        ),
        Metric(
            "tasker_direct_items_lost_total",
            _C,
            "write",
            "Steps offered again because the worker that had them was gone, or they were lost on their way.",
        ),
        Metric(
            "tasker_obligations_reconciled_total",
            _C,
            "write",
            "Obligations that were lost and brought back, by how: `forgotten`, `not_woken`. Always 0, or tell us.",
            ("lost",),
        ),
        # ------------------------------------------------ controls
        Metric("tasker_attempts_held", _G, "write", "Attempts of this node's tasks that a control holds back."),
        Metric("tasker_pauses", _G, "write", "What operators have paused: queues, templates, tenants, everything."),
        Metric("tasker_circuits_open", _G, "write", "Handlers whose circuit is not closed: their attempts wait."),
        Metric("tasker_circuit_probes_total", _C, "write", "Attempts that this node let begin as trials of circuits."),
        Metric(
            "tasker_admissions_refused_total",
            _C,
            "write",
            "Creations of tasks answered `busy`, by the cap of their template that was reached.",
            ("cap",),
        ),
        # ------------------------------------------------ publisher
        Metric("tasker_publisher_lag_events", _G, "write", "Committed events that the event stream has not confirmed."),
        # ------------------------------------------------ reads
        Metric("tasker_projection_lag_events", _G, "read", "Events in the log that the views do not show yet."),
        Metric("tasker_projection_events_total", _C, "read", "Events that this process folded into the views."),
        Metric(
            "tasker_tasks_open",
            _G,
            "read",
            "Tasks that have not ended, by state; those that are `blocked` wait for a person.",
            ("state",),
        ),
        Metric(
            "tasker_dead_letters_open",
            _G,
            "read",
            "Dead letters that nobody has settled yet, by status: `open`, or `investigating` by somebody.",
            ("status",),
        ),
        Metric(
            "tasker_steps_in_flight",
            _G,
            "read",
            "Steps that have begun and not ended, of running tasks: `dispatched` (no worker has begun), `running`, "
            "`waiting` (for a retry).",
            ("state",),
        ),
        Metric(
            "tasker_queue_depth_steps",
            _G,
            "read",
            "Steps that no worker has begun, by the template's namespace and name.",
            ("namespace", "template"),
        ),
        Metric(
            "tasker_queue_oldest_age_seconds",
            _G,
            "read",
            "How long the first of those steps has waited since its dispatch.",
            ("namespace", "template"),
        ),
        Metric(
            "tasker_queue_read_duration_seconds",
            _G,
            "read",
            "How long the last count of tasks, dead letters and steps in flight took; it is kept for twenty times as "
            "long.",
        ),
    )
}
"""Name -> metric, in the order of the reference page."""

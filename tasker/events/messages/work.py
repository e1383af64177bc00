"""What the service tells workers, and workers of themselves."""

from __future__ import annotations

import msgspec

from tasker.events.task_events import NULL, OptionalRaw


class DeclaredEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A domain event that a handler may emit; `schema` is the JSON Schema of its data, null: any."""

    name: str
    schema: msgspec.Raw = NULL


class Work(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One attempt of a step, offered to the workers of a queue.

    Attributes:
        queue: what of the namespace's queues it is for.
        offer: 0 for the first offer of an attempt; a later one runs only after the owner said so.
        step: of the task; that of a compensation ends with `~undo`.
        input: the task's input. results: parent -> result, in declared order; of a compensation: the step that it
            undoes -> the result of that instance.
        results_ref: parents whose results did not fit; the worker asks the owner for them.
        idempotency_key: the same over all attempts of the step.
        report_to: the subject of reports.
        node: who published it, and hears reports of all its shards together while it answers (`report_to_node`); "":
            nobody. `report_to` is always right.
        deadline_in_s: what is left of the task's time when this was sent; None: no limit, as for a compensation.
        item, index: of one item of a list that the step runs for: its value and its place.
        input_ref: the input does not come with it; the worker asks the owner for it when the handler takes it.
        checkpoint: what the attempt before gave back: go on from there.
        emits: the domain events that its handler may emit.
    """

    task_id: str
    step: str
    attempt: int
    handler: str
    namespace: str
    queue: str = ""
    template: str
    input: msgspec.Raw
    idempotency_key: str
    report_to: str
    start_to_close_s: float
    heartbeat_s: float
    results: dict[str, msgspec.Raw] = {}
    results_ref: tuple[str, ...] = ()
    offer: int = 0
    deadline_in_s: float | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    item: OptionalRaw = None
    index: int | None = None
    input_ref: bool = False
    checkpoint: OptionalRaw = None
    emits: tuple[DeclaredEvent, ...] = ()
    state: OptionalRaw = None
    node: str = ""


class WorkArray(msgspec.Struct, kw_only=True):
    """Work that a node sends straight to a worker, which counts it in its next `WorkerSlots`.

    Attributes:
        sent_at_us: the node's time.
        part: whose slots it is for; "": those that are no part's.
    """

    sent_at_us: int
    part: str = ""
    work: list[Work]


class SlotsPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Slots of a worker that are for handlers with a limit alone, and not among its `WorkerSlots.slots`.

    Attributes:
        name: what an array for it says.
        handlers: namespace, queue and name of those handlers, as far as their queues have no backlog.
        slots, elsewhere, nodes: as of `WorkerSlots`, of these handlers.
    """

    name: str
    handlers: list[tuple[str, str, str]]
    slots: int
    elsewhere: int = 0
    nodes: dict[str, tuple[int, int]] = {}


class WorkerSlots(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker tells all nodes each second, and whenever its queues change.

    Attributes:
        slots: how many attempts it runs at a time; 0: it takes no more.
        elsewhere: slots held by work from the work stream.
        queues: namespace and name of those that have no backlog in the work stream.
        backlogged: those that have one: of them it takes what may overtake it.
        nodes: node -> how many items it ever received from that node, and how many of them it has released.
        parts: slots for single handlers of these queues; work for those is sent for the part, never else.
    """

    worker: str
    slots: int
    elsewhere: int = 0
    queues: list[tuple[str, str]] = []
    nodes: dict[str, tuple[int, int]] = {}
    parts: list[SlotsPart] = []
    backlogged: list[tuple[str, str]] = []


class NodeTime(msgspec.Struct, kw_only=True):
    """A node's answer to `WorkerSlots`: its time, by which the worker judges the age of what it sends."""

    node: str
    now_us: int


class CancelAttempt(msgspec.Struct, kw_only=True):
    """To one worker: stop this attempt; after `grace_s` its outcome is of no interest."""

    task_id: str
    step: str
    attempt: int
    grace_s: float

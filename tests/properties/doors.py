"""Every place where bytes from outside are decoded, as functions of bytes that may raise its typed errors alone.

`DOORS` is what hypothesis (`test_doors.py`) and the coverage-guided fuzzer (`fuzz.py`) push bad bytes through.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from tasker.bus.bus import Message
from tasker.bus.memory_bus import MemoryBroker
from tasker.bus.nats_bus import parse_headers
from tasker.errors import (
    BodyInvalid,
    BodyTooLarge,
    CommandRejected,
    KeyAmbiguous,
    NameInvalid,
    ParameterInvalid,
    PositionInvalid,
    TaskerError,
    TaskUnknown,
    TemplateInvalid,
    Undecodable,
    ValueInvalid,
)
from tasker.events import codec
from tasker.events.envelope import Meta, RecordedEvent
from tasker.events.messages import (
    COMMANDS,
    BulkCreate,
    CircuitCommand,
    ControlCommand,
    DeadLetterCommand,
    DeadLetterRetry,
    LifecycleEvent,
    LimitCommand,
    Reply,
    ReportReply,
    ScheduleCommand,
    TaskCreate,
    TaskOperatorCommand,
    TaskRestart,
    WorkArray,
    WorkerSlots,
)
from tasker.events.position import parse_position
from tasker.events.stored import VERSION_OF, from_recorded, meta_of
from tasker.events.subjects import Subjects
from tasker.handlers.direct import DirectInbox, Room
from tasker.ids import check_name
from tasker.projections.queries import decode_cursor, encode_cursor
from tasker.service.actors.dispatch.worker_words import slots_of
from tasker.service.actors.entrances import dead_letter_entrance, reports, requests
from tasker.service.actors.entrances.bulk_entrance import bulk_task_of
from tasker.service.actors.entrances.control_entrance import control_of
from tasker.service.actors.entrances.schedule_entrance import schedule_command
from tasker.service.actors.publication.cloud_events import cloud_event
from tasker.service.actors.restarts import check_restart
from tasker.service.actors.task_commands import decided_of
from tasker.service.http.event_scan import place_of
from tasker.service.http.events import seq_of, view_of
from tasker.templates import canonical_bytes, compile_template, document_of, from_canonical, load_yaml, validate
from tests.compat.forms import FORMS

CANONICAL = (BodyInvalid, BodyTooLarge, ValueInvalid)


class Door(NamedTuple):
    """One decoder.

    Attributes:
        enter: takes bytes; what it raises otherwise than `errors` is a fault.
        seeds: good bytes, to be spoilt.
    """

    enter: Callable[[bytes], None]
    errors: tuple[type[TaskerError], ...]
    seeds: tuple[bytes, ...]


DOORS: Final[dict[str, Door]] = {}


def door(
    name: str, *errors: type[TaskerError], seeds: tuple[bytes, ...]
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Register the decorated function."""

    def register(enter: Callable[[bytes], None]) -> Callable[[bytes], None]:
        DOORS[name] = Door(enter, errors, seeds)
        return enter

    return register


def pushed(name: str, data: bytes) -> TaskerError | None:
    """Push `data` through a door; returns the typed refusal. Every other exception comes out."""
    at = DOORS[name]
    try:
        at.enter(data)
    except at.errors as error:
        refusal: TaskerError = error
    else:
        return None
    assert TaskerError.leaves[refusal.code] is type(refusal)
    codec.encode_message(refusal.problem())
    return refusal


# ---------------------------------------------------------------- values and commands

CREATE = (
    b'{"template":"t","namespace":"shop","version":"1.0.0","input":{"a":[1,2.5,"x",null,true]},"tags":{"k":"v"},'
    b'"idempotency_key":"k-1","not_before":"2026-11-21T10:00:00Z","timeout_s":3600,"priority":7,"reason":"why",'
    b'"requested_by":"me"}'
)
SCHEDULE = (
    b'{"template":"t","cron":"*/5 1-3 * * mon","timezone":"Europe/Zurich","input":{"a":1},"time_key":"at",'
    b'"jitter_s":5,"start_at":"2026-01-01T00:00:00Z","end_at":"2036-01-01T00:00:00Z","catch_up_s":60,"tags":{"k":"v"}}'
)
TEMPLATE = (
    b'{"name":"t","version":"1.0.0","steps":[{"name":"a","retry":{"max_attempts":3,"non_retryable":["ValueError"]}},'
    b'{"name":"b","after":["a"],"start_to_close_s":5,"heartbeat_s":1},{"name":"w","signal":"go","signal_take":"all",'
    b'"signal_count":2,"signal_when":"signal.n > 1","signal_schema":{"type":"object"},"wait_deadline_s":5,'
    b'"on_wait_deadline":"continue"},{"name":"ask","approval":{"title":"ok?","assignees":["ada"],"roles":["r"],'
    b'"form":{"type":"object"},"approvals":2,"four_eyes":true,"escalate_after_s":5,"escalate_to":["bob"]}}],"input_schema":{"type":"object",'
    b'"properties":{"n":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"integer","multipleOf":2}},"required":["n"]},'
    b'"result":"b","on_failure":"fail","identity":"strict","identity_bucket_s":60}'
)


@door("value", *CANONICAL, seeds=(b'{"a":[1,-2.5e3,"\\u00e9\\ud83d\\ude00",null,true,{"b":{}}]}', b"12", b'"x"'))
def _value(data: bytes) -> None:
    form = codec.canonicalize(data)
    assert codec.canonicalize(form) == form
    assert codec.canonical(codec.decode_value(data)) == form


@door("items", BodyInvalid, *CANONICAL, seeds=(b"[" + CREATE + b"," + CREATE + b"]", b"[]", b'["\\ud83d\\ude00",1]'))
def _items(data: bytes) -> None:
    for item in codec.split_array(data):
        codec.canonicalize(item)


def _command_door(verb: str, seed: bytes) -> None:
    @door(f"command {verb}", CommandRejected, seeds=(seed,))
    def _command(data: bytes) -> None:
        command = codec.decode_command(data, COMMANDS[verb])
        requests.meta_of_command(command, command_id=None, traceparent=None)
        if isinstance(command, TaskCreate):
            requests.key_of(command.idempotency_key, None)
            requests.check_create(command)
            requests.time_us_of(command.not_before, "/not_before")
            requests.request_hash_of(command, bytes(command.input))
        elif isinstance(command, ScheduleCommand):
            schedule_command(command, "c")
        elif isinstance(command, ControlCommand | LimitCommand | CircuitCommand):
            control_of("default", command)
        elif isinstance(command, BulkCreate):
            bulk_task_of(command)
        if isinstance(command, TaskRestart):
            check_restart(command)
        elif isinstance(command, TaskOperatorCommand):
            decided_of(command)(1)
        if isinstance(command, DeadLetterRetry):
            dead_letter_entrance.retry_of(command)
        elif isinstance(command, DeadLetterCommand):
            dead_letter_entrance.investigation_of(command)  # type: ignore[arg-type] # each of them but the retry


for _verb, _seed in {
    "task.create": CREATE,
    "schedule.create": b'{"name":"s","namespace":"shop","schedule":' + SCHEDULE + b',"reason":"why"}',
    "schedule.update": b'{"name":"s","schedule":{"template":"t","every_s":60,"overlap":"skip","fires_max":3}}',
    "schedule.pause": b'{"name":"s","note":"closed","command_id":"c"}',
    "schedule.resume": b'{"name":"s","note":"open"}',
    "schedule.trigger": b'{"name":"s","command_id":"c","dry_run":true}',
    "schedule.stop_backfill": b'{"name":"s","end":"2026-01-02T00:00:00Z"}',
    "schedule.backfill": b'{"name":"s","start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z","overlap":"allow"}',
    "schedule.delete": b'{"name":"s","requested_by":"me"}',
    "task.cancel": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","grace_s":1.5,"command_id":"c"}',
    "task.retry": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea"}',
    "step.retry": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","attempt":3}',
    "task.complete": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","result":{"n":1},"grace_s":0}',
    "task.fail": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","message":"no"}',
    "task.update": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","tags":{"a":"b","c":null},"metadata":{"t":[1]},'
    b'"priority":-3}',
    "task.deadline": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","deadline":"2126-01-02T00:00:00Z"}',
    "task.restart": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","version":"1.0.0","command_id":"c"}',
    "task.pause": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","dry_run":true,"children":true}',
    "task.resume": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","paused_by":"p","children":true}',
    "task.budget": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","cost_max":"1.5","tokens_max":7}',
    "step.skip": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"only","result":[1]}',
    "step.resolve": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"only","result":{"n":1},"routes":["a"]}',
    "step.reset": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"only"}',
    "step.edit": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"only","result":2.5}',
    "step.release": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"only"}',
    "task.signal": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","name":"go","value":{"n":[1,2.5]}}',
    "step.approve": (
        b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"ask","values":{"n":[1,2.5]},"requested_by":"ada",'
        b'"roles":["editors"],"attempt":1,"reason":"why"}'
    ),
    "step.reject": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"ask","requested_by":"ada"}',
    "step.delegate": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"ask","requested_by":"ada","to":"bob"}',
    "template.register": b'{"template":' + TEMPLATE + b"}",
    "template.use": b'{"name":"t","namespace":"shop","version":"1.0.0"}',
    "control.pause": b'{"scope":"queue","name":"q","namespace":"shop","requested_by":"me","reason":"why"}',
    "limit.set": (
        b'{"scope":"handler","name":"h","per_s":2.5,"burst":3,"key":"input.c + 1","requested_by":"me","reason":"why"}'
    ),
    "limit.remove": b'{"scope":"queue","name":"q","namespace":"shop","requested_by":"me","reason":"why"}',
    "circuit.open": b'{"name":"h","namespace":"shop","open_s":90.5,"requested_by":"me","reason":"why"}',
    "circuit.close": b'{"name":"h","ramp_s":60,"requested_by":"me","reason":"why","command_id":"c"}',
    "bulk.create": (
        b'{"verb":"task.cancel","tasks":{"states":["running"],"template":"t","namespace":"shop","tags":{"a":"b"},'
        b'"created_before":"2026-01-02T00:00:00Z"},"arguments":{"grace_s":1.5},"rate_per_s":10,"requested_by":"me",'
        b'"reason":"why","command_id":"c"}'
    ),
    "control.resume": b'{"scope":"tenant","ramp_s":600,"requested_by":"me","reason":"why","command_id":"c"}',
    "dlq.add": b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","requested_by":"me","reason":"why"}',
    "dlq.investigate": (
        b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","owner":"ada","note":"x",'
        b'"requested_by":"me","reason":"why"}'
    ),
    "dlq.resolve": (
        b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","attempt":3,"ignore":true,'
        b'"requested_by":"me","reason":"why"}'
    ),
    "dlq.reopen": (b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","requested_by":"me","reason":"why"}'),
    "dlq.retry": (
        b'{"task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","attempt":3,"requested_by":"me","reason":"why"}'
    ),
}.items():
    _command_door(_verb, _seed)


@door("template document", TemplateInvalid, *CANONICAL, seeds=(TEMPLATE,))
def _template(data: bytes) -> None:
    document = codec.decode_value(data)
    spec = validate(document)
    assert validate(document_of(spec)) == spec
    assert from_canonical(canonical_bytes(spec)).steps == spec.steps
    compiled = compile_template(spec)
    for value in (None, {"n": 10**999}, {"n": -2}, {"n": 1e300}, document):
        try:
            compiled.check_input(value)
        except CommandRejected as error:
            assert error.code == "input_invalid"  # noqa: PT017 - it may also match


YAML = (
    (
        b"name: t\nsteps:\n  - name: a\n    retry: &r {max_attempts: 3}\n  - {name: b, after: [a], retry: *r}\n"
        b"input_schema:\n  type: object\n  properties: {n: {type: integer}}\n  description: |\n    text\n"
    ),
    b"? name\n: !!str t\n'steps': [{name: \"a\\x41\", handler: &h h}, {name: b, handler: *h}]\n# end\n...\n",
    b"a: &a [x, y]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"%YAML 1.2\n---\nname: 0o17\nversion: 1e400\n<<: {a: .inf}\n",
)


@door("yaml", TemplateInvalid, seeds=YAML)
def _yaml(data: bytes) -> None:
    load_yaml(data.decode(errors="surrogateescape"))


@door("stored template", Undecodable, seeds=(canonical_bytes(validate(codec.decode_value(TEMPLATE))),))
def _stored_template(data: bytes) -> None:
    from_canonical(data)


# ---------------------------------------------------------------- workers

REPORTS = (
    (
        b'{"kind":"completed","task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","attempt":1,"worker":"w-1",'
        b'"result":{"ok":[1,2.5,"x"]}}'
    ),
    (
        b'{"kind":"failed","task_id":"016edfe9-8e3a-819c-918d-70443cb40fea","step":"a","attempt":1,"worker":"w-1",'
        b'"error":{"type":"ValueError","message":"no","retryable":true,"retry_after_s":2,"stack":"a\\nb"}}'
    ),
    b'{"kind":"result","task_id":"x","step":"b","attempt":2,"worker":"w","of":"a"}',
)
SLOTS = (
    b'{"worker":"w-1","slots":100,"elsewhere":3,"queues":[["shop","orders"],["shop","mail"]],"nodes":{"n-a":[17,12]},'
    b'"parts":[{"name":"p0","handlers":[["shop","orders","charge"]],"slots":2,"elsewhere":1,"nodes":{"n-a":[3,2]}}]}'
)
WORK = (
    b'{"sent_at_us":1790000000000000,"part":"p0","work":[{"task_id":"t","step":"a","attempt":1,"handler":"a","namespace":"shop",'
    b'"template":"t","input":{},"idempotency_key":"t:a","report_to":"tasker.default.report.1","start_to_close_s":30,'
    b'"heartbeat_s":10,"results":{"b":1},"deadline_in_s":5}]}'
)


@door("report", BodyInvalid, ValueInvalid, seeds=REPORTS)
def _report(data: bytes) -> None:
    report = reports._checked(reports._decoded(data))
    error = report.error
    if report.kind == "failed" and error is not None:
        assert codec.is_text(error.type + error.message + (error.stack or ""))
        assert len(error.message) <= reports.MESSAGE_CHARS_MAX
    if report.kind == "completed":
        assert codec.canonicalize(bytes(report.result)) == bytes(report.result)


@door("slots", seeds=(SLOTS,))
def _slots(data: bytes) -> None:
    try:
        said = slots_of(data)
    except Undecodable:
        return  # what `DirectWork.on_slots` logs and leaves
    assert isinstance(said, WorkerSlots)
    assert codec.encode_message(said)


def _told(*messages: tuple[str, bytes]) -> list[Any]:
    """Return what a worker takes of messages (last token of the subject, data) from nodes and their inbox."""
    taken: list[Any] = []

    async def tell() -> None:
        inbox = DirectInbox(MemoryBroker().connect(), Subjects(), "default", "w-1")
        inbox.start(
            lambda: Room(slots=1, elsewhere=0, queues=()),
            lambda work, source, age_us: taken.append((work, source, age_us)),
        )
        for last, data in messages:
            take = inbox._on_array if last.startswith("n-") else inbox._on_time
            take(Message(f"x.{last}", data, None, ""))

    asyncio.run(tell())
    return taken


@door("work array", seeds=(WORK,))
def _work(data: bytes) -> None:
    taken = _told(("n-a", data))
    if taken:
        assert len(codec.decode_message(data, WorkArray).work) == len(taken)


NODE_TIME = b'{"node":"n-a","now_us":1790000000000000}'


@door("node time", seeds=(NODE_TIME, b"17"))
def _time(data: bytes) -> None:
    assert len(_told((data.decode(errors="replace"), NODE_TIME), ("17", data), ("n-a", WORK))) == 1


@door(
    "answer",
    Undecodable,
    seeds=(b'{"ok":false,"recorded":false,"error":{"type":"t","title":"t","status":422,"detail":"d","code":"c"}}',),
)
def _answer(data: bytes) -> None:
    reply = codec.decode_message(data, Reply)
    if reply.error is not None:
        TaskerError.from_problem(reply.error)
    codec.decode_message(data, ReportReply)


# ---------------------------------------------------------------- headers

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@door("nats headers", seeds=(b"NATS/1.0\r\nIdempotency-Key: k-1\r\ntraceparent: " + TRACEPARENT + b"\r\n\r\n",))
def _headers(data: bytes) -> None:
    for name, value in parse_headers(data).items():
        (name + value).encode()


@door("key", BodyInvalid, KeyAmbiguous, seeds=(b"order-17", b"\xc3\xa9"))
def _key(data: bytes) -> None:
    key = requests.key_of(None, data.decode(errors="surrogateescape"))
    assert key is not None
    assert codec.is_text(key)
    requests.key_of("order-17", key)


@door("traceparent", seeds=(TRACEPARENT,))
def _traceparent(data: bytes) -> None:
    found = requests.traceparent_of(data.decode(errors="surrogateescape"))
    if found is not None:
        codec.encode_message(Meta(traceparent=found))


@door("task id", TaskUnknown, seeds=(b"016edfe9-8e3a-819c-918d-70443cb40fea",))
def _task_id(data: bytes) -> None:
    requests.task_id_of_text(data.decode(errors="surrogateescape"))


# ---------------------------------------------------------------- cursors

CURSORS = (
    encode_cursor("-created_at", 1_790_000_000_000_000, "016edfe9-8e3a-819c-918d-70443cb40fea").encode(),
    encode_cursor("shop", "orders", 1_790_000_000_000_000, "1.0.0").encode(),
)
"""Of the list of tasks and of that of templates."""


@door("cursor", ParameterInvalid, seeds=CURSORS)
def _cursor(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    keys: list[tuple[str | int, ...]] = []
    for kind in (tuple[str, int, str], tuple[str, str, int, str]):
        with contextlib.suppress(ParameterInvalid):
            keys.append(decode_cursor(text, kind))
    for part in itertools.chain(*keys):
        assert codec.is_text(part) if isinstance(part, str) else 0 <= part < 2**63
    if not keys:
        decode_cursor(text, tuple[str, int, str])


@door("cursor's key", ParameterInvalid, seeds=(b'["-created_at",1,"x"]',))
def _cursor_key(data: bytes) -> None:
    for part in decode_cursor(base64.urlsafe_b64encode(data).decode(), tuple[str, int, str]):
        assert codec.is_text(part) if isinstance(part, str) else 0 <= part < 2**63


@door("position", PositionInvalid, seeds=(b"0:12,3:812", b"k3xw9q/3:812"))
def _position(data: bytes) -> None:
    found = parse_position(data.decode(errors="surrogateescape"), log_id="k3xw9q", shards=16)
    assert all(0 <= shard < 16 and 0 <= position < 10**18 for shard, position in found.items())


@door("seq", PositionInvalid, seeds=(b"812",))
def _last_event_id(data: bytes) -> None:
    assert 0 <= seq_of(data.decode(errors="surrogateescape")) < 10**16


# ---------------------------------------------------------------- stored events


def recorded(type_: str, payload: bytes, meta: bytes, *, version: int = 1, encoding: str = "json") -> RecordedEvent:
    """Return an event with these bytes, as a log may hold it."""
    kind = "template" if type_.startswith("template") else "task"
    stream_id = UUID("016edfe9-8e3a-819c-918d-70443cb40fea")
    return RecordedEvent(
        3, 812, 1, stream_id, kind, 1, type_, version, "default", 1_790_000_000_000_000, meta, payload, encoding, None
    )


META = codec.encode_message(
    Meta(command_id="c", correlation_id="o-17", causation_id="c", traceparent=TRACEPARENT.decode(), reason="why")
)


def _event_door(type_: str, version: int) -> None:
    payloads = tuple(codec.encode_message(form) for form in FORMS[type_, version])

    @door(f"event {type_} v{version}", Undecodable, seeds=payloads)
    def _event(data: bytes) -> None:
        for other in (version, version + 1):
            event = recorded(type_, data, META, version=other)
            place_of(event)
            msgspec.json.decode(codec.encode_message(view_of(event)))
            from_recorded(event)


for _type, _version in FORMS:
    _event_door(_type, _version)


@door("event meta", Undecodable, seeds=(META,))
def _meta(data: bytes) -> None:
    event = recorded("task_started", b"{}", data)
    msgspec.json.decode(codec.encode_message(view_of(event)))
    meta_of(event)
    told = codec.decode_message(cloud_event("x:3:812", "/tasker/x", 3, 812, event, "t"), LifecycleEvent)
    assert told.seq == 1


@door("stored value", Undecodable, seeds=(b'{"log_id":"x","shard":1,"position":2}',))
def _unknown_form(data: bytes) -> None:
    text = data.decode(errors="replace")
    for type_, encoding in ((text, "json"), ("task_started", text), ("task_started", "json")):
        if type_ in VERSION_OF and encoding == "json":
            continue
        event = recorded(type_, data, b"{}", encoding=encoding)
        view_of(event)
        from_recorded(event)


@door("name", NameInvalid, seeds=(b"order_fulfillment",))
def _name(data: bytes) -> None:
    name = check_name(data.decode(errors="surrogateescape"), "tenant")
    assert Subjects().tenant_of(Subjects().slots(name)) == name

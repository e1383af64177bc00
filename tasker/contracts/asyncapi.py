"""The AsyncAPI 3.0 document: every subject, stream, header and message on NATS, as the service sends and receives them.

Addresses come from `Subjects`, messages from the structs, streams from the settings with which they are made. A channel
is declared here once; a test asks for one of every subject, every command and every type of event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from tasker.bus.streams import (
    FAST_INGEST_VERSION,
    command_consumer_config,
    commands_config,
    events_config,
    refusals_config,
    work_config,
    work_consumer_config,
)
from tasker.contracts.schemas import Schema, Schemas, summary_of
from tasker.contracts.template_schema import describe_documents
from tasker.events.bulk import BulkOrder
from tasker.events.codec import BATCH_ITEMS_MAX
from tasker.events.messages import (
    COMMANDS,
    HEADER_IDEMPOTENCY_KEY,
    HEADER_MESSAGE_ID,
    HEADER_RELEASED,
    HEADER_RELEASED_PARTS,
    HEADER_REPLY_TO,
    HEADER_SUBMITTED,
    HEADER_TRACEPARENT,
    Accepted,
    CancelAttempt,
    DomainEventMessage,
    LifecycleEvent,
    LiveUpdate,
    LogHead,
    Mark,
    NodeTime,
    Refused,
    RefusedCommand,
    Report,
    ReportReply,
    Work,
    WorkArray,
    WorkerSlots,
)
from tasker.events.stored import TYPE_OF, VERSION_OF
from tasker.events.subjects import DEFAULT_PREFIX, Subjects
from tasker.settings import StreamSettings
from tasker.version import __version__

ASYNCAPI_VERSION: Final = "3.0.0"
EVENT_MEDIA_TYPE: Final = "application/cloudevents+json"

_JSON: Final = "application/json"
_DESCRIPTION: Final = """What the service receives and sends on NATS; a client or a worker does the opposite.

Readers ignore members that they do not know: members are only ever added. A command with a member that is not known is
refused. A reply goes to the reply subject of the request. Streams are buffers that may vanish; the log lasts."""

_HEADERS: Final[dict[str, str]] = {
    HEADER_IDEMPOTENCY_KEY: "Carries the key of a single command beside the body's field; two that differ are refused.",
    HEADER_MESSAGE_ID: "Names the message for the stream's deduplication.",
    HEADER_TRACEPARENT: "W3C trace context.",
    HEADER_REPLY_TO: "Of a submitted command: the subject that gets its verdict.",
    HEADER_SUBMITTED: "Of such a verdict: the sequence that the stream's ack named.",
    HEADER_RELEASED: "Of a report to a node: how many of its items the worker has released.",
    HEADER_RELEASED_PARTS: "The same of the parts of its slots that are for handlers with a limit: `p0=17,p1=2`.",
}
_PARAMETERS: Final[dict[str, str]] = {
    "prefix": "What every subject starts with (`TASKER_NATS_PREFIX`).",
    "tenant": "Whose it is.",
    "namespace": "Of the template.",
    "queue": (
        "A name under which work is offered and taken; by default the template's. Labels that a step requires stand "
        "behind it, sorted by name: `films~gpu=a100~zone=eu`."
    ),
    "template": "Its name.",
    "task": "The task's id; `_` for events of templates.",
    "step": "Its name.",
    "event": "The type of the event, without its version.",
    "name": "Of the domain event: up to four names with dots between them.",
    "shard": "Number of the shard.",
    "worker": "The worker's own id, as in its reports.",
    "node": "A node of the service.",
    "what": "What is taken there: `cmd`; of the views `bulk`.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channel:
    """A kind of subject.

    Attributes:
        address: builds the subject; its parameters are handed in braces.
        messages: names in `components.messages`.
        replies: names of the messages that answer.
        stream: which of ours keeps them.
    """

    name: str
    action: Literal["send", "receive"]
    address: Callable[[Subjects], str]
    summary: str
    messages: tuple[str, ...]
    replies: tuple[str, ...] = ()
    stream: Literal["work", "events", "commands", "refusals"] | None = None
    internal: bool = False


def _summary(kind: type) -> str:
    return summary_of(kind).partition("\n\n")[0]


def _event_message(name: str) -> str:
    return f"tasker_{name}_v{VERSION_OF[name]}"


_EVENTS: Final = tuple(_event_message(name) for name in TYPE_OF.values())


_VERDICTS: Final = (Accepted.__name__, Refused.__name__, "Verdicts")


def _command_channel(verb: str) -> _Channel:
    noun, _, word = verb.partition(".")
    return _Channel(
        name=f"command_{noun}_{word}",
        action="receive",
        address=lambda subjects: subjects.command("{tenant}", noun, word),
        summary=_summary(COMMANDS[verb]).partition(": ")[2],
        messages=(COMMANDS[verb].__name__,),
        replies=_VERDICTS,
    )


def _submit_channel(verb: str) -> _Channel:
    noun, _, word = verb.partition(".")
    return _Channel(
        name=f"submit_{noun}_{word}",
        action="receive",
        address=lambda subjects: subjects.submit("{tenant}", noun, word),
        summary="The same, left in a stream by who does not wait; the stream's ack is not acceptance.",
        messages=(COMMANDS[verb].__name__,),
        stream="commands",
    )


_CHANNELS: Final[tuple[_Channel, ...]] = (
    *(_command_channel(verb) for verb in COMMANDS),
    *(_submit_channel(verb) for verb in COMMANDS),
    _Channel(
        name="refused",
        action="send",
        address=lambda subjects: subjects.refused("{tenant}"),
        summary="Submitted commands that were refused; closed to tenants. `GET /v1/refusals` reads the list.",
        messages=("RefusedCommand",),
        stream="refusals",
    ),
    _Channel(
        name="slots",
        action="receive",
        address=lambda subjects: subjects.slots("{tenant}"),
        summary="What a worker that takes work from the nodes themselves says of its slots; each node answers.",
        messages=("WorkerSlots",),
        replies=("NodeTime",),
    ),
    _Channel(
        name="worker_work",
        action="send",
        address=lambda subjects: subjects.worker_work("{tenant}", "{worker}", "{node}"),
        summary="Work from a node itself, for a worker that told its slots. There is no message to acknowledge.",
        messages=("WorkArray",),
    ),
    _Channel(
        name="report_to_node",
        action="receive",
        address=lambda subjects: subjects.report_to_node("{tenant}", "{node}"),
        summary="Reports on work that a node gave or published (`node`); to `report_to` when it does not answer.",
        messages=("Report",),
        replies=("ReportReply",),
    ),
    _Channel(
        name="work",
        action="send",
        address=lambda subjects: subjects.work("{tenant}", "{namespace}", "{queue}"),
        summary="Attempts of steps, for the workers of a queue: pulled from the queue's one durable consumer, "
        "acknowledged once the owner has answered a `started`, a `claim` or an outcome for all that it holds.",
        messages=("Work",),
        stream="work",
    ),
    _Channel(
        name="report",
        action="receive",
        address=lambda subjects: subjects.report("{tenant}", "{shard}"),  # type: ignore[arg-type]
        summary="What workers say of attempts, sent again until it is answered. The subject is told by `report_to`.",
        messages=("Report",),
        replies=("ReportReply",),
    ),
    _Channel(
        name="worker_cancel",
        action="send",
        address=lambda subjects: subjects.worker_cancel("{tenant}", "{worker}"),
        summary="Tells one worker to stop an attempt. It may be lost: the answer to a heartbeat says it again.",
        messages=("CancelAttempt",),
    ),
    _Channel(
        name="event",
        action="send",
        address=lambda subjects: subjects.event("{tenant}", "{namespace}", "{template}", "{task}", "{event}"),
        summary="What happened, after its commit and in the order of its shard. Each may come more than once.",
        messages=_EVENTS,
    ),
    _Channel(
        name="stored_event",
        action="send",
        address=lambda subjects: subjects.stored_events("{tenant}", "{namespace}", "{template}", "{event}"),
        summary="The same, as the stream keeps it: the subject leaves out the task.",
        messages=_EVENTS,
        stream="events",
    ),
    _Channel(
        name="domain_event",
        action="send",
        address=lambda subjects: subjects.domain_event("{tenant}", "{name}"),
        summary="What steps say happened in the business, each right before the event of the log that tells of it.",
        messages=("DomainEventMessage",),
        stream="events",
    ),
    _Channel(
        name="live",
        action="receive",
        address=lambda subjects: subjects.live("{tenant}", "{task}", "{step}"),
        summary="What running attempts say live, from their workers to whoever listens; kept nowhere.",
        messages=("LiveUpdate",),
    ),
    _Channel(
        name="mark",
        action="send",
        address=lambda subjects: subjects.mark("{shard}"),  # type: ignore[arg-type]
        summary="In the event stream: everything of the shard up to here stands before.",
        messages=("Mark",),
        stream="events",
    ),
    _Channel(
        name="log_head",
        action="send",
        address=lambda subjects: subjects.log_head,
        summary="A wake-up: the log grew.",
        messages=("LogHead",),
    ),
    _Channel(
        name="node_shard",
        action="receive",
        address=lambda subjects: subjects.node_shard("{shard}", "{what}"),  # type: ignore[arg-type]
        summary="From node to node: a command for the shard's owner. Closed to everybody else.",
        messages=tuple(kind.__name__ for kind in COMMANDS.values()),
        replies=_VERDICTS,
        internal=True,
    ),
    _Channel(
        name="views",
        action="receive",
        address=lambda subjects: subjects.views("{what}"),
        summary="From a node to whoever reads the views: what a bulk would be for; without a body (`free`), that "
        "it no longer writes them. Closed to everybody else.",
        messages=("BulkOrder",),
        replies=(Accepted.__name__, Refused.__name__),
        internal=True,
    ),
)


def asyncapi_document(*, prefix: str = DEFAULT_PREFIX) -> dict[str, Any]:
    """Return the document as JSON values, of a service whose subjects start with `prefix`."""
    subjects = Subjects(prefix)
    schemas = Schemas()
    messages = _messages(schemas)
    describe_documents(schemas)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in _CHANNELS:
        channels[channel.name] = _channel(channel, subjects)
        operations[f"{channel.action}_{channel.name}"] = _operation(channel, channels)
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "id": "urn:tasker:service",
        "info": {"title": "Tasker", "version": __version__, "description": _DESCRIPTION, "license": {"name": "MIT"}},
        "defaultContentType": _JSON,
        "servers": {"nats": {"host": "localhost:4222", "protocol": "nats", "description": "`TASKER_NATS_URL`."}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": dict(sorted(schemas.components.items()))},
        "x-nats-streams": _streams(subjects),
    }


# ---------------------------------------------------------------- channels


def _channel(channel: _Channel, subjects: Subjects) -> dict[str, Any]:
    address = "{prefix}" + channel.address(subjects).removeprefix(subjects.prefix)
    found: dict[str, Any] = {
        "address": address,
        "description": channel.summary,
        "parameters": {
            name: {"description": description} | ({"default": subjects.prefix} if name == "prefix" else {})
            for name, description in _PARAMETERS.items()
            if f"{{{name}}}" in address
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
    }
    if channel.stream is not None:
        found["x-nats-stream"] = channel.stream
    if channel.internal:
        found["x-internal"] = True
    return found


def _operation(channel: _Channel, channels: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.summary,
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{name}"} for name in channel.messages],
    }
    if channel.replies:
        reply = f"{channel.name}_reply"
        channels[reply] = {
            "address": None,
            "description": "The reply subject of the request.",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.replies},
        }
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{reply}"},
            "messages": [{"$ref": f"#/channels/{reply}/messages/{name}"} for name in channel.replies],
        }
    return operation


_SOME_TENANT: Final = "in-place-of-a-tenant"


def _streams(subjects: Subjects) -> dict[str, Any]:
    """Return the streams with the settings of a service that was told nothing else."""
    settings = StreamSettings()
    consumer = work_consumer_config(subjects, settings, tenant="{tenant}", namespace="{namespace}", queue="{queue}")
    # Its name has a digest in place of what cannot be the name of a tenant, as `{tenant}` cannot.
    commands = command_consumer_config(subjects, settings, _SOME_TENANT)
    for key in ("name", "durable_name", "filter_subject"):
        commands[key] = commands[key].replace(_SOME_TENANT, "{tenant}")
    return {
        "work": {
            "description": "Work until a worker has it; one consumer a queue, which a worker makes when it is missing.",
            "config": work_config(subjects, settings),
            "consumers": {"queue": consumer},
        },
        "events": {
            "description": "The last days of events and marks. `allow_batched` only where the server knows it.",
            "config": events_config(subjects, settings, FAST_INGEST_VERSION),
        },
        "commands": {
            "description": "Submitted commands; full, it refuses more. One consumer a tenant, which a node makes.",
            "config": commands_config(subjects, settings),
            "consumers": {"tenant": commands},
        },
        "refusals": {
            "description": "The last refusals of each tenant.",
            "config": refusals_config(subjects, settings),
        },
    }


# ---------------------------------------------------------------- messages


def _messages(schemas: Schemas) -> dict[str, Any]:
    command_headers = (HEADER_IDEMPOTENCY_KEY, HEADER_MESSAGE_ID, HEADER_TRACEPARENT, HEADER_REPLY_TO)
    messages: dict[str, Any] = {}
    for command in COMMANDS.values():
        messages[command.__name__] = _message(command, _one_or_many(schemas.of(command)), command_headers)
    for answer in (Accepted, Refused):
        messages[answer.__name__] = _message(answer, schemas.of(answer), (HEADER_SUBMITTED,))
    verdict = {"oneOf": [schemas.of(Accepted), schemas.of(Refused)]}
    messages["Verdicts"] = {
        "name": "Verdicts",
        "summary": "Answers an array of commands, in its order.",
        "payload": {"type": "array", "items": verdict, "maxItems": BATCH_ITEMS_MAX},
    }
    messages["Work"] = _message(Work, schemas.of(Work), (HEADER_MESSAGE_ID,))
    messages["Report"] = _message(Report, _one_or_many(schemas.of(Report)), (HEADER_RELEASED, HEADER_RELEASED_PARTS))
    messages["ReportReply"] = _message(ReportReply, _one_or_many(schemas.of(ReportReply)))
    notices = (LiveUpdate, CancelAttempt, Mark, LogHead, RefusedCommand, WorkArray, WorkerSlots, NodeTime, BulkOrder)
    for notice in notices:
        messages[notice.__name__] = _message(notice, schemas.of(notice))
    domain = _message(DomainEventMessage, schemas.of(DomainEventMessage), (HEADER_MESSAGE_ID,))
    messages["DomainEventMessage"] = domain | {"contentType": EVENT_MEDIA_TYPE}
    for kind, name in TYPE_OF.items():
        messages[_event_message(name)] = _event(kind, name, schemas)
    return messages


def _message(kind: type, payload: Schema, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    message: dict[str, Any] = {"name": kind.__name__, "summary": _summary(kind), "payload": payload}
    if headers:
        message["headers"] = {
            "type": "object",
            "properties": {name: {"type": "string", "description": _HEADERS[name]} for name in headers},
        }
    return message


def _event(kind: type, name: str, schemas: Schemas) -> dict[str, Any]:
    full_name = f"tasker.{name}.v{VERSION_OF[name]}"
    own = {"properties": {"type": {"const": full_name}, "data": schemas.of(kind)}}
    message = _message(kind, {"allOf": [schemas.of(LifecycleEvent), own]}, (HEADER_MESSAGE_ID,))
    return message | {"name": full_name, "contentType": EVENT_MEDIA_TYPE}


def _one_or_many(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "array", "items": schema, "maxItems": BATCH_ITEMS_MAX}]}

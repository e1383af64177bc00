"""Every parameter of the endpoints, described once; how its text is read stands in `requests.py`."""

from __future__ import annotations

from typing import Any, Final

from tasker.events.control_events import CONTROL_SCOPES
from tasker.events.messages import DEFAULT_TENANT, HEADER_IDEMPOTENCY_KEY, HEADER_TRACEPARENT
from tasker.events.reads import (
    DEAD_LETTER_REASONS,
    DEAD_LETTER_STATES,
    INVESTIGATION_STATUSES,
    SCHEDULE_STATES,
    TASK_STATUSES,
    USAGE_BY,
)
from tasker.events.stored import VERSION_OF
from tasker.events.subjects import HEADER_TENANT
from tasker.ids import EVENT_NAME_PATTERN, INSTANCE_PATTERN, KEY_CHARS_MAX, NAME_PATTERN
from tasker.projections.queries import PAGE_ITEMS, PAGE_ITEMS_MAX, TASK_SORTS
from tasker.service.http.operations import Parameter
from tasker.settings import HttpSettings

HEADER_LAST_EVENT_ID: Final = "Last-Event-ID"

_NAME: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
_TEXT: Final[dict[str, Any]] = {"type": "string"}
_UUID: Final[dict[str, Any]] = {"type": "string", "format": "uuid"}
_TIME: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}

TENANT: Final = Parameter(
    name=HEADER_TENANT, place="header", schema=_NAME | {"default": DEFAULT_TENANT}, description="Whose tasks these are."
)
IDEMPOTENCY_KEY: Final = Parameter(
    name=HEADER_IDEMPOTENCY_KEY,
    place="header",
    schema={"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX},
    description="Carries the key of a single command beside the body's field; two that differ are `key_ambiguous`.",
)
TRACEPARENT: Final = Parameter(
    name=HEADER_TRACEPARENT,
    place="header",
    schema=_TEXT,
    description="W3C trace context; kept with the events that the command causes.",
    example="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
LAST_EVENT_ID: Final = Parameter(
    name=HEADER_LAST_EVENT_ID,
    place="header",
    schema=_TEXT,
    description="Where a stream of server-sent events goes on; like `after`, and before it.",
)

TASK_ID: Final = Parameter(name="task_id", place="path", schema=_UUID, description="The task.")
STEP: Final = Parameter(
    name="step",
    place="path",
    schema={"type": "string", "pattern": f"^{INSTANCE_PATTERN}$"},
    description="The step, a visit of it (`check%232` for `check#2`) or an item (`resize[17]`).",
)
SIGNAL_IN_PATH: Final = Parameter(
    name="name",
    place="path",
    schema={"type": "string", "pattern": f"^(?:{EVENT_NAME_PATTERN})$"},
    description="The signal, as a step of the template names it.",
)
ASSIGNEE: Final = Parameter(
    name="assignee", schema=_TEXT, description="Only what this person may answer, by name or because everybody may."
)
ROLE: Final = Parameter(
    name="role",
    schema=_TEXT,
    many=True,
    description="Or what somebody with one of these roles may answer; several times.",
)
LIVE_STEP: Final = Parameter(
    name="step", schema=STEP.schema, description="Only of this step: of all its visits and items, or of one of them."
)
NAMESPACE_IN_PATH: Final = Parameter(name="namespace", place="path", schema=_NAME, description="Its namespace.")
NAME_IN_PATH: Final = Parameter(name="name", place="path", schema=_NAME, description="The template.")
SCHEDULE_IN_PATH: Final = Parameter(name="name", place="path", schema=_NAME, description="The schedule.")
VERSION_IN_PATH: Final = Parameter(
    name="version", place="path", schema={"type": "string", "minLength": 1}, description="The version."
)

LIMIT: Final = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": PAGE_ITEMS_MAX, "default": PAGE_ITEMS},
    description="Most items of a page. One of large items has fewer: there is more as long as there is `next`.",
)
AFTER: Final = Parameter(
    name="after",
    schema=_TEXT,
    description="Where to go on: `next` of the page before. Opaque: hand it back as it came.",
)
AFTER_EVENT: Final = Parameter(
    name="after",
    schema=_TEXT,
    description="A position to go on behind, such as `next` of a page; `latest`: the head. Absent: the beginning.",
    example="0:12,3:812",
)
AFTER_SEQ: Final = Parameter(
    name="after", schema={"type": "string", "pattern": "^[0-9]{1,16}$"}, description="The `seq` to go on behind."
)
BEFORE_SEQ: Final = Parameter(
    name="after", schema=AFTER_SEQ.schema, description="`next` of the page before: what happened before that `seq`."
)
AT_LEAST: Final = Parameter(
    name="at_least",
    schema=_TEXT,
    description="Answer once the views are at or after this position; `behind` when they do not get there in time.",
    example="3:812",
)
WAIT_S: Final = Parameter(
    name="wait_s",
    schema={"type": "number", "minimum": 0, "maximum": 999_999_999},
    description=f"Wait so long for the task to be over; more than {HttpSettings().wait_s_max:g} s is cut to that.",
)
STATE: Final = Parameter(
    name="state",
    schema={"type": "string", "enum": list(TASK_STATUSES)},
    many=True,
    description="Any of these; several times, or once with commas.",
)
SCHEDULE_STATE: Final = Parameter(
    name="state",
    schema={"type": "string", "enum": list(SCHEDULE_STATES)},
    many=True,
    description="Any of these; several times, or once with commas. Absent: all but `deleted`.",
)
COUNT: Final = Parameter(
    name="count",
    schema={"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
    description="How many fire times.",
)
DEAD_LETTER_STATE: Final = Parameter(
    name="state",
    schema={"type": "string", "enum": list(DEAD_LETTER_STATES)},
    many=True,
    description="Any of these; without `state` and `status`: what has neither left nor been settled.",
)
STATUS: Final = Parameter(
    name="status",
    schema={"type": "string", "enum": list(INVESTIGATION_STATUSES)},
    many=True,
    description="Investigations in any of these; several times, or once with commas.",
)
REASON: Final = Parameter(
    name="reason",
    schema={"type": "string", "enum": list(DEAD_LETTER_REASONS)},
    many=True,
    description="For any of these reasons; several times, or once with commas.",
)
STEP_IN_QUERY: Final = Parameter(
    name="step", schema=_NAME, description="Only of this step of a template, with all its instances."
)
FINGERPRINT: Final = Parameter(name="fingerprint", schema=_TEXT, description="Only with this fingerprint.")
OWNER: Final = Parameter(name="owner", schema=_TEXT, description="Only those that this person sees to.")
SEEN_AFTER: Final = Parameter(name="seen_after", schema=_TIME, description="Failed last then or later.")
SEEN_BEFORE: Final = Parameter(name="seen_before", schema=_TIME, description="Failed last earlier.")
NAMESPACE: Final = Parameter(name="namespace", schema=_NAME, description="Only of this namespace.")
TEMPLATE: Final = Parameter(name="template", schema=_NAME, description="Only of this template.")
NAME: Final = Parameter(name="name", schema=_NAME, description="Only of this name.")
CONTROL_SCOPE: Final = Parameter(
    name="scope", schema={"type": "string", "enum": list(CONTROL_SCOPES)}, description="Only of such things."
)
TAG: Final = Parameter(
    name="tag",
    schema={"type": "string", "pattern": "^[^=]+="},
    many=True,
    description="Only with this tag, `key=value`; several times: with all of them.",
    example="team=core",
)
CREATED_AFTER: Final = Parameter(name="created_after", schema=_TIME, description="Created then or later.")
CREATED_BEFORE: Final = Parameter(name="created_before", schema=_TIME, description="Created earlier.")
SORT: Final = Parameter(
    name="sort",
    schema={"type": "string", "enum": list(TASK_SORTS), "default": "-created_at"},
    description="The order; `-`: the newest first.",
)
EVENT_TYPE: Final = Parameter(
    name="type",
    schema={"type": "string", "enum": list(VERSION_OF)},
    many=True,
    description="Any of these types of events; several times, or once with commas.",
)
USAGE_OF: Final = Parameter(
    name="by",
    schema={"type": "string", "enum": list(USAGE_BY), "default": "template"},
    description="What is added up by itself.",
)
MODEL: Final = Parameter(name="model", schema=_TEXT, description="Only what was used of this model.")
TASK: Final = Parameter(name="task_id", schema=_UUID, description="Only of this task.")

"""Writes the generated parts of docs/reference anew from the code: wire, events, errors, CLI, SDK, settings, metrics.

And the texts of `--help`, which are printed from a file.

A generated part stands between `<!-- generated: name -->` and `<!-- end -->`. A test fails when one is not what the
code says.

    python -m scripts.generate_reference
"""  # noqa: INP001 - a folder of scripts

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import griffe
import msgspec

from scripts.reference_cli import cli_reference, help_file
from scripts.reference_sdk import sdk_reference
from tasker import errors, ids
from tasker.cli.configuring import as_text
from tasker.doctor.finding import CATALOGUE
from tasker.errors import TaskerError
from tasker.events import codec, messages, position, usage
from tasker.events.concurrency_events import CONCURRENCY_EVENT_TYPES
from tasker.events.control_events import CONTROL_EVENT_TYPES
from tasker.events.dead_letter_events import DEAD_LETTER_EVENT_TYPES
from tasker.events.schedule_events import SCHEDULE_EVENT_TYPES
from tasker.events.subjects import TOKEN_PATTERN as WORKER_PATTERN
from tasker.events.task_events import TASK_EVENT_TYPES
from tasker.events.template_events import TEMPLATE_EVENT_TYPES
from tasker.ids import KEY_CHARS_MAX, NAME_PATTERN
from tasker.labels import REQUIRED_CHARS_MAX
from tasker.metrics import CATALOGUE as METRICS
from tasker.remedies import next_step
from tasker.service.actors.dispatch import worker_words
from tasker.service.actors.entrances import dead_letter_entrance, reports, requests
from tasker.service.domain import template_registry
from tasker.service.domain.decide import HISTORY_EVENTS_MAX
from tasker.service.domain.repairs import amend
from tasker.service.domain.task_result import RESULT_LIMIT, TASK_RESULT_BYTES_MAX
from tasker.service.http.routes import OPERATIONS
from tasker.settings.keys import OTHER_VARIABLES, parts
from tasker.templates import emits, input_schema, model, yaml

EVENT_TYPES: Final = (
    *TASK_EVENT_TYPES,
    *TEMPLATE_EVENT_TYPES,
    *SCHEDULE_EVENT_TYPES,
    *DEAD_LETTER_EVENT_TYPES,
    *CONCURRENCY_EVENT_TYPES,
    *CONTROL_EVENT_TYPES,
)
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference" / "wire.md"
EVENTS_PAGE: Final = PAGE.with_name("events.md")
ERRORS_PAGE: Final = PAGE.with_name("errors.md")
PAGES: Final = (
    PAGE,
    EVENTS_PAGE,
    ERRORS_PAGE,
    *(PAGE.with_name(name) for name in ("cli.md", "sdk.md", "settings.md", "doctor.md", "metrics.md")),
)
HELP: Final = PAGE.parents[2] / "tasker" / "cli" / "help.json"
_PLACE = re.compile(r"(<!-- generated: (?P<name>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KIB = 1024
_DAY_S = 24 * 3600


def render(page: str) -> str:
    """Return `page` with each of its tables as the code says now."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n\n{found[3]}", page)


def error_table() -> str:
    """Return the table of codes, by family."""
    rows = [(f"`{leaf.code}`", leaf.status, leaf.exit_code, _family(leaf), leaf.title) for leaf in _leaves()]
    return _table(("code", "HTTP status", "exit code", "family", "meaning"), rows)


def _leaves() -> list[type[TaskerError]]:
    """Return every error that a caller may meet; the last is what is told of a bug."""
    return [*(leaf for leaf in TaskerError.leaves.values() if leaf.__module__ == errors.__name__), TaskerError]


def error_sections() -> str:
    """Return a section a code, so that a code can be linked to."""
    sections = []
    for leaf in _leaves():
        said = [f"### {leaf.code}", f"{leaf.title}. HTTP {leaf.status}, exit code {leaf.exit_code}, `{leaf.__name__}`."]
        if remedy := next_step(leaf.code):
            said.append(f"Next: {remedy}.")
        sections.append("\n\n".join(said))
    return "\n\n".join(sections)


def command_table() -> str:
    """Return the table of commands with their own fields."""
    common = {field.name for field in msgspec.structs.fields(messages.OperatorCommand)}
    rows = []
    for verb, kind in messages.COMMANDS.items():
        own = [field for field in msgspec.structs.fields(kind) if field.name not in common]
        rows.append((f"`{verb}`", _sentence(kind).partition(": ")[2].removesuffix("."), ", ".join(map(_field, own))))
    return _table(("command", "what it does", "fields"), rows)


def endpoint_table() -> str:
    """Return the table of HTTP's endpoints, with what their queries may have."""
    rows = [
        (
            f"`{one.method} {one.path}`",
            one.summary.removesuffix("."),
            ", ".join(f"`{name}`" for name in one.query_names()),
        )
        for one in OPERATIONS
    ]
    return _table(("endpoint", "what it does", "query"), rows)


def event_table() -> str:
    """Return the table of the events of tasks, then of templates, then of investigations."""
    rows = [
        (f"`{_snake(kind.__name__)}`", _sentence(kind), ", ".join(map(_field, msgspec.structs.fields(kind))))
        for kind in EVENT_TYPES
    ]
    return _table(("event", "what happened", "data"), rows)


def event_sections() -> str:
    """Return a section an event, with what its docstring says of its fields."""
    sections = []
    for kind in EVENT_TYPES:
        about = _attributes(kind)
        rows = [
            (f"`{field.encode_name}`", f"{_type(field.type)}{'' if field.required else '?'}", about.get(field.name, ""))
            for field in msgspec.structs.fields(kind)
        ]
        table = _table(("field", "type", "meaning"), rows) if rows else "No data."
        sections.append(f"### {_snake(kind.__name__)}\n\n{_sentence(kind)}\n\n{table}")
    return "\n\n".join(sections)


def _attributes(kind: type) -> dict[str, str]:
    """Return what a docstring's `Attributes:` says of each name."""
    docstring = griffe.Docstring(inspect.getdoc(kind) or "")
    return {
        name.strip(): " ".join(item.description.split())
        for section in docstring.parse("google", warnings=False)
        if section.kind is griffe.DocstringSectionKind.attributes
        for item in section.value
        for name in item.name.split(",")
    }


def limit_table() -> str:
    """Return the table of limits."""
    rows = [
        ("name of a tenant, namespace, template, step, queue, handler", f"`{NAME_PATTERN}`", "`name_invalid`"),
        ("body of a command or report", f"{codec.BODY_BYTES_MAX // _KIB} KiB", "`body_too_large`"),
        ("items of an array", codec.BATCH_ITEMS_MAX, "`body_too_large`"),
        ("input of a task", f"{codec.INPUT_BYTES_MAX // _KIB} KiB, canonical", "`body_too_large`"),
        ("result of a step", f"{codec.INPUT_BYTES_MAX // _KIB} KiB, canonical", "the step fails: `result_invalid`"),
        (
            "result of a task",
            f"{TASK_RESULT_BYTES_MAX // _KIB} KiB, canonical",
            f"the task is blocked, or fails: `{RESULT_LIMIT}`",
        ),
        ("who, why, correlation of a command", f"{codec.META_BYTES_MAX // _KIB} KiB", "`body_invalid`"),
        ("depth of a body", codec.DEPTH_MAX, "`value_invalid`"),
        ("keys of an object", f"{codec.KEYS_MAX:,}", "`value_invalid`"),
        ("length of a string", f"{codec.STRING_CHARS_MAX:,} characters", "`value_invalid`"),
        ("digits of an integer", f"{codec.DIGITS_MAX:,}", "`value_invalid`"),
        ("key or command id", f"{KEY_CHARS_MAX} characters", "`body_invalid`"),
        ("version that a command names", f"{requests.VERSION_CHARS_MAX} characters", "`body_invalid`"),
        ("tags of a task", amend.TAGS_MAX, "`body_invalid`, or `state_forbids` when they are changed"),
        ("metadata of a task", f"{amend.METADATA_BYTES_MAX // _KIB} KiB", "`body_too_large`"),
        ("key or value of a tag", f"{ids.TAG_CHARS_MAX} characters", "`body_invalid`"),
        ("timeout of a task", f"{requests.TIMEOUT_S_MAX / _DAY_S:,.0f} days", "`body_invalid`"),
        ("grace of a cancel", f"{requests.GRACE_S_MAX:,.0f} s", "`body_invalid`"),
        ("id of a worker", f"`{WORKER_PATTERN}`", "`body_invalid`"),
        ("message, stack of an error", f"{reports.MESSAGE_CHARS_MAX:,}, {reports.STACK_CHARS_MAX:,} characters", "cut"),
        ("queues, nodes that a worker names", f"{worker_words.QUEUES_MAX:,}", "the message is not heard"),
        ("labels that a step requires", f"{REQUIRED_CHARS_MAX} characters, all together", "`template_invalid`"),
        ("position token", f"{position.TOKEN_CHARS_MAX:,} characters", "`position_invalid`"),
        ("steps of a template", f"{model.STEPS_MAX:,}", "`template_invalid`"),
        ("dependencies of a template, all together", f"{model.EDGES_MAX:,}", "`template_invalid`"),
        ("attempts of a step", f"{model.ATTEMPTS_MAX:,}", "`template_invalid`"),
        ("delay or timeout in a template", f"{model.SECONDS_MAX / _DAY_S:.0f} days", "`template_invalid`"),
        ("error types, length of one", f"{model.ERROR_TYPES_MAX}, {model.ERROR_TYPE_CHARS_MAX}", "`template_invalid`"),
        ("input schema", f"{codec.INPUT_BYTES_MAX // _KIB} KiB, canonical", "`template_invalid`"),
        ("domain events that a step declares", model.EMITS_MAX, "`template_invalid`"),
        ("schemas of a step's domain events", f"{model.EMITS_BYTES_MAX // _KIB} KiB, canonical", "`template_invalid`"),
        ("domain events of an attempt", emits.EVENTS_PER_ATTEMPT_MAX, "`events_too_many`"),
        (
            "data of a domain event, of all of an attempt",
            f"{emits.EVENT_BYTES_MAX // _KIB} KiB, {emits.EVENTS_BYTES_MAX // _KIB} KiB, canonical",
            "`event_too_large`",
        ),
        ("lines of usage of an attempt", usage.LINES_MAX, "`usage_too_many`"),
        (
            "amount or cost of usage, its digits before and behind the point",
            f"{usage.DIGITS_WHOLE_MAX}, {usage.DIGITS_FRACTION_MAX}",
            "`usage_invalid`",
        ),
        (
            "unit, model of usage",
            f"{usage.UNIT_CHARS_MAX}, {usage.MODEL_CHARS_MAX} characters",
            "`usage_invalid`",
        ),
        ("patterns of a schema", input_schema.PATTERNS_MAX, "`template_invalid`"),
        ("schemas that references unfold to", f"{input_schema.SCHEMA_UNFOLDED_MAX:,}", "`template_invalid`"),
        ("YAML text", f"{yaml.YAML_BYTES_MAX // _KIB} KiB", "`template_invalid`"),
        (
            "values, characters of YAML, aliases written out",
            f"{yaml.VALUES_MAX:,}, {yaml.CHARS_MAX:,}",
            "`template_invalid`",
        ),
        ("versions of a template", f"{template_registry.VERSIONS_MAX:,}", "`template_limit`"),
        (
            "owner, note of a dead letter",
            f"{dead_letter_entrance.OWNER_CHARS_MAX}, {dead_letter_entrance.NOTE_CHARS_MAX:,} characters",
            "`body_invalid`",
        ),
        ("events of a task", f"{HISTORY_EVENTS_MAX:,}", "the task is blocked: `history_limit`"),
    ]
    return _table(("what", "limit", "beyond it"), rows)


def setting_tables() -> str:
    """Return a table a part of the settings."""
    tables = []
    for part in parts():
        rows = []
        for key in part.keys:
            name = key.name.rpartition(".")[2]
            setters = [f"`{key.variable}`", *([f"`{key.flag}`"] if key.flag else [])]
            kind = ", ".join(text for text in (key.form, key.unit, key.bounds) if text)
            default = "" if key.default in (None, ()) else f"`{as_text(key.default)}`"
            rows.append((f"`{name}`", key.doc, kind, default, "<br>".join(setters)))
        title = f"## `[{part.name}]`" if part.name else "## Without a part"
        table = _table(("key", "what it does", "type", "default", "environment, option"), rows)
        tables.append(f"{title}\n\n{part.doc}\n\n{table}")
    return "\n\n".join(tables)


def variable_table() -> str:
    """Return the table of variables that are no settings."""
    return _table(("variable", "what it does"), ((f"`{name}`", doc) for name, doc in OTHER_VARIABLES.items()))


def finding_table() -> str:
    """Return the table of what the doctor finds."""
    return _table(("code", "what is wrong"), ((f"`{code}`", text) for code, text in CATALOGUE.items()))


def metric_table() -> str:
    """Return the table of metrics."""
    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.process,
            metric.help,
        )
        for metric in METRICS.values()
    ]
    return _table(("metric", "kind", "labels", "process", "meaning"), rows)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "cli": cli_reference,
    "commands": command_table,
    "endpoints": endpoint_table,
    "errors": error_table,
    "errorsections": error_sections,
    "events": event_table,
    "eventsections": event_sections,
    "limits": limit_table,
    "findings": finding_table,
    "settings": setting_tables,
    "variables": variable_table,
    "sdk": sdk_reference,
    "metrics": metric_table,
}


def _table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(tuple(titles))]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _family(leaf: type[TaskerError]) -> str:
    families = [kind.__name__ for kind in leaf.__mro__ if kind.__base__ is TaskerError]
    return f"`{families[0]}`" if families else ""


def _sentence(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _field(field: msgspec.structs.FieldInfo) -> str:
    return f"`{field.encode_name}` {_type(field.type)}{'' if field.required else '?'}"


def _type(kind: Any) -> str:
    """Return a type as JSON knows it."""
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    origin = get_origin(kind)
    if kind is msgspec.Raw or kind is Any:
        return "any"
    if kind in _NAMES:
        return _NAMES[kind]
    if origin is dict:
        return "object"
    if origin in (tuple, list):
        return f"[{_type(arguments[0])}]"
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return "/".join(arguments)
    if arguments:
        return _type(arguments[0])
    return "object"


_NAMES: Final[dict[Any, str]] = {str: "text", int: "integer", float: "number", bool: "true/false"}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def main() -> int:
    """Write the pages and the file."""
    for path in PAGES:
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
    HELP.write_bytes(help_file())
    return 0


if __name__ == "__main__":
    sys.exit(main())

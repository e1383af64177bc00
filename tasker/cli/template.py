"""`tasker template`: check, register and choose templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from tasker.cli.options import BY, COMMON, By, Common, File, Limit, Output

if TYPE_CHECKING:
    from pathlib import Path

    from tasker.cli.output import Column
    from tasker.templates import TemplateSpec

app = App(name="template", help="Check, register and choose templates.")


@app.command
async def register(file: File, /, *, by: By = BY, common: Common = COMMON) -> None:
    """Register the template in a YAML file. Twice is fine; other content under the same version is refused.

    For example:

    $ tasker template register order_fulfillment.yaml

    Args:
        file: YAML or JSON; one template. `-`: from stdin.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply
    from tasker.templates import document_of

    document = document_of(_load(file))
    async with client(common) as service:
        reply = await service.register(document, **by.options())
    show_reply(reply, common.output)


@app.command
def validate(file: File, /, *, common: Common = COMMON) -> None:
    """Check the template in a YAML file, or all of a Python app, naming every fault at once; asks no service.

    Exit code 2 when there are faults.

    For example:

    $ tasker template validate order_fulfillment.yaml

    $ tasker template validate app.py

    Args:
        file: YAML or JSON with one template, or the Python file of an app, which is loaded. `-`: YAML from stdin.
        common: where the service is, and how to print.
    """
    from tasker.cli.output import fields, rows
    from tasker.templates import content_hash, effective_version

    def shown(spec: TemplateSpec) -> dict[str, object]:
        return {
            "namespace": spec.namespace,
            "name": spec.name,
            "version": effective_version(spec),
            "hash": content_hash(spec),
            "steps": [step.name for step in spec.steps],
        }

    if not _is_app(file):
        one = shown(_load(file))
        fields(one, list(one.items()), common.output)
        return
    from tasker.handlers.app_module import load_app

    columns: list[Column] = [
        ("template", lambda row: f"{row['namespace']}/{row['name']}"),
        ("version", lambda row: row["version"]),
        ("steps", lambda row: row["steps"]),
    ]
    found = [shown(template.spec()) for template in load_app(str(file)).templates]
    rows(found, columns, common.output, empty="the app has handlers and no template")


@app.command
async def use(
    name: str, version: str, /, *, namespace: str | None = None, by: By = BY, common: Common = COMMON
) -> None:
    """Choose the version that new tasks get when they name none.

    For example:

    $ tasker template use shop/order_fulfillment 1.1.0 --reason "1.2.0 loses orders"

    Args:
        name: of the template, or NAMESPACE/NAME.
        version: one that is registered.
        namespace: of the template; else default.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        reply = await service.use(name, version, namespace=namespace, **by.options())
    show_reply(reply, common.output)


@app.command(name="list")
async def list_(
    *, namespace: str | None = None, name: str | None = None, limit: Limit = 100, common: Common = COMMON
) -> None:
    """List registered versions; the one in use is what a task without a version gets.

    Args:
        namespace: only templates of it.
        name: only the template of this name, or NAMESPACE/NAME.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of
    from tasker.cli.output import time_text
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    name, namespace = place_of(name, namespace)
    columns: list[Column] = [
        ("template", lambda row: f"{row.namespace}/{row.name}"),
        ("version", lambda row: row.version),
        ("in use", lambda row: "yes" if row.in_use else None),
        ("registered", lambda row: time_text(row.registered_at)),
        ("hash", lambda row: row.hash[:12]),
    ]
    empty = "no template is registered; a worker registers its own at its start"
    if namespace is not None or name is not None:
        empty = "no template matches"
    async with client(common) as service:
        found = service.templates(namespace=namespace, name=name, page_items=page_items_of(limit))
        await show_first(found, limit, columns, common.output, empty=empty)


@app.command
async def show(
    name: str, /, *, namespace: str | None = None, version: str | None = None, common: Common = COMMON
) -> None:
    """Show a template's document: of a version, else of the one in use.

    Args:
        name: of the template, or NAMESPACE/NAME.
        namespace: of the template; else default.
        version: else the one in use.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import named_place
    from tasker.cli.output import document, fields, json_value
    from tasker.cli.reach import client

    name, namespace = named_place(name, namespace)
    async with client(common) as service:
        view = await service.template(name, namespace=namespace, version=version)
    if common.output != "table":
        document(view, common.output)
        return
    pairs = [("template", f"{view.namespace}/{view.name}"), ("version", view.version), ("hash", view.hash)]
    fields(view, [*pairs, ("in use", view.in_use), ("registered", view.registered_at)], "table")
    if view.document is not None:
        json_value(view.document)


@app.command
def schema(*, output: Output = "table") -> None:
    """Print the JSON Schema of a template's YAML or JSON document, for editors; asks no service.

    Save it, and let the first line of a template name it:

    $ tasker template schema > template.schema.json

    # yaml-language-server: $schema=template.schema.json

    Args:
        output: `jsonl` for one line; else it is indented.
    """
    from tasker.cli.schema import print_document
    from tasker.contracts.template_schema import template_schema

    print_document(template_schema(), output)


def _is_app(file: Path) -> bool:
    return file.suffix == ".py"


def _load(file: Path) -> TemplateSpec:
    from tasker.cli.failures import UsageError
    from tasker.cli.given import read_text
    from tasker.templates import load_yaml

    if _is_app(file):
        raise UsageError(
            f"{file} is a Python app: its worker registers its templates at its start (`tasker worker {file}`), and "
            f"`tasker template validate {file}` checks them before"
        )
    return load_yaml(read_text(file))

"""`tasker usage`: what attempts used and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tasker.cli.options import COMMON, Common, Limit

if TYPE_CHECKING:
    from tasker.cli.output import Column


async def usage(
    *,
    by: Literal["tenant", "template", "step", "task"] = "template",
    task: str | None = None,
    namespace: str | None = None,
    template: str | None = None,
    model: Annotated[str | None, Parameter(name="--model")] = None,
    limit: Limit = 100,
    common: Common = COMMON,
) -> None:
    """Show what attempts used and cost, failed ones too, added up exactly.

    For example:

    $ tasker usage --by tenant

    $ tasker usage --by step --task 016edfe9-8e3a-819c-918d-70443cb40fea

    Args:
        by: what is added up by itself.
        task: only of this one.
        namespace: only of its tasks.
        template: only of its tasks; its name, or NAMESPACE/NAME.
        model: only what was used of it.
        limit: at most so many; 0 for all.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import place_of
    from tasker.cli.reach import client
    from tasker.cli.showing import page_items_of, show_first

    template, namespace = place_of(template, namespace)
    columns: list[Column] = [
        ("template", lambda row: f"{row.namespace}/{row.template}" if row.template else None),
        ("task", lambda row: row.task_id or None),
        ("step", lambda row: row.step or None),
        ("model", lambda row: row.model or None),
        ("meter", lambda row: row.meter),
        ("amount", lambda row: f"{row.amount} {row.unit}".strip()),
        ("cost", lambda row: None if row.cost is None else f"{row.cost} {row.currency}"),
        ("attempts", lambda row: row.attempts),
        ("prices", lambda row: row.prices or None),
    ]
    shown = {"tenant": {"template", "task", "step"}, "template": {"task", "step"}, "step": {"task"}, "task": {"step"}}
    async with client(common) as service:
        found = service.usage(
            by=by,
            task=task,
            namespace=namespace,
            template=template,
            model=model,
            page_items=page_items_of(limit),
        )
        await show_first(
            found,
            limit,
            [column for column in columns if column[0] not in shown[by]],
            common.output,
            empty="nothing was metered; handlers say it with ctx.usage and ctx.meter",
        )

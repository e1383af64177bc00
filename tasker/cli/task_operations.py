"""`tasker task cancel`, `retry`, `restart` and the like: what an operator tells a task."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from tasker.cli.options import BY, COMMON, By, Common, Tags


async def cancel(
    task: str,
    /,
    *,
    grace_s: float = 10.0,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """End a task; running handlers are told.

    Args:
        task: its id.
        grace_s: how long running handlers have to stop.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.cancel(task, grace_s=grace_s, **by.options())
    show_reply(reply, common.output)


async def retry(
    task: str,
    /,
    *,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Give every failed step of a blocked task a fresh set of attempts; it goes on by itself.

    Args:
        task: its id.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.retry(task, **by.options())
    show_reply(reply, common.output)


async def pause(
    task: str,
    /,
    *,
    children: Annotated[bool, Parameter(negative="")] = False,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let nothing more of a task begin, until it is resumed.

    Attempts that run go on, and their outcomes are recorded. Retries and times that fall due wait; the task's deadline
    does not.

    For example:

    $ tasker task pause 0192f7... --reason "the bank is down" --requested-by ada

    Args:
        task: its id.
        children: nor of its child tasks, and theirs; of those that it waits for, and does not abandon.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.pause(task, children=children, **by.options())
    show_reply(reply, common.output)


async def resume(
    task: str,
    /,
    *,
    children: Annotated[bool, Parameter(negative="")] = False,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let a paused task go on from where it stands; what fell due meanwhile comes at once.

    Args:
        task: its id.
        children: and its child tasks, and theirs, that are paused with it.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.resume(task, children=children, **by.options())
    show_reply(reply, common.output)


async def complete(
    task: str,
    /,
    *,
    result: Annotated[str, Parameter(name=["--result", "-r"], metavar="JSON|@FILE|-")],
    grace_s: float = 10.0,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """End a task as completed, with a result of yours, whatever its steps have done.

    Running handlers are told. Nothing is undone.

    For example:

    $ tasker task complete 0192f7... --result '{"shipped": true}' --reason "done by phone" --requested-by ada

    Args:
        task: its id.
        result: its result as JSON (such as null), a file's content, or stdin.
        grace_s: how long running handlers have to stop.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.complete(task, result=read_json(result), grace_s=grace_s, **by.options())
    show_reply(reply, common.output)


async def fail(
    task: str,
    /,
    *,
    message: str,
    grace_s: float = 10.0,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """End a task as failed, with an error of yours; it compensates as any task that fails.

    For example:

    $ tasker task fail 0192f7... --message "the customer is bankrupt" --requested-by ada --dry-run

    Args:
        task: its id.
        message: of the error that the task ends with.
        grace_s: how long running handlers have to stop.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.fail(task, message=message, grace_s=grace_s, **by.options())
    show_reply(reply, common.output)


async def restart(
    task: str,
    /,
    *,
    version: str | None = None,
    current: Annotated[bool, Parameter(negative="")] = False,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Run a task that has ended once more, as a new task, and print the new task's id.

    It takes over input, tags, metadata, priority, timeout and version. The two tasks name each other.

    For example:

    $ tasker task restart 0192f7... --current --reason "the template is mended"

    Args:
        task: its id.
        version: of the template, in place of the one that the old task ran.
        current: the version that is in use now.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.restart(task, version=version, current=current, **by.options())
    show_reply(reply, common.output)


async def update(
    task: str,
    /,
    *,
    tag: Tags = None,
    untag: Annotated[list[str] | None, Parameter(name="--untag", negative="", metavar="KEY")] = None,
    metadata: Annotated[str | None, Parameter(metavar="JSON|@FILE|-")] = None,
    priority: int | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Change the tags, the metadata and the priority of a task.

    For example:

    $ tasker task update 0192f7... --priority 50
    $ tasker task update 0192f7... --tag team=core --untag urgent --metadata '{"ticket": "OPS-17"}'

    Args:
        task: its id.
        tag: to set; may be repeated.
        untag: to remove; may be repeated.
        metadata: members to set; null removes one (a JSON merge patch, RFC 7396).
        priority: -100 to 100; work of it that waits gets its new place at once.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.given import read_object, read_tags
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    tags = {**read_tags(tag), **dict.fromkeys(untag or ())}
    patch = {} if metadata is None else read_object(metadata, "--metadata")
    if not tags and not patch and priority is None:
        raise UsageError("say what to change: --tag KEY=VALUE, --untag KEY, --metadata JSON or --priority NUMBER")
    async with client(common) as service:
        reply = await service.update(task, tags=tags, metadata=patch, priority=priority, **by.options())
    show_reply(reply, common.output)


async def deadline(
    task: str,
    /,
    *,
    deadline: str | None = None,
    within_s: float | None = None,
    remove: Annotated[bool, Parameter(negative="")] = False,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Give a task another deadline, at which it fails unless it has ended; or none.

    For example:

    $ tasker task deadline 0192f7... --within-s 3600 --reason "the bank is slow today"

    Args:
        task: its id.
        deadline: RFC 3339 time.
        within_s: so long from now on.
        remove: it has none any more.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.failures import UsageError
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    if sum((deadline is not None, within_s is not None, remove)) != 1:
        raise UsageError("say one of --deadline, --within-s and --remove")
    async with client(common) as service:
        reply = await service.set_deadline(task, deadline=deadline, within_s=within_s, remove=remove, **by.options())
    show_reply(reply, common.output)


async def budget(
    task: str,
    /,
    *,
    cost_max: str | None = None,
    tokens_max: int | None = None,
    running_s_max: float | None = None,
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Let a task use more than its template's budget allows. One that is blocked by its budget goes on.

    What counts is all that its attempts used from the beginning: `tasker usage --task` shows it.

    For example:

    $ tasker task budget 0192f7... --cost-max 2.50 --reason "a long document" --requested-by ada

    Args:
        task: its id.
        cost_max: all that it may cost, in the currency of its template's budget.
        tokens_max: all tokens that its models may read and write.
        running_s_max: how many seconds its steps may run.
        by: who asks, and why.
        common: where the service is, and how to print.
    """
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.set_budget(
            task, cost_max=cost_max, tokens_max=tokens_max, running_s_max=running_s_max, **by.options()
        )
    show_reply(reply, common.output)


async def signal(
    task: str,
    name: str,
    /,
    *,
    value: Annotated[str, Parameter(name=["--value", "-v"], metavar="JSON|@FILE|-")] = "null",
    by: By = BY,
    common: Common = COMMON,
) -> None:
    """Bring a task a signal, for a step that waits for one of its name, now or later.

    For example:

    $ tasker task signal 0192f7... payment.received --value '{"amount": 17}'

    Args:
        task: its id.
        name: of the signal, as a step of the template has it.
        value: of the signal, as JSON, a file's content, or stdin.
        by: who asks, and why; `--command-id` names the signal.
        common: where the service is, and how to print.
    """
    from tasker.cli.given import read_json
    from tasker.cli.reach import client
    from tasker.cli.showing import show_reply

    async with client(common) as service:
        reply = await service.signal(task, name, read_json(value), **by.options())
    show_reply(reply, common.output)


ALL: Final = (cancel, retry, pause, resume, signal, complete, fail, restart, update, deadline, budget)
"""The commands, in the order of the help."""

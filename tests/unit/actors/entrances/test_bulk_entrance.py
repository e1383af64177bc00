"""`bulk.create` at the door: what it may not say, and the task that it becomes."""

import json
from typing import Any, get_args

import pytest

from tasker.errors import BodyInvalid, CommandRejected
from tasker.events.bulk import BulkOrder
from tasker.events.codec import decode_command, decode_message
from tasker.events.messages import BulkCreate, BulkTasks, BulkVerb
from tasker.service.actors.entrances.bulk_entrance import bulk_task_of

SAID: dict[str, Any] = {
    "verb": "task.cancel",
    "tasks": {"template": "orders"},
    "requested_by": "ada",
    "reason": "the season is over",
}
VERBS = sorted(get_args(BulkVerb))
FILTERS = BulkTasks.__struct_fields__
LETTERS: dict[str, Any] = {**SAID, "verb": "dlq.retry", "tasks": None, "dead_letters": {"template": "orders"}}


def bulk(said: dict[str, Any]) -> BulkCreate:
    return decode_command(json.dumps(said).encode(), BulkCreate)


def test_a_bulk_is_a_task_of_the_services_own_template_whose_input_is_the_order() -> None:
    created = bulk_task_of(bulk({**SAID, "arguments": {"grace_s": 1}, "command_id": "c", "rate_per_s": 5}))
    assert (created.namespace, created.template, created.idempotency_key) == ("tasker", "bulk", "c")
    assert (created.requested_by, created.reason) == ("ada", "the season is over")
    order = decode_message(bytes(created.input), BulkOrder)
    assert (order.verb, order.arguments, order.rate_per_s) == ("task.cancel", {"grace_s": 1}, 5.0)
    assert order.tasks is not None
    assert order.tasks.template == "orders"


def test_the_same_bulk_has_the_same_input_whatever_the_order_of_its_members() -> None:
    backwards = dict(reversed(SAID.items()))
    assert bytes(bulk_task_of(bulk(SAID)).input) == bytes(bulk_task_of(bulk(backwards)).input)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"requested_by": ""}, "/requested_by"),
        ({"reason": None}, "/reason"),
        ({"rate_per_s": 0.5}, "/rate_per_s"),
        ({"rate_per_s": 1001}, "/rate_per_s"),
        ({"tasks": None}, "/tasks"),
        ({"tasks": {}}, "/tasks"),
        ({"everything": True}, "/tasks"),
        ({"dead_letters": {"step": "charge"}}, "/dead_letters"),
        ({"tasks": {"states": ["running", "asleep"]}}, "/tasks/states"),
        ({"tasks": {"namespace": "tasker"}}, "/tasks/namespace"),
        ({"tasks": {"created_after": "yesterday"}}, "/tasks/created_after"),
        ({"arguments": {"grace_s": -1}}, "/arguments/grace_s"),
        ({"arguments": {"grace": 1}}, "/arguments"),
        ({"arguments": {"task_id": "x"}}, "/arguments/task_id"),
        ({"arguments": {"dry_run": True}}, "/arguments/dry_run"),
        ({"verb": "task.fail"}, "/arguments"),
        ({"verb": "task.update"}, "/arguments"),
        ({"verb": "task.update", "arguments": {"tags": {}, "metadata": {}}}, "/arguments"),
        ({"verb": "task.update", "arguments": {"priority": 101}}, "/arguments/priority"),
        ({"verb": "task.explode"}, "/verb"),
        ({"verb": "task.restart", "arguments": {"version": "1", "current": True}}, "/arguments/current"),
        ({"verb": "dlq.retry"}, "/tasks"),
        ({**LETTERS, "dead_letters": {"reasons": ["bad luck"]}}, "/dead_letters/reasons"),
        ({**LETTERS, "dead_letters": {"statuses": ["dead"]}}, "/dead_letters/statuses"),
        ({**LETTERS, "dead_letters": {"owner": "a" * 201}}, "/dead_letters/owner"),
        ({**LETTERS, "arguments": {"attempt": 1}}, "/arguments/attempt"),
    ],
)
def test_what_may_not_be_used_is_named_before_anything_is_recorded(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(BodyInvalid) as refusal:
        bulk_task_of(bulk({**SAID, **change}))
    (fault,) = refusal.value.errors
    assert fault.pointer == pointer


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            {"verb": "task.cancell"},
            f"/verb: there is no 'task.cancell' (did you mean 'task.cancel'?); there are {', '.join(VERBS)}",
        ),
        (
            {"verb": "task.update"},
            "/arguments: task.update: say what to change: give tags, metadata, priority or several of them",
        ),
        (
            {"tasks": {"state": ["running"]}},
            f"/tasks: there is no field 'state' (did you mean 'states'?); there are {', '.join(FILTERS)}",
        ),
    ],
)
def test_what_may_be_said_instead_is_told(change: dict[str, Any], detail: str) -> None:
    with pytest.raises(BodyInvalid) as refusal:
        bulk_task_of(bulk({**SAID, **change}))
    assert refusal.value.detail == detail


@pytest.mark.parametrize(
    "change", [{"verb": "task.create"}, {"tasks": {"template": "No Name"}}, {"tasks": {"tag": {}}}]
)
def test_what_is_no_such_command_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CommandRejected):
        bulk_task_of(bulk({**SAID, **change}))


def test_everything_is_asked_for_by_name() -> None:
    created = bulk_task_of(bulk({**SAID, "tasks": None, "everything": True}))
    assert decode_message(bytes(created.input), BulkOrder).tasks is None
    assert bulk_task_of(bulk(LETTERS)).template == "bulk"

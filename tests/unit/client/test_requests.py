"""What a caller hands in becomes the wire's command."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pytest

from tasker.client import DeadLetterFilter, NewTask, TaskerClient, upcoming
from tasker.client.requests import task_id_of
from tasker.errors import BodyTooLarge, TaskUnknown, ValueInvalid
from tasker.ids import SystemIds

IDS = SystemIds()


class Order(msgspec.Struct):
    order_id: str
    cents: int


@dataclass
class Named:
    name: str = "hello"
    namespace: str = "shop"


def test_a_key_is_drawn_when_none_is_given_and_never_the_same() -> None:
    first, second = NewTask("t").command(IDS), NewTask("t").command(IDS)
    assert first.idempotency_key
    assert first.idempotency_key != second.idempotency_key
    assert NewTask("t", idempotency_key="order-17").command(IDS).idempotency_key == "order-17"


def test_input_is_canonical_and_may_be_a_struct() -> None:
    assert bytes(NewTask("t", Order("o", 5)).command(IDS).input) == b'{"cents":5,"order_id":"o"}'
    assert bytes(NewTask("t").command(IDS).input) == b"null"
    assert bytes(NewTask("t", 10**40).command(IDS).input) == b"1" + b"0" * 40


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, b"bytes", {"a": object()}])
def test_what_has_no_exact_form_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(ValueInvalid):
        NewTask("t", value).command(IDS)


def test_an_input_above_the_limit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(BodyTooLarge):
        NewTask("t", "x" * 70_000).command(IDS)


def test_a_template_object_names_itself() -> None:
    command = NewTask(Named()).command(IDS)
    assert (command.template, command.namespace) == ("hello", "shop")
    assert NewTask("hello").command(IDS).namespace == "default"


def test_times_are_rfc_3339_and_have_a_zone() -> None:
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert NewTask("t", not_before=at).command(IDS).not_before == "2026-11-21T10:00:00.000000Z"
    with pytest.raises(ValueInvalid, match="no time zone"):
        NewTask("t", not_before=at.replace(tzinfo=None)).command(IDS)


async def test_a_time_without_a_zone_is_refused_by_lists_too() -> None:
    naive = datetime(2026, 11, 21, 10)  # noqa: DTZ001 - what is to be refused
    with pytest.raises(ValueInvalid, match="seen_before 2026-11-21T10:00:00 has no time zone"):
        DeadLetterFilter(seen_before=naive).parameters()
    async with TaskerClient("", "http://127.0.0.1:9", environ={}) as client:
        with pytest.raises(ValueInvalid, match="created_after 2026-11-21T10:00:00 has no time zone"):
            await client.page(created_after=naive)
        with pytest.raises(ValueInvalid, match="start 2026-11-21T10:00:00 has no time zone"):
            await client.schedules.backfill("nightly", naive, naive)
    with pytest.raises(ValueInvalid, match="after 2026-11-21T10:00:00 has no time zone"):
        next(upcoming({"template": "report", "cron": "0 9 * * *"}, after=naive))


def test_an_empty_key_is_sent_for_the_service_to_refuse_and_not_replaced() -> None:
    assert NewTask("t", idempotency_key="").command(IDS).idempotency_key == ""


@pytest.mark.parametrize("given", ["", ".", ".."])
def test_what_would_lead_a_path_elsewhere_is_no_task_id(given: str) -> None:
    with pytest.raises(TaskUnknown, match="is no task id"):
        task_id_of(given)

"""What the items of a list share is asked for once."""

from typing import Any

import msgspec

from tasker.events.messages import ReportReply, Work
from tasker.events.task_events import NULL
from tasker.handlers.shared_values import OnReply, SharedValues

ANSWER = ReportReply(ok=True, recorded=False, result=msgspec.Raw(b"[1]"))


ITEM = msgspec.Raw(b"1")


def work(step: str, item: Any = ITEM) -> Work:
    return Work(
        task_id="t-1",
        step=step,
        attempt=1,
        handler="h",
        namespace="default",
        template="t",
        input=NULL,
        item=item,
        idempotency_key="k",
        report_to="r",
        start_to_close_s=30.0,
        heartbeat_s=10.0,
    )


def test_items_of_one_step_ask_once_and_all_are_answered() -> None:
    shared = SharedValues()
    got: list[str] = []

    def hears(step: str) -> OnReply:
        return lambda _: got.append(step)

    answers = [shared.ask(work(f"a[{n}]"), "list", hears(f"a[{n}]")) for n in range(3)]
    assert [answer is None for answer in answers] == [False, True, True]
    others = shared.ask(work("b[0]"), "list", lambda _: got.append("b[0]"))
    assert others is not None, "items of another step may mean another visit"
    assert answers[0] is not None
    answers[0](ANSWER)
    assert got == ["a[0]", "a[1]", "a[2]"]
    assert shared.ask(work("a[3]"), "list", lambda _: None) is not None, "a refusal is no answer for those to come"


def test_one_that_fails_keeps_no_other_from_its_answer() -> None:
    shared = SharedValues()
    got: list[int] = []

    def fails(_: ReportReply) -> None:
        raise RuntimeError

    answer = shared.ask(work("a[0]"), "list", fails)
    shared.ask(work("a[1]"), "list", lambda _: got.append(1))
    assert answer is not None
    answer(ANSWER)
    assert got == [1]


def test_what_is_no_item_asks_for_itself() -> None:
    shared = SharedValues()
    asked = [shared.ask(work("a", None), "list", lambda _: None) for _ in range(2)]
    assert None not in asked

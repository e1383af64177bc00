"""What an item of a list takes does not grow with their number: lines that run are counted, not time."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import tasker
from tasker.service.domain.obligations import scope_of
from tasker.service.runtime import due
from tasker.service.runtime.due import DueBook
from tests.runs import Run, raw, template

PACKAGE = str(Path(tasker.__file__).parent)
FEW, MANY = 60, 360
REOFFER_US = 30_000_000


def lines_of(work: Callable[[], None]) -> int:
    """Do `work` and return how many lines of the package ran."""
    lines = 0

    def within(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return within

    def entered(frame: FrameType, _event: str, _arg: object) -> Any:
        return within if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


class Listed:
    """A task that runs a step for each of some items, with the due book of its shard."""

    def __init__(self, items: int, **keys: Any) -> None:
        shape = {"list": [], "each": ["list"], "sum": ["each"]}
        self.run = Run(template(shape, steps={"each": {"each": "results.list", **keys}}, on_failure="block"))
        self.book = DueBook(0)
        self.run.create()
        self.run.complete("list", result=list(range(items)))
        self._note(self.run.owed)

    def _note(self, owed: dict[str, dict[str, int]]) -> None:
        """Do what follows a commit: every offer is looked at again after a time."""
        self.book.apply(self.run.task_id, owed, decided_us=self.run.now_us)
        for scope, obligations in owed.items():
            for name in obligations:
                self.book.reschedule(self.run.task_id, scope, name, self.run.now_us + REOFFER_US, keep=False)

    def complete_all(self, count: int) -> None:
        """Complete `count` items, one after the other."""
        for _ in range(count):
            name = self.run.offered()[0]
            self.run.now_us += 1000
            scopes = {scope_of(event) or "" for event in self.run.complete(name)}
            self._note({scope: self.run.owed[scope] for scope in scopes})
            self.book.pop_due(self.run.now_us, 10)


def lines_per_item(items: int, **keys: Any) -> float:
    """Return what an item takes of the core and the due book, failed ones before it included."""
    listed = Listed(items, **keys)
    if keys.get("on_item_failure") == "isolate":
        listed.run.fail(listed.run.offered()[0])
    return lines_of(lambda: listed.complete_all(items - 5)) / (items - 5)


@pytest.mark.parametrize(
    "keys",
    [{}, {"max_parallel": 10}, {"item_key": "'k' + string(item)"}, {"on_item_failure": "isolate"}],
    ids=["all at once", "ten at a time", "with keys", "with one that waits for a person"],
)
def test_an_item_takes_as_much_of_many_as_of_few(keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "WAKES_MIN", 10)  # the book is cleaned of closed wakes as often as with ten thousands
    keys = {"max_parallel": MANY, "retry": {"max_attempts": 1}, **keys}
    few, many = lines_per_item(FEW, **keys), lines_per_item(MANY, **keys)
    assert many < 1.3 * few, f"{few:.0f} lines an item of {FEW}, {many:.0f} of {MANY}"


def test_the_input_is_read_once_for_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read for each, so that a list in it took the square of its length."""
    given, decode = raw({"order": "o1", "items": list(range(300))}), msgspec.json.decode
    read: list[bytes] = []

    def counted(data: Any, **more: Any) -> Any:
        read.append(bytes(data))
        return decode(data, **more)

    monkeypatch.setattr(msgspec.json, "decode", counted)
    kid = {"child": "c", "child_input": "{'of': input.order, 'item': item}", "max_parallel": 300}
    keys = {"each": "input.items", "item_key": "input.order + '-' + string(item)"}
    run = Run(template({"a": []}, steps={"a": kid | keys}))
    run.create(input=given)
    assert len(run.state.steps) == 301
    assert read.count(bytes(given)) == 1

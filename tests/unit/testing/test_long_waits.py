"""What waits for long costs little meanwhile: who is asked how it stands is asked ever more rarely."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import Concurrency, Template
from tasker.service.actors.children.child_tasks import ChildTasks
from tasker.service.actors.limits.concurrency_actor import ConcurrencyActor
from tasker.testing import NotOver, SyncTaskerTest

patient = Template("patient")
patient.wait("go", "go")

parent = Template("parent")
parent.child("child", "patient")

alone = Template("alone", concurrency=Concurrency(key="input"))
alone.wait("go", "go")

capped = Template("capped", max_running=5)
capped.wait("go", "go")


@pytest.fixture
def tasker_templates() -> list[Template]:
    return [patient, parent, alone, capped]


@pytest.mark.parametrize(
    ("template", "asked_by", "at_most"),
    [
        ("parent", (ChildTasks, "ask"), 66),
        ("alone", (ConcurrencyActor, "_wake"), 66),
        ("capped", (ConcurrencyActor, "_wake"), 20),
    ],
)
def test_who_is_waited_for_is_asked_each_minute_and_not_more_often(
    sync_tasker: SyncTaskerTest, monkeypatch: pytest.MonkeyPatch, template: str, asked_by: tuple[Any, str], at_most: int
) -> None:
    """Planted bugs: a task back from the log begins anew with the shortest wait; a key wakes each 6 s for nobody."""
    calls: list[object] = []
    asked = getattr(*asked_by)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return asked(*arguments, **options)

    run = sync_tasker.start("a key", template=template)
    monkeypatch.setattr(*asked_by, counted)
    sync_tasker.advance(hours=1)
    assert run.state == "running"
    assert 3 <= len(calls) <= at_most


def test_who_comes_late_to_a_key_that_is_held_for_long_is_asked_soon(
    sync_tasker: SyncTaskerTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: the key looks a minute later, when it looks at who has held it for an hour."""
    looked: list[str] = []
    look = ConcurrencyActor._look

    def noted(self: Any, request: str, now_us: int, again_s: float) -> None:
        looked.append(request)
        look(self, request, now_us, again_s)

    wide = Template("wide", concurrency=Concurrency(key="'one'", limit=2))
    wide.wait("go", "go")
    with SyncTaskerTest(wide) as tasker:
        tasker.start()
        tasker.advance(hours=1)
        late = tasker.start()
        monkeypatch.setattr(ConcurrencyActor, "_look", noted)
        tasker.advance(seconds=8)
        assert [request for request in looked if late.task_id in request] != []


def test_a_task_that_waits_for_ever_is_told_in_words_however_long_that_takes_to_pass() -> None:
    """Planted bug: it takes more real time than a call has, and is told as a handler that blocks."""
    with SyncTaskerTest(parent, patient, real_s_max=3) as tasker, pytest.raises(NotOver, match=r"child waiting"):
        tasker.run(template="parent")

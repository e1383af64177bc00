from typing import Any

from tasker.events.template_events import TemplateRegistered, TemplateUsed
from tasker.ids import template_stream_id
from tasker.projections.views.template import TemplateProjection
from tests.histories import HASH, Recorder
from tests.view_rows import fold_into


def version(kind: Any, number: str) -> Any:
    return kind(namespace="shop", name="orders", version=number, hash=HASH)


def in_use(*events: Any) -> str:
    recorder = Recorder()
    recorder.record(template_stream_id("default", "shop", "orders"), events)
    rows: dict[Any, Any] = {}
    for recorded in recorder.events:
        fold_into(rows, TemplateProjection(), recorded)
    return max(rows.values(), key=lambda row: row.chosen_seq).version


def test_the_last_registered_version_is_in_use() -> None:
    assert in_use(version(TemplateRegistered, "1.0.0"), version(TemplateRegistered, "2.0.0")) == "2.0.0"


def test_a_person_may_choose_an_older_one() -> None:
    registered = [version(TemplateRegistered, "1.0.0"), version(TemplateRegistered, "2.0.0")]
    assert in_use(*registered, version(TemplateUsed, "1.0.0")) == "1.0.0"
    assert in_use(*registered, version(TemplateUsed, "1.0.0"), version(TemplateRegistered, "3.0.0")) == "3.0.0"

"""Pages as one run of items."""

from typing import Any, cast

from tasker.client.http import Parameters
from tasker.client.pages import Read, items_of
from tasker.events.reads import Refusal, RefusalPage


def refusal(identity: str) -> Refusal:
    return Refusal(**dict.fromkeys(Refusal.__struct_fields__, cast("Any", None)) | {"id": identity})


async def test_pages_are_asked_for_until_there_is_none_behind_with_what_was_given_each_time() -> None:
    asked: list[Parameters] = []
    pages = {"x": (["a", "b"], "2"), "2": ([], "3"), "3": (["c"], None)}

    async def read(path: str, kind: Any, parameters: Parameters) -> Any:
        asked.append(parameters)
        items, after = pages[str(parameters["after"])]
        return RefusalPage(items=[refusal(one) for one in items], next=after)

    given: Parameters = {"after": "x", "limit": 2}
    found = [one.id async for one in items_of(cast("Read", read), "/v1/refusals", RefusalPage, given)]
    assert found == ["a", "b", "c"]
    assert asked == [given, {"after": "2", "limit": 2}, {"after": "3", "limit": 2}]

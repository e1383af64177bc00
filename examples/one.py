"""The smallest workflow: one step that returns a small JSON value."""

from tasker import Template

one = Template("one")


@one.step
async def answer() -> dict[str, bool]:
    return {"ok": True}


EXPECTED = [(None, {"ok": True})]

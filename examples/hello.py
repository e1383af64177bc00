"""A whole workflow: two steps, typed, durable. Run it with `tasker up examples/hello.py`."""

from tasker import Template

hello = Template("hello")


@hello.step
def compose(input: dict[str, str]) -> str:
    return f"Hello, {input['name']}!"


@hello.step
async def shout(compose: str) -> str:
    return compose.upper()

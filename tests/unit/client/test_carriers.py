"""Every command has its endpoint: a client that knows an HTTP address alone can send all of them."""

import re

import pytest

from tasker.client.carriers import endpoint_of
from tasker.errors import VerbUnknown
from tasker.events.messages import COMMANDS
from tasker.service.http.routes import OPERATIONS

NAMING = {"task_id": "t/1", "step": "check#2", "name": "a b", "namespace": "shop"}


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if verb != "task.create"])
def test_its_endpoint_is_one_of_the_service(verb: str) -> None:
    fields = set(COMMANDS[verb].__struct_fields__)
    method, path, rest = endpoint_of(verb, {name: value for name, value in NAMING.items() if name in fields} | {"x": 1})
    assert rest["x"] == 1
    found = [
        operation
        for operation in OPERATIONS
        if operation.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), path)
    ]
    assert found, f"{method} {path}"
    named = set(re.findall(r"\{(\w+)\}", found[-1].path))
    assert not named & set(rest), "what the address names is left out of the body"


def test_a_command_without_one_is_refused() -> None:
    with pytest.raises(VerbUnknown):
        endpoint_of("moon.land", {})

"""Published events are CloudEvents 1.0 by the official SDK, and have the recorded bytes.

`python -m tests.compat.test_cloud_events` records what is missing; a recorded line is never changed.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tasker.contracts.asyncapi import asyncapi_document
from tasker.events.codec import decode_message
from tasker.events.envelope import Meta, event_id
from tasker.events.messages import LifecycleEvent
from tasker.events.stored import TYPE_OF, VERSION_OF, encode_meta, to_new_event
from tasker.service.actors.publication.cloud_events import cloud_event
from tests.compat.forms import FORMS, US

GOLDEN = Path(__file__).with_name("cloud_events.jsonl")
META = Meta(
    command_id="c-1",
    correlation_id='order "17" ☕',
    causation_id="c-1",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    requested_by="ada",
)
NEWEST = [(name, version) for name, version in FORMS if VERSION_OF.get(name) == version]
KEYS = [(name, version, number) for name, version in NEWEST for number in range(len(FORMS[name, version]))]


def published(name: str, version: int, number: int) -> bytes:
    """Return the document of a form; every second one has no meta."""
    meta = b"{}" if number % 2 else encode_meta(META)
    stored = to_new_event(
        FORMS[name, version][number], stream_id=UUID(int=7), seq=6, tenant="default", at_us=US, meta=meta
    )
    return cloud_event(event_id("k3xw9q", 3, 815), "/tasker/k3xw9q", 3, 815, stored, str(UUID(int=7)))


def read(document: bytes) -> BaseCloudEvent:
    """Return what the SDK makes of a document; it checks the attributes."""
    return JSONFormat().read(CloudEvent, document)


def golden() -> dict[str, str]:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines() if GOLDEN.exists() else []
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


@cache
def described() -> dict[str, Any]:
    return asyncapi_document()


def test_every_type_of_event_is_recorded() -> None:
    assert {name for name, _ in NEWEST} == set(TYPE_OF.values())
    assert {f"{name}.v{version}.{number}" for name, version, number in KEYS} <= set(golden())


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]}-{key[2]}")
def test_the_document_has_the_recorded_bytes(key: tuple[str, int, int]) -> None:
    name, version, number = key
    assert published(*key).decode() == golden()[f"{name}.v{version}.{number}"]


@pytest.mark.parametrize("line", golden())
def test_every_recorded_document_is_a_cloud_event_and_ours(line: str) -> None:
    document = golden()[line].encode()
    name, version = line.split(".", maxsplit=1)[0], int(line.split(".")[1].removeprefix("v"))
    event = read(document)
    assert (event.get_specversion(), event.get_type()) == ("1.0", f"tasker.{name}.v{version}")
    assert (event.get_id(), event.get_source()) == ("k3xw9q:3:815", "/tasker/k3xw9q")
    assert (event.get_subject(), event.get_datacontenttype()) == (str(UUID(int=7)), "application/json")
    at = event.get_time()
    assert at is not None
    assert at.timestamp() * 1e6 == pytest.approx(US, abs=1)
    assert (event.get_extension("shard"), event.get_extension("seq"), event.get_extension("position")) == (3, 6, "815")
    ours = decode_message(document, LifecycleEvent)
    assert json.loads(bytes(ours.data)) == event.get_data()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]}-{key[2]}")
def test_the_document_is_as_asyncapi_says(key: tuple[str, int, int]) -> None:
    components = described()["components"]
    schema = {**components["messages"][f"tasker_{key[0]}_v{key[1]}"]["payload"], "components": components}
    jsonschema_rs.validator_for({"$schema": "http://json-schema.org/draft-07/schema#", **schema}).validate(
        msgspec.json.decode(published(*key))
    )


@pytest.mark.parametrize("attribute", ["source", "type"])
def test_the_sdk_sees_a_missing_attribute(attribute: str) -> None:
    document = json.loads(published(*KEYS[0]))
    del document[attribute]
    with pytest.raises(CloudEventValidationError):
        read(json.dumps(document).encode())


def test_the_sdk_sees_an_extension_of_another_form() -> None:
    document = json.loads(published(*KEYS[0])) | {"correlation_id": "x"}
    with pytest.raises(CloudEventValidationError):
        read(json.dumps(document).encode())


def main() -> None:
    """Append what is missing."""
    known = golden()
    with GOLDEN.open("a", encoding="utf-8") as file:
        for name, version, number in KEYS:
            key = f"{name}.v{version}.{number}"
            if key not in known:
                file.write(f"{key} {published(name, version, number).decode()}\n")


if __name__ == "__main__":
    main()

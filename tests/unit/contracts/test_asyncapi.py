"""The AsyncAPI document has every subject, command, event, header and stream that the code has."""

import inspect
import re
from typing import Any

import jsonschema_rs
import pytest

from tasker.contracts.asyncapi import asyncapi_document
from tasker.events import messages
from tasker.events.messages import COMMANDS
from tasker.events.stored import TYPE_OF, VERSION_OF
from tasker.events.subjects import Subjects
from tests.contract_documents import asyncapi_faults

DOCUMENT = asyncapi_document()
ADDRESSES = [channel["address"] for channel in DOCUMENT["channels"].values() if channel["address"]]


def test_the_document_is_asyncapi_3_0() -> None:
    assert list(asyncapi_faults(DOCUMENT)) == []


def test_a_document_that_is_none_is_seen() -> None:
    assert list(asyncapi_faults(DOCUMENT | {"asyncapi": "2.6.0"}))
    assert list(asyncapi_faults(DOCUMENT | {"channels": {"x": {"adress": "y"}}}))


def _subject(subjects: Subjects, name: str) -> str | None:
    """Return the subject or pattern that a member builds, parameters as `*`; None: it builds none."""
    member = getattr(subjects, name)
    if inspect.ismethod(member):
        if name.startswith(("parse", "tenant")):
            return None
        member = member(*["*"] * len(inspect.signature(member).parameters))
    is_subject = isinstance(member, str) and member.startswith(f"{subjects.prefix}.")
    return member if is_subject and not name.endswith("_transform") else None


SUBJECTS = {
    name: subject
    for name in dir(Subjects("tasker"))
    if not name.startswith("_") and (subject := _subject(Subjects("tasker"), name)) is not None
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_of_the_code_has_a_channel(name: str) -> None:
    """A pattern of `*` and `>` stands for the channels that it takes in."""
    if name == "mark_end":
        return  # nothing is ever received there
    pattern = re.escape(SUBJECTS[name]).replace(r"\*", r"[^.]+").replace(">", ".+")
    concrete = [address.replace("{prefix}", "tasker") for address in ADDRESSES]
    assert any(re.fullmatch(pattern, address) for address in concrete), SUBJECTS[name]


def test_the_search_for_subjects_finds_them() -> None:
    assert {"command", "work", "report", "worker_cancel", "event", "mark", "log_head", "work_all"} <= set(SUBJECTS)
    assert {"work_stream", "work_consumer", "prefix"}.isdisjoint(SUBJECTS)


def test_every_parameter_of_an_address_is_described() -> None:
    for channel in DOCUMENT["channels"].values():
        if channel["address"]:
            assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))


def test_every_command_is_received_and_answered() -> None:
    for verb, kind in COMMANDS.items():
        operation = DOCUMENT["operations"][f"receive_command_{verb.replace('.', '_')}"]
        channel = DOCUMENT["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        assert channel["address"] == f"{{prefix}}.{{tenant}}.cmd.{verb}"
        assert list(channel["messages"]) == [kind.__name__]
        assert len(operation["reply"]["messages"]) == 3


def test_every_type_of_event_has_a_message_that_names_it() -> None:
    sent = {
        DOCUMENT["components"]["messages"][name]["payload"]["allOf"][1]["properties"]["type"]["const"]
        for name in DOCUMENT["channels"]["event"]["messages"]
    }
    assert sent == {f"tasker.{name}.v{VERSION_OF[name]}" for name in TYPE_OF.values()}
    assert DOCUMENT["channels"]["stored_event"]["messages"] == DOCUMENT["channels"]["event"]["messages"]


def test_every_header_is_told_of() -> None:
    known = {value for name, value in vars(messages).items() if name.startswith("HEADER_")}
    told = {
        header
        for message in DOCUMENT["components"]["messages"].values()
        for header in message.get("headers", {}).get("properties", {})
    }
    assert told == known


def test_every_stream_is_told_of_with_the_consumer_of_a_queue() -> None:
    streams = DOCUMENT["x-nats-streams"]
    assert {stream["config"]["name"] for stream in streams.values()} == set(Subjects().streams)
    submitted = streams["commands"]["consumers"]["tenant"]
    assert (submitted["name"], submitted["durable_name"]) == ("{tenant}=submit", "{tenant}=submit")
    assert submitted["filter_subject"] == "tasker.{tenant}.submit.>"
    consumer = streams["work"]["consumers"]["queue"]
    assert consumer["durable_name"] == "{tenant}={namespace}={queue}"
    assert consumer["filter_subject"] == "tasker.{tenant}.work.{namespace}.{queue}"


def test_another_prefix_is_the_default_of_its_parameter_and_of_the_streams() -> None:
    document = asyncapi_document(prefix="blue")
    assert document["channels"]["work"]["parameters"]["prefix"]["default"] == "blue"
    assert document["channels"]["work"]["address"] == DOCUMENT["channels"]["work"]["address"]
    assert document["x-nats-streams"]["work"]["config"]["subjects"] == ["blue.*.work.>"]


def test_every_reference_leads_somewhere() -> None:
    def resolve(reference: str) -> Any:
        found: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            found = found[key]
        return found

    for reference in set(re.findall(r"'\$ref': '(#/[^']+)'", repr(DOCUMENT))):
        assert resolve(reference) is not None


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_each_schema_is_one_of_draft_07(name: str) -> None:
    """The form that AsyncAPI reads payloads in; other drafts would have to be named."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **DOCUMENT["components"]["schemas"][name]}
    jsonschema_rs.meta.validate(schema)
    assert "unevaluatedProperties" not in repr(schema)

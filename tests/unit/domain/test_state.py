"""What a state keeps, and its hash."""

import msgspec

from tasker.events.command_memory import COMMANDS_REMEMBERED
from tasker.events.task_events import StepDispatched
from tasker.service.domain.evolve import evolve
from tasker.service.domain.state import TaskState
from tasker.service.domain.state_document import state_document, state_hash
from tests.runs import Run, linear


def test_a_state_remembers_the_last_commands_with_their_seq() -> None:
    state = TaskState()
    for number in range(COMMANDS_REMEMBERED + 2):
        evolve(state, StepDispatched(step="a", attempt=1), at_us=1, command_id=f"c{number}")
    assert len(state.commands.seqs) == COMMANDS_REMEMBERED
    assert next(iter(state.commands.seqs.items())) == ("c2", 3)


def test_all_events_of_a_command_count_as_its_seq() -> None:
    """A repeat is answered with the position of the last one."""
    run = Run(linear(1, retry={"max_attempts": 1}))
    run.create()
    state = run.state
    for _ in range(3):
        evolve(state, StepDispatched(step="s1", attempt=1), at_us=1, command_id="c1")
    assert state.commands.seqs == {"c1": state.seq}


def test_equal_histories_have_equal_hashes_and_any_difference_shows() -> None:
    def run(result: int, wait_s: float = 0.0) -> TaskState:
        made = Run(linear(2), task_id=None)
        made.create()
        made.wait(wait_s)
        made.complete("s1", result=result)
        return made.state

    assert state_hash(run(1)) == state_hash(run(1))
    assert len({state_hash(run(1)), state_hash(run(2)), state_hash(run(1, 0.001))}) == 3


LATER = {
    "deadline_us_given",
    "running",
    "staleness",
    "to_undo",
    "undone",
    "settled",
    "accepted",
    "closed",
    "closed_edges",
    "visits",
    "paused_from",
    "paused_by",
    "children_told",
    "resumed_us",
    "inbox",
    "metadata",
    "changed_by",
    "created_by",
    "usage",
    "budget",
    "over_budget",
    "places",
    "places_left",
    "shared",
    "admitted_us",
    "starts",
    "priority",
    "depth",
    "is_late",
}
"""Left out where empty (what is to be told is no fact at all), so that the hash of a state of the first form stays.

`deadline_us_given` is never in it: with it recorded states would have another hash."""


def test_a_states_document_is_json_with_every_field() -> None:
    run = Run(linear(2))
    run.create(timeout_s=60)
    run.fail("s1")
    document = msgspec.json.decode(msgspec.json.encode(state_document(run.state)))
    assert document["state"] == "running"
    assert document["steps"]["s1"]["status"] == "waiting"
    assert document["steps"]["s1"]["error"]["type"] == "ValueError"
    missing = {slot for slot in TaskState.__slots__ if slot not in document} - {"status", "request_hash"} - LATER
    assert missing == set()

"""What a stream remembers of the commands that changed it."""

import pytest

from tasker.errors import KeyConflict
from tasker.events.command_memory import COMMANDS_REMEMBERED, CommandMemory


def test_the_last_commands_are_known_with_what_they_asked_for() -> None:
    memory = CommandMemory()
    for number in range(COMMANDS_REMEMBERED + 2):
        memory.remember(f"c{number}", f"r{number}", number + 1)
    assert len(memory.seqs) == len(memory.requests) == COMMANDS_REMEMBERED
    assert [memory.knows(f"c{number}", f"r{number}") for number in (0, 1, 2)] == [False, False, True]
    assert next(iter(memory.seqs.items())) == ("c2", 3)


def test_an_id_that_asks_for_something_else_is_a_conflict() -> None:
    memory = CommandMemory()
    memory.remember("stop", "cancel", 1)
    with pytest.raises(KeyConflict, match="'stop'"):
        memory.knows("stop", "pause")
    assert memory.knows("stop", "cancel")


def test_what_an_older_build_recorded_stays_a_duplicate() -> None:
    """Its events do not say what was asked for."""
    memory = CommandMemory()
    memory.remember("stop", None, 1)
    assert memory.knows("stop", "pause")


def test_what_no_command_caused_is_not_remembered() -> None:
    memory = CommandMemory()
    memory.remember(None, None, 1)
    assert memory.seqs == {}
    assert not memory.knows(None, None)


def test_a_copy_moves_by_itself() -> None:
    memory = CommandMemory()
    memory.remember("stop", "cancel", 1)
    memory.copy().remember("other", "pause", 2)
    assert memory == CommandMemory({"stop": 1}, {"stop": "cancel"})

"""Whatever bytes come through a door: they are taken, or refused with a typed error of that door, soon."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.bad_bytes import BOMBS, bad_bytes
from tests.properties.doors import DOORS, pushed
from tests.properties.examples import examples

CPU_S_MAX = 2.0
HEAP_BYTES_MAX = 64 * 1024**2

OF_EVENTS = [name for name in DOORS if name.startswith("event ")]
OTHERS = [name for name in DOORS if name not in OF_EVENTS]
NEVER_TAKEN = {"stored value"}
BOMBED = [name for name in OTHERS if not name.startswith("command ")]  # commands are values first
CLEAR = Path("/proc/self/clear_refs")


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_good_is_taken(name: str) -> None:
    assert (pushed(name, DOORS[name].seeds[0]) is None) == (name not in NEVER_TAKEN)


@pytest.mark.parametrize("name", OTHERS)
@settings(max_examples=examples(0.6), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bad_bytes_get_the_typed_error_of_the_door(name: str, data: st.DataObject) -> None:
    pushed(name, data.draw(bad_bytes(DOORS[name].seeds)))


@settings(max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(OF_EVENTS), data=st.data())
def test_bad_bytes_of_any_stored_form_are_undecodable(name: str, data: st.DataObject) -> None:
    pushed(name, data.draw(bad_bytes(DOORS[name].seeds)))


@pytest.mark.linux
@pytest.mark.parametrize("name", BOMBED)
def test_the_largest_bad_bytes_take_bounded_time_and_memory(name: str) -> None:
    """Each bomb is as large as a body may be; what it amounts to read naively is far more."""
    for bomb, data in BOMBS.items():
        CLEAR.write_text("5", encoding="ascii")  # the peak is now what is resident
        before, begun_s = peak_bytes(), time.process_time()
        pushed(name, data)
        assert time.process_time() - begun_s < CPU_S_MAX, bomb
        assert peak_bytes() - before < HEAP_BYTES_MAX, bomb


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

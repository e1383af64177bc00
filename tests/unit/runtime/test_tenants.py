"""A node's room and its line, as tenants share them: by weight, within a bound, and nobody is kept out by a flood."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import ConfigurationError
from tasker.service.runtime.tenants import TenantLine, TenantRoom
from tasker.weights import WEIGHT_MAX, WEIGHT_MIN, weights_of

WEIGHTS = {"acme": 3.0, "bolt": 1.0, "crab": 0.5}


def flood(room: TenantRoom, tenant: str, most: int, tries: int = 1_000) -> int:
    """Return how many of so many get in; the others leave again."""
    entered = 0
    for _ in range(tries):
        if room.enter(tenant, most):
            entered += 1
        else:
            room.leave(tenant)
    return entered


def test_alone_a_tenant_gets_all_the_room_and_no_more() -> None:
    room = TenantRoom(WEIGHTS)
    assert flood(room, "acme", 100) == 100
    assert room.count == 100


def test_a_flood_keeps_nobody_out_who_has_less_than_his_share() -> None:
    room = TenantRoom(WEIGHTS)
    flood(room, "bolt", 100)
    assert flood(room, "acme", 100) == 75
    assert flood(room, "crab", 100) == pytest.approx(100 * 0.5 / 4.5, abs=1)
    assert room.count < 200


def test_who_has_more_than_his_share_gets_in_again_when_there_is_room() -> None:
    room = TenantRoom()
    flood(room, "bolt", 10)
    assert flood(room, "acme", 10) == 5
    for _ in range(5):
        room.leave("bolt")
        assert flood(room, "bolt", 10, tries=1) == 0, "what he has beyond his share is not replaced"
    room.leave("acme")
    assert flood(room, "bolt", 10, tries=1) == 1, "while there is room it is anybody's"
    for tenant, count in (("bolt", 6), ("acme", 4)):
        for _ in range(count):
            room.leave(tenant)
    assert room.count == 0
    assert flood(room, "crab", 10) == 10


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=300), st.integers(1, 20))
def test_what_is_inside_stays_below_twice_the_room(moves: list[tuple[str, bool]], most: int) -> None:
    room, held = TenantRoom({"a": 5.0, "b": 0.2}), Counter[str]()
    for tenant, enters in moves:
        if enters:
            if room.enter(tenant, most):
                held[tenant] += 1
            else:
                assert held.total() >= most
                room.leave(tenant)
        elif held[tenant]:
            held[tenant] -= 1
            room.leave(tenant)
        assert room.count == held.total() < 2 * most + 4


def test_a_line_serves_tenants_by_weight_at_every_moment() -> None:
    line: TenantLine[tuple[str, int]] = TenantLine(WEIGHTS)
    for tenant in WEIGHTS:
        for number in range(1_000):
            assert line.add(tenant, (tenant, number), 100_000)
    taken: dict[str, list[int]] = {tenant: [] for tenant in WEIGHTS}
    for count in range(1, 1_001):
        tenant, number = line.take()
        taken[tenant].append(number)
        for one, weight in WEIGHTS.items():
            assert abs(len(taken[one]) - count * weight / 4.5) <= 2
    assert all(numbers == list(range(len(numbers))) for numbers in taken.values()), "each in order"


def test_a_backlog_of_one_tenant_holds_up_anothers_few_by_one_each() -> None:
    line: TenantLine[str] = TenantLine()
    for _ in range(10_000):
        line.add("acme", "acme", 100_000)
    for _ in range(100):
        line.take()
    for _ in range(3):
        line.add("bolt", "bolt", 100_000)
    assert [line.take() for _ in range(6)].count("bolt") == 3
    assert len(line) == 10_000 - 100 - 3


def test_who_comes_back_has_saved_up_nothing_and_owes_what_he_used() -> None:
    line: TenantLine[str] = TenantLine({"acme": 0.25})
    for tenant in ("acme", *["bolt"] * 20):
        line.add(tenant, tenant, 100)
    assert line.take() == "acme"
    line.add("acme", "acme", 100)
    assert [line.take() for _ in range(5)].index("acme") == 4
    for number in range(200):
        line.add(f"t{number}", "many", 1_000)
    while line:
        line.take()
    assert len(line._left) < 100, "who left long ago is forgotten"
    with pytest.raises(IndexError):
        line.take()


def test_a_line_that_is_full_takes_from_who_has_less_than_his_share() -> None:
    line: TenantLine[int] = TenantLine()
    assert sum(line.add("acme", number, 10) for number in range(20)) == 10
    assert sum(line.add("bolt", number, 10) for number in range(20)) == 5
    assert len(line) == 15


def test_weights_are_read_from_text() -> None:
    assert weights_of(["acme=3", "bolt=0.5"]) == {"acme": 3.0, "bolt": 0.5}


@pytest.mark.parametrize(
    "given", ["acme", "acme=", "acme=many", "Acme=1", "acme=0", "acme=nan", f"acme={WEIGHT_MAX * 2}", "acme=-1"]
)
def test_what_is_no_weight_says_what_to_write(given: str) -> None:
    with pytest.raises(ConfigurationError, match=f"such as acme=3, with a weight from {WEIGHT_MIN:g}"):
        weights_of([given])


def test_a_tenant_has_one_weight() -> None:
    with pytest.raises(ConfigurationError, match="tenant 'acme' has two weights"):
        weights_of(["acme=3", "acme=4"])


def test_an_item_takes_its_cost_of_the_share_and_the_first_one_goes_on_waiting() -> None:
    line: TenantLine[int] = TenantLine({"acme": 2.0}, cost=float)
    for _ in range(100):
        line.add("acme", 4)
        line.add("bolt", 1)
    taken = Counter[int]()
    for _ in range(90):
        first = line.first()
        assert line.first() == first == line.take()
        taken[first] += 1
    assert taken == {4: 30, 1: 60}, "as many of cost 4 at a weight of 2 as half of those of cost 1 at one of 1"

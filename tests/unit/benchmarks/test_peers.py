"""Peers are compared round by round, and their work is looked at in their own tables."""

from benchmarks.peers.peer import wrong_results
from benchmarks.peers.report import Turn, rows_of
from tests.unit.benchmarks.test_report import figures


def turn(floor: float, service: float, dbos: float) -> Turn:
    systems = {"floor": floor, "service": service, "dbos": dbos}
    return Turn({name: {"linear4": figures(rate)} for name, rate in systems.items()})


def test_a_peer_is_a_share_of_service_and_floor_of_the_same_round() -> None:
    turns = [turn(10_000, 4_000, 2_000), turn(1_000, 400, 200), turn(5_000, 2_000, 4_000)]
    row = rows_of(turns, ["linear4"], ["floor", "service", "dbos"])[2]
    assert (row.system, row.of_service.median, row.of_service.max) == ("dbos", 0.5, 2.0)
    assert row.of_floor.median == 0.2
    assert row.p50_in_services.median == 2.0


def test_a_workload_that_a_system_did_not_run_has_no_row() -> None:
    assert rows_of([turn(3, 2, 1)], ["one"], ["floor", "service", "dbos"]) == []


def test_every_result_of_every_step_is_counted() -> None:
    right = [("linear4", result, 3) for result in (36, 1296, 1679616, 2821109907456)]
    assert wrong_results({"linear4": 3}, right) == []
    assert len(wrong_results({"linear4": 3}, right[1:])) == 1
    assert len(wrong_results({"linear4": 3}, [*right[1:], ("linear4", 37, 3)])) == 2

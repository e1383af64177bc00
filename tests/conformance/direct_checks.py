"""What a worker has to do that takes work straight from a node. It is optional: who tells no slots is not asked."""

import itertools

from tests.conformance.checks import Check, cancel, completed, expect, offer
from tests.conformance.service import ASKS, FLOW, NODE, NODE_GONE, ConformanceService

TELL_S = 1.0


async def slots_are_told_each_second(service: ConformanceService) -> None:
    """A worker tells its slots, its queues and, per node, what it received and released, each second."""
    before = len(service.said)
    await service.until(lambda: len(service.said) >= before + 4)
    said = service.said[-1]
    assert said.slots >= 1, f"it told {said.slots} slots"
    assert said.queues == [FLOW], f"it told the queues {said.queues}"
    assert {report.worker for report in service.reports} == {said.worker}, "it told another id than its reports carry"
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(service.said_s[before:])]
    assert max(gaps_s) < 3 * TELL_S, f"silent for {max(gaps_s):.2f} s"


async def work_from_a_node_runs_at_once_and_is_reported_to_it(service: ConformanceService) -> None:
    """First, young offers run unasked; the node itself is told, with how many of its items hold no slot any more."""
    acked = await service.settled()
    works = [service.prepare("echo", input=number) for number in range(3)]
    service.give(*works)
    for number, work in enumerate(works):
        await completed(service, work, number)
        expect(not ASKS & set(service.kinds(work)), "it asked for a young first offer", service, work)
        expect(service.came_to_node(work), "it told the shard, not the node", service, work)
    assert service.acked == acked, "it acked what has no message"
    await all_released(service)
    assert service.released[-1] <= service.given[NODE], "it released more than it was given"


async def old_work_from_a_node_asks_first(service: ConformanceService) -> None:
    """What the node sent more than 2 s ago, by the node's own time, runs only after the owner said `run`."""
    work = service.prepare("echo", input="old")
    service.give(work, age_s=3.0)
    await completed(service, work, "old")
    expect(service.seen(work)[0] in ASKS, "it ran old work unasked", service, work)


async def a_further_offer_from_a_node_asks_first(service: ConformanceService) -> None:
    """Work with `offer` above 0 runs only after the owner said `run`, whoever sent it."""
    work = service.prepare("echo", input="again", offer=1)
    service.give(work)
    await completed(service, work, "again")
    expect(service.seen(work)[0] in ASKS, "it ran a further offer unasked", service, work)


async def a_copy_of_what_runs_is_not_run_again(service: ConformanceService) -> None:
    """An attempt that runs here and is sent once more is one run, and the copy holds no slot."""
    work = service.prepare("wait")
    service.give(work)
    await service.until_kind(work, "started")
    service.give(work)
    await service.until(lambda: service.sums() == (service.given[NODE], service.given[NODE] - 1))
    await cancel(service, work)
    outcomes = [kind for kind in service.kinds(work) if kind in ("completed", "failed")]
    expect(len(outcomes) == 1, f"{len(outcomes)} outcomes of one attempt", service, work)
    await all_released(service)


async def slots_of_the_stream_are_told(service: ConformanceService) -> None:
    """What came from the stream and holds a slot is told as held `elsewhere`; with its end it is not."""
    work = await offer(service, "wait")
    await service.until_kind(work, "started")
    await service.until(lambda: service.said[-1].elsewhere == 1)
    await cancel(service, work)
    await service.until(lambda: service.said[-1].elsewhere == 0)


async def what_is_not_served_is_given_back(service: ConformanceService) -> None:
    """Work of a queue, or for a handler, that the worker does not have is `returned` and holds no slot."""
    elsewhere, unknown = service.prepare("echo"), service.prepare("unknown")
    service.give(elsewhere, queue="elsewhere")
    service.give(unknown)
    for work in (elsewhere, unknown):
        await service.until_kind(work, "returned")
        expect(service.seen(work) == ["returned"], "it did more than give it back", service, work)
    await all_released(service)


async def reports_reach_the_shard_when_the_node_is_gone(service: ConformanceService) -> None:
    """A node that does not answer is no loss: the report goes to `report_to`."""
    work = service.prepare("echo", input="home")
    service.give(work, node=NODE_GONE)
    await completed(service, work, "home")
    expect(not service.came_to_node(work), "a node that is gone was told", service, work)


async def what_is_no_array_counts_as_nothing(service: ConformanceService) -> None:
    """An array that cannot be read is not counted as received, so that its node offers all of it again."""
    worker = service.said[-1].worker
    service.bus.publish(service.subjects.worker_work("default", worker, NODE), b'{"sent_at_us":1,"work":[{')
    work = service.prepare("echo", input=1)
    service.give(work)
    await completed(service, work, 1)
    await all_released(service)


async def many_from_a_node_are_all_reported(service: ConformanceService) -> None:
    """Sixty items in arrays are all done, each once, with unknown members about."""
    works = [service.prepare("echo", input=number) for number in range(60)]
    for start in range(0, 60, 20):
        service.give(*works[start : start + 20])
    for number, work in enumerate(works):
        await completed(service, work, number)
        expect(service.kinds(work).count("completed") == 1, "it reported one outcome twice", service, work)
    await all_released(service)


DIRECT_CHECKS: tuple[Check, ...] = (
    slots_are_told_each_second,
    work_from_a_node_runs_at_once_and_is_reported_to_it,
    old_work_from_a_node_asks_first,
    a_further_offer_from_a_node_asks_first,
    a_copy_of_what_runs_is_not_run_again,
    slots_of_the_stream_are_told,
    what_is_not_served_is_given_back,
    reports_reach_the_shard_when_the_node_is_gone,
    what_is_no_array_counts_as_nothing,
    many_from_a_node_are_all_reported,
)


async def all_released(service: ConformanceService) -> None:
    """Return when the worker says that it received all and holds nothing of it."""
    await service.until(lambda: service.sums() == (service.given[NODE], service.given[NODE]))

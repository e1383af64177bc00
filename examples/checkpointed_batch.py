"""Checkpoints: a step that gives its slot back every 25 items and goes on from there, also after a failure."""

from tasker import Again, StepContext, Template

ITEMS_A_PART = 25

checkpointed_batch = Template("checkpointed_batch")

EXPECTED = [({"items": 100}, 5050), ({"items": 10}, 55)]


@checkpointed_batch.step
def add_up(ctx: StepContext, input: dict[str, int]) -> int | Again:
    done, total = ctx.checkpoint() or (0, 0)
    until = min(done + ITEMS_A_PART, input["items"])
    total += sum(range(done + 1, until + 1))
    if until == input["items"]:
        return total
    return Again(checkpoint=(until, total))

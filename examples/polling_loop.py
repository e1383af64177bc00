"""A loop: look, wait five seconds, look again; every visit is a step of its own (`check`, `check#2`, ...)."""

from tasker import Decision, StepContext, Template

polling_loop = Template("polling_loop")

EXPECTED = [({"ready_at_visit": 1}, {"visits": 1}), ({"ready_at_visit": 3}, {"visits": 3})]


@polling_loop.step(routes=["pause", "done"], max_visits=10)
def check(ctx: StepContext, input: dict[str, int]) -> Decision:
    visit = int(ctx.step.partition("#")[2] or 1)
    if visit < input["ready_at_visit"]:
        return Decision.route("pause", reason="not ready yet", result=visit)
    return Decision.route("done", reason="ready", result=visit)


polling_loop.delay("pause", 5, after="check", back_to="check")


@polling_loop.step
def done(check: int) -> dict[str, int]:
    return {"visits": check}

"""A decision: who has to approve depends on the amount. Steps that are not chosen leave no trace but the reason.

validate -> route -> auto                       below 1,000
                  -> manager                    below 5,000
                  -> manager, finance           else
                     finalize: once those that were chosen have completed
"""

from tasker import Decision, Template

approval_routing = Template("approval_routing")

EXPECTED = [
    ({"amount": 500}, {"approvals": ["auto: 500"], "approval_count": 1}),
    ({"amount": 3000}, {"approvals": ["manager: 3000"], "approval_count": 1}),
    ({"amount": 10_000}, {"approvals": ["manager: 10000", "finance: 10000"], "approval_count": 2}),
]


@approval_routing.step
def validate(input: dict[str, int]) -> int:
    return input["amount"]


@approval_routing.step(routes=["auto", "manager", "finance"])
def route(validate: int) -> Decision:
    if validate < 1000:
        return Decision.route("auto", reason="below 1,000")
    if validate < 5000:
        return Decision.route("manager", reason="below 5,000")
    return Decision.route("manager", "finance", reason="5,000 or more")


@approval_routing.step(after="route")
def auto(validate: int) -> str:
    return f"auto: {validate}"


@approval_routing.step(after="route")
def manager(validate: int) -> str:
    return f"manager: {validate}"


@approval_routing.step(after="route")
def finance(validate: int) -> str:
    return f"finance: {validate}"


@approval_routing.step(join="deferred")
def finalize(auto: str | None = None, manager: str | None = None, finance: str | None = None) -> dict[str, object]:
    approvals = [name for name in (auto, manager, finance) if name is not None]
    return {"approvals": approvals, "approval_count": len(approvals)}

"""Approvals: who may answer, what decides, and what becomes of silence."""

from functools import partial
from typing import Any

import pytest

from tasker.errors import (
    ApprovalForbidden,
    ApprovalInvalid,
    BodyInvalid,
    BodyTooLarge,
    StateForbids,
    StepUnknown,
    TaskEnded,
)
from tasker.events.task_events import (
    ApprovalAnswered,
    ApprovalDelegated,
    ApprovalEscalated,
    ApprovalRequested,
    StepAttemptFailed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepReleased,
    StepResultEdited,
    StepSkipped,
    TaskBlocked,
    TaskCompleted,
    WaitExpired,
)
from tasker.service.domain.commands import PostponeTask
from tasker.service.domain.obligations import Kind, obligations_of
from tasker.service.domain.state import TaskStatus
from tasker.service.domain.state_document import state_document
from tests.runs import T0_US, Run, raw, template, types

AT = "2026-09-21T14:13:20.000000Z"


def asking(creator: str | None = None, /, *, step: dict[str, Any] | None = None, **approval: Any) -> Run:
    """A task whose step `ask` asks people."""
    run = Run(template({"ask": []}, steps={"ask": {"approval": approval, **(step or {})}}))
    run.create(created_by=creator)
    return run


# ---------------------------------------------------------------- what decides


def test_an_approval_completes_the_step_with_what_was_decided() -> None:
    run = asking(title="Publish?", assignees=["ada"], roles=["editors"])
    assert run.events[1] == ApprovalRequested(
        step="ask", attempt=1, title="Publish?", assignees=("ada",), roles=("editors",)
    )
    assert obligations_of(run.state) == {}
    events = run.approve("ask", "ada", {"channel": "blog"}, reason="fine")
    assert events[0] == ApprovalAnswered(
        step="ask", attempt=1, decision="approved", by="ada", reason="fine", values=raw({"channel": "blog"})
    )
    assert types(events) == [ApprovalAnswered, StepCompleted, TaskCompleted]
    answer = {"decision": "approved", "by": "ada", "reason": "fine", "values": {"channel": "blog"}}
    assert run.result() == {**answer, "answers": [{**answer, "at": AT}]}


def test_one_rejection_rejects_and_that_is_a_result() -> None:
    run = asking(approvals=3)
    run.approve("ask", "ada")
    run.reject("ask", "bob", reason="no")
    assert run.state.status is TaskStatus.COMPLETED
    assert (run.result()["decision"], run.result()["by"], len(run.result()["answers"])) == ("rejected", "bob", 2)


def test_several_different_persons_have_to_approve() -> None:
    run = asking(approvals=2)
    assert types(run.approve("ask", "ada")) == [ApprovalAnswered]
    assert run.approve("ask", "ada") == (), "the same again changes nothing"
    with pytest.raises(StateForbids, match="ada has approved it already"):
        run.reject("ask", "ada")
    with pytest.raises(StateForbids, match="ada has approved it already, with other values"):
        run.approve("ask", "ada", {"channel": "blog"})
    run.approve("ask", "bob")
    assert [one["by"] for one in run.result()["answers"]] == ["ada", "bob"]


def test_conditions_act_on_what_was_decided() -> None:
    steps = {
        "ask": {"approval": {}},
        "publish": {"when": "results.ask.decision == 'approved'"},
        "drop": {"transform": "results.ask.reason", "when": "results.ask.decision != 'approved'"},
    }
    run = Run(template({"ask": [], "publish": ["ask"], "drop": ["ask"]}, steps=steps))
    run.create()
    run.reject("ask", "ada", reason="too long")
    assert run.result() == {"drop": "too long"}


def test_each_item_of_a_list_is_asked_by_itself() -> None:
    run = asking(step={"each": "['ada', 'bob']"}, assignees_from="item")
    with pytest.raises(ApprovalForbidden):
        run.approve("ask[0]", "bob")
    run.approve("ask[0]", "ada")
    run.approve("ask[1]", "bob")
    assert [one["by"] for one in run.result()] == ["ada", "bob"]


# ---------------------------------------------------------------- who may answer


def test_only_who_is_asked_may_answer() -> None:
    run = asking(assignees=["ada"], roles=["editors"])
    with pytest.raises(ApprovalForbidden, match="eve is not among those who may answer: ada or the role editors"):
        run.approve("ask", "eve", roles=("readers",))
    run.approve("ask", "eve", roles=("readers", "editors"))
    assert run.state.ended


def test_an_expression_names_who_may_answer() -> None:
    run = asking(assignees_from="['ada', 'bob']", assignees=["carol"])
    asked = run.events[1]
    assert isinstance(asked, ApprovalRequested)
    assert asked.assignees == ("carol", "ada", "bob")
    for text in ("input.n", "[]", "[1]", "['']", "input.x"):
        run = asking(assignees_from=text)
        failed = run.events[1]
        assert isinstance(failed, StepFailed)
        assert (failed.reason, text in failed.error.message) == ("expression_failed", True)


def test_four_eyes_keep_the_creator_out() -> None:
    run = asking("ada", four_eyes=True, assignees=["bob"])
    with pytest.raises(ApprovalForbidden, match="ada created the task"):
        run.approve("ask", "ada")
    with pytest.raises(ApprovalForbidden, match="ada created the task"):
        run.delegate("ask", "bob", "ada")
    run.approve("ask", "bob")
    assert run.state.ended


@pytest.mark.parametrize("how", ["edit", "resolve", "skip", "start"])
def test_four_eyes_keep_out_who_changed_what_is_to_be_approved(how: str) -> None:
    """Whoever wrote the text that is to be published could approve it, if somebody else had created the task."""
    steps = {"ask": {"approval": {"four_eyes": True, "assignees": ["carol"]}}}
    debounce = {"debounce": {"key": "1", "for_s": 60}} if how == "start" else {}
    run = Run(template({"draft": [], "more": [], "ask": ["draft"]}, steps=steps, **debounce))
    run.create(created_by="ada", not_before_us=T0_US + 60_000_000 if debounce else None)
    match how:
        case "edit":
            run.complete("draft")
            assert run.edit("draft", "bad", by="bob") == (StepResultEdited(step="draft", result=raw("bad"), by="bob"),)
        case "resolve":
            run.complete("draft")
            run.resolve("more", "bad", by="bob")
        case "skip":
            run.skip("draft", "bad", by="bob")
        case _:
            start = {"start": "s2", "request_hash": "h2", "input": raw({"n": 7}), "by": "bob"}
            run.do(PostponeTask(at_us=run.now_us, **start))  # type: ignore[arg-type]
            run.fire_at(Kind.NOT_BEFORE)
            run.complete("draft")
    assert state_document(run.state)["changed_by"] == ["bob"]
    for answer in (run.approve, run.reject):
        with pytest.raises(ApprovalForbidden, match="bob changed the input or a result by hand"):
            answer("ask", "bob")
    with pytest.raises(ApprovalForbidden, match="bob changed"):
        run.delegate("ask", "carol", "bob")
    run.approve("ask", "carol")
    assert run.state.has_result("ask")


def test_under_four_eyes_who_changes_a_result_says_who_they_are_and_has_not_answered() -> None:
    steps = {"ask": {"approval": {"four_eyes": True, "approvals": 2}}}
    run = Run(template({"draft": [], "more": [], "ask": ["draft"]}, steps=steps))
    run.create(created_by="ada")
    run.complete("draft")
    for by_hand in (partial(run.edit, "draft"), partial(run.skip, "more"), partial(run.resolve, "more")):
        with pytest.raises(BodyInvalid, match="/requested_by: say who does it"):
            by_hand("bad", by=None)
    run.approve("ask", "bob")
    for by_hand in (partial(run.edit, "draft"), partial(run.skip, "more"), partial(run.resolve, "more")):
        with pytest.raises(ApprovalForbidden, match="bob has answered the approval of ask, and may change nothing"):
            by_hand("bad", by="bob")
    run.edit("draft", "better", by="dave")
    run.approve("ask", "carol")
    run.edit("draft", "best", by="bob")


def test_without_four_eyes_nobody_is_asked_who_changes_a_result() -> None:
    run = Run(template({"draft": [], "ask": ["draft"]}, steps={"ask": {"approval": {}}}))
    run.create()
    run.complete("draft")
    assert run.edit("draft", "bad", by="bob") == (StepResultEdited(step="draft", result=raw("bad")),)
    run.edit("draft", "worse", by=None)
    run.approve("ask", "bob")
    assert run.state.ended


def test_it_is_handed_to_somebody_else() -> None:
    run = asking(assignees=["ada"])
    assert run.delegate("ask", "ada", "bob") == (ApprovalDelegated(step="ask", attempt=1, by="ada", to="bob"),)
    assert run.delegate("ask", "ada", "bob") == ()
    with pytest.raises(ApprovalForbidden, match="ada has handed it to bob"):
        run.approve("ask", "ada")
    with pytest.raises(ApprovalForbidden, match="eve is not among"):
        run.delegate("ask", "eve", "ada")
    with pytest.raises(StateForbids, match="bob may answer already"):
        run.delegate("ask", "bob", "bob")
    run.delegate("ask", "bob", "ada")
    run.approve("ask", "ada")
    assert run.state.ended


def test_unless_the_template_forbids_it() -> None:
    run = asking(assignees=["ada"], may_delegate=False)
    with pytest.raises(ApprovalForbidden, match="may not be handed"):
        run.delegate("ask", "ada", "bob")


def test_who_has_answered_hands_nothing_over() -> None:
    run = asking(approvals=2)
    run.approve("ask", "ada")
    with pytest.raises(StateForbids, match="answered already"):
        run.delegate("ask", "ada", "bob")


# ---------------------------------------------------------------- forms


def test_values_match_the_form() -> None:
    run = asking(form={"type": "object", "required": ["channel"]})
    with pytest.raises(ApprovalInvalid, match="channel") as caught:
        run.approve("ask", "ada", {})
    assert caught.value.errors
    run.reject("ask", "ada")
    assert run.result()["values"] is None
    run = asking(form={"type": "object", "required": ["channel"]})
    with pytest.raises(ApprovalInvalid):
        run.reject("ask", "ada", {})


def test_the_values_are_bounded() -> None:
    run = asking(approvals=3)
    run.approve("ask", "ada", "x" * 10_000)
    with pytest.raises(BodyTooLarge):
        run.approve("ask", "bob", "x" * 10_000)


# ---------------------------------------------------------------- silence


def test_others_may_answer_once_it_is_escalated() -> None:
    run = asking(assignees=["ada"], escalate_after_s=60, escalate_to=["bob"], escalate_roles=["heads"])
    with pytest.raises(ApprovalForbidden):
        run.approve("ask", "bob")
    assert obligations_of(run.state) == {"escalate:ask:1": T0_US + 60_000_000}
    escalated = ApprovalEscalated(step="ask", attempt=1, assignees=("bob",), roles=("heads",))
    assert run.fire_at("escalate:ask:1") == (escalated,)
    assert obligations_of(run.state) == {}
    run.approve("ask", "carol", roles=("heads",))
    assert run.state.ended


def test_who_had_handed_it_over_may_answer_once_it_is_escalated_to_them() -> None:
    """They were refused, though lists showed them among those who may, and nobody could hand it to them either."""
    run = asking(assignees=["ada"], escalate_after_s=60, escalate_to=["ada"])
    run.delegate("ask", "ada", "bob")
    run.fire_at("escalate:ask:1")
    run.approve("ask", "ada")
    assert run.state.ended


def test_an_escalation_lets_no_creator_in_whom_four_eyes_keep_out() -> None:
    run = asking("ada", assignees=["bob"], escalate_after_s=60, escalate_to=["ada", "carol"], four_eyes=True)
    run.fire_at("escalate:ask:1")
    with pytest.raises(ApprovalForbidden, match="ada created the task"):
        run.approve("ask", "ada")
    run.approve("ask", "carol")
    assert run.state.ended


def test_a_deadline_may_escalate_and_it_waits_on() -> None:
    run = asking(step={"wait_deadline_s": 60, "on_wait_deadline": "escalate"}, assignees=["ada"], escalate_to=["bob"])
    assert types(run.fire_at("escalate:ask:1")) == [ApprovalEscalated]
    run.wait(30 * 86400)
    run.approve("ask", "bob")
    assert run.state.ended


def test_silence_fails_the_step_or_is_a_decision_too() -> None:
    run = asking(step={"wait_deadline_s": 60}, assignees=["ada"])
    events = run.fire_at("wait_by:ask:1")
    assert types(events) == [WaitExpired, StepAttemptFailed, StepFailed, TaskBlocked]
    failed = events[2]
    assert isinstance(failed, StepFailed)
    assert failed.error.message == "0 of 1 approvals came (of ada) within 60 s"
    again = run.retry("ask")[-1]
    assert isinstance(again, ApprovalRequested)
    assert again.attempt == 2
    with pytest.raises(StateForbids, match=r"asks for the 2\. time"):
        run.approve("ask", "ada", attempt=1)
    run = asking(step={"wait_deadline_s": 60, "on_wait_deadline": "continue"}, approvals=2)
    run.approve("ask", "ada")
    assert types(run.fire_at("wait_by:ask:1")) == [WaitExpired, StepCompleted, TaskCompleted]
    assert (run.result()["decision"], run.result()["by"], len(run.result()["answers"])) == ("expired", None, 1)


def test_of_an_answer_and_a_deadline_one_wins() -> None:
    run = asking(step={"wait_deadline_s": 60})
    run.now_us += 60_000_000
    run.approve("ask", "ada")
    assert run.fire("wait_by:ask:1") == ()
    run = asking(step={"wait_deadline_s": 60, "on_wait_deadline": "continue"})
    run.fire_at("wait_by:ask:1")
    with pytest.raises(TaskEnded):
        run.approve("ask", "ada")


def test_a_paused_task_takes_answers_and_goes_on_by_them_later() -> None:
    run = asking(step={"wait_deadline_s": 60})
    run.pause()
    assert types(run.approve("ask", "ada")) == [ApprovalAnswered]
    with pytest.raises(StateForbids, match="is decided"):
        run.approve("ask", "bob")
    run.wait(3600)
    assert types(run.resume())[1:] == [StepCompleted, TaskCompleted]


# ---------------------------------------------------------------- by hand, and what is refused


def test_people_end_the_asking() -> None:
    run = asking()
    assert types(run.release("ask")) == [StepReleased, StepCompleted, TaskCompleted]
    assert run.result()["decision"] == "released"
    assert types(asking().skip("ask")) == [StepSkipped, TaskCompleted]
    run = asking()
    run.resolve("ask", {"decision": "approved"})
    assert run.result() == {"decision": "approved"}
    run = asking()
    assert StepCancelled(step="ask", attempt=1, reason="the task is stopping: cancel") in run.cancel()


def test_what_does_not_ask_is_not_answered() -> None:
    run = Run(template({"a": [], "ask": ["a"]}, steps={"ask": {"approval": {}}}))
    run.create()
    with pytest.raises(StateForbids, match="is dispatched; it does not wait for an approval"):
        run.approve("a", "ada")
    with pytest.raises(StateForbids, match="is pending"):
        run.approve("ask", "ada")
    with pytest.raises(StepUnknown):
        run.approve("b", "ada")


def test_the_state_document_tells_of_an_approval() -> None:
    run = asking("eve", assignees=["ada"], approvals=2)
    run.delegate("ask", "ada", "bob")
    run.approve("ask", "bob")
    document = state_document(run.state)
    assert document["created_by"] == "eve"
    wait = document["steps"]["ask"]["wait"]
    assert (wait["assignees"], wait["handed_over"], wait["answers"][0]["by"]) == (["bob"], {"ada": "bob"}, "bob")

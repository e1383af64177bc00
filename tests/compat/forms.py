"""Every stored form as a struct of today: with all its fields, and with none but the required.

A form is never edited. A new one gets its structs here and `python -m tests.compat.record` adds its golden lines;
the lines of an old form stay, and its structs here become what the upcasts make of it.
"""

import msgspec

from tasker.events import concurrency_events as c
from tasker.events import control_events as k
from tasker.events import dead_letter_events as d
from tasker.events import schedule_events as s
from tasker.events import task_events as t
from tasker.events import template_events as m
from tasker.events.stored import DomainEvent

RAW = msgspec.Raw
TEMPLATE = t.TemplateRef(namespace="shop", name="order_fulfillment", version="1.0.0", hash="ab" * 32)
ERROR = t.ErrorInfo(type="CardDeclined", message='no "money" ☕', retryable=False, retry_after_s=1.5, stack="a\nb")
PLAIN_ERROR = t.ErrorInfo(type="timeout", message="")
TASK_ID = "016edfe9-8e3a-819c-918d-70443cb40fea"
US = 1_790_000_000_123_456
SPEC = s.ScheduleSpec(
    template="report",
    version="1.0.0",
    input=RAW(b'{"city":"Z\xc3\xbcrich"}'),
    tags={"team": "core"},
    timeout_s=60.0,
    time_key="at",
    cron="30 2 * * *",
    timezone="Europe/Zurich",
    jitter_s=1.5,
    start_us=US,
    end_us=US + 1,
    fires_max=7,
    overlap="buffer_all",
    catch_up_s=60.0,
)

FORMS: dict[tuple[str, int], tuple[DomainEvent, ...]] = {
    ("task_created", 1): (
        t.TaskCreated(
            template=TEMPLATE,
            input=RAW(b'{"items":[{"qty":2,"sku":"a"}],"total":12345678901234567890123}'),
            request_hash="cd" * 32,
            idempotency_key="order-17",
            tags={"team": "core", "é": "ü"},
            not_before_us=US,
            deadline_us=US + 1,
        ),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32),
        t.TaskCreated(
            template=TEMPLATE,
            input=RAW(b"null"),
            request_hash="cd" * 32,
            metadata=RAW(b'{"ticket":17}'),
            restarted_from=TASK_ID,
        ),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32, created_by="ada"),
        t.TaskCreated(
            template=TEMPLATE,
            input=RAW(b"null"),
            request_hash="cd" * 32,
            stale_after=t.StaleLimits(blocked_s=86400.0, waiting_s=0.5),
        ),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32, admitted_us=US),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32, priority=-100),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32, running_s_max=3600.0),
        t.TaskCreated(template=TEMPLATE, input=RAW(b"null"), request_hash="cd" * 32, depth=100),
    ),
    ("task_started", 1): (t.TaskStarted(),),
    ("step_dispatched", 1): (
        t.StepDispatched(step="charge", attempt=2, start_by_us=US),
        t.StepDispatched(step="charge", attempt=1),
        t.StepDispatched(step="charge", attempt=1, close_by_us=US),
        t.StepDispatched(step="charge", attempt=1, worker="w-1"),
    ),
    ("step_started", 1): (
        t.StepStarted(step="charge", attempt=1, worker="w-1", finish_by_us=US, heartbeat_s=10.0),
        t.StepStarted(step="charge", attempt=1, worker="w-1", finish_by_us=US, heartbeat_s=0.1),
    ),
    ("step_completed", 1): (
        t.StepCompleted(step="charge", attempt=1, result=RAW(b'{"ok":true,"value":1.5}')),
        t.StepCompleted(step="charge", attempt=1, result=t.NULL),
        t.StepCompleted(step="charge", attempt=1, result=t.NULL, writes={"n": RAW(b"1"), "what": RAW(b'{"a":[]}')}),
    ),
    ("step_attempt_failed", 1): (
        t.StepAttemptFailed(step="charge", attempt=1, error=ERROR),
        t.StepAttemptFailed(step="charge", attempt=1, error=PLAIN_ERROR),
    ),
    ("step_retry_scheduled", 1): (
        t.StepRetryScheduled(step="charge", attempt=2, delay_s=1.0731, retry_at_us=US),
        t.StepRetryScheduled(step="charge", attempt=2, delay_s=0.0, retry_at_us=US),
    ),
    ("step_failed", 1): (
        t.StepFailed(step="charge", attempt=3, reason="retries_exhausted", error=ERROR),
        t.StepFailed(step="charge", attempt=1, reason="permanent_error", error=PLAIN_ERROR),
    ),
    ("step_cancel_requested", 1): (t.StepCancelRequested(step="charge", attempt=1, grace_until_us=US),),
    ("step_cancelled", 1): (t.StepCancelled(step="charge", attempt=1, reason="the task was cancelled"),),
    ("step_retried", 1): (
        t.StepRetried(step="charge", attempt=4),
        t.StepRetried(step="resize[2]", attempt=2, cancelled=True),
    ),
    ("step_skipped", 1): (
        t.StepSkipped(step="charge", attempt=3, result=RAW(b'{"by":"hand"}'), failed=True),
        t.StepSkipped(step="charge", attempt=0, result=t.NULL),
        t.StepSkipped(step="charge", attempt=0, result=t.NULL, by="ada"),
    ),
    ("step_resolved", 1): (
        t.StepResolved(step="charge", attempt=3, result=RAW(b'{"by":"hand"}'), failed=True),
        t.StepResolved(step="charge", attempt=0, result=t.NULL),
        t.StepResolved(step="charge", attempt=0, result=t.NULL, by="ada"),
    ),
    ("step_attempts_reset", 1): (t.StepAttemptsReset(step="charge", attempt=2),),
    ("step_result_edited", 1): (
        t.StepResultEdited(step="charge", result=RAW(b"[1,2.5]")),
        t.StepResultEdited(step="charge", result=RAW(b"[1,2.5]"), by="ada"),
    ),
    ("step_released", 1): (t.StepReleased(step="charge", attempt=1),),
    ("parents_overridden", 1): (
        t.ParentsOverridden(step="charge", parents=("a", "b")),
        t.ParentsOverridden(step="charge"),
    ),
    ("step_routed", 1): (
        t.StepRouted(step="route", attempt=1, chosen=("auto",), closed=("manager", "finance"), reason="below 1,000 ☕"),
        t.StepRouted(step="route", attempt=1),
    ),
    ("paths_closed", 1): (
        t.PathsClosed(by="route", reason="not chosen", steps=("manager",), edges=(("route", "manager"),)),
        t.PathsClosed(by="route", reason="not chosen"),
    ),
    ("step_failure_accepted", 1): (t.StepFailureAccepted(step="a#2", joins=("j", "k")),),
    ("step_expanded", 1): (
        t.StepExpanded(step="resize", items=RAW(b'[{"sku":"a-1"},2]'), keys=("a-1", "b")),
        t.StepExpanded(step="resize", items=RAW(b"[]")),
    ),
    ("step_items_held", 1): (t.StepItemsHeld(step="resize#2", limit=100, waiting=9900),),
    ("step_gathered", 1): (
        t.StepGathered(step="resize", completed=9, failed=1),
        t.StepGathered(step="resize", completed=0),
    ),
    ("step_yielded", 1): (
        t.StepYielded(step="sum", attempt=2, checkpoint=RAW(b'{"at":25}'), delay_s=1.5, resume_at_us=US),
        t.StepYielded(step="sum", attempt=1, checkpoint=t.NULL, delay_s=0.0, resume_at_us=US),
        t.StepYielded(step="sum", attempt=1, checkpoint=t.NULL, delay_s=0.0, resume_at_us=US, writes={"n": RAW(b"1")}),
    ),
    ("step_delayed", 1): (t.StepDelayed(step="pause#3", attempt=1, until_us=US),),
    ("child_requested", 1): (
        t.ChildRequested(
            step="parcels[0]", attempt=2, template="parcel", namespace="shop", input=RAW(b'{"n":1}'), version="1.0.0"
        ),
        t.ChildRequested(step="parcels[0]", attempt=1, template="parcel", namespace="shop", input=t.NULL),
    ),
    ("child_started", 1): (t.ChildStarted(step="parcels[0]", attempt=1, child="01234567-89ab-8def-8123-456789abcdef"),),
    ("signal_received", 1): (
        t.SignalReceived(name="order.paid", number=17, value=RAW(b'{"cents":1.5}')),
        t.SignalReceived(name="go", number=1, value=t.NULL),
    ),
    ("step_awaited", 1): (
        t.StepAwaited(step="paid[0]", attempt=2, signal="order.paid", deadline_us=US, count=3),
        t.StepAwaited(step="paid", attempt=1, signal="go"),
    ),
    ("step_signalled", 1): (t.StepSignalled(step="paid[0]", attempt=2, numbers=(3, 17)),),
    ("approval_requested", 1): (
        t.ApprovalRequested(
            step="review#2",
            attempt=2,
            title="Publish it? ☕",
            assignees=("ada", "Bob Brown"),
            roles=("editors",),
            form=RAW(b'{"type":"object"}'),
            approvals=2,
            four_eyes=True,
            may_delegate=False,
            deadline_us=US,
            escalate_us=US - 1,
        ),
        t.ApprovalRequested(step="review", attempt=1),
    ),
    ("approval_answered", 1): (
        t.ApprovalAnswered(
            step="review", attempt=1, decision="approved", by="ada", reason="fine", values=RAW(b'{"channel":"blog"}')
        ),
        t.ApprovalAnswered(step="review", attempt=1, decision="rejected", by="ada"),
    ),
    ("approval_delegated", 1): (
        t.ApprovalDelegated(step="review", attempt=1, by="ada", to="bob", reason="on holiday"),
        t.ApprovalDelegated(step="review", attempt=1, by="ada", to="bob"),
    ),
    ("approval_escalated", 1): (
        t.ApprovalEscalated(step="review", attempt=1, assignees=("carol",), roles=("heads",)),
        t.ApprovalEscalated(step="review", attempt=1),
    ),
    ("event_awaited", 1): (
        t.EventAwaited(step="paid[0]", attempt=2, event="payment.captured", deadline_us=US),
        t.EventAwaited(step="paid", attempt=1, event="task_completed"),
    ),
    ("event_matched", 1): (
        t.EventMatched(step="paid", attempt=1, task_id=TASK_ID, seq=17, event=RAW(b'{"data":{"cents":1.5}}')),
    ),
    ("step_timed_out", 1): (
        t.StepTimedOut(step="charge[0]", attempt=2, limit="schedule_to_start", then="continue"),
        t.StepTimedOut(step="charge", attempt=1, limit="heartbeat", then="block"),
    ),
    ("wait_expired", 1): (t.WaitExpired(step="paid", attempt=1),),
    ("loop_turned", 1): (
        t.LoopTurned(step="check", by="pause#2", visit=3, steps=("check", "pause", "done")),
        t.LoopTurned(step="check", by="pause", visit=2, steps=("check", "pause"), failures=("fetch",)),
    ),
    ("task_blocked", 1): (
        t.TaskBlocked(reason="step_failed", steps=("charge", "ship"), detail="two steps failed"),
        t.TaskBlocked(reason="poison"),
        t.TaskBlocked(reason="history_limit"),
        t.TaskBlocked(reason="result_limit", detail="600,000 bytes of at most 524,288"),
        t.TaskBlocked(reason="budget_exceeded", detail="its budget: 12 tokens of at most 10"),
        t.TaskBlocked(reason="deadline_passed"),
    ),
    ("task_resumed", 1): (t.TaskResumed(),),
    ("task_budget_set", 1): (
        t.TaskBudgetSet(cost_max="2.5"),
        t.TaskBudgetSet(tokens_max=200, goes_on=True),
        t.TaskBudgetSet(running_s_max=90.5, goes_on=True),
    ),
    ("running_time_spent", 1): (
        t.RunningTimeSpent(running_us=60_000_125, excess="its budget: its steps ran for 60.0001 s of at most 60"),
    ),
    ("task_paused", 1): (t.TaskPaused(), t.TaskPaused(children=True)),
    ("task_unpaused", 1): (t.TaskUnpaused(), t.TaskUnpaused(children=True)),
    ("task_updated", 1): (
        t.TaskUpdated(tags={"team": "core"}, metadata=RAW(b'{"ticket":"OPS-17"}')),
        t.TaskUpdated(tags={}),
        t.TaskUpdated(metadata=t.NULL),
        t.TaskUpdated(priority=-7),
        t.TaskUpdated(priority=0),
    ),
    ("task_deadline_set", 1): (
        t.TaskDeadlineSet(deadline_us=US),
        t.TaskDeadlineSet(),
        t.TaskDeadlineSet(deadline_us=US, goes_on=True),
        t.TaskDeadlineSet(deadline_us=US, goes_on=True, pending=True),
    ),
    ("task_postponed", 1): (
        t.TaskPostponed(start=TASK_ID, request_hash="ab12", input=RAW(b'{"n":2}'), not_before_us=US),
        t.TaskPostponed(start=TASK_ID, request_hash="ab12", input=t.NULL, not_before_us=US, deadline_us=US + 1),
        t.TaskPostponed(start=TASK_ID, request_hash="ab12", input=t.NULL, not_before_us=US, by="ada"),
    ),
    ("task_deadline_passed", 1): (t.TaskDeadlinePassed(then="block"), t.TaskDeadlinePassed(then="continue")),
    ("task_reconciled", 1): (
        t.TaskReconciled(lost="forgotten", obligations=("retry:charge:2", "deadline")),
        t.TaskReconciled(lost="not_woken", obligations=("offer:charge[7]:1",)),
    ),
    ("went_stale", 1): (
        t.WentStale(state="blocked", after_s=86400.0),
        t.WentStale(step="paid[0]", attempt=2, state="waiting", after_s=0.5),
    ),
    ("stale_ended", 1): (t.StaleEnded(), t.StaleEnded(step="paid[0]")),
    ("task_stopping", 1): (
        t.TaskStopping(ending="failed", cause="step_failed", step="charge"),
        t.TaskStopping(ending="cancelled", cause="cancel"),
        t.TaskStopping(ending="failed", cause="timeout"),
        t.TaskStopping(ending="completed", cause="operator", result=RAW(b'{"by":"hand"}')),
        t.TaskStopping(ending="failed", cause="operator", error=ERROR),
        t.TaskStopping(ending="failed", cause="budget_exceeded", step="charge"),
    ),
    ("task_compensating", 1): (t.TaskCompensating(steps=("charge", "resize"), instances=12),),
    ("task_completed", 1): (
        t.TaskCompleted(result=RAW(b'{"receipt":"r-1"}')),
        t.TaskCompleted(result=t.NULL),
        t.TaskCompleted(result=t.NULL, state=RAW(b'{"n":3}')),
    ),
    ("task_failed", 1): (
        t.TaskFailed(cause="step_failed", step="charge", error=ERROR),
        t.TaskFailed(cause="timeout"),
        t.TaskFailed(cause="result_limit", error=ERROR),
        t.TaskFailed(cause="operator", error=ERROR),
        t.TaskFailed(cause="budget_exceeded", step="charge", error=PLAIN_ERROR),
        t.TaskFailed(cause="timeout", not_undone=("charge", "resize[17]")),
    ),
    ("task_cancelled", 1): (t.TaskCancelled(), t.TaskCancelled(not_undone=("check#2",))),
    ("dead_letter_added", 1): (d.DeadLetterAdded(task_id=TASK_ID, step="charge", attempt=3),),
    ("dead_letter_investigated", 1): (d.DeadLetterInvestigated(task_id=TASK_ID, step="charge", attempt=3),),
    ("dead_letter_assigned", 1): (
        d.DeadLetterAssigned(task_id=TASK_ID, step="charge", attempt=3, owner="ada"),
        d.DeadLetterAssigned(task_id=TASK_ID, step="", attempt=0),
    ),
    ("dead_letter_noted", 1): (d.DeadLetterNoted(task_id=TASK_ID, step="charge", attempt=3, note='the "bank" ☕'),),
    ("dead_letter_resolved", 1): (d.DeadLetterResolved(task_id=TASK_ID, step="charge", attempt=3),),
    ("dead_letter_ignored", 1): (d.DeadLetterIgnored(task_id=TASK_ID, step="", attempt=0),),
    ("dead_letter_reopened", 1): (d.DeadLetterReopened(task_id=TASK_ID, step="charge", attempt=3),),
    ("domain_event_raised", 1): (
        t.DomainEventRaised(
            step="charge",
            attempt=2,
            name="payment.captured",
            outcome="success",
            data=RAW(b'{"cents":2500,"note":"\xc3\xa9"}'),
        ),
        t.DomainEventRaised(step="charge", attempt=1, name="payment_lost", outcome="permanent", data=t.NULL),
        t.DomainEventRaised(step="charge", attempt=1, name="payment_late", outcome="retryable", data=t.NULL),
        t.DomainEventRaised(step="charge", attempt=1, name="payment_ended", outcome="cancelled", data=t.NULL),
    ),
    ("usage_recorded", 1): (
        t.UsageRecorded(
            step="charge",
            attempt=2,
            meter="tokens_in",
            amount="1200",
            unit="token",
            model="claude-opus",
            cost="0.018",
            currency="USD",
            price="0.000015",
            prices="2026-11",
        ),
        t.UsageRecorded(
            step="charge", attempt=1, meter="pages", amount="2", excess="its budget: 12 tokens of at most 10"
        ),
        t.UsageRecorded(step="charge", attempt=1, meter="pages", amount="0.5"),
        t.UsageRecorded(step="charge", attempt=2, meter="pages", amount="3", late=True),
    ),
    ("progress_recorded", 1): (
        t.ProgressRecorded(step="charge", attempt=1, done=3.5, total=4.0, message="packing ☕"),
        t.ProgressRecorded(step="charge", attempt=1, done=3.0),
    ),
    ("template_registered", 1): (
        m.TemplateRegistered(namespace="shop", name="order_fulfillment", version="1.0.0", hash="ab" * 32),
    ),
    ("template_used", 1): (
        m.TemplateUsed(namespace="shop", name="order_fulfillment", version="1.0.0", hash="ab" * 32),
    ),
    ("place_requested", 1): (
        t.PlaceRequested(key='"é 7"', limit=3, strategy="cancel_oldest", step="charge[2]", attempt=2),
        t.PlaceRequested(key="7", limit=1),
    ),
    ("place_taken", 1): (t.PlaceTaken(step="charge", attempt=1), t.PlaceTaken()),
    ("place_denied", 1): (
        t.PlaceDenied(step="charge", attempt=1, reason="evicted"),
        t.PlaceDenied(reason="full"),
        t.PlaceDenied(reason="evicted", taken_by=f"{TASK_ID}:charge[2]:1"),
    ),
    ("concurrency_key_opened", 1): (
        c.ConcurrencyKeyOpened(namespace="shop", template="order_fulfillment", key='"é 7"', step="charge"),
        c.ConcurrencyKeyOpened(namespace="shop", template="order_fulfillment", key="7"),
    ),
    ("places_asked", 1): (
        c.PlacesAsked(requests=(TASK_ID, f"{TASK_ID}:charge[2]:1"), limit=3),
        c.PlacesAsked(requests=(TASK_ID,), limit=3, priority=-7, share='"acme"', weight=2.5),
    ),
    ("places_moved", 1): (c.PlacesMoved(requests=(TASK_ID,), priority=40),),
    ("places_granted", 1): (
        c.PlacesGranted(requests=(TASK_ID,)),
        c.PlacesGranted(requests=(f"{TASK_ID}:~admission:{US}",), beyond=True),
    ),
    ("places_evicted", 1): (
        c.PlacesEvicted(requests=(TASK_ID,)),
        c.PlacesEvicted(requests=(TASK_ID,), taken_by=f"{TASK_ID}:charge[2]:1"),
    ),
    ("starts_met", 1): (c.StartsMet(requests=(f"{TASK_ID}:~debounce:{US}",), holder=f"{TASK_ID}:~debounce:{US - 1}"),),
    ("places_returned", 1): (c.PlacesReturned(requests=(TASK_ID,)),),
    ("concurrency_key_reconciled", 1): (c.ConcurrencyKeyReconciled(lost="not_woken", obligations=("look",)),),
    ("schedule_created", 1): (
        s.ScheduleCreated(namespace="shop", name="nightly", spec=SPEC, next_us=US, due_us=US + 1),
        s.ScheduleCreated(namespace="shop", name="nightly", spec=s.ScheduleSpec(template="report", every_us=1_000_000)),
    ),
    ("schedule_updated", 1): (
        s.ScheduleUpdated(spec=s.ScheduleSpec(template="report", at_us=(US, US + 1)), next_us=US, due_us=US),
        s.ScheduleUpdated(spec=SPEC),
    ),
    ("schedule_paused", 1): (s.SchedulePaused(note="closed"), s.SchedulePaused()),
    ("schedule_resumed", 1): (s.ScheduleResumed(note="open"), s.ScheduleResumed()),
    ("schedule_deleted", 1): (s.ScheduleDeleted(),),
    ("schedule_backfill_requested", 1): (
        s.ScheduleBackfillRequested(start_us=US, end_us=US + 2, overlap="allow", first_us=US + 1),
        s.ScheduleBackfillRequested(start_us=US, end_us=US + 2, overlap="buffer_all", first_us=US + 1, fires=1),
    ),
    ("schedule_backfill_stopped", 1): (s.ScheduleBackfillStopped(next_us=US + 1, end_us=US + 2),),
    ("schedule_fire_buffered", 1): (
        s.ScheduleFireBuffered(fire_us=US, next_us=US + 1, due_us=US + 2),
        s.ScheduleFireBuffered(fire_us=US),
    ),
    ("schedule_fired", 1): (
        s.ScheduleFired(fire_us=US, cause="time", task_id="t-1", key="schedule:a:b", next_us=US + 1, due_us=US + 2),
        s.ScheduleFired(fire_us=US, cause="trigger", task_id="t-1", key="schedule:a:b"),
    ),
    ("schedule_fires_skipped", 1): (
        s.ScheduleFiresSkipped(first_us=US, until_us=US + 1, reason="overlap", count=1, next_us=US + 1, due_us=US + 2),
        s.ScheduleFiresSkipped(first_us=US, until_us=US + 9, reason="missed"),
    ),
    ("schedule_task_started", 1): (
        s.ScheduleTaskStarted(task_id="t-1", duplicate=True),
        s.ScheduleTaskStarted(task_id="t-1"),
    ),
    ("schedule_start_refused", 1): (
        s.ScheduleStartRefused(task_id="t-1", code="template_unknown", detail="there is none"),
    ),
    ("schedule_tasks_ended", 1): (s.ScheduleTasksEnded(task_ids=("t-1", "t-2")),),
    ("schedule_reconciled", 1): (s.ScheduleReconciled(lost="forgotten", obligations=("fire", "start:t-1")),),
    ("work_paused", 1): (
        k.WorkPaused(scope="queue", namespace="shop", name="charges"),
        k.WorkPaused(scope="everything"),
    ),
    ("work_resumed", 1): (
        k.WorkResumed(scope="template", namespace="shop", name="order_fulfillment", ramp_s=600.0),
        k.WorkResumed(scope="tenant"),
    ),
    ("rate_limit_set", 1): (
        k.RateLimitSet(scope="queue", namespace="shop", name="charges", per_s=2.5, burst=10, key="input.customer"),
        k.RateLimitSet(scope="handler", namespace="shop", name="charge", per_s=0.1),
    ),
    ("circuit_opened", 1): (
        k.CircuitOpened(
            scope="handler",
            namespace="shop",
            name="charge",
            open_s=60.0,
            open_s_max=600.0,
            probes=3,
            ramp_s=30.0,
            again=1,
            failures=12,
            attempts=20,
            error="ConnectionError: the bank is down",
        ),
        k.CircuitOpened(scope="handler", namespace="shop", name="charge", open_s=30.0, open_s_max=30.0, probes=1),
    ),
    ("circuit_half_opened", 1): (k.CircuitHalfOpened(scope="handler", namespace="shop", name="charge"),),
    ("circuit_closed", 1): (
        k.CircuitClosed(scope="handler", namespace="shop", name="charge", ramp_s=30.0, anew=True),
        k.CircuitClosed(scope="handler", namespace="shop", name="charge"),
    ),
    ("rate_limit_removed", 1): (k.RateLimitRemoved(scope="handler", namespace="shop", name="charge"),),
}

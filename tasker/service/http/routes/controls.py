"""Routes of what holds work back: pauses, limits, circuits."""

from __future__ import annotations

from typing import Final

from tasker import errors
from tasker.events.messages import CircuitClose, CircuitOpen, ControlPause, ControlResume, LimitRemove, LimitSet
from tasker.events.reads import CircuitsView, ControlsView, EventPage, LimitsView
from tasker.service.http import controls, histories
from tasker.service.http import parameters as p
from tasker.service.http.operations import Body, Operation
from tasker.service.http.routes.parts import ACCEPTED, COMMAND, GET, POST, READ, SENT, Problems, ok

_CONTROL: Final[Problems] = (*COMMAND, errors.StateForbids)

CONTROLS: Final[tuple[Operation, ...]] = (
    Operation(
        method=GET,
        path="/v1/controls",
        id="getControls",
        endpoint=controls.get,
        summary="Show what operators hold back: since when, by whom and why.",
        tag="controls",
        parameters=(p.TENANT,),
        answers=ok(ControlsView, "What is paused, and what comes back slowly."),
        problems=READ,
    ),
    Operation(
        method=GET,
        path="/v1/controls/events",
        id="listControlEvents",
        endpoint=histories.of_controls,
        summary="List what pauses, limits and circuits were set, when, by whom and why, the newest first.",
        tag="controls",
        parameters=(p.TENANT, p.LIMIT, p.BEFORE_SEQ, p.CONTROL_SCOPE, p.NAMESPACE, p.NAME),
        answers=ok(EventPage, "A page of events."),
        problems=(*READ, errors.PositionInvalid),
    ),
    Operation(
        method=GET,
        path="/v1/limits",
        id="getLimits",
        endpoint=controls.limits,
        summary="Show the rate limits: those that operators set, and those of the templates in use.",
        tag="controls",
        parameters=(p.TENANT,),
        answers=ok(LimitsView, "The rate limits."),
        problems=READ,
    ),
    Operation(
        method=POST,
        path="/v1/controls/pause",
        id="pauseWork",
        endpoint=controls.pause,
        summary="Let no attempt of a queue, a template, a tenant or of everything begin.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=ControlPause),
        answers=ACCEPTED,
        problems=_CONTROL,
    ),
    Operation(
        method=POST,
        path="/v1/controls/resume",
        id="resumeWork",
        endpoint=controls.resume,
        summary="Let attempts begin again, at once or evenly spread over a while.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=ControlResume),
        answers=ACCEPTED,
        problems=_CONTROL,
    ),
    Operation(
        method=POST,
        path="/v1/limits/set",
        id="setRateLimit",
        endpoint=controls.set_limit,
        summary="Let so many attempts of a queue or a handler begin in a time.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=LimitSet),
        answers=ACCEPTED,
        problems=(*_CONTROL, errors.ExpressionInvalid),
    ),
    Operation(
        method=POST,
        path="/v1/limits/remove",
        id="removeRateLimit",
        endpoint=controls.remove_limit,
        summary="Let attempts of a queue or a handler begin as they come.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=LimitRemove),
        answers=ACCEPTED,
        problems=_CONTROL,
    ),
    Operation(
        method=GET,
        path="/v1/circuits",
        id="getCircuits",
        endpoint=controls.circuits,
        summary="Show the circuits that are not closed, and the breakers of the templates in use.",
        tag="controls",
        parameters=(p.TENANT,),
        answers=ok(CircuitsView, "The circuits."),
        problems=READ,
    ),
    Operation(
        method=POST,
        path="/v1/circuits/open",
        id="openCircuit",
        endpoint=controls.open_circuit,
        summary="Let no attempt of a handler begin, as if too many of them had failed.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=CircuitOpen),
        answers=ACCEPTED,
        problems=_CONTROL,
    ),
    Operation(
        method=POST,
        path="/v1/circuits/close",
        id="closeCircuit",
        endpoint=controls.close_circuit,
        summary="Let attempts of a handler begin again, as if none of them had failed.",
        tag="controls",
        parameters=SENT,
        body=Body(kind=CircuitClose),
        answers=ACCEPTED,
        problems=_CONTROL,
    ),
)

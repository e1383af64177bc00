"""Routes of templates."""

from __future__ import annotations

from typing import Final

from tasker import errors
from tasker.events.messages import TemplateRegister, TemplateUse
from tasker.events.reads import TemplatePage, TemplateView
from tasker.service.http import parameters as p
from tasker.service.http import templates
from tasker.service.http.operations import Body, Operation
from tasker.service.http.routes.parts import ACCEPTED, COMMAND, GET, LIST, POST, PUT, SENT, VIEW, Problems, ok

_TEMPLATE: Final[Problems] = (*COMMAND, errors.TemplateInvalid, errors.TemplateUnknown, errors.TemplateConflict)

TEMPLATES: Final[tuple[Operation, ...]] = (
    Operation(
        method=PUT,
        path="/v1/templates",
        id="registerTemplate",
        endpoint=templates.register,
        summary="Make a template known.",
        tag="templates",
        parameters=SENT,
        body=Body(kind=TemplateRegister),
        answers=ACCEPTED,
        problems=_TEMPLATE,
    ),
    Operation(
        method=GET,
        path="/v1/templates",
        id="listTemplates",
        endpoint=templates.list_templates,
        summary="List registered versions of templates.",
        tag="templates",
        parameters=(*LIST, p.NAMESPACE, p.NAME),
        answers=ok(TemplatePage, "A page of versions."),
        problems=VIEW,
    ),
    Operation(
        method=GET,
        path="/v1/templates/{namespace}/{name}",
        id="getTemplate",
        endpoint=templates.get,
        summary="Show the version in use, with its document.",
        tag="templates",
        parameters=(p.TENANT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH, p.AT_LEAST),
        answers=ok(TemplateView, "The version."),
        problems=(*VIEW, errors.TemplateUnknown),
    ),
    Operation(
        method=POST,
        path="/v1/templates/{namespace}/{name}/use",
        id="useTemplate",
        endpoint=templates.use,
        summary='Choose what "no version" of this template means for new tasks.',
        tag="templates",
        parameters=(*SENT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH),
        body=Body(kind=TemplateUse),
        answers=ACCEPTED,
        problems=_TEMPLATE,
    ),
    Operation(
        method=GET,
        path="/v1/templates/{namespace}/{name}/{version}",
        id="getTemplateVersion",
        endpoint=templates.get,
        summary="Show a version, with its document.",
        tag="templates",
        parameters=(p.TENANT, p.NAMESPACE_IN_PATH, p.NAME_IN_PATH, p.VERSION_IN_PATH, p.AT_LEAST),
        answers=ok(TemplateView, "The version."),
        problems=(*VIEW, errors.TemplateUnknown),
    ),
)

"""The application: endpoints below `/v1`, health, and what holds for all of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from aiohttp import web

from tasker.events.codec import BODY_BYTES_MAX
from tasker.service.http import events, health, refusals, tasks, templates
from tasker.service.http.event_scan import EventScan
from tasker.service.http.problems import errors_to_problems
from tasker.service.http.services import SERVICES, Services

KEEPALIVE_S: Final = 75.0


def create_app(services: Services) -> web.Application:
    """Return the application over `services`. It owns nothing: whoever made the parts closes them."""
    app = web.Application(middlewares=[errors_to_problems], client_max_size=BODY_BYTES_MAX)
    app[SERVICES] = services
    app.on_shutdown.append(_stop_waiting)
    app[tasks.CONTENTS] = OrderedDict()
    app[events.SCAN] = EventScan(services.tail, services.log, services.queries)
    app[events.STREAMS] = set()
    app.add_routes(
        [
            web.post("/v1/tasks", tasks.create),
            web.get("/v1/tasks", tasks.list_tasks),
            web.get("/v1/tasks/{task_id}", tasks.get),
            web.get("/v1/tasks/{task_id}/steps", tasks.steps),
            web.get("/v1/tasks/{task_id}/events", events.of_task),
            web.post("/v1/tasks/{task_id}/cancel", tasks.cancel),
            web.post("/v1/tasks/{task_id}/retry", tasks.retry),
            web.post("/v1/tasks/{task_id}/steps/{step}/retry", tasks.retry_step),
            web.put("/v1/templates", templates.register),
            web.get("/v1/templates", templates.list_templates),
            web.post("/v1/templates/use", templates.use),
            web.get("/v1/templates/{namespace}/{name}", templates.get),
            web.post("/v1/templates/{namespace}/{name}/use", templates.use),
            web.get("/v1/templates/{namespace}/{name}/{version}", templates.get),
            web.get("/v1/events", events.of_log),
            web.get("/v1/refusals", refusals.list_refusals),
            web.get("/v1/stats", health.stats),
            web.get("/health/live", health.live),
            web.get("/health/ready", health.ready),
        ]
    )
    return app


async def _stop_waiting(app: web.Application) -> None:
    """Let long polls and event streams end, so that the server can."""
    app[SERVICES].stopping.set()

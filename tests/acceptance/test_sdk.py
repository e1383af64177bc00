"""The SDK against the real service: progress from a process, seen through the sync client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasker import TaskerSyncClient
from tasker.client import TaskHandle
from tasker.errors import Busy, TaskUnknown, TemplateUnknown
from tests.acceptance.conftest import READY_S_MAX, Service

APP = Path(__file__).with_name("sdk_app.py")

pytestmark = [pytest.mark.linux, pytest.mark.timeout(120)]


def created(client: TaskerSyncClient, until_s: float) -> TaskHandle:
    """Return a new task, once a worker has made its template known."""
    while True:
        try:
            return client.create("digging", {})
        except TemplateUnknown:
            assert time.monotonic() < until_s
            time.sleep(0.05)


def test_progress_is_read_while_the_attempt_runs_and_the_sync_client_does_all_it_takes(
    service: Service, tmp_path: Path
) -> None:
    service.environ["SDK_APP_FOLDER"] = str(tmp_path)
    with (
        service.worker(f"{APP}:digging", "--processes", "1"),
        TaskerSyncClient(service.nats_url, service.http_url, nats_prefix=service.nats_prefix, environ={}) as client,
    ):
        until_s = time.monotonic() + READY_S_MAX
        handle = created(client, until_s)
        while True:
            digs, checks = client.steps(handle)
            if digs.progress is not None:
                break
            assert time.monotonic() < until_s
            time.sleep(0.05)
        assert (digs.state, digs.progress.attempt, digs.progress.total) == ("running", 1, 100)
        assert digs.progress.message == "digging"
        assert (checks.state, checks.progress) == ("pending", None)
        (tmp_path / "enough").touch()
        view = client.wait(handle, timeout_s=40)
        assert view.state == "completed"
        assert [step.progress for step in client.steps(handle, at_least=view.position)] == [None, None]
        assert [task.task_id for task in client.list(template="digging")] == [handle.task_id]
        assert [event.type for event in client.events(handle)][-1] == "task_completed"
        with client.subscribe(task=handle, start="start") as events:
            types = [next(events).type for _ in range(2)]
            assert events.position is not None
        assert types[0] == "tasker.task_created.v1"
        with client.subscribe(task=handle) as events:
            assert events.next(timeout_s=0.2) is None
        with pytest.raises(TaskUnknown):
            client.get("00000000-0000-7000-8000-000000000000")


def test_a_cap_is_busy_over_nats_and_http_until_there_is_room(service: Service) -> None:
    template = {"name": "narrow", "max_running": 1, "steps": [{"name": "only"}]}
    with (
        TaskerSyncClient(service.nats_url, "", nats_prefix=service.nats_prefix, timeout_s=20, environ={}) as over_nats,
        TaskerSyncClient("", service.http_url, timeout_s=1, environ={}) as over_http,
    ):
        over_nats.register(template)
        over_nats.register({"name": "long", "max_ready": 1, "steps": [{"name": "only"}]})
        over_nats.create("long", {})
        with pytest.raises(Busy, match="queue default/long") as busy:
            over_http.create("long", {})  # nobody serves the queue
        assert busy.value.context == {"cap": "max_ready", "queue": "long"}
        over_nats.register({"name": "one", "singleton": "input.shop", "steps": [{"name": "only"}]})
        one = over_nats.create("one", {"shop": "a"})
        again = over_http.create("one", {"shop": "a"})
        assert (again.task_id, again.duplicate) == (one.task_id, True)
        assert over_http.create("one", {"shop": "b"}).task_id != one.task_id
        first = over_nats.create("narrow", {})
        with pytest.raises(Busy, match="max_running") as busy:
            over_http.create("narrow", {})
        assert busy.value.retry_after_s == 1.0
        place = urlsplit(service.http_url)
        with closing(HTTPConnection(place.hostname or "", place.port)) as http:
            headers = {"Content-Type": "application/json"}
            http.request("POST", "/v1/tasks", b'{"template": "narrow", "input": {}}', headers)
            answer = http.getresponse()
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(over_nats.create, "narrow", {})
            over_http.cancel(first, requested_by="ada", reason="make room")
            assert waiting.result().task_id != first.task_id

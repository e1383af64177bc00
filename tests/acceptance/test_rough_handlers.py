"""A handler that misbehaves fails its own step with a clear error; the worker lives and serves the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasker.events.reads import StepView
from tests.acceptance.conftest import Process, Service

APP = Path(__file__).with_name("rough_app.py")
WAIT_S = 40.0

pytestmark = [pytest.mark.linux, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def worker(service: Service) -> Iterator[Process]:
    with service.worker(APP) as running:
        service.create_when_registered("fine", {})
        yield running


async def failed_step(service: Service, template: str) -> StepView:
    """Return the only step of a new task, once it has failed and the task is blocked by it."""
    async with service.client() as client:
        handle = await client.create(template, {})
        view = await client.wait(handle, timeout_s=WAIT_S)
        assert (view.state, view.result) == ("blocked", None)
        [step] = await client.steps(handle, at_least=view.position)
        assert (step.state, step.attempt) == ("failed", 1)
        assert step.error is not None
        return step


@pytest.mark.parametrize(
    ("template", "type_", "told"),
    [
        ("set-result", "result_invalid", "set"),
        ("nan-result", "result_invalid", "nan"),
        ("big-result", "result_invalid", "65536"),
        ("object-result", "result_invalid", "object"),
        ("base-exception", "Odd", "out of the ordinary"),
        ("sync-exit", "SystemExit", "3"),
        ("async-exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", ""),
    ],
)
async def test_a_misbehaving_handler_fails_its_step(
    service: Service, worker: Process, template: str, type_: str, told: str
) -> None:
    before = children(worker)
    step = await failed_step(service, template)
    assert step.error is not None
    assert step.error.type.endswith(type_), step.error
    assert told in step.error.message.lower(), step.error
    async with service.client() as client:
        handle = await client.create("fine", {}, wait_s=WAIT_S)
    assert handle.task is not None
    assert handle.task.result is not None
    assert bytes(handle.task.result) == b'"fine"'
    assert worker.ended() is None
    assert children(worker) == before, "the process of the handlers was replaced"


@pytest.mark.parametrize(
    ("template", "line"), [("blocking", "# noqa: ASYNC251 - the blocking line"), ("sync-blocking", "of the thread")]
)
async def test_a_blocking_handler_is_failed_with_the_line_that_blocks(
    service: Service, worker: Process, template: str, line: str
) -> None:
    step = await failed_step(service, template)
    assert step.error is not None
    assert (step.error.type, step.error.retryable) == ("timeout", True)
    assert step.error.stack is not None
    assert "time.sleep(4)" in step.error.stack
    number = next(n for n, text in enumerate(APP.read_text().splitlines(), 1) if line in text and "sleep" in text)
    assert f'rough_app.py", line {number}' in step.error.stack
    async with service.client() as client:
        handle = await client.create("fine", {}, wait_s=WAIT_S)
    assert handle.task is not None
    assert handle.task.state == "completed"
    assert worker.ended() is None


async def test_the_worker_tells_of_a_failed_attempt_with_the_line_that_raised(
    service: Service, worker: Process
) -> None:
    """Whoever watches `tasker up` sees why her step fails; the log has one form, whichever process writes a line."""
    step = await failed_step(service, "base-exception")
    lines = [line for line in said(worker) if line["event"] == "attempt_failed" and line["task_id"] == step.task_id]
    assert [(line["step"], line["attempt"], line["level"]) for line in lines] == [(step.step, 1, "info")]
    assert lines[0]["error"].endswith(": the handler raised Odd, which is no Exception: out of the ordinary")
    assert 'rough_app.py", line' in lines[0]["exception"]


async def test_what_a_handler_logs_in_a_process_names_its_attempt_and_nothing_of_the_one_before(
    service: Service, worker: Process
) -> None:
    tasks: dict[str, str] = {}
    processes: set[bytes] = set()
    async with service.client() as client:
        while len(processes) == len(tasks):  # until one of the pool's processes runs a second attempt
            text = f"n{len(tasks)}"
            handle = await client.create("logging-process", text, wait_s=WAIT_S)
            assert handle.task is not None
            assert handle.task.result is not None
            tasks[text] = handle.task_id
            processes.add(bytes(handle.task.result))
    for text, task_id in tasks.items():
        [line] = [line for line in said(worker) if line["event"] == f"said {text}"]
        assert (line["task_id"], line["step"], line["attempt"]) == (task_id, "says_in_a_process", 1)
        assert [name for name in line if name.startswith("bound_")] == [f"bound_{text}"]


async def test_the_parent_of_a_worker_that_died_says_so_as_all_others_do(service: Service, worker: Process) -> None:
    step = await failed_step(service, "dying")
    assert step.error is not None
    assert step.error.type == "worker_lost"
    assert 7 in [line["exit_code"] for line in said(worker) if line["event"] == "worker_restarts"]


@pytest.mark.parametrize(("given", "code"), [("raise", b"1"), ("return", b"0")])
async def test_a_forked_child_that_comes_back_from_its_handler_ends(
    service: Service, worker: Process, given: str, code: bytes
) -> None:
    async with service.client() as client:
        handle = await client.create("forking", given, wait_s=WAIT_S)
    assert handle.task is not None
    assert (handle.task.state, bytes(handle.task.result or b"")) == ("completed", code)


def said(worker: Process) -> list[dict[str, Any]]:
    """Return the worker's log so far; every line of it is JSON."""
    return [json.loads(line) for line in worker.log.read_text().splitlines()]


def children(worker: Process) -> set[int]:
    return {child.pid for child in psutil.Process(worker.pid).children()}

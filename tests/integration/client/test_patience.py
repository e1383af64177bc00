"""What `tasker task create --wait` says while nothing happens, against a scripted HTTP service."""

import asyncio

import pytest
from aiohttp import web

from tasker.cli import patience
from tests.integration.client.scripted import as_json
from tests.integration.client.test_over_http import client_of, view


class Waiting:
    """A task at one step, which nobody works on until `words` says otherwise."""

    def __init__(self) -> None:
        self.words: str | None = "a worker for step only"
        self.kind = "worker"
        self.looks = 0
        self.looked = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.looks += 1
        if self.looks % 3 == 0:
            self.looked.set()
        return as_json(view(waiting_on=self.words, waiting_facts=[{"kind": self.kind, "step": "only"}]))

    async def three_looks(self) -> None:
        self.looked.clear()
        async with asyncio.timeout(60):
            await self.looked.wait()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.01)
    monkeypatch.setattr(patience, "AGAIN_S", 0.01)


async def test_it_says_what_is_waited_for_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and again when it is something else."""
    notes: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(patience, "note", notes.put_nowait)
    waiting = Waiting()
    async with asyncio.timeout(60), client_of(waiting) as client, patience.telling(client, "t-1", "table"):
        first = await notes.get()
        await waiting.three_looks()
        assert notes.empty()
        # No worker helps where a circuit holds it.
        waiting.words, waiting.kind = "the circuit of handler h", "hold"
        # It may have been looked at between the two.
        while await notes.get() != "waiting on the circuit of handler h":
            pass
    assert first.startswith("waiting on a worker for step only; nobody has begun it yet: `tasker worker ")


async def test_a_service_that_does_not_answer_is_told_by_the_wait_itself(capsys: pytest.CaptureFixture[str]) -> None:
    asked = asyncio.Event()

    async def broken(_request: web.Request) -> web.StreamResponse:
        asked.set()
        return web.Response(status=502)

    async with client_of(broken, timeout_s=0.05) as client, patience.telling(client, "t-1", "table"):
        async with asyncio.timeout(60):
            await asked.wait()
    assert capsys.readouterr().err == ""


async def test_programs_are_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting()
    async with client_of(waiting) as client, patience.telling(client, "t-1", "json"):
        await asyncio.sleep(0.05)
    assert waiting.looks == 0
    assert capsys.readouterr().err == ""

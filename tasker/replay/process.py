"""A second process that verifies shards: started with `python -m`, told over its stdin, heard over its stdout.

JSON lines both ways. To it: the DSN (never in its arguments, which others can see), then one shard after the other.
From it: progress and findings, a result for each shard, or the error that ended it. It ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

import msgspec

from tasker.errors import Problem, TaskerError, Unavailable
from tasker.replay.findings import Finding, Report
from tasker.replay.shard import ShardResult

LINE_BYTES_MAX: Final = 1 << 20


class _Line(msgspec.Struct, omit_defaults=True):
    """What a process says: one of these."""

    events: int = 0
    finding: Finding | None = None
    result: ShardResult | None = None
    error: Problem | None = None


_encode = msgspec.json.encode
_lines = msgspec.json.Decoder(_Line)


class Process:
    """The parent's end of one process."""

    def __init__(self, child: asyncio.subprocess.Process, report: Report, on_progress: Callable[[int], None]) -> None:
        self._child = child
        self._report = report
        self._on_progress = on_progress

    @classmethod
    async def start(cls, dsn: str, report: Report, on_progress: Callable[[int], None]) -> Process:
        """Return a process that verifies shards of the log that `dsn` names."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tasker.replay.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        process = cls(child, report, on_progress)
        process._say(dsn)
        return process

    async def verify(self, shard: int) -> ShardResult:
        """Have one shard verified and return what was read.

        Raises:
            Unavailable: the log or the views cannot be read, or the process died.
        """
        self._say(shard)
        assert self._child.stdout is not None  # noqa: S101 - it was asked for
        while text := await self._child.stdout.readline():
            line = _lines.decode(text)
            if line.events:
                self._on_progress(line.events)
            if line.finding is not None:
                self._report(line.finding)
            if line.error is not None:
                raise TaskerError.from_problem(line.error)
            if line.result is not None:
                return line.result
        raise Unavailable(f"the process that verifies shard {shard} ended with code {await self._child.wait()}")

    async def stop(self) -> None:
        """End the process; a second time does nothing."""
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()

    def _say(self, what: str | int) -> None:
        assert self._child.stdin is not None  # noqa: S101 - it was asked for
        self._child.stdin.write(_encode(what) + b"\n")


async def _serve(said: BinaryIO, answers: BinaryIO) -> None:
    """Verify the shards that are asked for, until nobody asks any more."""
    from tasker.replay.verifier import Verifier, collecting_rarely, opened

    def say(line: _Line) -> None:
        answers.write(_encode(line) + b"\n")
        answers.flush()

    def heard(kind: type[str | int]) -> str | int | None:
        line = said.readline()
        return msgspec.json.decode(line, type=kind) if line else None

    dsn = heard(str)
    if not isinstance(dsn, str):
        return
    try:
        async with (
            opened(dsn) as (log, store),
            Verifier(
                log,
                store,
                lambda finding: say(_Line(finding=finding)),
                on_progress=lambda events: say(_Line(events=events)),
            ) as verifier,
        ):
            with collecting_rarely():
                while isinstance(shard := await asyncio.to_thread(heard, int), int):
                    say(_Line(result=await verifier.verify(shard)))
    except TaskerError as error:
        say(_Line(error=error.problem()))


def main() -> None:
    """Be such a process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not come between the lines
    serving = _serve(sys.stdin.buffer, answers)
    if sys.platform == "win32":
        asyncio.run(serving)
    else:
        import uvloop

        uvloop.run(serving)


if __name__ == "__main__":
    main()

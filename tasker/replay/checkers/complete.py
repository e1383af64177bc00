"""I2: positions of a shard and seqs of a stream count from 1 without gaps, and the hash chain holds.

A batch whose digest is not the one computed names the place of a change behind our back: from its first to its
last position. Only that batch is reported: the next one may continue the computed digest (the stored digest was
changed) or the stored one (an event was).
"""

from __future__ import annotations

import struct
from typing import Final
from uuid import UUID

from tasker.events.chain import GENESIS, digest_of_batch, leaf_of
from tasker.events.envelope import RecordedEvent
from tasker.events.task_events import ENDING_TYPES
from tasker.replay.checkers.checker import Decoded, forget_oldest
from tasker.replay.findings import Finding, Invariant, Report

ENDED_REMEMBERED: Final = 100_000
"""Streams that ended are forgotten after so many others: an event behind that reads as one of a headless stream."""


class CompleteChecker:
    """Checks one shard from its first position on."""

    def __init__(self, shard: int, report: Report, *, ended_remembered: int = ENDED_REMEMBERED) -> None:
        self._shard = shard
        self._report = report
        self._ended_remembered = ended_remembered
        self._position = 0
        self._seqs: dict[UUID, int] = {}
        self._ended: dict[UUID, int] = {}
        self._digests: tuple[bytes, ...] = (GENESIS,)
        self._leaves: list[bytes] = []
        self._batch_from = 1

    def take(self, recorded: RecordedEvent, event: Decoded) -> None:  # noqa: ARG002 - the checkers' protocol
        """Check the next event of the shard."""
        position = recorded.position
        if position != self._position + 1 or recorded.shard != self._shard:
            self._find(recorded, f"position {position} of shard {recorded.shard} follows {self._position}")
        self._position = position
        seq = recorded.seq
        stream_id = recorded.stream_id
        if recorded.type in ENDING_TYPES:
            last = self._seqs.pop(stream_id, 0) or self._ended.pop(stream_id, 0)
            self._ended[stream_id] = seq
            forget_oldest(self._ended, kept_max=self._ended_remembered)
        else:
            last = self._seqs.get(stream_id, 0)
            if seq != last + 1 and not last:
                last = self._ended.get(stream_id, 0)
            self._seqs[stream_id] = seq
        if seq != last + 1:
            what = f"follows {last} in its stream" if last else "begins its stream, or follows its end long after"
            self._find(recorded, f"seq {seq} {what}")
        try:
            leaf = leaf_of(recorded, shard=recorded.shard, position=position, epoch=recorded.epoch)
        except (struct.error, OverflowError):
            leaf = b"a number that no event can have"
        self._leaves.append(leaf)
        if recorded.chain is not None:
            self._end_batch(recorded.chain, position)

    def close(self) -> None:
        """Check that the shard ends with a batch."""
        if self._leaves:
            self._find_batch(self._position, "no digest ends the batch")
            self._leaves.clear()

    def _end_batch(self, chain: bytes, position: int) -> None:
        computed = tuple(digest_of_batch(before, self._leaves) for before in self._digests)
        if chain in computed:
            self._digests = (chain,)
        else:
            self._find_batch(position, "the chain does not hold: something in it was changed")
            self._digests = (chain, *computed[:1])
        self._leaves = []
        self._batch_from = position + 1

    def _find(self, recorded: RecordedEvent, detail: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.COMPLETE,
                shard=self._shard,
                position=recorded.position,
                task_id=str(recorded.stream_id),
                detail=detail,
            )
        )

    def _find_batch(self, last: int, what: str) -> None:
        self._report(
            Finding(
                invariant=Invariant.COMPLETE,
                shard=self._shard,
                position=self._batch_from,
                last_position=last,
                detail=f"batch of shard {self._shard}, positions {self._batch_from} to {last}: {what}",
            )
        )

"""Numbers as they are read at a scrape, in a form that passes between processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tasker.metrics.catalogue import CATALOGUE
from tasker.metrics.histogram import Histogram


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One time series at one moment.

    Attributes:
        labels: the values of the metric's labels, in the catalogue's order.
        value: of a counter or gauge; a histogram's sum.
        counts: a histogram's values by bucket, each counted once.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


class Samples:
    """Gathers the samples of one process for one scrape.

    Args:
        process: `write` or `read`, the first label of what both tell.
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self.found: list[Sample] = []

    def add(self, name: str, value: float, *labels: str) -> None:
        """Tell a counter or gauge; the label `process` is added where the metric has it."""
        self.found.append(Sample(name, self._labels(name, labels), float(value)))

    def add_counts(self, name: str, counts: Iterable[tuple[str, float]]) -> None:
        """Tell a counter by its one label."""
        for label, value in counts:
            self.add(name, value, label)

    def add_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """Tell a histogram."""
        self.found.append(Sample(name, self._labels(name, labels), histogram.sum, tuple(histogram.counts)))

    def _labels(self, name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        wanted = CATALOGUE[name].labels
        full = (self._process, *labels) if wanted[:1] == ("process",) else labels
        if len(full) != len(wanted):
            message = f"{name} has the labels {', '.join(wanted) or 'none'}; told: {', '.join(full) or 'none'}"
            raise ValueError(message)
        return full


def encode_samples(samples: Iterable[Sample]) -> bytes:
    """Return samples as they pass between processes."""
    return msgspec.json.encode(list(samples))


def decode_samples(data: bytes) -> list[Sample]:
    """Return what `encode_samples` was given.

    Raises:
        msgspec.DecodeError: it is none.
    """
    found: Any = msgspec.json.decode(data, type=list[Sample])
    return [sample for sample in found if sample.name in CATALOGUE]

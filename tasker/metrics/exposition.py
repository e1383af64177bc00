"""Samples as the text that Prometheus reads; the form is prometheus-client's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tasker.metrics.catalogue import CATALOGUE, Kind
from tasker.metrics.sample import Sample


def render(samples: Iterable[Sample], accept: str = "") -> tuple[bytes, str]:
    """Return the exposition of `samples` and its content type, as the `Accept` header asks."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(samples))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Told(Collector):
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.name, []).append(sample)

    def collect(self) -> Iterator[Metric]:
        for name, metric in CATALOGUE.items():
            found = self._by_name.get(name)
            if found:
                yield _family(name, metric.kind, found)


def _family(name: str, kind: Kind, samples: Iterable[Sample]) -> Metric:
    metric = CATALOGUE[name]
    if kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        bounds = [*(repr(bound) for bound in metric.bounds), "+Inf"]
        for sample in samples:
            buckets = list(zip(bounds, map(float, accumulate(sample.counts)), strict=True))
            histogram.add_metric(sample.labels, buckets=buckets, sum_value=sample.value)
        return histogram
    make = CounterMetricFamily if kind is Kind.COUNTER else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = make(name, metric.help, labels=metric.labels)
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family

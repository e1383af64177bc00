"""What the service counts and measures: the catalogue, what holds the numbers, and how they are told."""

from tasker.metrics.catalogue import CATALOGUE, Kind, Metric
from tasker.metrics.histogram import Histogram
from tasker.metrics.sample import Sample, Samples

__all__ = ["CATALOGUE", "Histogram", "Kind", "Metric", "Sample", "Samples"]

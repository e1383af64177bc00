"""The alerts name metrics and labels that there are, and each has a section on the page for whoever is woken."""

import re
from typing import Any

import pytest
import yaml

from tasker.events.stored import TYPE_OF
from tasker.metrics import CATALOGUE, Kind
from tests.architecture.tree import ROOT
from tests.docs.test_links import anchors_of

FILE = ROOT / "deploy" / "alerts.yaml"
PAGE = ROOT / "docs" / "howto" / "operate.md"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
OF_PROMETHEUS = {"instance", "le", "job"}
METRIC = re.compile(r"\b(tasker_\w+?)(_bucket)?\b(?=[^\w]|$)")


def each() -> Any:
    return pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@each()
def test_it_asks_for_what_is_measured(rule: dict[str, Any]) -> None:
    found = [(name, bool(bucket)) for name, bucket in METRIC.findall(rule["expr"])]
    assert found
    for name, bucket in found:
        assert (CATALOGUE[name].kind is Kind.HISTOGRAM) == bucket, name
        assert (CATALOGUE[name].kind is Kind.GAUGE) != bool(re.search(rf"(rate|increase)\({name}", rule["expr"])), name
    kept = {label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")}
    of_metrics = {label for name, _ in found for label in CATALOGUE[name].labels}
    # Those of both processes have a label `process`.
    assert kept <= OF_PROMETHEUS | of_metrics | {"process" for name, _ in found if CATALOGUE[name].process == "both"}
    types = set(TYPE_OF.values())
    assert all(named in types for named in re.findall(r'type="([^"]+)"', rule["expr"]))


@each()
def test_it_has_a_section_for_whoever_is_woken(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["section"] in anchors_of(PAGE)
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_each_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def test_what_the_page_takes_from_the_log_is_said_by_the_service() -> None:
    """Names of log lines and findings on the page, held against the source."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tasker").rglob("*.py"))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE.read_text(encoding="utf-8")))
    assert {one for one in named if not one.startswith("tasker_") and f'"{one}"' not in source} == set()

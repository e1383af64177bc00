"""What goes with an attempt's outcome: its last progress, usage and what that means, domain events.

In one unit: the start where it was not known, progress, usage, domain events, the outcome, and its consequences.
"""

from __future__ import annotations

from tasker.events.messages import Report
from tasker.service.domain.costs.prices import PriceTable
from tasker.service.domain.costs.usage import settle_usage
from tasker.service.domain.steps.domain_events import settle_emitted
from tasker.templates import CompiledTemplate


def settle_facts(template: CompiledTemplate, report: Report, prices: PriceTable | None) -> None:
    """Hold what goes with the outcome in `report` to its rules; it may be a failed one afterwards."""
    settle_emitted(template, report)
    settle_usage(report, prices)

"""What goes with an attempt's outcome: its last progress, usage and what that means, domain events.

In one unit: the start where it was not known, progress, usage, domain events, the outcome, and its consequences.
"""

from __future__ import annotations

from tasker.events.messages import Report
from tasker.service.domain.domain_events import settle_emitted
from tasker.service.domain.prices import PriceTable
from tasker.service.domain.usage import settle_usage
from tasker.templates import CompiledTemplate


def settle_facts(template: CompiledTemplate, report: Report, prices: PriceTable | None) -> None:
    """Hold what goes with the outcome in `report` to its rules; it may be a failed one afterwards."""
    settle_emitted(template, report)
    settle_usage(report, prices)

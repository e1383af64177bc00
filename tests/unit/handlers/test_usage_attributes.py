"""What a handler's span tells of usage."""

from tasker.events.usage import usage_line, usage_lines
from tasker.handlers.attempt import usage_attributes


def test_tokens_have_the_names_of_the_conventions_and_costs_that_of_their_currency() -> None:
    lines = (
        *usage_lines("opus", tokens_in=10, tokens_out=2, cost="0.1", currency="USD"),
        *usage_lines("haiku", tokens_in=5, tokens_out=0, cost=None, currency="USD"),
        usage_line("pages", 1, cost="0.2", currency="USD"),
    )
    assert usage_attributes(lines) == {
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": 2,
        "tasker.usage.cost.usd": "0.3",
        "gen_ai.request.model": "opus, haiku",
    }
    assert usage_attributes(()) == {}

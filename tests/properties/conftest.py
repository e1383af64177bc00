"""How many examples: the default profile is for each change, `long` for `make fuzz`, each time with others."""

import os

from hypothesis import HealthCheck, settings

from tasker.templates.expressions import compile_expression

settings.register_profile(
    "long",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
    deadline=None,
    derandomize=False,
    suppress_health_check=list(HealthCheck),
)

compile_expression("true")
"""The first one builds the grammar, which is no example's time."""

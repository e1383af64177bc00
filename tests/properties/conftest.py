"""How many examples: the default profile is for each change, `long` for `make fuzz`."""

from hypothesis import HealthCheck, settings

settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))

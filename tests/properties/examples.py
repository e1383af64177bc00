"""How many examples a property gets where they cost more, or less, than usual."""

from hypothesis import settings


def examples(share: float) -> int:
    """Return that share of what the profile gives to each; ask for it when the profile is loaded, in a test module."""
    usual = settings.default.max_examples if settings.default is not None else 100
    return max(1, round(usual * share))

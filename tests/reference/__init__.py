"""A second, independent reading of the documentation, to test the real core against."""

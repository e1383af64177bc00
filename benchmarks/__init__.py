"""The service measured against a floor of its own. See benchmarks/results/README.md."""

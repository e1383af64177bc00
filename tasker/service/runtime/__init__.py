"""How it runs: actors, commits, leases."""

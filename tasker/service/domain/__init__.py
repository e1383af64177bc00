"""The pure core: what should happen. No clock, no randomness, no I/O."""

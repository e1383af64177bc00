"""Which command, now: actors that join the domain to the runtime."""

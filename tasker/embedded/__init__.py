"""Real servers from wheels: PostgreSQL and nats-server without an installation."""

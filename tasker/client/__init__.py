"""How it is asked for: the client."""

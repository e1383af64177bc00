"""How committed events reach the event stream."""

"""How it is asked for over HTTP."""

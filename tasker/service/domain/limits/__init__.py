"""How much may run at once, and who goes first."""

"""What the log proves: verification and state at a point."""

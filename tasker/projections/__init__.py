"""What it looks like: views folded from the log."""

"""What is wrong with an installation, and what to change: `tasker doctor`."""

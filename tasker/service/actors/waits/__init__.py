"""What the actors of tasks hear of events of other tasks."""

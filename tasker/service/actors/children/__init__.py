"""What the actors of tasks hear of each other."""

"""What a step waits for from outside: signals, answers of people, events of other tasks."""

"""The rules of tasks and steps: pure deciders and folds."""

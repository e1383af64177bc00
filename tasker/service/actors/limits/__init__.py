"""The actors of concurrency keys, and their words with tasks."""

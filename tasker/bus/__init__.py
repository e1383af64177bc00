"""The message bus that service, workers and clients share."""

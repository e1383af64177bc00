"""What should happen: the service and its composition."""

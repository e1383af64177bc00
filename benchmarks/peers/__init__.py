"""Other systems of durable workflows, driven as the service is."""

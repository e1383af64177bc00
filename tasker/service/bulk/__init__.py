"""Bulks: one command for everything that matches, given part by part by a worker inside the service."""

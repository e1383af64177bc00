"""Statements of the doctor."""

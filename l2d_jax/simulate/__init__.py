"""Simulated experts and tasks of which the truth is known."""

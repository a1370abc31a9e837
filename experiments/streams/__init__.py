"""Closed-loop streams: the methods, the studies and their tables."""

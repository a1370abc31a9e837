"""Learners: one file per method family, each built on the pure losses."""

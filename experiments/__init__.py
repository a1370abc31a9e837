"""Experiment programs: ``python -m experiments.NAME --config=FILE --workdir=DIR``."""

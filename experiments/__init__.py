"""Experiment programs: ``python -m experiments.NAME --config=FILE.py --workdir=DIR``."""

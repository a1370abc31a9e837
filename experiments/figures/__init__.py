"""Figures of the experiments, drawn from their tables alone."""

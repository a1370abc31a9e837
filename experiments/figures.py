"""How figures are written: without a display, and closed afterwards."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    """Write a figure as PNG and forget it."""
    figure.savefig(path, dpi=120)
    plt.close(figure)

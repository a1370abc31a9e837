"""How figures are written: without a display, and closed afterwards."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from experiments.runtime.workdir import replacing


def save(figure: plt.Figure, path: pathlib.Path) -> None:
    """Write a figure as PNG, in one move, and forget it.

    Raises:
      OSError: it cannot be written; it names ``path``.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)

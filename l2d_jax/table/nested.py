"""Nested dictionaries of arrays, as a file holds them: flat, each by its path."""

import numpy as np

from l2d_jax.types import PyTree


def flatten(tree: PyTree, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of nested dictionaries by their path; names hold no slash."""
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree, order="C")}
    found: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        found |= flatten(value, f"{prefix}/{name}" if prefix else name)
    return found


def unflatten(flat: dict[str, np.ndarray]) -> dict[str, PyTree]:
    """The nested dictionaries that `flatten` took apart; empty ones are lost."""
    tree: dict[str, PyTree] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree

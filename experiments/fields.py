"""Checks of single config fields, whatever the experiment.

Each raises a `ConfigError` with one line that names the field, its value and what it
may be.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from experiments.runtime.errors import ConfigError


def one_of(field: str, value: Any, known: Iterable[Any]) -> None:
    """The value is one of the known names."""
    if value not in known:
        names = ", ".join(map(str, known))
        raise ConfigError(f"{field} must be one of {names}, got {value!r}")


def values(field: str, values: Any) -> None:
    """The value is a list or tuple that is not empty."""
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{field} must hold at least one value, got {values!r}")


def whole(field: str, value: Any, low: int, high: float = math.inf) -> None:
    """The value is a whole number from low to high."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        limit = f">= {low}" if high == math.inf else f"in {low}..{high}"
        raise ConfigError(f"{field} must be a whole number {limit}, got {value!r}")


def number(field: str, value: Any, low: float, high: float = math.inf) -> None:
    """The value is a finite number from low to high."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        limit = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"{field} must be a finite number {limit}, got {value!r}")


def positive(field: str, value: Any) -> None:
    """The value is a finite number above 0."""
    number(field, value, 0.0)
    if value == 0:
        raise ConfigError(f"{field} must be > 0, got {value}")

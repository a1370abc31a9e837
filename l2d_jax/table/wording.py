"""Numbers as a reader takes them in: shares, points, intervals and names."""

import unicodedata
from datetime import date, timedelta

import numpy as np

UNKNOWN = "\N{EN DASH}"
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NO_CHARACTER = "\ufffe\uffff"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def fixed(value: float, places: int, sign: bool = False) -> str:
    """A number with that many decimals, and no sign of its zero; a dash for NaN."""
    if np.isnan(value):
        return UNKNOWN
    text = f"{value:{'+' if sign else ''}.{places}f}"
    return f"{0:.{places}f}" if float(text) == 0 else text


def percent(share: float, places: int = 1) -> str:
    """``81.2 %`` of 0.812; a dash for NaN."""
    text = fixed(100 * share, places)
    return text if text == UNKNOWN else f"{text} %"


def rough_percent(share: float) -> str:
    """In whole percent, but nothing is called 0 or 100 % that is not."""
    text = fixed(100 * share, 0)
    if (text == "0" and share > 0) or (text == "100" and share < 1):
        text = fixed(100 * share, 1)
    if text == "0.0":
        return "less than 0.1 %"
    if text == "100.0":
        return "more than 99.9 %"
    return text if text == UNKNOWN else f"{text} %"


def interval(low: float, high: float, places: int = 1) -> str:
    """``78.0 to 84.1`` of two shares, in percent or points; a dash if one is NaN."""
    if np.isnan(low) or np.isnan(high):
        return UNKNOWN
    return f"{fixed(100 * low, places)} to {fixed(100 * high, places)}"


def p_value(p: float) -> str:
    """With two significant digits where they matter; a dash for NaN."""
    if np.isnan(p):
        return UNKNOWN
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def significant(value: float) -> str:
    """With three significant digits; a dash for NaN."""
    if np.isnan(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - int(np.floor(np.log10(abs(value)))))}f}"


def day(days: float) -> str:
    """``2026-12-31`` of days since 1970, the part of a day left out; a dash for NaN."""
    if np.isnan(days):
        return UNKNOWN
    return (date(1970, 1, 1) + timedelta(days=int(np.floor(days)))).isoformat()


def count(number: float) -> str:
    """``6,175``; a dash for NaN."""
    return UNKNOWN if np.isnan(number) else f"{int(number):,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """``1 case``, ``2 cases``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def printable(text: str) -> str:
    """On one line, without what a terminal or a page would take for a command.

    Line breaks and tabs become spaces. Other control characters, those that turn the
    direction of what follows, and halves of a surrogate pair, which no UTF-8 file may
    hold, become the replacement character.
    """
    kept = [
        " "
        if character in "\t\n\r\u0085\u2028\u2029"
        else _REPLACEMENT
        if unicodedata.category(character) in ("Cc", "Cs")
        or character in _TURNS + _NO_CHARACTER
        else character
        for character in str(text)
    ]
    return "".join(kept)


def shorten(text: str, width: int) -> str:
    """As much of a name as fits into that many columns, with an ellipsis if cut."""
    text = printable(text)
    widths = np.cumsum(
        [1 + (unicodedata.east_asian_width(character) in "WF") for character in text]
    )
    if not len(text) or widths[-1] <= width:
        return text
    return text[: int(np.searchsorted(widths, width - 1, side="right"))] + "…"

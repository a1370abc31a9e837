"""Docstrings as Markdown: their formulas and tables, which are reStructuredText."""

import re
import textwrap
from typing import Any

import griffe

_INLINE = re.compile(r":math:`([^`]*)`")
_REFERENCE = re.compile(r"(?<!`)`((?:l2d_jax|experiments)\.[\w.]+)`(?!`)")
_DISPLAY = re.compile(
    r"^(?P<indent> *)\.\. math::[ ]*(?P<body>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE
)
_TABLE = re.compile(r"^=+(?: +=+)+\n(?:.*\n)*=+(?: +=+)+$", re.MULTILINE)


def to_markdown(text: str) -> str:
    """A docstring with its formulas and tables as Markdown has them."""

    def display(match: re.Match[str]) -> str:
        body = " ".join(match["body"].split())
        return textwrap.indent(f"\n$$\n{body}\n$$\n", match["indent"])

    text = _TABLE.sub(lambda match: f"```text\n{match[0]}\n```", text)
    text = _DISPLAY.sub(display, text)
    text = _INLINE.sub(lambda match: f"\\({' '.join(match[1].split())}\\)", text)
    # A link where the name has a place in these pages, and code where it has none.
    return _REFERENCE.sub(
        r'<autoref identifier="\1" optional><code>\1</code></autoref>', text
    )


class Markdown(griffe.Extension):
    """Changes the docstring of everything that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change one."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)

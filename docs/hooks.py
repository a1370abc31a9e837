"""Quotes of the code in the pages: what is shown is what runs.

A line ``<!-- quote: FILE NAME -->`` of a page becomes that part of the file: a
function, class or variable NAME, or the entry KEY of a table, ``TABLE[KEY]``. Without
NAME it is the whole file. A name that is not there ends the build.
"""

import ast
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parents[1]
QUOTE = re.compile(r"^<!-- quote: (\S+)(?: (\S+))? -->$", re.MULTILINE)


def find(tree: ast.Module, name: str) -> tuple[int, int] | None:
    """First and last line of what is called so at the top of a file."""
    table, _, key = name.rstrip("]").partition("[")
    for node in tree.body:
        names = [getattr(node, "name", None)]
        if isinstance(node, ast.Assign):
            names = [getattr(target, "id", None) for target in node.targets]
        if isinstance(node, ast.AnnAssign):
            names = [getattr(node.target, "id", None)]
        if table not in names:
            continue
        if not key:
            first = min(
                [node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]
            )
            return first, node.end_lineno or node.lineno
        value = getattr(node, "value", None)
        if isinstance(value, ast.Dict):
            for entry, row in zip(value.keys, value.values, strict=True):
                if isinstance(entry, ast.Constant) and entry.value == key:
                    return entry.lineno, row.end_lineno or row.lineno
    return None


def quote(path: str, name: str | None) -> str:
    """A part of a file of the repository as a block of code.

    Raises:
      LookupError: the file or the name is not there.
    """
    file = ROOT / path
    if not file.is_file():
        raise LookupError(f"quote: there is no file {path}")
    text = file.read_text()
    if name:
        lines = find(ast.parse(text), name)
        if lines is None:
            raise LookupError(f"quote: {path} has no {name}")
        shown = text.split("\n")[lines[0] - 1 : lines[1]]
        text = textwrap.dedent("\n".join(shown))
    return f'```py title="{path}"\n{text.rstrip()}\n```'


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """Fill in the quotes of a page."""
    del kwargs
    return QUOTE.sub(lambda match: quote(match[1], match[2]), markdown)

"""What the README and the pages of docs say: their code runs, their links lead on."""

import importlib.util
import pathlib
import re

import pytest

from experiments.imputers import IMPUTERS
from experiments.methods import METHODS, matrix
from experiments.problems import PROBLEMS
from experiments.trainings import TRAININGS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Pages whose code trains for seconds.
WHOLE = ("cases", "concepts", "extending")
BLOCK = re.compile(r"(<!-- not run: ?(.*?) ?-->\n+)?^```python\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# Up to what is no longer a path: a scale, a test, the end of a sentence.
PATH = re.compile(r"(?<![\w./-])(?:experiments|l2d_jax|tests|launch|docs)/[\w./-]+")


def name_of(page):
    return str(page.relative_to(ROOT))


def load_hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


@pytest.fixture
def tables_kept():
    """What the examples add to the tables of names is taken out again."""
    kept = [(table, dict(table)) for table in (IMPUTERS, METHODS, PROBLEMS, TRAININGS)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.mark.usefixtures("tables_kept", "cheap_compiles")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] * (page.stem in WHOLE))
        for page in PAGES
        if "```python" in page.read_text()
    ],
    ids=name_of,
)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    text = page.read_text()
    for match in BLOCK.finditer(text):
        mark, reason, code = match.groups()
        if mark:
            assert reason, f"{name_of(page)}: a block is not run and nobody says why"
            continue
        # Padded, so that an error names the line of the page.
        lines = text.count("\n", 0, match.start(3))
        exec(compile("\n" * lines + code, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_paths_exist(page):
    text = page.read_text()
    for link in LINK.findall(text):
        target = link.partition("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"link to {link}"
    for path in PATH.findall(re.sub(r"\w+://\S+", "", text)):
        assert (ROOT / path.rstrip(".")).exists(), f"path {path}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_quoted_is_there(page):
    load_hooks().on_page_markdown(page.read_text())


def test_programs_exist():
    for page in PAGES:
        for program in re.findall(
            r"python -m ((?:experiments|launch)[a-z_.]*)(?![A-Z])", page.read_text()
        ):
            assert importlib.util.find_spec(program.rstrip(".")), (page, program)


def test_the_api_has_every_module():
    shown = {
        name
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: (l2d_jax[\w.]*)$", page.read_text(), re.M)
    }
    there = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "l2d_jax").rglob("*.py")
        if not file.name.startswith("_")
    }
    assert shown == there


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_matrix_is_that_of_the_code():
    shown = (ROOT / "docs" / "matrix.txt").read_text()
    assert shown == matrix() + "\n", "python -m experiments.methods > docs/matrix.txt"


@pytest.mark.parametrize(
    ("code", "name", "lines"),
    [
        ("a = 1\n\ndef f():\n    pass\n", "f", (3, 4)),
        ("@dec\ndef f():\n    pass\n", "f", (1, 3)),
        ("T = {\n    'a': 1,\n    'b': (\n        2,\n    ),\n}\n", "T[b]", (3, 5)),
        ("T: dict = {\n    'a': 1,\n}\n", "T[a]", (2, 2)),
        ("T = {'a': 1}\n", "T[c]", None),
        ("T = {'a': 1}\n", "f", None),
    ],
)
def test_quotes_find_a_name(code, name, lines):
    hooks = load_hooks()
    assert hooks.find(hooks.ast.parse(code), name) == lines


def test_a_quote_of_nothing_is_an_error():
    hooks = load_hooks()
    with pytest.raises(LookupError, match="no nothing"):
        hooks.on_page_markdown("<!-- quote: l2d_jax/types.py nothing -->")
    with pytest.raises(LookupError, match="no file"):
        hooks.on_page_markdown("<!-- quote: l2d_jax/none.py -->")

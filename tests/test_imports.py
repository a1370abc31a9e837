"""Imports point one way, and each outside library has its one place."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

BASE = ("types", "_checks", "_rounding")
KERNEL = (
    "augmentation",
    "decisions",
    "fairness",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "ratios",
    "relaxations",
)
METHODS = ("crowds", "learners", "people", "policies")
MAY_IMPORT = {
    "__init__": {*BASE, "decisions", "fairness", "losses", "metrics", "relaxations"},
    "types": set(),
    "_checks": set(),
    "_rounding": set(),
    **{name: {*BASE, name} for name in KERNEL},
    "fairness": {*BASE, "losses", "ratios"},
    "metrics": {*BASE, "decisions", "ratios"},
    "data": {*BASE, "data", "simulate"},
    **{name: {*BASE, *KERNEL, name} for name in METHODS},
    "people": {*BASE, *KERNEL, "learners", "people"},
    "policies": {*BASE, *KERNEL, "crowds", "learners", "policies"},
    "simulate": {*BASE, "crowds", "simulate"},
    "engine": {*BASE, *KERNEL, "learners", "engine"},
    "intervals": set(),
    "table": {*BASE, *KERNEL, *METHODS, "data", "engine", "intervals", "table"},
}
"""Parts of l2d_jax, and the parts that each may import. Simulated crowds are of the
form that streams take, so `simulate` knows `crowds`."""

NEVER_IN_LIBRARY = {"absl", "ml_collections", "matplotlib", "pandas", "tqdm"}
OF_TABLE = {"matplotlib", "pandas", "sklearn", "tqdm"}
"""What tables of one's own stand on, an extra that `table` alone asks for."""
ONLY_IN = {
    "sentence_transformers": {"l2d_jax.data"},
    "safetensors": {"l2d_jax.table"},
    "sklearn": {"l2d_jax.data", "l2d_jax.table"},
    "tensorflow": {"l2d_jax.data"},
    "tensorflow_datasets": {"l2d_jax.data"},
    "flax": {"l2d_jax.models"},
    "scipy": {
        "experiments",
        "l2d_jax.intervals",
        "l2d_jax.learners.halfspaces",
        "l2d_jax.policies",
        "l2d_jax.table",
    },
    "torch": {"experiments.benchmark"},
}
LAZY = {
    "sentence_transformers",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
}
"""Not to be had everywhere, so imported where they are used."""
EAGER = {"experiments.benchmark.torch_peers", "experiments.benchmark.torch_zoo"}
"""Modules that are nothing without what they import, and are imported lazily."""
DYNAMIC = {"__import__", "import_module"}
UNPICKLE = {
    "_pickle",
    "cloudpickle",
    "dill",
    "jax.experimental.serialize_executable",
    "joblib",
    "marshal",
    "pickle",
    "shelve",
}
UNPICKLING_NAMES = {
    "allow_pickle",
    "read_pickle",
    "serialize_executable",
    "unsafe_load",
}
UNPICKLING_CALLS = {"torch.load"}
"""What reads code along with data, so that whoever wrote a file, or answers at an
address, could run theirs here."""


def is_under(module, parent):
    return module == parent or module.startswith(f"{parent}.")


def imports(module, tree):
    """``(module or name imported, whether at the top of the file)``, absolute."""
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in lazy
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")[: -node.level]
                origin = ".".join([*parts, *([origin] if origin else [])])
            # The name may be a module itself: ``from l2d_jax import losses``.
            for alias in node.names:
                yield f"{origin}.{alias.name}", id(node) not in lazy


def unpickling(tree):
    """What a file reads that may be code along with data, beside its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield "allows a pickle"
        # However it is reached: an attribute, a name, a key.
        for name in (
            getattr(node, "attr", None),
            getattr(node, "id", None),
            getattr(node, "value", None) if isinstance(node, ast.Constant) else None,
            getattr(node, "name", None) if isinstance(node, ast.alias) else None,
        ):
            if name in UNPICKLING_NAMES:
                yield f"uses {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNPICKLING_CALLS:
                yield f"calls {called}"
            # NumPy's third argument is the one that allows it.
            if called in ("np.load", "numpy.load") and len(node.args) > 2:
                yield "loads by position what a keyword should say"
            dynamic = called.rpartition(".")[2] in DYNAMIC and node.args
            named = getattr(node.args[0], "value", None) if dynamic else None
            if isinstance(named, str) and any(is_under(named, r) for r in UNPICKLE):
                yield f"imports {named}"


def breaches(module, source):
    """What a module imports and may not, one line each."""
    tree = ast.parse(source)
    package, part = [*module.split("."), "__init__"][:2]
    found = []
    if package == "l2d_jax" and part not in MAY_IMPORT:
        found.append(f"{module}: give l2d_jax.{part} its place in MAY_IMPORT")
    for name, at_top in imports(module, tree):
        line = f"{module} imports {name}"
        top, below = [*name.split("."), ""][:2]
        allowed = ONLY_IN.get(top)
        if allowed is not None and not any(is_under(module, home) for home in allowed):
            found.append(f"{line}: only {sorted(allowed)} may")
        if any(is_under(name, reader) for reader in UNPICKLE):
            found.append(f"{line}: nothing is ever unpickled")
        of_table = is_under(module, "l2d_jax.table") and top in OF_TABLE
        if top in LAZY and at_top and module not in EAGER and not of_table:
            found.append(f"{line}: only inside a function")
        if package != "l2d_jax":
            if package == "experiments" and top == "launch":
                found.append(f"{line}: launch is above experiments")
            continue
        if top in ("experiments", "launch"):
            found.append(f"{line}: that is above the library")
        if top in NEVER_IN_LIBRARY and not of_table:
            found.append(f"{line}: the library does without")
        if top == "l2d_jax" and below not in MAY_IMPORT.get(part, set()):
            found.append(f"{line}: imports point the other way")
    found += [
        f"{module} {what}: nothing is ever unpickled" for what in unpickling(tree)
    ]
    if package == "l2d_jax":
        for node in ast.walk(tree):
            name = getattr(node, "id", None) or getattr(node, "attr", None)
            if name in DYNAMIC:
                found.append(f"{module} uses {name}: imports must be plain to see")
    return found


def module_paths():
    return [
        path
        for package in ("l2d_jax", "experiments", "launch")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_point_one_way():
    found = []
    for path in module_paths():
        module = module_name(path)
        # Relative imports of a package count from the package itself.
        if path.name == "__init__.py":
            module += ".__init__"
        found += breaches(module, path.read_text())
    assert not found, "\n".join(found)


def test_all_modules_are_seen():
    names = {module_name(path) for path in module_paths()}
    expected = {"l2d_jax", "l2d_jax.types", "l2d_jax.data.digits", "experiments.cifar"}
    assert expected <= names
    assert {"l2d_jax.learners.deferral", "experiments.configs.digits"} <= names


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("l2d_jax.losses", "from l2d_jax import metrics"),
        ("l2d_jax.losses", "from l2d_jax.metrics import accuracy"),
        ("l2d_jax.losses", "import l2d_jax.metrics"),
        ("l2d_jax.losses.softmax", "from l2d_jax.decisions import rule"),
        ("l2d_jax.losses.softmax", "from .. import metrics"),
        ("l2d_jax.fairness", "from . import metrics"),
        ("l2d_jax.fairness", "from .metrics import accuracy"),
        ("l2d_jax.losses", "def f():\n    from l2d_jax import metrics"),
        ("l2d_jax.types", "from l2d_jax import losses"),
        ("l2d_jax.learners.deferral", "from l2d_jax.engine import training"),
        ("l2d_jax.learners.deferral", "from ..engine.sweeps import grid"),
        ("l2d_jax.engine.training", "from l2d_jax import sweeps"),
        ("l2d_jax.engine.training", "from l2d_jax import data"),
        ("l2d_jax.data.digits", "from l2d_jax import metrics"),
        ("l2d_jax.engine.sweeps", "from experiments import tables"),
        ("l2d_jax.engine.sweeps", "import launch.slurm"),
        ("l2d_jax.engine.sweeps", "from absl import flags"),
        ("l2d_jax.engine.sweeps", "import ml_collections"),
        ("l2d_jax.metrics", "import matplotlib.pyplot as plt"),
        ("l2d_jax.metrics", "def f():\n    import pandas"),
        ("l2d_jax.metrics", "def f():\n    import sklearn"),
        ("l2d_jax.data.digits", "from sklearn import datasets"),
        ("l2d_jax.data.cifar10", "import tensorflow_datasets as tfds"),
        ("l2d_jax.data.text", "import sentence_transformers"),
        ("l2d_jax.learners.deferral", "from flax import linen as nn"),
        ("l2d_jax.losses", "import importlib\nimportlib.import_module('pandas')"),
        ("l2d_jax.shiny", "import jax"),
        ("l2d_jax.engine.sweeps", "import pickle"),
        ("launch.local", "def f():\n    from joblib import load"),
        ("experiments.tables", "import pandas\npandas.read_pickle('a')"),
        ("l2d_jax.data.digits", "import numpy\nnumpy.load('a', allow_pickle=True)"),
        ("experiments.tables", "import numpy as np\nnp.load('a', None, True)"),
        ("experiments.tables", "f(**{'allow_pickle': True})"),
        ("experiments.tables", "from pandas import read_pickle"),
        ("experiments.benchmark.torch_zoo", "import torch\ntorch.load('a')"),
        ("experiments.tables", "import jax\njax.experimental.serialize_executable.f()"),
        ("experiments.tables", "import _pickle"),
        ("experiments.tables", "import importlib\nimportlib.import_module('pickle')"),
        ("experiments.cifar", "def f():\n    import torch"),
        ("experiments.benchmark.pairs", "import torch"),
        ("experiments.images", "import flax.linen"),
        ("experiments.images", "def f():\n    import tensorflow_datasets"),
        ("experiments.cifar", "from launch import slurm"),
        ("l2d_jax.table.team", "from absl import flags"),
        ("l2d_jax.policies.capacity", "from l2d_jax.table import cases"),
    ],
)
def test_a_breach_is_caught(module, source):
    assert len(breaches(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("l2d_jax.engine.sweeps", "from l2d_jax.engine import checkpoints, training"),
        ("l2d_jax.fairness", "from l2d_jax.losses import f"),
        ("l2d_jax.losses.picce", "from .softmax import f"),
        (
            "l2d_jax.models.networks",
            "from flax import linen\nfrom . import convolutions",
        ),
        ("l2d_jax.data.digits", "def f():\n    from sklearn import datasets"),
        ("l2d_jax.learners.deferral", "from .gradient import weighted_mean"),
        ("l2d_jax.data.__init__", "from .digits import load_digits"),
        ("experiments.benchmark.torch_peers", "import torch.nn.functional"),
        ("experiments.cifar", "import pandas\nfrom l2d_jax.engine import sweeps"),
        ("launch.slurm", "from experiments import cifar"),
        ("l2d_jax.table.columns", "import pandas\nfrom sklearn import compose"),
    ],
)
def test_what_is_allowed_passes(module, source):
    assert breaches(module, source) == []

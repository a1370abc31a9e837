"""Tests run on two host devices, and compile each program once a session.

A test marked ``real_data(*places)`` reads files below the folder ``L2D_DATA_DIR``: it
skips where one of them is not to be had, or fails there if ``L2D_REQUIRE_DATA`` is set.

A test that is given what a whole program leaves, the fixture ``whole``, is marked
``long``, as are others that take seconds: what trains, simulates, or starts a process.
"""

import os
import sys

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

import jax
import pytest


@pytest.hookimpl(tryfirst=True)  # Before pytest chooses by marks.
def pytest_collection_modifyitems(items):
    for item in items:
        if "whole" in item.fixturenames:
            item.add_marker(pytest.mark.long)


def pytest_runtest_setup(item):
    data_dir = os.environ.get("L2D_DATA_DIR")
    for mark in item.iter_markers("real_data"):
        missing = [p for p in mark.args if not os.path.exists(f"{data_dir}/{p}")]
        if missing:
            reason = f"L2D_DATA_DIR names no folder that holds {', '.join(missing)}"
            if os.environ.get("L2D_REQUIRE_DATA"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """A figure that is left open would fail whichever test counts them next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        pyplot = sys.modules["matplotlib.pyplot"]
        left = pyplot.get_fignums()
        pyplot.close("all")
        assert not left, "a figure is left open: close it"


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """Many tests build the same small programs anew; they need not compile anew.

    Nor need two workers of one session.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "compiled"
    folder.mkdir(exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session", autouse=True)
def _compiles_of_the_fast_suite(request):
    """Without the slow tests every program runs for a moment: it compiles cheaply."""
    chosen = request.config.option.markexpr
    slow = not chosen or "slow" in chosen.replace("not slow", "")
    jax.config.update("jax_disable_most_optimizations", not slow)


@pytest.fixture(scope="module")
def cheap_compiles():
    """For programs that run for a moment: compiling them is all of the time."""
    yield from _compile(cheaply=True)


@pytest.fixture(scope="module")
def full_compiles():
    """For tests of what rounding decides: programs are those that users run."""
    yield from _compile(cheaply=False)


def _compile(*, cheaply):
    before = jax.config.read("jax_disable_most_optimizations")
    if before == cheaply:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", cheaply)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()

"""Every placement computes what a Python loop over the runs computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.engine.placement import (
    KINDS,
    Placement,
    block_width,
    default_placement,
    place,
)

NUM_RUNS = 4


def of_one_run(scale, shared, rows, state):
    """Uses an argument of each kind: the run's own, shared, and its device's."""
    return {
        "sum": scale["a"] * jnp.sum(shared[rows]),
        "state": state + scale["a"] * shared[0],
    }


@pytest.fixture(scope="module")
def arguments():
    scale = {"a": np.array([1.0, 2.0, 3.0, 4.0], np.float32)}
    shared = np.array([10.0, 20.0, 30.0], np.float32)
    state = np.arange(8.0, dtype=np.float32).reshape(NUM_RUNS, 2)
    return scale, shared, state


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_loop(kind, arguments):
    scale, shared, state = arguments
    placement = Placement(kind, NUM_RUNS)
    num_devices = placement.num_devices
    # The rows of a device's block: the first device reads 0 and 1, the second 1 and 2.
    rows = np.array([[0, 1], [1, 2]], np.int32)[:num_devices]
    placed = place(of_one_run, placement, "rsbr", donate=(3,))
    result = placed.run(
        placed.put_runs(scale),
        placed.put_shared(shared),
        placed.put_runs(rows),
        placed.put_runs(state),
    )
    device_of = np.arange(NUM_RUNS) * num_devices // NUM_RUNS
    # 10 + 20 for the first device's runs, 20 + 30 for the second's.
    sums = scale["a"] * np.array([30.0, 50.0])[device_of]
    np.testing.assert_allclose(result["sum"], sums, rtol=1e-6, atol=0)
    expected = state + 10.0 * scale["a"][:, None]
    np.testing.assert_allclose(result["state"], expected, rtol=1e-6, atol=0)


def test_shard_takes_every_device(arguments):
    scale, shared, _ = arguments
    share = NUM_RUNS // len(jax.devices())
    placed = place(lambda a, s: a["a"] * s[0], Placement("shard", 2), "rs")
    result = placed.run(placed.put_runs(scale), placed.put_shared(shared))
    assert result.sharding.device_set == set(jax.devices())
    assert {shard.data.shape for shard in result.addressable_shards} == {(share,)}
    np.testing.assert_allclose(result, [10, 20, 30, 40], rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_num_devices(kind):
    expected = len(jax.devices()) if kind == "shard" else 1
    assert Placement(kind, 3).num_devices == expected


def test_shard_takes_the_devices_it_is_given(arguments):
    scale, shared, _ = arguments
    last = jax.devices()[-1:]
    where = Placement("shard", NUM_RUNS, tuple(last))
    assert where.num_devices == 1
    assert where.platform == jax.default_backend()
    placed = place(lambda a, s: a["a"] * s[0], where, "rs")
    result = placed.run(placed.put_runs(scale), placed.put_shared(shared))
    assert result.sharding.device_set == set(last)
    np.testing.assert_allclose(result, [10, 20, 30, 40], rtol=1e-6, atol=0)


def test_devices_are_of_shard():
    where = Placement("vmap", 1, tuple(jax.devices()))
    with pytest.raises(ValueError, match=r"devices are of shard, and .* 'vmap'"):
        place(lambda x: x, where, "r")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lowered_is_what_runs(kind, arguments):
    """From shapes alone, with types that JAX does not keep; the bits are the same."""
    scale, shared, state = arguments
    where = Placement(kind, NUM_RUNS)
    rows = np.array([[0, 1], [1, 2]])[: where.num_devices]
    assert rows.dtype == np.int64
    placed = place(of_one_run, where, "rsbr")
    given = scale, shared, rows, state
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), given
    )
    compiled = placed.lower(*shapes).compile()
    put = (
        placed.put_runs(scale),
        placed.put_shared(shared),
        placed.put_runs(rows),
        placed.put_runs(state),
    )
    jax.tree.map(np.testing.assert_array_equal, compiled(*put), placed.run(*put))


@pytest.mark.parametrize("kind", ["vmap", "shard"])
def test_donated_memory_is_given_up(kind, arguments):
    _, _, state = arguments
    placed = place(lambda s: s + 1.0, Placement(kind, NUM_RUNS), "r", donate=(0,))
    before = placed.put_runs(jnp.asarray(state))
    placed.run(before)
    assert before.is_deleted()


@pytest.mark.long
def test_what_is_brief_has_the_same_bits():
    """It draws the parameters that a sweep has always started from."""

    def draw(seed):
        key = jax.random.key(seed)
        return jax.random.truncated_normal(key, -2.0, 2.0, (21, 10)) * 0.248

    drawn = []
    for brief in (False, True):
        placed = place(draw, Placement("shard", NUM_RUNS), "r", brief=brief)
        drawn.append(placed.run(placed.put_runs(np.arange(NUM_RUNS))))
    np.testing.assert_array_equal(*drawn)


def test_unknown_kind():
    with pytest.raises(
        ValueError, match=r"one of vmap, shard, unroll, loop, got 'pmap'"
    ):
        place(lambda x: x, Placement("pmap", 1), "r")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (Placement("vmap", 0), "runs_per_device must be a whole number of at least 1"),
        (Placement("shard", -1), "runs_per_device must be .* got -1"),
        (Placement("loop", 2.0), "runs_per_device must be .* got 2.0"),
        (Placement("shard", 1, ()), "devices is empty; give at least one, or None"),
    ],
)
def test_what_is_no_placement(where, message):
    for use in (lambda: place(lambda x: x, where, "r"), lambda: block_width(where, 3)):
        with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
            use()


def test_default_on_a_cpu(monkeypatch):
    """One convolutional net keeps a core busy; small dense ones go many to a core."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert default_placement("convolutional") == Placement("shard", 1)
    small = default_placement("dense")
    assert small.kind == "shard"
    assert small.runs_per_device > 50


def test_default_on_an_accelerator(monkeypatch):
    """A residual network fills one; several of a few layers are batched."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = [
        default_placement(network).runs_per_device
        for network in ("convolutional", "small_convolutional", "dense")
    ]
    assert found[0] == 1 < found[1] < found[2]
    with pytest.raises(ValueError, match="must be one of dense, small_convolutional"):
        default_placement("deep")

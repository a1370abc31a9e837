"""A function of one run over many runs: the same as vmap, and it survives a stop."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.engine import checkpoints, chunks, origins
from l2d_jax.engine.placement import KINDS, Placement
from l2d_jax.engine.sweeps import Interrupted

NUM_RUNS = 5  # No multiple of any width used here.


class Outcome(NamedTuple):
    value: jax.Array
    details: dict


def function(run, shared):
    value = jnp.tanh(jnp.sum(shared["matrix"] * run["vector"], axis=1)) * run["scale"]
    details = {
        "number": 2 * run["number"],
        "positive": run["scale"] > 0,
        "nothing": {},
    }
    return Outcome(value, details)


@pytest.fixture(scope="module")
def runs():
    generator = np.random.default_rng(0)
    return {
        "vector": generator.normal(size=(NUM_RUNS, 3)).astype(np.float32),
        "scale": generator.normal(size=NUM_RUNS).astype(np.float32),
        "number": np.arange(NUM_RUNS, dtype=np.int32),
    }


@pytest.fixture(scope="module")
def shared():
    return {"matrix": np.arange(6, dtype=np.float32).reshape(2, 3) / 6}


@pytest.fixture(scope="module")
def complete(runs, shared):
    """Result of every run, in chunks of two and without checkpoints."""
    return map_runs(runs, shared)


def map_runs(
    runs,
    shared,
    where=Placement("vmap", 2),  # noqa: B008
    function=function,
    **kwargs,
):
    return chunks.map_runs(function, runs, shared, where=where, **kwargs)


def rows(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_same(result, other):
    assert jax.tree.structure(result) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, result, other)


def changed(run, shared):
    """Another function: a part that is made again by it shows it."""
    return function({**run, "number": run["number"] + 100}, shared)


@pytest.fixture
def any_function(monkeypatch):
    """What another function has left is taken, so that who made a part is seen."""
    monkeypatch.setattr(origins, "program", lambda *given: {})


def change_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def data_files(part):
    return [path for path in part.rglob("d/*") if path.is_file()]


class Stopper:
    def __init__(self, after):
        self.after = after

    def __call__(self):
        self.after -= 1
        return self.after < 0


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lowered_is_what_is_called(runs, shared, kind):
    where = Placement(kind, 2)
    lowered = chunks.lower_runs(function, runs, shared, where=where)
    placed = chunks._place(function, where)
    width = 2 * where.num_devices
    called = placed.run.lower(
        placed.put_runs(rows(runs, np.arange(width) % NUM_RUNS)),
        placed.put_shared(shared),
    )
    assert lowered.as_text() == called.as_text()


@pytest.mark.parametrize("num_runs", [1, NUM_RUNS])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_vmap(kind, num_runs, runs, shared):
    """Also with one run on two devices."""
    runs = rows(runs, slice(num_runs))
    result = map_runs(runs, shared, Placement(kind, 2))
    expected = jax.vmap(function, (0, None))(runs, shared)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for leaf, other in zip(
        jax.tree.leaves(result), jax.tree.leaves(expected), strict=True
    ):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype == other.dtype
        np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-6)


def test_results_are_in_the_order_of_the_runs(complete):
    np.testing.assert_array_equal(complete.details["number"], [0, 2, 4, 6, 8])


def test_progress_counts_the_runs_to_the_total(runs, shared):
    calls = []
    map_runs(runs, shared, report=calls.append)
    assert [(call.done, call.total, call.message) for call in calls] == [
        (2, 5, ""),
        (4, 5, ""),
        (5, 5, ""),
    ]


@pytest.mark.usefixtures("any_function")
@pytest.mark.parametrize("num_done", [1, 2])
def test_stopped_between_chunks_it_goes_on(num_done, runs, shared, complete, tmp_path):
    with pytest.raises(Interrupted):
        map_runs(
            runs,
            shared,
            checkpoint_dir=tmp_path,
            should_stop=Stopper(num_done - 1),
        )
    parts = [tmp_path / f"part_{number:04d}" for number in range(3)]
    assert [checkpoints.exists(part) for part in parts] == [
        number < num_done for number in range(3)
    ]
    # What was kept of the finished runs counts, though they would be others by now.
    calls = []
    again = map_runs(
        runs,
        shared,
        function=changed,
        checkpoint_dir=tmp_path,
        report=calls.append,
    )
    first = np.arange(NUM_RUNS) < 2 * num_done
    np.testing.assert_array_equal(
        again.details["number"], complete.details["number"] + np.where(first, 0, 200)
    )
    np.testing.assert_array_equal(again.value, complete.value)
    assert [call.done for call in calls] == [2, 4, 5]
    assert not any(call.message for call in calls)


@pytest.mark.usefixtures("any_function")
def test_a_stop_after_the_last_chunk_keeps_them_all(runs, shared, complete, tmp_path):
    with pytest.raises(Interrupted):
        map_runs(runs, shared, checkpoint_dir=tmp_path, should_stop=Stopper(2))
    again = map_runs(runs, shared, function=changed, checkpoint_dir=tmp_path)
    assert_same(again, complete)


def test_a_stop_without_checkpoints(runs, shared):
    with pytest.raises(Interrupted):
        map_runs(runs, shared, should_stop=lambda: True)


@pytest.mark.usefixtures("any_function")
@pytest.mark.parametrize("where", [Placement("vmap", 2), Placement("shard", 1)])
def test_finished_chunks_are_used_again(where, runs, shared, tmp_path):
    first = map_runs(runs, shared, where, checkpoint_dir=tmp_path)
    again = map_runs(runs, shared, where, changed, checkpoint_dir=tmp_path)
    assert_same(again, first)


@pytest.mark.usefixtures("any_function")
@pytest.mark.parametrize("damage", ["data", "missing", "manifest"])
def test_a_damaged_chunk_is_said_and_made_again(damage, runs, shared, tmp_path):
    map_runs(runs, shared, checkpoint_dir=tmp_path)
    part = tmp_path / "part_0001"
    if damage == "data":
        change_byte(data_files(part)[0])
    elif damage == "missing":
        data_files(part)[0].unlink()
    else:
        part.with_name("part_0001.json").write_text("{")
    calls = []
    again = map_runs(
        runs, shared, function=changed, checkpoint_dir=tmp_path, report=calls.append
    )
    # The second chunk, runs 2 and 3, is of the changed runs; the others were kept.
    np.testing.assert_array_equal(again.details["number"], [0, 2, 204, 206, 8])
    said = [call for call in calls if call.message]
    assert len(said) == 1
    assert said[0].message.startswith("damaged checkpoint, made again: ")
    assert "part_0001" in said[0].message
    assert [call.done for call in calls] == [2, 2, 4, 5]
    calls.clear()
    third = map_runs(runs, shared, checkpoint_dir=tmp_path, report=calls.append)
    assert_same(third, again)
    assert not any(call.message for call in calls)


@pytest.mark.usefixtures("any_function")
def test_chunks_of_another_width_are_said_and_made_again(runs, shared, tmp_path):
    map_runs(runs, shared, checkpoint_dir=tmp_path)
    calls = []
    again = map_runs(
        runs,
        shared,
        Placement("vmap", 3),
        changed,
        checkpoint_dir=tmp_path,
        report=calls.append,
    )
    np.testing.assert_array_equal(again.details["number"], [200, 202, 204, 206, 208])
    said = [call.message for call in calls if call.message]
    assert len(said) == 2
    for number, message in enumerate(said):
        assert message.startswith("checkpoint for other devices, made again: ")
        assert f"part_{number:04d}" in message
    info = checkpoints.read_info(tmp_path / "part_0001")
    assert {name: info[name] for name in ("first", "count", "width")} == {
        "first": 3,
        "count": 2,
        "width": 3,
    }
    assert json.loads((tmp_path / "part_0000.json").read_text())["info"]["width"] == 3


def test_a_chunk_cut_short_by_a_kill_is_made_again(runs, shared, complete, tmp_path):
    map_runs(runs, shared, checkpoint_dir=tmp_path)
    (tmp_path / "part_0002.json").unlink()  # It is written last.
    calls = []
    again = map_runs(runs, shared, checkpoint_dir=tmp_path, report=calls.append)
    assert_same(again, complete)
    assert not any(call.message for call in calls)
    assert checkpoints.exists(tmp_path / "part_0002")


@pytest.mark.usefixtures("any_function")
def test_a_bare_array_is_kept_as_well(tmp_path):
    values = np.arange(3.0, dtype=np.float32)
    for number in (0, 100):
        result = chunks.map_runs(
            # What was kept is what counts.
            lambda run, shared, number=number: run + shared + number,
            values,
            np.float32(1),
            where=Placement("vmap", 2),
            checkpoint_dir=tmp_path,
        )
        np.testing.assert_array_equal(result, [1, 2, 3])


@pytest.mark.parametrize("given", [2.0, [1.0, 2.0], {}])
def test_runs_that_are_no_arrays(given, shared):
    with pytest.raises(
        ValueError, match=r"^runs must have one length > 0, .* a row fo"
    ):
        map_runs(given, shared)


def test_a_folder_may_be_text(runs, shared, complete, tmp_path):
    found = map_runs(runs, shared, checkpoint_dir=str(tmp_path))
    assert_same(found, complete)
    assert checkpoints.exists(tmp_path / "part_0002")
    with pytest.raises(
        TypeError, match=r"^checkpoint_dir must be a path, or None, got"
    ):
        map_runs(runs, shared, checkpoint_dir=3)


@pytest.mark.parametrize("call", [map_runs, chunks.check_runs])
def test_a_placement_of_no_run(call, runs, shared):
    given = {"where": Placement("vmap", 0)}
    if call is chunks.check_runs:
        given["function"] = function
    with pytest.raises(ValueError, match=r"^runs_per_device must be a whole number of"):
        call(runs=runs, shared=shared, **given)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 5)])
def test_runs_of_no_or_two_lengths(lengths, shared):
    first, second = lengths
    runs = {"scale": np.ones(first), "vector": np.ones((second, 3))}
    with pytest.raises(ValueError, match=r"^runs must .* give each leaf a row for"):
        map_runs(runs, shared)

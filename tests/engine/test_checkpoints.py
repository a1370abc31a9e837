"""A checkpoint is whole or not there, and damage is found before it is used."""

import errno
import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.engine import checkpoints

INFO = {"epoch": 3, "members": [[0, 1], [2, -1]]}


def make_tree():
    return {
        "state": (
            np.array([1.5, np.nan, -np.inf, 1e-42], np.float32),
            {"step": np.array(7, np.int32)},
        ),
        "active": np.array([True, False]),
        "key": np.array([[1, 4_294_967_295]], np.uint32),
        "half": np.asarray(jnp.array([0.5, 1.0], jnp.bfloat16)),
    }


@pytest.fixture
def path(tmp_path):
    checkpoints.save(tmp_path / "chunk", make_tree(), INFO)
    return tmp_path / "chunk"


def data_file(path):
    """The largest file, which holds the arrays."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def test_what_is_saved_comes_back_to_the_bit(path):
    tree = make_tree()
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    assert checkpoints.exists(path)
    assert checkpoints.read_info(path) == INFO
    restored = checkpoints.restore(path, like)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for got, expected in zip(
        jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True
    ):
        assert isinstance(got, np.ndarray)
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()


def test_saving_again_replaces(path):
    checkpoints.save(path, {"only": np.arange(3)}, {"epoch": 4})
    assert checkpoints.read_info(path) == {"epoch": 4}
    restored = checkpoints.restore(path, {"only": np.zeros(3, int)})
    np.testing.assert_array_equal(restored["only"], [0, 1, 2])


def cut_short(path):
    file = data_file(path)
    os.truncate(file, file.stat().st_size - 1)
    return file.name


def flip_a_bit(path):
    file = data_file(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file.name


def lose_a_file(path):
    file = data_file(path)
    file.unlink()
    return file.name


def add_a_file(path):
    (path / "stray").write_text("hello")
    return "stray"


def lose_the_folder(path):
    path.rename(path.with_name("away"))
    return path.name


def cut_the_manifest(path):
    manifest = path.with_name("chunk.json")
    os.truncate(manifest, manifest.stat().st_size // 2)
    return manifest.name


def empty_the_manifest(path):
    path.with_name("chunk.json").write_text("{}")
    return "chunk.json"


def list_for_a_manifest(path):
    path.with_name("chunk.json").write_text("[]")
    return "chunk.json"


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_a_bit,
        lose_a_file,
        add_a_file,
        lose_the_folder,
        cut_the_manifest,
        empty_the_manifest,
        list_for_a_manifest,
    ],
)
def test_damage_is_found_and_named(path, damage):
    name = damage(path)
    with pytest.raises(checkpoints.DamagedCheckpointError, match=name) as caught:
        checkpoints.read_info(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_save_that_was_cut_short_is_not_there(tmp_path, monkeypatch, function):
    path = tmp_path / "chunk"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, function, stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(path, {"a": np.arange(3)}, INFO)
    assert not checkpoints.exists(path)
    # What it left behind is no hindrance.
    checkpoints.save(path, {"a": np.arange(4)}, INFO)
    np.testing.assert_array_equal(
        checkpoints.restore(path, {"a": np.zeros(4, int)})["a"], np.arange(4)
    )


def test_replacing_cut_short_does_not_pass_for_the_old_one(path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(path, {"a": np.arange(3)}, INFO)
    assert not checkpoints.exists(path)


def test_manifest_lists_every_file(path):
    manifest = json.loads(path.with_name("chunk.json").read_text())
    files = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()}
    assert set(manifest["sha256"]) == files
    assert all(len(digest) == 64 for digest in manifest["sha256"].values())


def test_remove(path):
    checkpoints.remove(path)
    assert not checkpoints.exists(path)
    assert list(path.parent.iterdir()) == []
    checkpoints.remove(path)


def test_a_link_in_place_of_the_manifest_to_be_is_not_followed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("theirs")
    (tmp_path / "one.json.tmp").symlink_to(outside)
    checkpoints.save(tmp_path / "one", {"a": np.ones(2)}, {})
    assert outside.read_text() == "theirs"
    assert not (tmp_path / "one.json").is_symlink()


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def find_nothing(*args, **kwargs):
    """What orbax makes of a folder that it cannot look at."""
    raise FileNotFoundError("Checkpoint at /somewhere not found.")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_is_not_taken_for_damaged(path, monkeypatch, number):
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", fail_with(number))
        with pytest.raises(OSError) as said:
            checkpoints.read_info(path)
    assert (said.value.errno, said.value.filename) == (number, str(path))
    assert checkpoints.read_info(path) == INFO


@pytest.mark.parametrize(
    ("failing", "number"),
    [(fail_with(errno.ESTALE), errno.ESTALE), (find_nothing, errno.EIO)],
)
def test_a_restore_that_fails_by_the_disk_names_the_folder(
    path, monkeypatch, failing, number
):
    monkeypatch.setattr(checkpoints.ocp.Checkpointer, "restore", failing)
    with pytest.raises(OSError) as said:
        checkpoints.restore(path, make_tree())
    assert (said.value.errno, said.value.filename) == (number, str(path))


STORED = pathlib.Path(__file__).with_name("stored_checkpoint")


def test_what_an_earlier_version_stored_comes_back_to_the_bit(tmp_path):
    """Written by `checkpoints.save` of `make_tree` and `INFO` under orbax 0.12.8."""
    # Where nothing that reads it can change it.
    shutil.copytree(STORED, tmp_path / "stored")
    path, tree = tmp_path / "stored" / "chunk", make_tree()
    assert checkpoints.read_info(path) == INFO
    restored = checkpoints.restore(path, tree)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for got, expected in zip(
        jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True
    ):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()

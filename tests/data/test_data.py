import hashlib
import io
import json
import logging
import os
import pwd
import socket
import sys

import numpy as np
import pytest

from l2d_jax.data import (
    DataError,
    cifar10,
    folder,
    load_cifar10,
    load_cifar10h_raw,
    load_compas,
    load_digits,
)

# A prepared CIFAR-10 in small: two training and four test images.
SMALL_TEST_LABELS = np.array([3, 8, 8, 0], np.int32)
SMALL_TRAIN_LABELS = np.array([6, 9], np.int32)


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """No data folder in the environment, and a user's cache of our own."""
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path


def small_images(size):
    generator = np.random.default_rng(size)
    return generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)


def write_records(path, images, labels, split):
    """Writes an array_record of PNGs in an order that is not the canonical one."""
    from array_record.python import array_record_module
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    # One record a group, as tfds does.
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for i in reversed(range(len(images))):
        png = io.BytesIO()
        Image.fromarray(images[i]).save(png, format="PNG")
        example = tf_example_pb2.Example()
        feature = example.features.feature
        feature["id"].bytes_list.value.append(f"{split}_{i:05d}".encode())
        feature["image"].bytes_list.value.append(png.getvalue())
        feature["label"].int64_list.value.append(int(labels[i]))
        writer.write(example.SerializeToString())
    writer.close()


def write_descriptions(place, train_size, test_size):
    module = "tensorflow_datasets.core.features."
    features = {
        "id": {"pythonClassName": f"{module}text_feature.Text", "text": {}},
        "image": {
            "pythonClassName": f"{module}image_feature.Image",
            "image": {
                "dtype": "uint8",
                "shape": {"dimensions": ["32", "32", "3"]},
            },
        },
        "label": {
            "pythonClassName": f"{module}class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "10"},
        },
    }
    described = {
        "pythonClassName": f"{module}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (place / "features.json").write_text(json.dumps(described))
    splits = [
        {
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": name,
            "numBytes": "1",
            "shardLengths": [str(size)],
        }
        for name, size in (("train", train_size), ("test", test_size))
    ]
    info = {
        "name": "cifar10",
        "version": "3.0.2",
        "fileFormat": "array_record",
        "splits": splits,
    }
    (place / "dataset_info.json").write_text(json.dumps(info))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """The records, made once: path of a folder that tests copy from."""
    place = tmp_path_factory.mktemp("pristine")
    write_descriptions(place, len(SMALL_TRAIN_LABELS), len(SMALL_TEST_LABELS))
    for split, labels in (("train", SMALL_TRAIN_LABELS), ("test", SMALL_TEST_LABELS)):
        path = place / f"cifar10-{split}.array_record-00000-of-00001"
        write_records(path, small_images(len(labels)), labels, split)
    return place


@pytest.fixture
def small_cifar10(homeless, pristine, monkeypatch):
    """A data folder with the small CIFAR-10, and a loader that expects it."""
    data_dir = homeless / "data"
    place = data_dir / "tensorflow_datasets" / "cifar10" / "3.0.2"
    place.mkdir(parents=True)
    for path in pristine.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    for split, labels in (("train", SMALL_TRAIN_LABELS), ("test", SMALL_TEST_LABELS)):
        arrays = {"images": small_images(len(labels)), "labels": labels}
        monkeypatch.setitem(cifar10._SHA256, split, folder.arrays_sha256(arrays))
    return data_dir


def records(data_dir, split="test"):
    place = data_dir / "tensorflow_datasets" / "cifar10" / "3.0.2"
    return place / f"cifar10-{split}.array_record-00000-of-00001"


def assert_small(splits):
    np.testing.assert_array_equal(splits.train.inputs, small_images(2))
    np.testing.assert_array_equal(splits.train.labels, SMALL_TRAIN_LABELS)
    np.testing.assert_array_equal(splits.test.inputs, small_images(4))
    np.testing.assert_array_equal(splits.test.labels, SMALL_TEST_LABELS)


def error_line(call, *args):
    with pytest.raises(DataError) as caught:
        call(*args)
    line = str(caught.value)
    assert "\n" not in line
    return line


# ---------------------------------------------------------------- folder


def test_data_dir_is_the_argument_then_the_environment_then_the_cache(
    monkeypatch, tmp_path
):
    given, environment, home = (tmp_path / name for name in ("given", "env", "home"))
    given.mkdir()
    environment.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("L2D_DATA_DIR", str(environment))
    assert folder.resolve_data_dir(given) == given
    assert folder.resolve_data_dir(str(given)) == given
    assert folder.resolve_data_dir() == environment
    assert folder.resolve_data_dir("") == environment

    monkeypatch.setenv("L2D_DATA_DIR", "")
    assert folder.resolve_data_dir() == home / ".cache" / "l2d_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder.resolve_data_dir() == tmp_path / "xdg" / "l2d_jax"


def test_data_dir_expands_the_home_folder(monkeypatch, homeless):
    monkeypatch.setenv("HOME", str(homeless))
    (homeless / "mine").mkdir()
    assert folder.resolve_data_dir("~/mine") == homeless / "mine"


def test_missing_data_dir_is_named_with_its_origin(homeless, monkeypatch):
    missing = homeless / "nowhere"
    line = error_line(folder.resolve_data_dir, missing)
    assert line.startswith(f"data_dir names {missing}")
    monkeypatch.setenv("L2D_DATA_DIR", str(missing))
    line = error_line(load_cifar10)
    assert line.startswith(f"L2D_DATA_DIR names {missing}")


def test_a_file_is_no_data_dir(homeless):
    path = homeless / "file"
    path.touch()
    assert str(path) in error_line(folder.resolve_data_dir, path)


def test_file_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # The example of FIPS 180-2, appendix B.1.
    assert folder.file_sha256(path) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_arrays_sha256_covers_names_types_shapes_and_values():
    array = np.array([[1, 2]], "<i4")
    text = b"a <i4 (1, 2)\n" + b"\x01\x00\x00\x00\x02\x00\x00\x00"
    assert folder.arrays_sha256({"a": array}) == hashlib.sha256(text).hexdigest()
    others = [
        {"b": array},
        {"a": array.astype("<u4")},
        {"a": array.T},
        {"a": array + 1},
        {"a": array, "b": array},
    ]
    assert len({folder.arrays_sha256(other) for other in [{"a": array}, *others]}) == 6


def test_arrays_sha256_ignores_order_and_memory_layout():
    a, b = np.arange(6).reshape(2, 3), np.arange(2.0)
    assert folder.arrays_sha256({"a": a, "b": b}) == folder.arrays_sha256(
        {"b": b, "a": np.asfortranarray(a)}
    )


CONTENT = b"what people answered"
CONTENT_SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path):
    """A file as its authors publish it, and its address."""
    path = tmp_path / "published.csv"
    path.write_bytes(CONTENT)
    return path


def test_find_returns_the_file_that_is_there(homeless):
    path = homeless / "some" / "answers.csv"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    # Nothing listens at the address: it is not asked.
    url = "http://127.0.0.1:9/answers.csv"
    found = folder.find(homeless, "some/answers.csv", CONTENT_SHA256, url, "get it")
    assert found == path
    assert folder.find(homeless, "some/answers.csv", None, None, "get it") == path


def test_find_downloads_once(homeless, published):
    arguments = ("some/answers.csv", CONTENT_SHA256, published.as_uri(), "get it")
    # The default folder does not exist yet.
    path = folder.find(None, *arguments)
    assert path == homeless / "xdg" / "l2d_jax" / "some" / "answers.csv"
    assert path.read_bytes() == CONTENT
    assert [*path.parent.iterdir()] == [path]
    published.unlink()
    assert folder.find(None, *arguments) == path


def test_find_checks_a_download_before_it_is_in_place(homeless, published):
    published.write_bytes(altered(CONTENT))
    url = published.as_uri()
    line = error_line(
        folder.find, homeless, "some/answers.csv", CONTENT_SHA256, url, "get it"
    )
    path = homeless / "some" / "answers.csv"
    assert line.startswith(f"the download of {path} is damaged or another version")
    found = hashlib.sha256(altered(CONTENT)).hexdigest()
    assert f"expected {CONTENT_SHA256}, found {found}" in line
    assert url in line
    assert [*path.parent.iterdir()] == []


@pytest.mark.parametrize("kind", ["refused", "absent"])
def test_find_says_what_to_do_where_it_cannot_download(homeless, monkeypatch, kind):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # Bound and not listening: refuses.
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/answers.csv"
        if kind == "absent":
            url = (homeless / "nowhere.csv").as_uri()
        line = error_line(
            folder.find, homeless, "some/answers.csv", "00", url, "get it from a.org"
        )
    path = homeless / "some" / "answers.csv"
    assert line.startswith(f"{path} is missing and could not be downloaded (URLError: ")
    assert f"get it from a.org (it is {url}) and place it there" in line
    assert "name a folder that holds some/answers.csv with L2D_DATA_DIR or" in line
    assert [*path.parent.iterdir()] == []


def test_find_names_a_damaged_file_and_leaves_it(homeless, published):
    path = homeless / "answers.csv"
    path.write_bytes(b"abc")
    url = published.as_uri()
    line = error_line(
        folder.find, homeless, "answers.csv", CONTENT_SHA256, url, "get it from a.org"
    )
    assert line.startswith(f"{path} is damaged or another version")
    assert f"expected {CONTENT_SHA256}, found ba7816bf8f01cfea" in line
    assert f"delete it, get it from a.org (it is {url}) and place it there" in line
    assert path.read_bytes() == b"abc"


def test_find_without_an_address_says_where_to_get_the_file(homeless):
    line = error_line(folder.find, homeless, "answers.csv", None, None, "convert it")
    assert line == (
        f"{homeless / 'answers.csv'} is missing: convert it and place it there, or "
        "name a folder that holds answers.csv with L2D_DATA_DIR or --config.data_dir"
    )


def test_find_downloads_nothing_unchecked(homeless, published):
    with pytest.raises(ValueError, match="sha256 is missing"):
        folder.find(homeless, "answers.csv", None, published.as_uri(), "get it")


# ---------------------------------------------------------------- digits


def rows(dataset):
    """Each example as bytes."""
    return [row.tobytes() for row in dataset.inputs]


def test_digits_are_the_1797_images_of_scikit_learn():
    splits = load_digits()
    inputs = np.concatenate([splits.train.inputs, splits.test.inputs])
    labels = np.concatenate([splits.train.labels, splits.test.labels])
    assert inputs.shape == (1797, 8, 8, 1)
    assert inputs.dtype == np.float32
    assert labels.dtype == np.int32
    assert inputs.min() == 0.0
    assert inputs.max() == 1.0
    np.testing.assert_array_equal(
        np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    assert splits.num_classes == 10
    assert splits.name == "digits"
    # The first image of the release is a zero whose first row is 0 0 5 13 9 1 0 0.
    first = np.array([0, 0, 5, 13, 9, 1, 0, 0], np.float32) / 16
    found = (inputs[:, 0, :, 0] == first).all(axis=1)
    assert set(labels[found]) == {0}


def test_digits_split_is_stratified():
    splits = load_digits(test_fraction=0.2)
    # A fifth of each class, rounded: 178 / 5 = 35.6 and so on.
    np.testing.assert_array_equal(
        np.bincount(splits.test.labels), [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    )


def test_digits_parts_are_disjoint_and_complete():
    splits = load_digits()
    train, test = set(rows(splits.train)), set(rows(splits.test))
    assert not train & test
    assert len(train | test) == 1797  # No two images of the release are equal.


def test_digits_split_depends_on_the_seed_alone():
    first, again, other = load_digits(seed=0), load_digits(seed=0), load_digits(seed=1)
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    np.testing.assert_array_equal(first.train.labels, again.train.labels)
    # Two independent fifths share a fifth of a fifth: 72 of 359, give or take 7.
    shared = len(set(rows(first.test)) & set(rows(other.test)))
    assert 40 < shared < 110


@pytest.mark.parametrize("test_fraction", [1e-6, 1 - 1e-6])
def test_digits_keep_every_class_in_both_parts(test_fraction):
    splits = load_digits(test_fraction=test_fraction)
    smaller = min(splits.train, splits.test, key=lambda part: len(part.labels))
    np.testing.assert_array_equal(np.bincount(smaller.labels), np.ones(10))


@pytest.mark.parametrize("test_fraction", [0.0, 1.0, -0.1, float("nan")])
def test_digits_reject_a_fraction_outside_0_1(test_fraction):
    with pytest.raises(ValueError, match="test_fraction must be in"):
        load_digits(test_fraction=test_fraction)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert "pip install 'l2d-jax[experiments]'" in error_line(load_digits)


# ---------------------------------------------------------------- CIFAR-10


def test_cifar10_is_decoded_in_canonical_order(small_cifar10):
    splits = load_cifar10(small_cifar10)
    assert_small(splits)
    assert splits.train.inputs.dtype == np.uint8
    assert splits.train.labels.dtype == np.int32
    assert splits.num_classes == 10
    assert splits.name == "cifar10"


def test_cifar10_is_read_from_the_cache_alone(small_cifar10):
    load_cifar10(small_cifar10)
    cached = sorted(path.name for path in (small_cifar10 / "cache").iterdir())
    assert cached == ["cifar10-3.0.2-test.npz", "cifar10-3.0.2-train.npz"]
    for split in ("train", "test"):
        records(small_cifar10, split).unlink()
    assert_small(load_cifar10(small_cifar10))


def altered(content):
    position = len(content) // 2  # Among the pixels.
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        altered,
    ],
    ids=["truncated", "empty", "altered"],
)
def test_damaged_cache_is_reported_and_built_again(small_cifar10, caplog, damage):
    load_cifar10(small_cifar10)
    path = small_cifar10 / "cache" / "cifar10-3.0.2-test.npz"
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    with caplog.at_level(logging.WARNING, logger="l2d_jax"):
        assert_small(load_cifar10(small_cifar10))
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("l2d_jax")]
    assert len(messages) == 1
    assert messages[0].startswith(f"{path} is damaged (sha256 expected ")
    with np.load(path) as file:
        np.testing.assert_array_equal(file["images"], small_images(4))


def test_cache_of_other_images_is_built_again(small_cifar10):
    """A whole archive with the wrong content, which only the checksum can tell."""
    load_cifar10(small_cifar10)
    path = small_cifar10 / "cache" / "cifar10-3.0.2-test.npz"
    with open(path, "wb") as file:
        np.savez(file, images=small_images(4)[::-1], labels=SMALL_TEST_LABELS)
    assert_small(load_cifar10(small_cifar10))


def test_cache_never_unpickles(small_cifar10):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(small_cifar10 / "sprung"),))

    load_cifar10(small_cifar10)
    path = small_cifar10 / "cache" / "cifar10-3.0.2-test.npz"
    with open(path, "wb") as file:
        np.savez(file, images=np.array([Trap()], object), labels=SMALL_TEST_LABELS)
    assert_small(load_cifar10(small_cifar10))
    assert not (small_cifar10 / "sprung").exists()


def test_read_only_data_dir_is_cached_in_the_users_cache(small_cifar10, homeless):
    small_cifar10.chmod(0o555)
    try:
        assert_small(load_cifar10(small_cifar10))
        assert not (small_cifar10 / "cache").exists()
    finally:
        small_cifar10.chmod(0o755)
    cache = homeless / "xdg" / "l2d_jax" / "cache"
    assert (cache / "cifar10-3.0.2-train.npz").is_file()


def fill_users_cache(homeless):
    """Leaves the small CIFAR-10 in the user's cache, as a run elsewhere would."""
    cache = homeless / "xdg" / "l2d_jax" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for split, labels in (("train", SMALL_TRAIN_LABELS), ("test", SMALL_TEST_LABELS)):
        path = cache / f"cifar10-3.0.2-{split}.npz"
        np.savez(path, images=small_images(len(labels)), labels=labels)


def test_named_folder_without_images_is_not_helped_by_the_users_cache(
    small_cifar10, homeless, monkeypatch
):
    fill_users_cache(homeless)
    monkeypatch.setattr(cifar10.importlib.util, "find_spec", lambda name: None)
    empty = homeless / "empty"
    empty.mkdir()
    expected = f"CIFAR-10 is not prepared in {empty}/tensorflow_datasets/cifar10/3.0.2"
    assert error_line(load_cifar10, empty).startswith(expected)
    monkeypatch.setenv("L2D_DATA_DIR", str(empty))
    assert error_line(load_cifar10).startswith(expected)
    assert list(empty.iterdir()) == []

    # One split in the folder's own cache leaves the other one missing.
    (empty / "cache").mkdir()
    cached = homeless / "xdg" / "l2d_jax" / "cache" / "cifar10-3.0.2-train.npz"
    cached.rename(empty / "cache" / cached.name)
    fill_users_cache(homeless)
    assert error_line(load_cifar10).startswith(expected)


def test_users_cache_serves_the_default_folder_and_a_folder_with_the_images(
    small_cifar10, homeless, monkeypatch
):
    def fail(folder, split):
        raise AssertionError(f"{folder} is decoded")

    fill_users_cache(homeless)
    monkeypatch.setattr(cifar10, "_decode", fail)
    assert_small(load_cifar10())
    assert_small(load_cifar10(small_cifar10))


def test_cache_that_cannot_be_written_is_no_failure(
    small_cifar10, homeless, monkeypatch, caplog
):
    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(folder.os, "replace", fail)
    with caplog.at_level(logging.WARNING, logger="l2d_jax"):
        assert_small(load_cifar10(small_cifar10))
    assert "cached neither" in caplog.text
    # Nor does it leave half a file behind.
    left = [*(small_cifar10 / "cache").iterdir()]
    left += [*(homeless / "xdg" / "l2d_jax" / "cache").iterdir()]
    assert left == []


def keep_half(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [keep_half, empty, remove])
def test_damaged_records_give_one_line(small_cifar10, damage):
    path = records(small_cifar10)
    damage(path)
    line = error_line(load_cifar10, small_cifar10)
    assert line.startswith(f"{path} is missing or damaged")
    assert f"expected {cifar10._SHA256['test']}, found none" in line
    assert "prepare CIFAR-10 again" in line
    assert "L2D_DATA_DIR or --config.data_dir" in line


def test_altered_records_give_one_line_with_both_checksums(small_cifar10):
    images = small_images(4)
    images[2, 5, 7, 1] ^= 1
    found = folder.arrays_sha256({"images": images, "labels": SMALL_TEST_LABELS})
    write_records(records(small_cifar10), images, SMALL_TEST_LABELS, "test")
    line = error_line(load_cifar10, small_cifar10)
    assert f"expected {cifar10._SHA256['test']}, found {found}" in line
    assert str(records(small_cifar10)) in line
    # What is wrong must not be cached.
    assert not (small_cifar10 / "cache" / "cifar10-3.0.2-test.npz").exists()


def test_damaged_description_gives_one_line(small_cifar10):
    keep_half(records(small_cifar10).parent / "dataset_info.json")
    assert "found none, " in error_line(load_cifar10, small_cifar10)


def test_unprepared_without_tensorflow_says_what_to_install(homeless, monkeypatch):
    monkeypatch.setattr(cifar10.importlib.util, "find_spec", lambda name: None)
    line = error_line(load_cifar10, homeless)
    place = homeless / "tensorflow_datasets" / "cifar10" / "3.0.2"
    assert line.startswith(f"CIFAR-10 is not prepared in {place}")
    assert "pip install 'l2d-jax[prepare]'" in line
    assert "L2D_DATA_DIR or --config.data_dir" in line
    # The default folder need not exist.
    expected = homeless / "xdg" / "l2d_jax" / "tensorflow_datasets"
    assert str(expected) in error_line(load_cifar10)


def test_failed_download_gives_one_line(homeless, monkeypatch):
    def fail(data_dir):
        raise ConnectionError(f"no route from {data_dir}\nto the host")

    monkeypatch.setattr(cifar10.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cifar10, "_download", fail)
    line = error_line(load_cifar10, homeless)
    assert f"ConnectionError: no route from {homeless} to the host" in line
    assert "check the network" in line


def test_unprepared_is_prepared_once_and_read(small_cifar10, monkeypatch):
    place = records(small_cifar10).parent
    away = place.rename(place.parent / "away")
    calls = []

    def prepare(data_dir):
        calls.append(data_dir)
        away.rename(place)

    monkeypatch.setattr(cifar10.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cifar10, "_download", prepare)
    assert_small(load_cifar10(small_cifar10))
    assert calls == [small_cifar10]


def test_without_tensorflow_datasets_it_says_what_to_install(
    small_cifar10, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    line = error_line(load_cifar10, small_cifar10)
    assert "pip install 'l2d-jax[experiments]'" in line


@pytest.mark.real_data(cifar10._PLACE)
def test_real_cifar10():
    splits = load_cifar10()
    assert splits.train.inputs.shape == (50_000, 32, 32, 3)
    assert splits.test.inputs.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [1000] * 10)
    # Frog, truck, truck, deer, car; cat, ship, ship, aeroplane, frog.
    np.testing.assert_array_equal(splits.train.labels[:5], [6, 9, 9, 4, 1])
    np.testing.assert_array_equal(splits.test.labels[:5], [3, 8, 8, 0, 6])
    # The channel means that everybody uses, from the training images.
    means = splits.train.inputs[::10].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(means, [125.3, 123.0, 113.9], rtol=0, atol=1.0)


@pytest.fixture
def no_home(monkeypatch):
    """A user without a home, whom the system does not know: so are some containers."""

    def unknown(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "L2D_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_nothing_is_kept(no_home):
    made = []

    def build():
        made.append(1)
        return {"a": np.arange(3)}

    for count in (1, 2):
        found = folder.kept_arrays("a.npz", build)
        np.testing.assert_array_equal(found["a"], [0, 1, 2])
        assert len(made) == count


def test_without_a_home_the_folder_is_to_be_named(no_home, tmp_path):
    line = error_line(load_compas)
    assert " is missing " in line and "L2D_DATA_DIR" in line
    assert folder.resolve_data_dir(tmp_path) == tmp_path
    line = error_line(folder.resolve_data_dir, "~/data")
    assert line == "~/data: no home folder is known for its ~; give the whole path"
    for load in (load_cifar10h_raw, folder.expand):
        assert "no home folder is known" in error_line(load, "~/raw.zip")

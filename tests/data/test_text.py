import sys

import numpy as np
import pytest

from l2d_jax import data
from l2d_jax.data import DataError, embeddings, text

TRAIN = [
    "a red fox runs",
    "a red fox sleeps",
    "the red fox and the blue bird",
    "a blue bird sings",
    "the blue bird sleeps",
    "a red bird runs",
    "the fox sings",
    "a green frog runs and runs",
]
TEST = ["a green fox sings", "words never seen before", "a red fox runs"]
KINDS = ["tfidf", "hashing", "embedding"]
VECTORS = {  # Second and third numbers are proportional; the fourth is constant.
    "p": [1.0, 2.0, 4.0, 7.0],
    "q": [0.0, 1.0, 2.0, 7.0],
    "r": [3.0, -1.0, -2.0, 7.0],
    "s": [-2.0, 0.0, 0.0, 7.0],
}


@pytest.fixture
def fake_encoder(monkeypatch):
    """In place of the encoder: vectors by hand, else of the letters."""

    class Encoder:
        def encode(self, texts, show_progress_bar):
            assert not show_progress_bar
            letters = [np.bincount([ord(c) % 16 for c in t] + [15]) for t in texts]
            return np.array(
                [VECTORS.get(t, x) for t, x in zip(texts, letters, strict=True)],
                np.float32,
            )

    monkeypatch.setattr(embeddings, "load_encoder", Encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_standardized_over_the_training_texts(kind, fake_encoder):
    featurize = data.fit_text_features(TRAIN, 3, kind)
    found = featurize(TRAIN)
    assert found.shape == (8, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0.0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_text_is_mapped_alone(kind, fake_encoder):
    featurize = data.fit_text_features(TRAIN, 3, kind)
    together = featurize(TEST)
    alone = np.concatenate([featurize([text]) for text in TEST])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    # The last of them is the first training text.
    np.testing.assert_allclose(together[2], featurize(TRAIN)[0], rtol=1e-5, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_features(kind, fake_encoder):
    first, again = (
        data.fit_text_features(TRAIN, 2, kind, seed=3)(TEST) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_tfidf_knows_words_and_pairs_that_two_texts_share():
    # "x1" is in all three texts, "x1 y1" and "y1" in two, and "z1" in one.
    texts = ["x1 y1", "x1 y1 y1", "x1 z1"]
    vectors = text._vectorizer(texts, "tfidf")(texts).toarray()
    rare = np.log(4 / 3) + 1  # Inverse document frequency, smoothed: of 2 in 3.
    expected = np.array([[1, rare, rare], [1, rare, rare * (1 + np.log(2))], [1, 0, 0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-12, atol=0)


def test_hashing_weighs_as_tfidf_does():
    """In other places and with the words that one text alone has."""
    texts = ["x1 y1", "x1 y1 y1", "x1 z1"]
    vectors = text._vectorizer(texts, "hashing")(texts)
    assert vectors.shape == (3, 65_536)
    rare, single = np.log(4 / 3) + 1, np.log(4 / 2) + 1
    # x1, z1 and "x1 z1".
    expected = np.array([1.0, single, single]) / np.sqrt(1 + 2 * single**2)
    np.testing.assert_allclose(np.sort(vectors[2].data), expected, rtol=1e-12, atol=0)
    # x1, y1, "x1 y1".
    expected = np.array([1.0, rare, rare]) / np.sqrt(1 + 2 * rare**2)
    np.testing.assert_allclose(np.sort(vectors[0].data), expected, rtol=1e-12, atol=0)


def test_features_are_the_leading_directions(fake_encoder):
    """Against a decomposition in float64 by NumPy."""
    featurize = data.fit_text_features(list(VECTORS), 2, "embedding")
    matrix = np.array(list(VECTORS.values()))
    _, _, directions = np.linalg.svd(matrix, full_matrices=False)
    projected = matrix @ directions[:2].T
    expected = (projected - projected.mean(axis=0)) / projected.std(axis=0)
    found = featurize(list(VECTORS))
    # A direction may point either way.
    found = found * np.sign(np.sum(found * expected, axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_directions_without_variation_stay_0(fake_encoder):
    # Rank 3: the fourth direction is rounding error.
    featurize = data.fit_text_features(list(VECTORS), 4, "embedding")
    found = featurize(list(VECTORS))
    np.testing.assert_array_equal(found[:, 3], 0.0)
    np.testing.assert_allclose(found[:, :3].std(axis=0), 1.0, rtol=0, atol=1e-5)
    alike = data.fit_text_features(["x1 y1", "x1 y1", "x1 y1"], 1)
    np.testing.assert_array_equal(alike(["x1 y1", "y1"]), [[0.0], [0.0]])


def test_test_texts_do_not_change_the_map():
    featurize = data.fit_text_features(TRAIN, 3)
    before = featurize(TRAIN)
    featurize(["frog frog frog"] * 20)
    np.testing.assert_array_equal(featurize(TRAIN), before)


@pytest.mark.parametrize(
    ("texts", "num_features", "limit"),
    [(TRAIN, 9, 8), (["x1 y1"] * 5, 4, 3)],
    ids=["texts", "terms"],
)
@pytest.mark.parametrize("kind", ["tfidf", "hashing"])
def test_too_many_features_are_refused(texts, num_features, limit, kind):
    with pytest.raises(ValueError, match=f"num_features is {num_features}, ") as caught:
        data.fit_text_features(texts, num_features, kind)
    assert f"lower it to {limit}, or give more texts" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert data.fit_text_features(texts, limit, kind)(texts).shape[1] == limit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TRAIN, 0), "num_features must be at least 1, not 0"),
        ((TRAIN, 2, "glove"), "kind must be one of tfidf, hashing, embedding, not 'g"),
        (("a text", 2), "texts must be a sequence of texts, not one text"),
        (([], 2), "texts is empty"),
        ((["a", None], 2), r"texts\[1\] is None, which is no text"),
        ((["x1", "y1"], 1), "texts have no words to learn from"),
        ((["!", "?"], 1), "texts have no words to learn from"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.fit_text_features(*arguments)
    assert "\n" not in str(caught.value)


def test_the_map_takes_a_sequence_of_texts():
    featurize = data.fit_text_features(TRAIN, 2)
    with pytest.raises(ValueError, match="texts must be a sequence of texts, not one"):
        featurize("a red fox")


def error_line(kind):
    with pytest.raises(DataError) as caught:
        data.fit_text_features(TRAIN, 2, kind)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_missing_libraries_are_named_with_their_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert "pip install -e '.[embeddings]'" in error_line("embedding")
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    assert "pip install 'l2d-jax[experiments]'" in error_line("tfidf")

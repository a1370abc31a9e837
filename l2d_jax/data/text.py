"""Texts as vectors of a given length, by a map fitted on the training texts alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l2d_jax.data import embeddings
from l2d_jax.data.embeddings import checked_texts
from l2d_jax.data.folder import DataError, one_line

KINDS = ("tfidf", "hashing", "embedding")
"""How texts become vectors: words and pairs of words weighted by how rare they are,
the same without a vocabulary, or a pretrained sentence encoder."""

_NUM_BUCKETS = 2**16  # Of the hashed words and pairs of words.
# A direction this much weaker than the strongest is rounding error; the singular
# vectors there are arbitrary, and standardizing would make noise of them.
_NEGLIGIBLE = 1e-6


def fit_text_features(
    texts: Sequence[str], num_features: int, kind: str = "tfidf", seed: int = 0
) -> Callable[[Sequence[str]], np.ndarray]:
    """A map from texts to features, from what it sees in the training texts.

    Every kind makes long vectors, projects them on the leading singular directions of
    the training texts, and standardizes each feature to mean 0 and variance 1 over
    them. A direction in which the training texts do not vary is 0 for every text.

    * ``tfidf``: words and pairs of neighbours that two training texts share, counted on
      a logarithmic scale and weighted by how rare they are.
    * ``hashing``: the same for all words and pairs, hashed to 65,536 places, so that
      there is no vocabulary to keep.
    * ``embedding``: the pretrained encoder of `l2d_jax.data.embeddings`, 384 numbers a
      text, which needs the extra ``embeddings``.

    Args:
      texts: the training texts, ``[N]``.
      num_features: D, the number of features, at least 1 and at most N and the number
        of words and pairs.
      kind: one of `KINDS`.
      seed: of the randomized search for the singular directions, >= 0; the same seed
        gives the same features.

    Returns:
      The map, from texts ``[B]`` to features float32 ``[B, D]``.

    Raises:
      DataError: a library that the kind needs, or its encoder, is not to be had.
      ValueError: the kind is unknown, ``texts`` is not a sequence of texts, or there
        are too few texts or words for ``num_features``.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    texts = checked_texts(texts)
    if num_features < 1:
        raise ValueError(f"num_features must be at least 1, not {num_features}")
    vectorize = _vectorizer(texts, kind)
    vectors = vectorize(texts)
    num_terms = len(np.unique(vectors.nonzero()[1]))
    if num_features > min(len(texts), num_terms):
        raise ValueError(
            f"num_features is {num_features}, more than {len(texts)} texts with "
            f"{num_terms} terms of kind {kind!r} allow: lower it to "
            f"{min(len(texts), num_terms)}, or give more texts"
        )
    decomposition = _sklearn().decomposition.TruncatedSVD(
        num_features, random_state=seed
    )
    # Where all texts are alike, the share of variance, unused here, is 0 / 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        projected = decomposition.fit_transform(vectors)
    mean, spread = projected.mean(axis=0), projected.std(axis=0)
    varies = spread > _NEGLIGIBLE * np.abs(projected).max()
    scale = np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)

    def featurize(texts: Sequence[str]) -> np.ndarray:
        projected = decomposition.transform(vectorize(checked_texts(texts)))
        return ((projected - mean) * scale).astype(np.float32)

    return featurize


def _vectorizer(texts: list[str], kind: str) -> Callable[[list[str]], Any]:
    """Fitted map from texts ``[B]`` to vectors ``[B, V]``, dense or sparse."""
    if kind == "embedding":
        encoder = embeddings.load_encoder()
        return lambda texts: embeddings.encode(encoder, texts)
    feature_extraction = _sklearn().feature_extraction
    if kind == "tfidf":
        counter = feature_extraction.text.TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), min_df=2
        )
    else:
        counter = _sklearn().pipeline.make_pipeline(
            feature_extraction.text.HashingVectorizer(
                n_features=_NUM_BUCKETS,
                ngram_range=(1, 2),
                alternate_sign=False,
                norm=None,
            ),
            feature_extraction.text.TfidfTransformer(sublinear_tf=True),
        )
    try:
        return counter.fit(texts).transform
    except ValueError as error:
        raise ValueError(
            f"texts have no words to learn from ({one_line(error)}): give more texts, "
            "or another kind"
        ) from error


def _sklearn() -> Any:
    try:
        import sklearn.decomposition
        import sklearn.feature_extraction.text
        import sklearn.pipeline
    except ImportError as error:
        raise DataError(
            "features of texts need scikit-learn, which cannot be imported "
            f"({one_line(error)}): pip install 'l2d-jax[experiments]'"
        ) from error
    return sklearn

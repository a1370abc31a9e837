"""Data sets as NumPy arrays, checked against known checksums."""

from l2d_jax.data.annotated import Annotated, make_annotated, subjective_labels
from l2d_jax.data.annwithattitudes import load_annwithattitudes
from l2d_jax.data.answers import Answers, make_answers
from l2d_jax.data.cifar10 import load_cifar10
from l2d_jax.data.cifar10h import load_cifar10h, load_cifar10h_raw
from l2d_jax.data.cifar10n import load_cifar10n
from l2d_jax.data.cifar10s import load_cifar10s
from l2d_jax.data.compas import load_compas, load_compas_predict_responsibly
from l2d_jax.data.davidson import Davidson, load_davidson
from l2d_jax.data.digits import load_digits
from l2d_jax.data.embeddings import embed_texts
from l2d_jax.data.folder import DataError, resolve_data_dir
from l2d_jax.data.health import load_health
from l2d_jax.data.hs_brexit import load_hs_brexit
from l2d_jax.data.jigsaw import load_jigsaw
from l2d_jax.data.keswani_mturk import load_keswani_mturk
from l2d_jax.data.splits import Splits
from l2d_jax.data.synthetic import make_synthetic
from l2d_jax.data.tabular import Tabular, make_tabular
from l2d_jax.data.text import fit_text_features

__all__ = [
    "Annotated",
    "Answers",
    "DataError",
    "Davidson",
    "Splits",
    "Tabular",
    "embed_texts",
    "fit_text_features",
    "load_annwithattitudes",
    "load_cifar10",
    "load_cifar10h",
    "load_cifar10h_raw",
    "load_cifar10n",
    "load_cifar10s",
    "load_compas",
    "load_compas_predict_responsibly",
    "load_davidson",
    "load_digits",
    "load_health",
    "load_hs_brexit",
    "load_jigsaw",
    "load_keswani_mturk",
    "make_annotated",
    "make_answers",
    "make_synthetic",
    "make_tabular",
    "resolve_data_dir",
    "subjective_labels",
]

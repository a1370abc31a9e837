"""Whom to trust about a text: a classifier, or the people who answered about it.

  python -m experiments.deferral --config=experiments/configs/texts.py --workdir=DIR

Default: the tweets of ``keswani_mturk`` with all 170 people as experts, of whom 4 to 24
answered about each; 25 splits (five times five folds), every method that can be had.
``--config.texts=annwithattitudes --config.problem=annwithattitudes`` and ``hs_brexit``
are others, and ``:one`` is the same with one of the people who answered, drawn for each
text and split, as "an annotator". ``:smoke`` is seconds.

Networks, learning rate, batches, dropout and committees of the joint method are those
of its paper; the number of epochs is that of 1,000 steps, and the best of them is
chosen on a fifth of the training part.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``one`` (an annotator)."""
    if scale not in ("smoke", "default", "one"):
        raise ValueError(f"scale must be smoke or one or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "texts"
    config.problem = "keswani_mturk"
    config.texts = "keswani_mturk"
    config.answers = "all"  # Or one, drawn.
    config.data_dir = ""  # The default: L2D_DATA_DIR, or a folder in the user's cache.
    config.seed = 0
    config.num_seeds = 25  # Splits: five times five folds.
    config.num_folds = 5
    config.features = "tfidf"  # Or hashing, or embedding (needs the extra embeddings).
    config.num_features = 50
    config.valid_fraction = 0.2  # Of a split's training part.
    config.methods = ("all",)
    config.choose = "per_seed"
    config.references = ("majority",)  # Whom the methods are compared with, paired.
    config.grid = {"learning_rate": (0.3,), "price": (0.0, 0.1)}
    config.model = {"name": "mlp", "hidden": (128, 32)}
    config.expert_model = {"name": "mlp", "hidden": (128, 32)}
    config.joint = {
        "deferrer": {"name": "mlp", "hidden": (128, 32)},
        "minimax_rounds": 5,  # Odd.
    }
    config.bayesian = {
        "model": {"name": "mlp", "hidden": (128, 32)},
        "prior_deviation": 1.0,
        "num_samples": 20,
    }
    config.committee_size = 5  # Odd.
    config.policy = {  # Of the methods NAME_POLICY; see experiments.policies.
        "max_deferral": 0.2,
        "expert_share": 0.1,
        "criterion": "equalized_odds",
        "tolerance": 0.02,
    }
    config.threshold_draws = 1000
    config.sampled = False
    config.temperature = 0.5
    config.optimizer = "plain_sgd"
    config.batch_size = 200
    config.num_epochs = 250  # 1,000 steps.
    config.expert_model_epochs = 250
    config.minimax_epochs = 1250  # As many of each round.
    config.best_epoch = "accuracy"
    config.patience = 0
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 16
    config.epochs_per_dispatch = 50
    config.eval_batch_size = 2000
    config.checkpoint_seconds = 30.0
    if scale == "one":
        config.problem = "keswani_mturk_one"
        config.answers = "one"
        config.references = ("classifier",)
    if scale == "smoke":
        config.num_seeds = 2
        config.num_features = 4
        config.num_epochs = config.expert_model_epochs = config.minimax_epochs = 2
        config.epochs_per_dispatch = 2
    return config

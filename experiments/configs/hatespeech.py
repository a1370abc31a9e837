"""Is a tweet hate speech, offensive or neither? A linear model, or who judged it.

  python -m experiments.deferral --config=experiments/configs/hatespeech.py \
      --workdir=runs/hatespeech

Default: Davidson's 24,783 tweets, 10 seeds, every method that can be had with one
expert: an annotator of the tweet, drawn once for each seed. Networks are linear in the
384 numbers of a sentence encoder (extra ``embeddings``); without the extra,
``--config.features=tfidf`` has the leading 100 directions of words and pairs of words.
``:panel`` has the ten experts of Verma, Barrejon and Nalisnick (2023), of whom
``--config.panel_size`` takes the first; ``:smoke`` and ``:panel_smoke`` are small.

To expect, accuracy of the default on the test parts: deferring by confidence .924,
one-vs-all .920, the deferral cross-entropy .915, annotator .906, classifier .883. The
encoder needs minutes, once.

Of Mozannar et al. (2023), as their code has it: Adam at 0.01, batches of 1,000, 100
epochs, values of alpha, 10 seeds, each with parts of 70, 10 and 20 % and answers of its
own. Their encoder is another, paraphrase-multilingual-MiniLM-L12-v2; they look for the
best epoch every five, and tune alpha alone.

What the papers leave open, and these fields decide: prices and smoothing of the
mixture; of the panel, answers that are drawn once for each seed (Verma et al. toss the
coins anew at every epoch), and all about its training, which is that of one expert.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default, ``panel``, ``panel_smoke``."""
    if scale not in ("smoke", "default", "panel", "panel_smoke"):
        raise ValueError(
            f"scale must be smoke, panel or panel_smoke or left out, got {scale!r}"
        )
    config = ml_collections.ConfigDict()
    config.experiment = "hatespeech"
    config.problem = "hatespeech"
    config.data_dir = ""  # The default: L2D_DATA_DIR, or a folder in the user's cache.
    config.seed = 0
    config.num_seeds = 10
    config.test_fraction = 0.2  # Drawn for each seed, as is what validates.
    config.valid_fraction = 0.125  # Of the rest: 10 % of all.
    config.features = "embedding"  # Or tfidf, or hashing.
    config.num_features = 100  # Of tfidf and hashing.
    config.methods = ("all",)
    config.choose = "per_seed"
    config.references = ("confidence",)  # Whom the methods are compared with, paired.
    config.grid = {
        "alpha": (1.0, 0.5, 0.0),
        "smoothing": (0.05, 0.2),
        # Of passing, nats; above log(3), what a network loses that knows nothing yet.
        "cost": (0.0, 0.3, 2.0),
        "price": (0.0,),
        "learning_rate": (0.01,),
    }
    config.model = {"name": "mlp", "hidden": ()}
    config.expert_model = {"name": "mlp", "hidden": ()}
    config.optimizer = "adam"
    config.batch_size = 1000
    config.num_epochs = 100
    config.expert_model_epochs = 100
    config.best_epoch = "accuracy"  # Of a classifier; or loss.
    config.sampled = False  # Of a mixture: sample the gate in the loss too.
    config.temperature = 0.5  # Of the Concrete relaxation.
    config.policy = {  # Of the methods NAME_POLICY; see experiments.policies.
        "max_deferral": 0.2,
        "expert_share": 0.05,
        "criterion": "equal_accuracy",
        "tolerance": 0.02,
    }
    config.patience = 0  # Epochs without a better validation score; 0 never stops.
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 1  # A linear net of many inputs keeps a core busy.
    config.epochs_per_dispatch = 20
    config.eval_batch_size = 5000
    config.checkpoint_seconds = 30.0
    if scale.startswith("panel"):
        config.problem = "hatespeech_panel"
        config.panel_size = 10
        config.joint = {
            "deferrer": {"name": "mlp", "hidden": ()},
            "minimax_rounds": 3,  # Odd.
        }
        config.committee_size = 3  # Odd.
        config.references = ("expert",)
        config.num_seeds = 5
    if scale.endswith("smoke"):
        config.num_seeds = 2
        config.features = "hashing"
        config.num_features = 4
        config.num_epochs = config.expert_model_epochs = 2
        config.epochs_per_dispatch = 2
    return config

"""Deferring to a particular annotator of tweets, of whom some 40 answers are known.

  python -m experiments.cifar --config=experiments/configs/keswani_people.py \
      --workdir=runs/keswani_people

The people of ``keswani_mturk`` who answered about half of the tweets, 5 random halves
of their answers: one half tunes the model of the person, the other tests it and the
system. The answers to the other half of the tweets are not used: there they are
imputed, and the systems learn from that. ``:smoke`` is small.
"""

import ml_collections

from experiments.configs import digits_finetune


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` or default."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    config = digits_finetune.get_config(scale)
    config.problem = "keswani_mturk_people"
    config.images = "keswani_mturk"
    config.data_dir = ""  # The default: L2D_DATA_DIR, or a folder in the user's cache.
    config.num_features = 50  # TF-IDF components of the texts.
    config.num_seeds = 5
    config.imputers = ("none", "finetune", "self_training", "crowd", "population")
    config.people.sources = ("keswani_mturk",)
    config.people.human_fraction = 0.5
    config.people.real_budget = 200
    config.base.num_epochs = 30
    config.base.batch_size = config.batch_size = 64
    if scale == "smoke":
        config.num_seeds = 1
        config.people.max_people = 8
        config.base.num_epochs = 2
    return config

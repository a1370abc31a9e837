r"""The zoo on tables and texts: COMPAS, Heritage Health, tweets and who judged them.

  python -m experiments.zoo --config=experiments/configs/zoo_tables.py \
      --workdir=runs/zoo_tables

Default: the inconsistent decision-maker of COMPAS and of Heritage Health, the tweets of
``keswani_mturk`` and of ``hs_brexit`` with everybody who answered, the former with one
of them, and Davidson's tweets with one of those who judged each; every method, by its
own rule and with a threshold that validation chooses, over the grids of
`experiments.configs.zoo`. The sentences of Davidson's tweets ask for the extra
``embeddings``. ``:smoke`` is seconds of training.

Health is trained as in `experiments.configs.health`, on 2 seeds and fewer epochs; a
fairness weight of 0 alone, since most methods know of no groups.
"""

import ml_collections

from experiments.configs import compas_grid, hatespeech, texts
from experiments.configs.zoo import compare


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds of training) or default (an hour)."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "zoo"
    config.parts = {
        "hatespeech": compare(hatespeech.get_config(scale)),
        "compas": compare(compas_grid.get_config(scale)),
        "health": compare(compas_grid.get_config(scale)),
        "keswani_mturk": compare(texts.get_config(scale)),
        "keswani_mturk_one": compare(
            texts.get_config("one" if scale == "default" else scale)
        ),
        "hs_brexit": compare(texts.get_config(scale)),
    }
    for name in ("compas", "health"):
        part = config.parts[name]
        part.scenarios = ("inconsistent",)
        part.grid.fairness = (0.0,)
        part.grid.cost = (0.0, 0.1, 0.3)
    health = config.parts.health
    health.problem = "health"
    if scale == "default":
        health.num_seeds = 2
        health.batch_size = 256
        health.num_epochs = health.expert_model_epochs = 100
    else:
        health.batch_size = 1024
        health.num_epochs = health.expert_model_epochs = 1
        one = config.parts.keswani_mturk_one
        one.problem, one.answers = "keswani_mturk_one", "one"
    brexit = config.parts.hs_brexit
    brexit.problem = brexit.texts = "hs_brexit"
    return config

"""Surrogate losses and the mixture on COMPAS, with a weight of fairness.

  python -m experiments.deferral --config=experiments/configs/compas_grid.py \
      --workdir=runs/compas_grid

Default: three decision-makers, 5 seeds, four weights of equalized odds for the deferral
cross-entropy, the mixture, rejection and the classifier; one-vs-all, the cost-sensitive
loss and deferring by confidence beside them. Every system is compared, paired by seed
and case, with the better single party and with the mixture at the same weight.
``:smoke`` is seconds. ``--config.problem=health`` is the same on Heritage Health, with
``--config.num_seeds=2 --config.batch_size=256 --config.num_epochs=100``.

Ours: the papers of the surrogate losses know of no groups; here the soft disparity of
the system's error rates is added to the deferral cross-entropy as Madras et al. add it
to theirs, with the softmax probability of deferring as the gate. Two classes and two
groups only. What is not the mixture's pair of networks has one layer of as many units.
"""

import ml_collections

from experiments.configs import synthetic


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds) or default."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    config = synthetic.get_config(scale)
    config.experiment = "grid"
    config.problem = "compas"
    config.data_dir = ""  # The default: L2D_DATA_DIR, or a folder in the user's cache.
    config.methods = (
        "deferral",
        "one_vs_all",
        "cost_sensitive",
        "confidence",
        "mixture",
        "rejection",
        "classifier",
        "expert",
        "oracle",
    )
    config.references = ("mixture",)
    config.grid = {
        "alpha": (1.0, 0.5),
        "cost": (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6),
        "price": (0.0, 0.05),
        "fairness": (0.0, 0.1, 0.5, 2.0),
        "learning_rate": (0.01,),
    }
    if scale == "smoke":
        config.grid.update({"cost": (0.0, 0.2), "fairness": (0.0, 0.5)})
    if scale == "default":
        config.num_seeds = 5
        config.num_epochs = config.expert_model_epochs = 400
        config.epochs_per_dispatch = 50
    return config

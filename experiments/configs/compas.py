r"""Predicting responsibly on COMPAS: who will be charged again.

  python -m experiments.tabular --config=experiments/configs/compas.py \
      --workdir=runs/compas

Default: ProPublica's 11,027 people, every method, three decision-makers, 119 settings,
5 seeds: 3,055 trainings, 8 minutes on 2 CPU cores that had other work besides.
``:smoke`` is seconds of training; ``:paper`` is 1,040 settings with 5 seeds and the
inconsistent decision-maker: 10,530 trainings, 20 minutes likewise.

Decision-makers are the authors' own where their tensors are in the data folder, as
``compas/predict_responsibly``, with their test part; else they are trained here.

To expect of the default, on the test part, with the authors' inconsistent
decision-maker, who is right on 68.4 %: the classifier is right on 71 %, deferring on
73 % at 37 % deferred, rejecting on no more than the classifier. With the accurate
one, at a DI of 5 points, deferring is right on 75 %, rejecting and the fair classifier
on 70 %.
"""

import ml_collections

from experiments.configs import synthetic


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (1,040 settings)."""
    config = synthetic.get_config(scale)
    config.problem = "compas"
    # The law of real data is not known.
    config.methods = config.methods[:-1]
    config.data_dir = ""  # The default: L2D_DATA_DIR, or a folder in the user's cache.
    if scale != "smoke":
        config.num_seeds = 5
        config.num_epochs = 1000
        config.epochs_per_dispatch = 50
    if scale == "default":
        config.grid.update(
            {
                # The smaller ones for deferring, the greater ones for rejecting.
                "cost": (
                    *(0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2),
                    *(0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8),
                ),
                "fairness": (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
            }
        )
    if scale == "paper":
        config.scenarios = ("inconsistent",)
        config.methods = ("classifier", "rejection", "mixture", "expert")
    return config

"""Every method on handwritten digits, with one specialist or with a panel of three.

  python -m experiments.deferral --config=experiments/configs/digits_grid.py \
      --workdir=runs/digits_grid
  python -m experiments.deferral --config=experiments/configs/digits_grid.py:panel \
      --workdir=runs/digits_panel

Default: experts k = 2, 5 and 8, 10 seeds, all methods that can be had: the mixture of
Madras et al. with ten classes among them, whose expert gives answers and no
probabilities, so that they are smoothed. ``:panel`` has three experts, each right on
some of the classes and a guess on the others, of whom several methods make one team.
``:smoke`` and ``:panel_smoke`` are seconds to two minutes on quiet cores.

What the papers leave open, and these fields decide: ``smoothing`` is the probability
that an answer leaves to the other nine classes; the mixture's gate is the last output
of the one network; joint deferral trains by the optimizer of the others.
"""

import ml_collections

from experiments.configs import digits


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``panel``, ``panel_smoke``."""
    if scale not in ("smoke", "default", "panel", "panel_smoke"):
        raise ValueError(
            f"scale must be smoke, panel or panel_smoke or left out, got {scale!r}"
        )
    config = digits.get_config("smoke" if scale.endswith("smoke") else "default")
    config.experiment = "grid"
    config.methods = ("all",)
    config.grid = {
        "alpha": (1.0,),
        "smoothing": (0.05, 0.2),
        # Of passing, nats. Above log(10), what a network loses that knows nothing yet;
        # at less its gate may pass everything on before there is anything to keep.
        "cost": (0.0, 0.3, 1.0, 3.0),
        "price": (0.0,),
        "learning_rate": (0.1,),
        "weight_decay": (5e-4,),
    }
    config.sampled = False  # Sample the gate of the mixture in the loss too.
    config.temperature = 0.5
    if not scale.endswith("smoke"):
        config.num_perfect = (2, 5, 8)
    if scale.startswith("panel"):
        config.problem = "digits_panel"
        config.panel = ((0, 1, 2, 3, 4), (4, 5, 6, 7), (7, 8, 9))
        config.joint = {
            "deferrer": {"name": "mlp", "hidden": (128,)},
            "minimax_rounds": 3,
        }
        config.committee_size = 3
    return config

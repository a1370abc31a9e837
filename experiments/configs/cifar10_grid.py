"""Every method on CIFAR-10 with a specialist, from the config of the main experiment.

  python -m experiments.deferral --config=experiments/configs/cifar10_grid.py \
      --workdir=runs/cifar10_grid

Default: a WideResNet-10-1 with a strided stem, three epochs, experts k = 2, 5 and 8,
2 seeds. ``:smoke`` is minutes.
"""

import ml_collections

from experiments.configs import cifar10


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default (2 CPU cores), ``paper`` (a GPU)."""
    config = cifar10.get_config(scale)
    config.experiment = "grid"
    config.methods = (
        "deferral",
        "one_vs_all",
        "mixture",
        "confidence",
        "classifier",
        "expert",
        "oracle",
    )
    config.grid = {
        "alpha": (1.0,),
        "smoothing": (0.1,),
        "cost": (0.0, 3.0),  # Of passing, nats; see digits_grid.py.
        "learning_rate": (0.1,),
        "weight_decay": (5e-4,),
    }
    config.sampled = False  # Sample the gate of the mixture in the loss too.
    config.temperature = 0.5
    if scale == "default":
        config.num_perfect = (2, 5, 8)
        config.num_epochs = config.expert_model_epochs = 3
    return config

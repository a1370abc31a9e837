r"""The zoo on CIFAR-10: a specialist on k of its classes, and the people of CIFAR-10H.

  python -m experiments.zoo --config=experiments/configs/zoo_cifar.py:small \
      --workdir=runs/zoo_cifar

Default, for an accelerator: the WideResNet and epochs of `experiments.configs.cifar10`,
k = 3, 5 and 7, 5 seeds; and a person who named a photograph beside linear models on the
features of that network. ``:small`` is for 2 CPU cores: the networks and epochs of
`experiments.configs.cifar10_grid`, k = 5, and of `experiments.configs.cifar10h`.
``:smoke`` is a few batches.
"""

import ml_collections

from experiments.configs import cifar10, cifar10_grid, cifar10h
from experiments.configs.zoo import compare


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, ``small`` (2 CPU cores), default (a GPU)."""
    if scale not in ("smoke", "small", "default"):
        raise ValueError(f"scale must be smoke or small or left out, got {scale!r}")
    if scale == "default":
        part = cifar10.get_config("paper")
        part.num_perfect = (3, 5, 7)
        part.num_seeds = 5
    else:
        part = cifar10_grid.get_config("default" if scale == "small" else scale)
    people = {"smoke": "smoke", "small": "default", "default": "paper"}[scale]
    config = ml_collections.ConfigDict()
    config.experiment = "zoo"
    config.parts = {
        "cifar10": compare(part),
        "cifar10h": compare(cifar10h.get_config(people)),
    }
    return config

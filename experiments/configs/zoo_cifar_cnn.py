r"""The comparison that the field's benchmark makes on CIFAR-10, with its small network.

  python -m experiments.zoo --config=experiments/configs/zoo_cifar_cnn.py \
      --workdir=runs/zoo_cifar_cnn

Default, for an accelerator: two convolutions and two dense layers, Adam at 0.001,
batches of 512, 50 epochs, images as they are; specialists on k = 1, 3, 5, 7 and 9
classes; the methods that are compared there, 5 seeds: 105 trainings, about 17 minutes
on an H200 by the speed of a part of them. ``:smoke`` is one epoch of a network of a few
channels, two minutes on 2 CPU cores.

What is left open there, and these fields decide: parameters are those of the epoch with
the best system accuracy in validation, and every method also has a threshold that
validation chooses, where the benchmark gives one to the realizable surrogate alone. The
network computes in bfloat16 (``model.dtype``).

References:
  Mozannar et al., "Who Should Predict? Exact Algorithms For Learning to Defer to
  Humans", 2023, Section 6.
"""

import ml_collections

from experiments.configs import cifar10
from experiments.configs.zoo import compare


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (2 CPU cores) or default (an accelerator)."""
    if scale not in ("smoke", "default"):
        raise ValueError(f"scale must be smoke or left out, got {scale!r}")
    part = compare(cifar10.get_config("paper" if scale == "default" else scale))
    methods = ("deferral", "one_vs_all", "confidence")
    tuned = tuple(f"{method}_tuned" for method in methods)
    # The next two always have a threshold that validation chooses.
    part.methods = (*methods, *tuned, "realizable", "selective", "classifier", "expert")
    part.grid.mix = (1.0,)
    part.grid.learning_rate = (1e-3,)
    part.grid.weight_decay = (0.0,)
    for role in ("model", "expert_model"):
        part[role] = {
            "name": "convnet",
            "channels": (100, 100) if scale == "default" else (4, 4),
            "window": 5,
            "hidden": (1000, 500) if scale == "default" else (8,),
            "dtype": "bfloat16",
        }
    part.optimizer = "adam"
    part.batch_size = 512
    part.crop_padding = 0
    part.eval_batch_size = 1000
    if scale == "default":
        part.num_perfect = (1, 3, 5, 7, 9)
        part.num_epochs = part.expert_model_epochs = 50
        part.epochs_per_dispatch = 10
    config = ml_collections.ConfigDict()
    config.experiment = "zoo"
    config.parts = {"cifar10": part}
    return config

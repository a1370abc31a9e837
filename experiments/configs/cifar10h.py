"""Photographs, a linear model on frozen features, and a person who named each.

  python -m experiments.deferral --config=experiments/configs/cifar10h.py \
      --workdir=runs/cifar10h

Needs under ``$L2D_DATA_DIR`` or ``--config.data_dir``: CIFAR-10 as in ``cifar10.py``,
and ``cifar10h/cifar10h-probs.npy``.

Default, for 2 CPU cores: the features of a WideResNet-10-1 with a strided stem, 10
epochs on the 50,000 training images; the 10,000 test images, which some fifty people
named each (Peterson et al. 2019), divided anew by 10 seeds, and of each one of its
people as the expert; linear models of every method that takes one expert. ``:paper``,
for a GPU, has a WideResNet-28-4 and 200 epochs; it has not been run. ``:smoke`` is one
epoch of the network and two of the models.

Of Mozannar et al. (2023): features of a network that is trained on the training images,
linear models on the test images, 70, 10 and 20 % of them, 10 trials. What is left open,
and these fields decide: all about the training of both.
"""

import ml_collections

from experiments.configs import hatespeech


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default (2 CPU cores), ``paper`` (a GPU)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = hatespeech.get_config("smoke" if scale == "smoke" else "default")
    config.experiment = config.problem = "cifar10h"
    for name in ("features", "num_features"):
        del config[name]
    network = {"name": "wide_resnet", "depth": 10, "width": 1}
    config.base = {
        # A strided stem is a quarter of the work at every layer.
        "model": {**network, "stem_stride": 2, "dtype": "float32"},
        "num_epochs": 10,
        "batch_size": 64,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
    }
    config.crop_padding = 4
    config.optimizer = "sgd"  # With Nesterov momentum and cosine decay; or "adam".
    config.momentum = 0.9
    config.grid.learning_rate = (0.1,)
    config.grid.cost = (0.0, 0.3, 3.0)  # The last above log(10); see hatespeech.
    config.batch_size = 250
    config.runs_per_device = 0  # Chosen by backend and model.
    config.epochs_per_dispatch = 5
    config.eval_batch_size = 1000
    if scale == "smoke":
        config.base.num_epochs = 1
    if scale == "paper":
        config.base.model.update({"depth": 28, "width": 4, "stem_stride": 1})
        config.base.num_epochs = 200
        config.base.batch_size = 128
    return config

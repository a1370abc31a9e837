"""Deferring to a particular person on CIFAR-10: fine-tuned expert models.

  python -m experiments.cifar --config=experiments/configs/cifar10_finetune.py \
      --workdir=runs/cifar10_finetune

Needs under ``$L2D_DATA_DIR`` or ``--config.data_dir``: CIFAR-10 as in ``cifar10.py``,
and ``cifar10h/cifar10h-probs.npy``, ``cifar10s/raw_human_data.csv`` and
``cifar10n/cifar10n_labels.npz`` for those of the people in ``people.sources``.
"""

import ml_collections

from experiments.configs import digits_finetune


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default (2 CPU cores), ``paper`` (a GPU)."""
    config = digits_finetune.get_config(scale)
    config.dataset = "cifar10"
    config.num_seeds = 5
    config.people.update(
        {
            "sources": ("specialist", "cifar10h", "cifar10s", "cifar10n"),
            "reserved": 2000,
            "unlabelled": 20000,
            "crowd": "cifar10h",
            "crowd_images": 5000,
        }
    )
    network = {"name": "wide_resnet", "depth": 10, "width": 1}
    # A strided stem is a quarter of the work at every layer.
    config.model = {**network, "stem_stride": 2, "dtype": "float32"}
    config.num_epochs = 10
    config.valid_fraction = 0.05
    config.crop_padding = 4
    config.system_epochs = 5
    config.system_batch_size = 256
    config.epochs_per_dispatch = 1
    config.eval_batch_size = 500
    if scale == "smoke":
        config.num_seeds = 1
        config.people.sources = ("specialist", "cifar10s")
        config.people.unlabelled = 1000
        config.people.max_people = 8
        config.num_epochs = 1
        config.system_epochs = 1
    if scale == "paper":
        config.model.update({"depth": 28, "width": 4, "stem_stride": 1})
        config.people.unlabelled = 0
        config.num_epochs = 200
        config.system_epochs = 200
        config.batch_size = 128
        config.system_batch_size = 128
        config.epochs_per_dispatch = 1
    return config

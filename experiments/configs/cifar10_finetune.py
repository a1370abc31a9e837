"""Deferring to a particular person on CIFAR-10: fine-tuned expert models.

  python -m experiments.cifar --config=experiments/configs/cifar10_finetune.py \
      --workdir=runs/cifar10_finetune

Needs under ``$L2D_DATA_DIR`` or ``--config.data_dir``: CIFAR-10 as in ``cifar10.py``,
and, for those of the people in ``people.sources``, ``cifar10h/cifar10h-probs.npy``,
``cifar10s/raw_human_data.csv`` and ``cifar10n/cifar10n_labels.npz``.

Default, for 2 CPU cores: one WideResNet-10-1 with a strided stem, 10 epochs, 79 % right
on the test images; heads on its features for 11 synthetic people, a simulated typical
one, the 248 real people of CIFAR-10S and the three label sets of CIFAR-10N, each at 5
seeds by six methods: 7,890 models of people and as many systems. 19 minutes by the
clock beside other work, 26 of CPU time. ``:paper``, for a GPU: WideResNet-28-4, 200
epochs, and whole networks tuned; it has not been run. ``:smoke`` is two minutes, most
of them the feature network's.

To expect of the default: for synthetic people at k = 0, 5 and 10 the model of the
person is right on 11, 58 and 100 % without fine-tuning, on 77, 78 and 100 % with it and
on 88, 83 and 100 % as ``population``; for real people (CIFAR-10S) on 85.0 % without,
8.6 points less with fine-tuning, 0.4 more as ``population``.

Choices beyond those of ``digits_finetune.py``: synthetic people and CIFAR-10H's answer
images of one half of the test part, and the crowd, the labels of CIFAR-10H, is of the
other. A real person's crowd is everybody in other folds, on the same images. The labels
of CIFAR-10N are of training images, of which 2,000 are kept from everything else.
Answers are imputed on 20,000 training images (the paper: all).
"""

import ml_collections

from experiments.configs import digits_finetune


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default (2 CPU cores), ``paper`` (a GPU)."""
    config = digits_finetune.get_config(scale)
    config.problem = "cifar10_people"
    config.images = "cifar10"
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
    config.base.model = {**network, "stem_stride": 2, "dtype": "float32"}
    config.base.num_epochs = 10
    config.valid_fraction = 0.05
    config.crop_padding = 4
    config.num_epochs = config.expert_model_epochs = 5
    config.batch_size = 256
    config.epochs_per_dispatch = 1
    config.eval_batch_size = 500
    if scale == "smoke":
        config.num_seeds = 1
        config.people.sources = ("specialist", "cifar10s")
        config.people.unlabelled = 1000
        config.people.max_people = 8
        config.base.num_epochs = 1
        config.num_epochs = config.expert_model_epochs = 1
    if scale == "paper":
        config.base.model.update({"depth": 28, "width": 4, "stem_stride": 1})
        config.model = config.expert_model = config.base.model
        config.people.unlabelled = 0
        config.base.num_epochs = 200
        config.num_epochs = config.expert_model_epochs = 200
        config.base.batch_size = config.batch_size = 128
        config.epochs_per_dispatch = 1
    return config

"""Learning to defer on CIFAR-10 with synthetic experts (Mozannar and Sontag 2020).

  python -m experiments.cifar --config=experiments/configs/cifar10.py \
      --workdir=runs/cifar10

Needs CIFAR-10 prepared by tensorflow-datasets under ``$L2D_DATA_DIR`` or
``--config.data_dir``; it is read without TensorFlow.

Default, for 2 CPU cores: WideResNet-10-1 whose first convolution has stride 2, 2 epochs
of the 45,000 training images, five experts, two values of alpha, 2 seeds: 32 trainings.
``:paper``, for a GPU: WideResNet-28-4, 200 epochs, k = 0..10, 5 seeds; 10-4 and 160
epochs for the expert model, as the authors have it. ``:smoke`` is one epoch of one
expert.

To expect of the default, on the test set: the classifier alone is right on 64 %; the
system on 64, 65, 75, 92 and 100 % at k = 0, 2, 5, 8 and 10. It takes 12.4
minutes on 2 cores and 23.9 of CPU time.

What the paper leaves open is decided as in ``digits.py``.
"""

import ml_collections

from experiments.configs import digits


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default (2 CPU cores), ``paper`` (a GPU)."""
    config = digits.get_config(scale)
    config.problem = config.images = "cifar10"
    config.num_seeds = 2
    config.valid_fraction = 0.1
    config.num_perfect = (0, 2, 5, 8, 10)
    config.grid.alpha = (1.0, 0.5)
    network = {"name": "wide_resnet", "depth": 10, "width": 1}
    # A strided stem is a quarter of the work at every layer.
    config.model = {**network, "stem_stride": 2, "dtype": "float32"}
    config.expert_model = {**network, "stem_stride": 2, "dtype": "float32"}
    config.batch_size = 64
    config.num_epochs = 2
    config.expert_model_epochs = 2
    config.crop_padding = 4
    config.epochs_per_dispatch = 1
    config.eval_batch_size = 500
    if scale == "smoke":
        config.num_seeds = 1
        config.num_perfect = (5,)
        config.grid.alpha = (1.0,)
        config.num_epochs = 1
        config.expert_model_epochs = 1
    if scale == "paper":
        config.num_seeds = 5
        config.num_perfect = tuple(range(11))
        config.model.update({"depth": 28, "width": 4, "stem_stride": 1})
        config.expert_model.update({"depth": 10, "width": 4, "stem_stride": 1})
        config.batch_size = 128
        config.num_epochs = 200
        config.expert_model_epochs = 160
    return config

"""Learning to defer on scikit-learn's bundled images of handwritten digits.

  python -m experiments.cifar --config=experiments/configs/digits.py \
      --workdir=runs/digits

Default: 1,797 real images of 8 x 8 pixels (a fixed fifth for the test), a network
64-128-11, experts k = 0..10, three values of alpha, 10 seeds: 450 trainings, under a
minute on 2 CPU cores. ``:smoke`` is seconds; ``:paper`` trains WideResNet-10-2
for 20 seeds, about an hour on 2 cores.

To expect of the default, on the test set: the classifier alone is right on 95 %; the
system on about as many with a useless expert (k = 0), on 98 % at k = 9 and on all at
k = 10.

What the paper leaves open, and these fields decide: an expert's answer to an image is
drawn once for each seed, not anew at every epoch; validation chooses, for each seed and
k, among the values in ``grid`` by system accuracy, the first of equals; parameters are
those of the epoch with the best validation score.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (a WideResNet)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "cifar"
    config.problem = "digits"
    config.images = "digits"
    config.data_dir = ""  # Not used: the images come with scikit-learn.
    config.seed = 0  # Of the whole sweep; the seeds of the runs are 0..num_seeds-1.
    config.num_seeds = 10
    config.valid_fraction = 0.2  # Of what is not in the test set; drawn for each seed.
    config.methods = ("deferral", "classifier", "expert", "confidence")
    config.choose = "per_seed"
    config.references = ("classifier",)  # Whom the methods are compared with, paired.
    # k: the expert is perfect on the first k classes and guesses elsewhere.
    config.num_perfect = tuple(range(11))
    # Of the problem digits_panel: the classes that each expert knows.
    config.panel = ((0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 9))
    config.joint = {
        "deferrer": {"name": "mlp", "hidden": (128,)},
        "minimax_rounds": 5,  # Odd.
    }
    config.committee_size = 3  # Odd.
    config.policy = {  # Of the methods NAME_POLICY; see experiments.policies.
        "max_deferral": 0.2,
        "expert_share": 0.1,
        "criterion": "equalized_odds",
        "tolerance": 0.02,
    }
    config.grid = {
        "alpha": (1.0, 0.5, 0.0),
        "learning_rate": (0.1,),
        "weight_decay": (5e-4,),
    }
    config.model = {"name": "mlp", "hidden": (128,)}
    config.expert_model = {"name": "mlp", "hidden": (128,)}
    config.optimizer = "sgd"  # With Nesterov momentum and cosine decay; or "adam".
    config.momentum = 0.9
    config.batch_size = 128
    config.num_epochs = 60
    config.expert_model_epochs = 60
    config.best_epoch = "accuracy"  # Of a classifier; or loss.
    config.sampled = False  # Of a mixture: sample the gate in the loss too.
    config.temperature = 0.5  # Of the Concrete relaxation.
    config.patience = 0  # Epochs without a better validation score; 0 never stops.
    config.crop_padding = 0  # Pixels of random shift, with flips; 0 does neither.
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 0  # 0 chooses by backend and model.
    config.epochs_per_dispatch = 10
    config.eval_batch_size = 1000
    config.checkpoint_seconds = 30.0
    if scale == "smoke":
        config.num_seeds = 2
        config.num_perfect = (0, 5, 10)
        config.grid.alpha = (1.0, 0.5)
        config.num_epochs = 3
        config.expert_model_epochs = 3
        config.epochs_per_dispatch = 2
    if scale == "paper":
        config.num_seeds = 20
        network = {"name": "wide_resnet", "depth": 10, "width": 2}
        config.model = {**network, "stem_stride": 1, "dtype": "float32"}
        config.expert_model = {**network, "stem_stride": 1, "dtype": "float32"}
        config.epochs_per_dispatch = 1
    return config

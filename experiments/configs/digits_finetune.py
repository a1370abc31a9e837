"""Deferring to a particular person on handwritten digits: fine-tuned expert models.

  python -m experiments.cifar --config=experiments/configs/digits_finetune.py \
      --workdir=runs/digits_finetune

Default: 11 synthetic people, perfect on the first k classes, at 10 seeds, and six ways
to model each: 660 models and 660 systems, 49 s on 2 CPU cores (74 s of CPU time,
compilation included). ``:smoke`` is seconds; ``:paper`` tunes whole networks
(WideResNet-10-2), as the paper does, for a GPU; it has not been run whole.

To expect of the default, on the people's test answers: the model of the person is right
on 11, 58 and 100 % without fine-tuning at k = 0, 5 and 10, on 79, 88 and 100 % with it,
and on 91, 91 and 100 % as ``population``; the system on 78, 89 and 100 % without, and
on 94, 95 and 100 % with ``population``.

What the paper leaves open, and these fields decide: the crowd (the aggregate data) is
50 simulated people who are right on 95 % of a class on average; crowd and people answer
different images; 40 % of the digits, which nobody answers, train the feature network
and get imputed answers, as probabilities; the system learns from them and from the
person's tuning answers; class weights are on for self-training as well. n, the learning
rates and the threshold were chosen among few by the accuracy of the model of the
person, at ``seed`` 1, where other images are answered by other people.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (whole networks)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "personalize"
    config.problem = "digits_people"
    config.images = "digits"
    config.data_dir = ""  # Not used: the images come with scikit-learn.
    config.seed = 0  # Of the whole experiment.
    config.num_seeds = 10  # Each draws a person's answers, and who is tuned on which.
    config.methods = ("deferral",)
    config.choose = "per_seed"
    config.references = ("classifier",)  # Whom the methods are compared with, paired.
    config.imputers = (
        "none",
        "finetune",
        "self_training",
        "propagation",
        "crowd",
        "population",
    )
    config.num_perfect = tuple(range(11))  # k of the specialists.
    config.people = {
        "sources": ("specialist",),
        "budget": 500,  # Answers of a synthetic person: half to tune, half to test.
        "real_budget": 200,  # The same of a real one, who may have fewer.
        "human_fraction": 0.6,  # Of the digits, the share that people answer.
        "reserved": 0,  # Training images kept back for people who answered those.
        "unlabelled": 0,  # Images to impute answers on; 0 takes all.
        "crowd": "simulated",  # Whom the aggregate model learns from; or cifar10h.
        "crowd_images": 500,  # Which the crowd answers, and nobody else.
        "crowd_people": 50,
        "crowd_answers": 50,  # Of each.
        "crowd_skill": (19.0, 1.0),  # Beta: chance of being right, by person and class.
        "folds": 8,  # Of real people; a person's crowd is those in other folds.
        "max_people": 0,  # Real people of a source, drawn at random; 0 takes all.
        "raw_file": "",  # Your cifar10h-raw.zip, for the source cifar10h_raw.
    }
    # The network that gives features: a classifier of the images nobody answers.
    config.base = {
        "model": {"name": "mlp", "hidden": (128,)},
        "num_epochs": 60,
        "batch_size": 64,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
    }
    config.optimizer = "sgd"  # With Nesterov momentum and cosine decay; or "adam".
    config.momentum = 0.9
    config.sampled = False  # Of a mixture: sample the gate in the loss too.
    config.temperature = 0.5  # Of the Concrete relaxation.
    config.patience = 0
    config.valid_fraction = 0.1
    config.crop_padding = 0
    # "head": models of people and systems are heads on its features. "network": they
    # are networks of the form of `model`, tuned whole.
    config.tune = "head"
    # The performance model: whether the person is right. Adam.
    config.human_model = {"name": "mlp", "hidden": (64,)}
    config.human_model_epochs = 20  # n, on other people.
    config.finetune_ratio = 2.0  # lambda: further epochs on the person, over n.
    config.human_model_batch_size = 64
    config.human_model_learning_rate = 1e-3
    config.finetune_learning_rate = 3e-3
    config.class_weights = True  # Inverse frequency of right and wrong, on the person.
    config.self_training_threshold = 0.9  # Least probability of a pseudo-label.
    config.propagation = {
        "num_neighbors": 10,
        "num_steps": 10,
        "retention": 0.9,
        "prior_answers": 10.0,  # The aggregate model's worth, spread over all images.
    }
    config.population = {
        "overall": (0.1, 0.3, 1.0, 3.0),  # Scales of skill, log-odds.
        "by_class": (0.1, 0.3, 1.0, 3.0),
        "image_scales": (0.05, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
    }
    # The systems: classifier and rejector, trained on imputed answers.
    config.grid = {"alpha": (1.0,), "learning_rate": (0.1,), "weight_decay": (5e-4,)}
    config.model = {"name": "mlp", "hidden": (64,)}
    config.expert_model = {"name": "mlp", "hidden": (64,)}
    config.num_epochs = 30
    config.expert_model_epochs = 30
    config.best_epoch = "accuracy"  # Of a classifier; or loss.
    config.batch_size = 64
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 0  # 0 chooses by backend and model.
    config.epochs_per_dispatch = 10
    config.eval_batch_size = 1000
    config.checkpoint_seconds = 30.0
    if scale == "smoke":
        config.num_seeds = 2
        config.num_perfect = (0, 5, 10)
        config.base.num_epochs = 3
        config.human_model_epochs = 2
        config.num_epochs = config.expert_model_epochs = 2
        config.epochs_per_dispatch = 3
    if scale == "paper":
        network = {"name": "wide_resnet", "depth": 10, "width": 2}
        config.base.model = {**network, "stem_stride": 1, "dtype": "float32"}
        config.model = config.expert_model = config.base.model
        config.tune = "network"
        config.epochs_per_dispatch = 1
    return config

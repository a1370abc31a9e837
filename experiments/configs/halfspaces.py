r"""Learning to defer where two half-spaces make the best team: surrogates and the MILP.

  python -m experiments.deferral --config=experiments/configs/halfspaces.py \
      --workdir=runs/halfspaces
  python -m experiments.deferral --config=experiments/configs/halfspaces.py:realizable \
      --workdir=runs/halfspaces_realizable

Mozannar et al., "Who Should Predict? Exact Algorithms For Learning to Defer to Humans",
2023. Default: the problem whose best team is wrong on about 7.5 %: 1,000 examples, of
which a tenth validates, 30 uniform features, linear models, 10 seeds, each with data of
its own, and a minute of the integer program for each: eleven minutes in all.
``:realizable`` has a team that is never wrong. ``:smoke`` is seconds.

What is as in the authors' code: the law of the inputs, labels and answers, the sizes,
Adam at a learning rate of 0.1, all training examples in a batch. Ours: how often the
expert is wrong on the side that the classifier is to keep, in the noisy problem (0.4);
300 epochs, as their paper has it (their code has 1,000), of which validation chooses
one; and the search around the solver of the integer program.
"""

import ml_collections

from experiments.configs import digits


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default or ``realizable``."""
    if scale not in ("smoke", "default", "realizable"):
        raise ValueError(
            f"scale must be smoke or realizable or left out, got {scale!r}"
        )
    config = digits.get_config("smoke" if scale == "smoke" else "default")
    for name in ("images", "num_perfect", "panel", "joint", "committee_size"):
        del config[name]
    config.experiment = "halfspaces"
    config.problem = "halfspaces_noisy"
    config.num_examples = 1000  # To train and validate on.
    config.num_test = 5000
    config.num_features = 30
    config.input_law = "uniform"  # Of the unit cube; or mixture, of 15 normals.
    config.valid_fraction = 0.1
    config.methods = (
        "deferral",
        "deferral_tuned",
        "one_vs_all",
        "asymmetric_softmax",
        "rl2d",
        "realizable",
        "confidence",
        "milp",
        "classifier",
        "expert",
        "oracle",
        "best_rule",
    )
    config.references = ("deferral",)
    config.grid = {
        "alpha": (1.0, 0.5, 0.0),
        "mix": (1.0, 0.5, 0.1),
        "q": (0.7, 1.0),
        "learning_rate": (0.1,),
    }
    config.model = {"name": "mlp", "hidden": ()}  # Linear.
    config.expert_model = {"name": "mlp", "hidden": ()}
    config.milp = {"time_limit": 60.0}  # Seconds of a seed; then the best found.
    config.optimizer = "adam"
    config.batch_size = 900
    if scale != "smoke":
        config.num_epochs = config.expert_model_epochs = 300
        config.epochs_per_dispatch = 100
    if scale == "realizable":
        config.problem = "halfspaces_realizable"
    if scale == "smoke":
        config.num_examples = 60
        config.num_test = 100
        config.num_features = 3
        config.batch_size = 54
        config.milp.time_limit = 2.0
    return config

"""A table of one's own: who should answer each case, a classifier or one of the people?

  python -m experiments.table --config=experiments/configs/table.py --workdir=DIR \
      --config.cases=cases.csv --config.id=case --config.label=diagnosis \
      "--config.experts=('reader_1','reader_2')"

Default: 10 splits (two times five folds), every method that can be had, two learning
rates. Without ``cases`` it is the example: 500 tumours, four simulated readers, about a
minute on 2 CPU cores. ``:one`` takes one expert, which more methods can: the one whom
``experts`` names, or one of those who answered, drawn for each case and split, as "a
reader". ``:smoke`` is a minute too, most of it compiling, unless ``methods`` are few.

Inputs of all splits are held at once: cases times splits times columns, 4 bytes each.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default, ``one`` (expert)."""
    if scale not in ("smoke", "default", "one"):
        raise ValueError(f"scale must be smoke or one or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "table"
    config.problem = "table"
    # The table.
    config.cases = ""  # Your CSV file; empty: the example, and so is what follows.
    config.answers_file = ""  # In place of experts: a CSV of case, expert, answer.
    config.id = ""
    config.label = ""
    config.experts = ()
    config.group = ""
    config.split_by = ""
    config.text = ()
    config.category = ()  # Columns of names that look like numbers.
    config.exclude = ()
    # Your model's probabilities: a column for each class in their order, or of two that
    # of the second, or of `positive`. No classifier is trained then; the methods that
    # learn one together with the rule for asking train their own, and see yours.
    config.scores = ()
    config.positive = ""
    # Splits.
    config.seed = 0
    config.num_seeds = 10  # Splits: two times five folds.
    config.num_folds = 5
    config.valid_fraction = 0.2  # Of a split's training part.
    # Methods.
    config.methods = ("all",)
    config.choose = "per_seed"
    config.references = ("majority",)  # Whom the methods are compared with, paired.
    config.grid = {"learning_rate": (0.01, 0.001)}
    config.model = {"name": "mlp", "hidden": (32,)}
    config.expert_model = {"name": "mlp", "hidden": (32,)}
    config.joint = {
        "deferrer": {"name": "mlp", "hidden": (32,)},
        "minimax_rounds": 5,  # Odd.
    }
    config.bayesian = {
        "model": {"name": "mlp", "hidden": (32,)},
        "prior_deviation": 1.0,
        "num_samples": 20,
    }
    config.committee_size = 3  # Odd.
    config.policy = {  # Of the methods NAME_POLICY; see experiments.policies.
        "max_deferral": 0.2,
        "expert_share": 0.1,
        "criterion": "equalized_odds",
        "tolerance": 0.02,
    }
    config.threshold_draws = 1000
    config.sampled = False
    config.temperature = 0.5
    # Training.
    config.optimizer = "adam"
    config.batch_size = 32
    config.num_epochs = 100
    config.expert_model_epochs = 100
    config.minimax_epochs = 500  # As many of each round.
    config.best_epoch = "loss"
    config.patience = 0
    # Running.
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 0  # Chosen by backend and model.
    config.epochs_per_dispatch = 25
    config.eval_batch_size = 2000
    config.checkpoint_seconds = 30.0
    if scale == "one":
        config.problem = "table_one"
        config.references = ("classifier",)
    if scale == "smoke":
        config.num_seeds = config.num_folds = 2
        config.num_epochs = config.expert_model_epochs = config.minimax_epochs = 2
        config.epochs_per_dispatch = 2
    return config

r"""Predicting responsibly on a synthetic set with a known best deferral rule.

  python -m experiments.tabular --config=experiments/configs/synthetic.py \
      --workdir=runs/synthetic

Default: 8,000 examples drawn from the law of `l2d_jax.data.make_synthetic`, every
method, three decision-makers, 9 settings, 3 seeds: 40 s on 2 quiet CPU cores, half of
it tracing and compiling. ``:smoke`` is seconds of training; ``:paper`` has 1,040
settings and 5 seeds.

To expect of the default, on the test part: deferring is within a point of the best rule
on the same examples, which is right on 95.0 % with the accurate decision-maker, 91.0 %
with the biased and 90.5 % with the inconsistent one; the classifier alone is right on
85.9 %.

What the paper leaves open, and these fields decide: the grids of costs and weights of
fairness; the prior and the number of samples of the Bayesian network; the greatest
number of epochs.
The decision to pass is in the loss in closed form, as the authors' code has it;
``sampled`` samples it, as their text has it.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (a fine grid)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.experiment = "tabular"
    config.problem = "synthetic"
    config.num_examples = 8000  # Of the synthetic set; a real one has its own number.
    config.data_dir = ""  # Not used: the examples are drawn.
    config.seed = 0  # Of everything; the seeds of the runs are 0..num_seeds-1.
    config.num_seeds = 3
    config.scenarios = ("accurate", "biased", "inconsistent")
    # Decision-makers that come with the data, or trained ones; auto prefers the former.
    config.decision_maker = "auto"
    config.biased_fairness = -0.1  # Of a trained one that is to be unfair.
    config.flip_rate = 0.3  # Of a trained one that is to be inconsistent.
    config.methods = (
        "classifier",
        "bayesian",
        "rejection",
        "mixture",
        "mixture_oracle",
        "rejection_thresholds",
        "deferral_thresholds",
        "rejection_bayesian",
        "deferral_bayesian",
        "expert",
        "informed",
        "best_rule",
    )
    config.choose = "over_seeds"  # One price for all seeds; all are reported, too.
    config.references = ("rejection",)  # Whom the methods are compared with, paired.
    config.grid = {
        "cost": (0.0, 0.1, 0.4),  # gamma, nats a deferral or rejection.
        "fairness": (0.0, 0.1, 0.5),  # Weight of equalized odds.
        "learning_rate": (0.01,),
    }
    # Two networks of so many sigmoid units each; what has other outputs has one.
    config.model = {"name": "gated_pair", "hidden": 5}
    config.expert_model = {"name": "mlp", "hidden": (5,), "activation": "sigmoid"}
    config.sampled = False  # Sample the gate in the loss too, as the paper's text has.
    config.temperature = 0.5  # Of the Concrete relaxation.
    config.bayesian = {
        "model": {"name": "mlp", "hidden": (5,), "activation": "sigmoid"},
        "prior_deviation": 1.0,
        "num_samples": 20,  # J.
    }
    config.threshold_draws = 1000
    config.policy = {  # Of the methods NAME_POLICY; see experiments.policies.
        "max_deferral": 0.2,
        "expert_share": 0.1,
        "criterion": "equalized_odds",
        "tolerance": 0.02,
    }
    config.optimizer = "adam"
    config.batch_size = 64
    config.num_epochs = 400
    config.expert_model_epochs = 400
    config.best_epoch = "loss"  # Of a classifier; or accuracy.
    config.patience = 50  # Epochs without a lower validation loss; 0 never stops.
    config.valid_fraction = 0.2  # Of what is not in the test part; drawn for each seed.
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 0  # 0 chooses by backend.
    config.epochs_per_dispatch = 400
    config.eval_batch_size = 8000
    config.checkpoint_seconds = 30.0
    if scale == "smoke":
        config.num_examples = 400
        config.num_seeds = 2
        config.grid.update({"cost": (0.0, 0.2), "fairness": (0.0, 0.5)})
        config.bayesian.num_samples = 5
        config.threshold_draws = 50
        config.num_epochs = 6
        config.expert_model_epochs = 6
        config.patience = 3
        config.epochs_per_dispatch = 3
    if scale == "paper":
        config.num_seeds = 5
        config.grid.update(
            {
                "cost": tuple(round(0.025 * i, 3) for i in range(40)),
                "fairness": tuple(round(0.04 * i, 2) for i in range(26)),
            }
        )
    return config

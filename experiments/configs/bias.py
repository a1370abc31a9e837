"""Bias in a closed loop: Claims 2.1 and 2.2.

  python -m experiments.allocation --config=FILE --workdir=runs/bias

with ``experiments/configs/bias.py`` as FILE.

Default: 2,400 streams of 2,000 tasks, half a minute on 2 CPU cores. ``:smoke`` is
small, ``:paper`` has 500 seeds.

To expect: at the start the exact gap within 3 standard errors for every alpha and
gamma; at the end, without a prior, the same gap where only who was asked learns, and
less of it where everyone does (alpha = .7: .20 and .00). The paper leaves the size of
rewards and penalties and the number of annotators open: ``rate`` and
``num_annotators``, not tuned.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke`` (seconds), default, ``paper`` (more seeds)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.task = "bias"
    config.seed = 0
    config.num_seeds = 20
    config.num_annotators = 20
    config.alphas = (0.55, 0.6, 0.7, 0.8, 0.9)
    config.gammas = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
    config.committee_sizes = (1, 3)
    config.num_tasks = 2000
    config.num_windows = 10
    config.num_test_tasks = 4000
    config.rate = 0.02  # Of rewards and penalties.
    config.placement = "auto"  # Or vmap, shard, unroll, loop.
    config.runs_per_device = 0  # 0 chooses by backend.
    if scale == "smoke":
        config.num_seeds = 3
        config.alphas = (0.6, 0.8)
        config.gammas = (0.5, 1.0)
        config.num_tasks = 50
        config.num_windows = 2
        config.num_test_tasks = 200
    if scale == "paper":
        config.num_seeds = 500
    return config

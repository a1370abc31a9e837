"""One sweep of small nets, timed; `experiments.benchmark` starts it in every layout.

python -m experiments.benchmark.scaling --workdir=DIR
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Sizes of the sweep."""
    config = ml_collections.ConfigDict()
    config.num_runs = 1024
    config.runs_per_device = 128
    config.epochs = 50
    # Pairs of small nets, 20 features, batch 100, validated after every epoch.
    config.hidden = 5
    config.rows = 4940
    config.valid_rows = 1235
    return config

"""The ledger of the papers' claims.

  python -m experiments.claims --workdir=runs/claims

writes ``claims.csv``, and ``claims.md`` for documents to include.

Results that are there already are read: ``--config.results.cifar10=DIR`` names the work
folder of a finished experiment. What has no folder is run here if it is named in
``run``: by default what needs no download, five minutes on 2 CPU cores.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default or ``paper``; what is run has it too."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.scale = scale
    config.run = ("digits", "trips", "digits_finetune", "synthetic", "bias")
    config.results = {
        "digits": "",
        "cifar10": "",
        "trips": "",
        "digits_finetune": "",
        "cifar10_finetune": "",
        "synthetic": "",
        "compas": "",
        "health": "",
        "bias": "",
        "clusters": "",
        "toxicity": "",
        "texts": "",
        "zoo": "",
    }
    # How far below the better of classifier and expert a system may be and still count
    # as no worse, in accuracy: half a point at the papers' scale.
    config.tolerance = 0.005 if scale == "paper" else 0.02
    return config

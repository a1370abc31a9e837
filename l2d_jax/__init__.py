"""Learning to defer in JAX.

What is named here needs JAX alone. The rest is imported by its own name: `optimizers`,
`augmentation`, and the packages `models`, `learners` (methods), `people` (models of one
person), `policies` (what is decided after training), `crowds` (whom to ask in a closed
loop), `simulate`, `data` and `engine`, which trains many runs as one program.
"""

from l2d_jax import decisions, fairness, losses, metrics, relaxations
from l2d_jax.types import (
    Batch,
    Dataset,
    Decision,
    HParams,
    Learner,
    ModelFns,
    Sweep,
    TrainState,
    Variables,
)

__all__ = [
    "Batch",
    "Dataset",
    "Decision",
    "HParams",
    "Learner",
    "ModelFns",
    "Sweep",
    "TrainState",
    "Variables",
    "decisions",
    "fairness",
    "losses",
    "metrics",
    "relaxations",
]

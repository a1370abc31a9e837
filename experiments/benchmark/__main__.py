"""Speed of the engine beside its peers, measured in one run.

Every workload is the same training in several variants: plain PyTorch one run after
another, PyTorch with the runs stacked by hand, one jitted JAX run after another, and
this library's sweep; closed-loop streams have a loop of NumPy calls in place of
PyTorch. All variants are timed in turn, several times over; a rate is the
median of its repeats. A sweep is timed from the call to its result, compilation
included; ``steady_rate`` leaves compilation out. On a GPU the peers run there too.
For scaling, the same sweep runs on one core and on more devices and processes.

  python -m experiments.benchmark --workdir=DIR

The workload ``start`` times whole programs from command to table, see
`experiments.benchmark.start`; ``growth`` makes an experiment larger and larger, see
`experiments.benchmark.growth`; ``roofline`` says what bounds a step, see
`experiments.benchmark.roofline`. The workload ``topology`` runs nothing: it compiles
sweeps for slices of TPUs that need not be there, see `experiments.benchmark.topology`.
"""

import jax

from experiments.benchmark import rates
from experiments.runtime import cli

if __name__ == "__main__":
    # What is kept from an earlier start would not be compiled, and not be timed.
    jax.config.update("jax_enable_compilation_cache", False)
    cli.run(rates.main, "experiments/configs/benchmark.py")

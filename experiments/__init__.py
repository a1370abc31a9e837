"""Experiment programs: ``python -m experiments.NAME --config=FILE --workdir=DIR``."""

import sys

from experiments.runtime import output, signals

# While Python looks for the module that it is to run; the imports take seconds.
if sys.argv[:1] == ["-m"]:
    output.never_fail()
    signals.take_over()

try:
    # The first import of JAX, which reads its environment.
    import jax as jax
except ValueError as error:
    advice = "set that variable of the environment, or unset it"
    print(f"error: {error}; {advice}", file=sys.stderr)
    sys.exit(2)

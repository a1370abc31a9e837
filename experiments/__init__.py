"""Experiment programs: ``python -m experiments.NAME --config=FILE --workdir=DIR``."""

import sys

try:
    # The first import of JAX, which reads its environment.
    import jax as jax
except ValueError as error:
    advice = "set that variable of the environment, or unset it"
    print(f"error: {error}; {advice}", file=sys.stderr)
    sys.exit(2)

"""What the programs say while they run."""

import contextlib
import io

from experiments.runtime import progress
from l2d_jax.engine import sweeps


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar():
    with contextlib.redirect_stderr(Terminal()) as err:
        bar = progress.ProgressBar("deferral")
        for done in (5, 10, 10):
            bar(sweeps.Progress(done, 10))
    assert "deferral: 100%" in err.getvalue() and "10/10" in err.getvalue()


def test_progress_elsewhere_is_lines_with_an_eta():
    with contextlib.redirect_stderr(io.StringIO()) as err:
        bar = progress.ProgressBar("deferral", seconds_between_lines=0.0)
        bar(sweeps.Progress(2, 10, "careful"))
        for done in (5, 10, 10):
            bar(sweeps.Progress(done, 10))
    first, second, third, fourth = err.getvalue().splitlines()
    assert (first, second) == ("deferral: careful", "deferral: 2/10 epochs")
    assert third.startswith("deferral: 5/10 epochs, ") and third.endswith(" s left")
    assert fourth == "deferral: 10/10 epochs"

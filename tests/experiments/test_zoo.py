"""The zoo: several problems by one program, their tables as one, and the figures."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from experiments import tables, zoo
from experiments.configs import zoo as zoo_config
from experiments.configs import zoo_cifar, zoo_cifar_cnn, zoo_tables
from experiments.figures import zoo as figures
from experiments.methods import METHODS
from experiments.runtime.errors import ConfigError

pytestmark = pytest.mark.usefixtures("cheap_compiles")
RUN = ("deferral", "deferral_tuned", "confidence")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work folder of a small zoo of two problems."""
    config = zoo_config.get_config("smoke")
    del config.parts["panel"]
    for part in config.parts.values():
        part.methods = RUN
        part.num_epochs = part.expert_model_epochs = 2
        part.epochs_per_dispatch = 2
    config.parts.digits.num_perfect = (5,)
    workdir = tmp_path_factory.mktemp("zoo")
    zoo.main(config, workdir)
    return workdir


@pytest.mark.slow
def test_tables_of_all_parts_are_one(finished):
    for name in zoo.TABLES:
        table = pd.read_csv(finished / name)
        assert list(table.part.unique()) == ["digits", "synthetic"]
        for part, rows in table.groupby("part"):
            own = pd.read_csv(finished / part / name)
            assert len(own) == len(rows)
    summary = pd.read_csv(finished / "summary.csv")
    assert set(summary.method) == set(RUN)


@pytest.mark.slow
def test_each_is_compared_with_both_references(finished):
    rows = pd.read_csv(finished / "comparison.csv")
    rows = rows[(rows.against == "reference") & (rows.metric == "system_accuracy")]
    for _, part in rows.groupby("part"):
        for reference in zoo_config.REFERENCES:
            compared = part[part.reference == reference]
            assert set(compared.method) == {*RUN} - {reference}
            assert compared.p_holm.notna().any()


@pytest.mark.slow
def test_the_tables_are_sealed(finished):
    for name in zoo.TABLES:
        tables.check_seal(finished / name)


@pytest.mark.slow
def test_what_each_training_took(finished):
    spent = pd.read_csv(finished / "seconds.csv")
    assert set(spent.training) == {"deferral", "classifier", "expert_model"}
    assert (spent.seconds >= 0).all() and (spent.runs > 0).all()


@pytest.mark.slow
def test_figures_are_drawn(finished):
    names = {path.name for path in (finished / "figures").iterdir()}
    assert names == {"system_accuracy.png", "calibration.png", "coverage_accuracy.png"}


def test_marks_stand_for_rules():
    """A full mark is a method by its own rule, an empty one its tuned twin."""
    rows = pd.DataFrame(
        {
            "part": "one",
            "method": ["deferral", "deferral_tuned", "expert"],
            "metric": "system_accuracy",
            "split": "test",
            "n": 3,
            "cases": 50,
            "over": "seeds",
            "mean": [0.7, 0.8, 0.6],
            "ci_low": [0.6, 0.7, 0.5],
            "ci_high": [0.8, 0.9, 0.7],
        }
    )
    figure = figures.draw_methods(rows, "system_accuracy", "accuracy")
    (axes,) = figure.axes
    own, tuned = (container[0] for container in axes.containers)
    assert own.get_fillstyle() == "full" and tuned.get_fillstyle() == "none"
    assert list(own.get_xdata()[::-1]) == [70.0, 60.0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [METHODS["expert"].label, METHODS["deferral"].label]
    assert "3 seeds, 50 cases" in axes.get_title()


def test_no_parts_is_one_line(tmp_path):
    config = zoo_config.get_config("smoke")
    config.parts = {}
    with pytest.raises(ConfigError, match=r"^parts is empty; give at least one"):
        zoo.main(config, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_epochs", 0, "num_epochs must be a whole"),
        ("problem", "moons", "problem must be one of"),
        ("methods", ("deferal",), "methods: there is no 'deferal'; did you mean"),
        ("references", ("best",), "references must be one of"),
    ],
)
def test_a_field_of_the_last_part_is_named_before_the_first_is_run(
    field, value, message, tmp_path
):
    config = zoo_config.get_config("smoke")
    part = list(config.parts)[-1]
    config.parts[part][field] = value
    with pytest.raises(ConfigError, match=rf"^parts\.{part}\.{message}"):
        zoo.main(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [zoo_config, zoo_tables, zoo_cifar])
def test_scales(module):
    for scale in ("smoke", "default"):
        config = module.get_config(scale)
        zoo.check(config)
        assert all(part.methods == ("all", "tuned") for part in config.parts.values())
        assert {len(part.grid.mix) for part in config.parts.values()} == {2}
    with pytest.raises(ValueError, match="scale must be smoke"):
        module.get_config("huge")


@pytest.mark.parametrize("scale", ["smoke", "default"])
def test_methods_of_the_small_network_are_those_of_the_benchmark(scale):
    config = zoo_cifar_cnn.get_config(scale)
    zoo.check(config)
    part = config.parts.cifar10
    assert {"deferral", "realizable", "one_vs_all", "confidence"} < set(part.methods)
    assert part.model == part.expert_model
    with pytest.raises(ValueError, match="scale must be smoke"):
        zoo_cifar_cnn.get_config("huge")


def test_who_is_far_below_is_a_number_at_the_edge():
    rows = pd.DataFrame(
        {
            "part": "one",
            "num_perfect": 5.0,
            "method": ["deferral", "one_vs_all", "expert"],
            "metric": "system_accuracy",
            "split": "test",
            "n": 3,
            "cases": 50,
            "over": "seeds",
            "mean": [0.95, 0.94, 0.3],
            "ci_low": [0.94, 0.93, 0.2],
            "ci_high": [0.96, 0.95, 0.4],
        }
    )
    figure = figures.draw_methods(rows, "system_accuracy", "accuracy")
    (axes,) = figure.axes
    assert axes.get_xlim()[0] == pytest.approx(82.0)
    assert [text.get_text().strip() for text in axes.texts] == ["30"]
    assert axes.get_title().startswith("one, num_perfect 5\n")


def test_every_method_of_any_panel_is_in_the_legend():
    parts = [
        pd.DataFrame(
            {
                "part": part,
                "method": method,
                "split": "test",
                "seed": 0,
                "coverage": [0.0, 1.0],
                "system_accuracy": [0.5, 0.9],
            }
        )
        for part, method in (("one", "deferral"), ("two", "picce"))
    ]
    figure = figures.draw_curves(pd.concat(parts))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [METHODS["deferral"].label, METHODS["picce"].label]

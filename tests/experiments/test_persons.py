"""The experiment on particular persons end to end: results, restarts, bad input."""

import json
import pathlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import programs
import pytest

from experiments import cifar, people, persons, schema, tables
from experiments.configs import cifar10_finetune, digits_finetune
from experiments.figures import people as people_figures
from experiments.runtime import signals
from experiments.runtime.errors import ConfigError
from l2d_jax import data
from l2d_jax.data import cifar10, cifar10h, cifar10s
from l2d_jax.engine import sweeps
from l2d_jax.types import Dataset

pytestmark = pytest.mark.usefixtures("cheap_compiles")

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = "--config=experiments/configs/digits_finetune.py:smoke"
TABLES = ("results.csv", "summary.csv", "comparison.csv", "gains.csv")
IMPUTERS = digits_finetune.get_config("smoke").imputers
KEYS = ("experiment", "problem", "people", "method", "seed", "imputer", "person")
OF_PERSON = ("num_perfect", "num_tune", "num_test", "num_selected", "fell_back")
HPARAMS = ("alpha", "learning_rate", "weight_decay")
INFO = ("split", "chosen", "best_epoch", "epochs", "diverged")
METRICS = (
    "classifier_accuracy",
    "coverage",
    "deferral_rate",
    "system_accuracy",
    "best_coverage_accuracy_area",
    "classifier_accuracy_kept",
    "coverage_accuracy_area",
    "expert_accuracy",
    "expert_accuracy_deferred",
    "expert_calibration_error",
    "human_model_accuracy",
    "human_model_nll",
    "system_error",
)
GAINS = [f"gain_{name}" for name in persons.GAINS]
SHARES = ["system_follows_human_model", "sign_agreement"]
NAN = float("nan")


def make_config(**changes):
    config = digits_finetune.get_config("smoke")
    config.placement = "vmap"  # Compiles faster than on two devices.
    for name, value in changes.items():
        *sections, field = name.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[field] = value
    return config


def run_main(config, workdir):
    return programs.run(cifar.main, config, workdir)


def read(workdir):
    return {name: (workdir / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run at ``smoke`` scale: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("people")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return workdir, *run_main(make_config(), workdir)


@pytest.fixture(scope="module")
def results(whole):
    """What is measured on the people's own answers."""
    table = pd.read_csv(whole[0] / "results.csv")
    return table[table.split == "test"].reset_index(drop=True)


# What a run leaves.


def test_files(whole):
    workdir, out, err = whole
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *TABLES,
        "curves.csv",
        "seconds.csv",
        "config.json",
        "origin.json",
        "tables.json",
        "figures",
        "checkpoints",
    }
    config = json.loads((workdir / "config.json").read_text())
    assert config["people"]["sources"] == ["specialist"]
    (figure,) = (workdir / "figures").iterdir()
    assert figure.name == "specialists.png"
    content = figure.read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 5_000
    assert "digits_people: system accuracy, %" in out
    assert str(workdir) in out
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "base",
        *(f"specialist {name}" for name in ("aggregate", "prior", *IMPUTERS)),
        "deferral",
        "deferral, valid",
        "deferral, test",
    ]


def test_columns_and_rows_of_the_results(whole, results):
    everything = pd.read_csv(whole[0] / "results.csv")
    columns = [*KEYS, *OF_PERSON, *HPARAMS, *INFO, *METRICS]
    assert list(everything.columns) == columns
    assert set(everything.experiment) == {"personalize"}
    assert set(everything.problem) == {"digits_people"}
    assert set(everything.method) == {"deferral"}
    # 2 seeds and 3 people; nobody has answered what validates.
    counts = everything.groupby(["split", "imputer", "seed", "num_perfect"]).size()
    assert (counts == 1).all() and len(everything) == 2 * 6 * len(IMPUTERS)
    imputed = everything[everything.split == "valid"]
    assert imputed.expert_accuracy.isna().all()
    assert imputed.system_accuracy.between(0, 1).all()
    assert (results.num_tune == 250).all() and (results.num_test == 250).all()
    assert (results.person == results.num_perfect).all()
    assert not everything.diverged.any() and results.chosen.all()
    rates = [name for name in METRICS if name != "human_model_nll"]
    values = results[rates].to_numpy()
    assert np.all(np.isnan(values) | ((values >= 0) & (values <= 1)))
    assert (results.human_model_nll > 0).all()
    trained_alone = results.imputer == "self_training"
    assert (results.num_selected[~trained_alone] == 0).all()
    fell_back = trained_alone & (results.num_selected == 0)
    assert (results.fell_back == fell_back).all()


def test_imputers_share_the_person(results):
    accuracy = results.groupby(["seed", "num_perfect"]).expert_accuracy
    assert (accuracy.nunique() == 1).all()
    assert (results.expert_accuracy[results.num_perfect == 10] == 1).all()
    guesses = results.expert_accuracy[results.num_perfect == 0]
    assert guesses.between(0.03, 0.19).all()
    # Where the person is asked follows from the rates.
    system = results.coverage * results.classifier_accuracy_kept.fillna(
        0
    ) + results.deferral_rate * results.expert_accuracy_deferred.fillna(0)
    np.testing.assert_allclose(results.system_accuracy, system, rtol=0, atol=1e-5)


def test_a_guesser_is_found_out(results):
    """The crowd is good at everything, this person at nothing."""
    rows = results[results.num_perfect == 0].groupby("imputer").human_model_accuracy
    means = rows.mean()
    assert means["none"] < 0.3 and means["crowd"] < 0.3
    for method in ("propagation", "population"):
        assert means[method] > 0.7


def test_the_summary_is_of_the_results(whole, results):
    summary = pd.read_csv(whole[0] / "summary.csv")
    assert len(summary) == len(IMPUTERS) * 3 * 2 * len(METRICS)
    row = summary.query(
        "imputer == 'population' and num_perfect == 5 and split == 'test'"
        " and metric == 'system_accuracy'"
    ).iloc[0]
    values = results.query("imputer == 'population' and num_perfect == 5")
    assert (row.n, row.cases, row.over) == (2, 250, "seeds")
    assert row["mean"] == pytest.approx(values.system_accuracy.mean(), abs=1e-6)
    # People and images are drawn anew at every seed: Student's interval.
    low, high = tables.mean_interval(values.system_accuracy.to_numpy())
    assert (row.ci_low, row.ci_high) == pytest.approx((low, high), abs=1e-6)


def test_the_gains_are_of_the_results(whole, results):
    gains = pd.read_csv(whole[0] / "gains.csv")
    assert len(gains) == (len(IMPUTERS) - 1) * 3 * 5
    pd.testing.assert_frame_equal(
        gains, persons.compare(results), check_dtype=False, atol=1e-6
    )


@pytest.mark.slow
def test_stopped_it_goes_on_and_what_is_finished_stays(whole, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(whole[0], workdir)
    for name in TABLES:
        (workdir / name).unlink()
    parts = {
        path: path.stat().st_mtime_ns
        for path in (workdir / "checkpoints").rglob("*.json")
    }
    trainings = {path.parent.name for path in parts}
    assert trainings == {"base", "aggregate", "prior", *IMPUTERS, "deferral"}
    # A signal that comes while people are fitted is heeded before the next method.
    with monkeypatch.context() as patch:
        patch.setattr(signals.StopSignal, "__call__", lambda self: True)
        with pytest.raises(sweeps.Interrupted):
            run_main(make_config(), workdir)
    assert not (workdir / "results.csv").exists()
    run_main(make_config(), workdir)
    assert parts == {path: path.stat().st_mtime_ns for path in parts}
    assert read(workdir) == read(whole[0])


def test_a_work_folder_of_another_config(whole):
    before = read(whole[0])
    with pytest.raises(
        ConfigError, match=r"people\.budget differs.* choose another --workdir"
    ):
        run_main(make_config(people__budget=400), whole[0])
    assert read(whole[0]) == before


# Real people and whole networks, in small.


def invented_people(config, images):
    """Three people who answered some of the digits; the first is always right."""
    generator = np.random.default_rng(0)
    examples = np.concatenate([generator.permutation(60)[:n] for n in (40, 30, 20)])
    annotators = np.repeat(np.arange(3), (40, 30, 20))
    truth = np.asarray(images.human.labels)[examples]
    labels = np.where(annotators == 0, truth, (truth + 1) % 10)
    answers = data.Answers(annotators, examples, labels, ("a", "b", "c"), 0)
    return people.real_people("cifar10s", config, answers, images.human)


@pytest.mark.slow
def test_real_people_and_whole_networks(tmp_path, monkeypatch):
    monkeypatch.setitem(people.SOURCES, "specialist", invented_people)
    config = make_config(
        tune="network",
        placement="auto",
        imputers=("finetune", "none"),
        model__hidden=(8,),
        base__model__hidden=(8,),
        people__unlabelled=100,
        batch_size=32,
        base__num_epochs=1,
        num_epochs=1,
    )
    out, _ = run_main(config, tmp_path)
    results = pd.read_csv(tmp_path / "results.csv").query("split == 'test'")
    assert list(results.people.unique()) == ["cifar10s"]
    assert len(results) == 2 * 2 * 3
    counts = results.groupby("person")[["num_tune", "num_test"]].first().to_numpy()
    assert counts.tolist() == [[20, 20], [15, 15], [10, 10]]
    assert results.groupby("person").expert_accuracy.mean().tolist() == [1, 0, 0]
    # Seeds of a person count once.
    summary = pd.read_csv(tmp_path / "summary.csv")
    gains = pd.read_csv(tmp_path / "gains.csv")
    assert (summary[summary.metric == "system_accuracy"].n == 3).all()
    assert set(summary.over) == {"people"}
    assert (gains[gains.metric == "gain_system_accuracy"].n == 3).all()
    (figure,) = (tmp_path / "figures").iterdir()
    assert figure.name == "people_cifar10s.png"
    assert "system_follows_human_model" in set(gains.metric)
    assert "3 people" in out


@pytest.mark.slow
@pytest.mark.real_data(cifar10._PLACE, cifar10h._PLACE, cifar10s._PLACE)
def test_cifar10_whole(tmp_path):
    run_main(cifar10_finetune.get_config("smoke"), tmp_path)
    results = pd.read_csv(tmp_path / "results.csv")
    assert set(results.people) == {"specialist", "cifar10s"}
    assert set(results.imputer) == set(IMPUTERS)
    assert results[results.people == "cifar10s"].person.nunique() == 8
    assert results.system_accuracy.between(0, 1).all()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"specialists.png", "people_cifar10s.png"}


# The parts.


def test_answers_that_are_not_there_weigh_nothing():
    """Column 1 is of this run; NaN is not imputed, -1 no answer, 0 a wrong one."""
    correct = np.array([[1.0, 0.25], [1.0, NAN], [1.0, 0.0], [NAN, 1.0]], np.float32)
    dataset = Dataset(np.zeros((4, 2)), np.zeros(4, int), expert_correct=correct)
    hparams = {"row": jnp.array(1), "person_row": jnp.array(0)}
    annotated = persons.annotate(jax.random.key(0), hparams, dataset)
    np.testing.assert_array_equal(annotated.weights, [1.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(
        annotated.expert_correct, [[0.25], [NAN], [0.0], [1.0]]
    )
    # Where answers test, an example is one that the person has answered.
    answers = np.array([[3, 1], [-1, 2], [0, 1], [-1, 1]], np.int8)
    tested = persons.annotate(
        jax.random.key(0), hparams, dataset._replace(expert_labels=answers)
    )
    np.testing.assert_array_equal(tested.expert_labels, answers[:, :1])
    np.testing.assert_array_equal(tested.weights, [1.0, 0.0, 1.0, 0.0])


# The comparison, on tables made by hand.


def make_results(source="cifar10s", num_perfect=NAN, seed=0, **by_imputer):
    """A results table from (human model's, system's) accuracies of people, by imputer.

    The loss is 1 less the accuracy.
    """
    parts = []
    for imputer, (human, system) in by_imputer.items():
        part = {
            "experiment": "personalize",
            "problem": "cifar10_people",
            "people": source,
            "method": "deferral",
            "imputer": imputer,
            "seed": seed,
            "person": range(len(human)),
            "num_perfect": num_perfect,
            "split": "test",
            "chosen": True,
        }
        part |= dict.fromkeys(METRICS, 0.5)
        part |= {"human_model_accuracy": human, "system_accuracy": system}
        part["human_model_nll"] = 1 - np.array(human)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


BEFORE = ([0.6, 0.6, 0.6, 0.6], [0.8, 0.8, 0.8, 0.8])
AFTER = ([0.7, 0.7, 0.5, 0.6], [0.85, 0.75, 0.75, 0.85])


def compare(results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return persons.compare(results)


def test_comparison_by_hand():
    table = compare(make_results(none=BEFORE, finetune=AFTER)).set_index("metric")
    assert list(table.index) == [*GAINS, *SHARES]
    assert set(table.imputer) == {"finetune"} and table.num_perfect.isna().all()
    gain = table.loc["gain_human_model_accuracy"]
    # Gains 0.1, 0.1, -0.1, 0: deviation 0.09574, of the mean 0.04787; t(0.975, 3) =
    # 3.18245.
    assert (gain.n, gain["mean"]) == (4, pytest.approx(0.025))
    assert gain.ci_low == pytest.approx(-0.12735, abs=1e-5)
    assert gain.ci_high == pytest.approx(0.17735, abs=1e-5)
    assert gain.p_value == pytest.approx(0.63762, abs=1e-5)
    assert table.loc["gain_human_model_nll", "mean"] == pytest.approx(-0.025)
    system = table.loc["gain_system_accuracy"]
    assert (system.n, system["mean"]) == (4, pytest.approx(0.0, abs=1e-9))
    assert system.p_value == pytest.approx(1.0)
    # The models of the first two are better, and the first system.
    follows = table.loc["system_follows_human_model"]
    assert (follows.n, follows["mean"]) == (2, 0.5)
    assert follows.ci_low == pytest.approx(0.09453, abs=1e-5)
    assert follows.ci_high == pytest.approx(0.90547, abs=1e-5)
    # Signs ++, +-, --; the last person's model stays as it is.
    signs = table.loc["sign_agreement"]
    assert (signs.n, signs["mean"]) == (3, pytest.approx(2 / 3))
    assert table.loc[SHARES, "p_value"].isna().all()


def test_seeds_of_a_real_person_are_averaged():
    first = make_results(none=BEFORE, finetune=AFTER, seed=0)
    second = make_results(none=BEFORE, finetune=BEFORE, seed=1)
    both = pd.concat([first, second], ignore_index=True)
    means = persons.by_person(both)
    assert len(means) == 8
    tuned = means[means.imputer == "finetune"].sort_values("person")
    np.testing.assert_allclose(tuned.human_model_accuracy, [0.65, 0.65, 0.55, 0.6])
    gain = compare(both).set_index("metric").loc["gain_human_model_accuracy"]
    assert (gain.n, gain["mean"]) == (4, pytest.approx(0.0125))


@pytest.mark.parametrize(
    ("source", "num_perfect"), [("specialist", 5.0), ("cifar10h", NAN)]
)
def test_a_synthetic_person_is_somebody_else_at_every_seed(source, num_perfect):
    parts = [
        make_results(
            source, num_perfect, seed, none=([0.5], [0.5]), finetune=([human], [0.6])
        )
        for seed, human in enumerate((0.6, 0.7, 0.8))
    ]
    table = pd.concat(parts, ignore_index=True)
    means = persons.by_person(table)
    pd.testing.assert_frame_equal(means, table, check_dtype=False)
    gain = compare(table).set_index("metric").loc["gain_human_model_accuracy"]
    assert (gain.n, gain["mean"]) == (3, pytest.approx(0.2))


def test_real_and_synthetic_people_together():
    synthetic = make_results("specialist", 5.0, none=BEFORE, finetune=AFTER)
    real = make_results(none=BEFORE, finetune=AFTER)
    table = compare(pd.concat([synthetic, real], ignore_index=True))
    assert list(table.people) == 5 * ["specialist"] + 5 * ["cifar10s"]
    first, second = table[:5].reset_index(), table[5:].reset_index()
    np.testing.assert_allclose(first["mean"], second["mean"], rtol=0, atol=1e-7)


def test_equal_gains_have_no_p_value_and_no_gains_have_1():
    """0.1 to the last digit of float32, which is not the same number each time."""
    before = np.linspace(0.1, 0.8, 8, dtype=np.float32)
    after = before + np.float32(0.1)
    table = compare(
        make_results(
            none=(before, before), finetune=(after, before), population=(before, after)
        )
    ).set_index(["imputer", "metric"])
    # Who gains nothing: the system by fine-tuning, and the model by the other.
    nothing = table["mean"] == 0
    gains = table.index.get_level_values("metric").isin(GAINS)
    assert (table.p_value[nothing & gains] == 1).all() and (nothing & gains).sum() >= 2
    assert table.p_value[~(nothing & gains)].isna().all()
    tuned = table.loc["finetune"]
    assert tuned.loc["gain_human_model_accuracy", "mean"] == pytest.approx(0.1)
    assert tuned.loc["gain_system_accuracy", "mean"] == 0.0
    follows = tuned.loc["system_follows_human_model"]
    assert (follows.n, follows["mean"]) == (8, 0.0)
    # Nobody's model is better, and no two change.
    ours = table.loc["population"]
    assert (ours.loc[SHARES, "n"] == 0).all() and ours.loc[SHARES, "mean"].isna().all()


def test_rounding_is_no_gain():
    """Means of the same accuracies over seeds in another order."""
    table = compare(
        make_results(none=([0.5, 0.6], [0.7, 0.7]), finetune=([0.5, 0.6], [0.7, 0.7]))
        .assign(system_accuracy=lambda t: t.system_accuracy + 1e-8 * t.index)
        .assign(human_model_accuracy=lambda t: t.human_model_accuracy + 1e-8 * t.index)
    ).set_index("metric")
    assert table.loc["gain_system_accuracy", "mean"] == 0.0
    assert (table.loc[SHARES, "n"] == 0).all()


def test_one_person_has_no_interval():
    table = compare(make_results(none=([0.5], [0.5]), finetune=([0.6], [0.6])))
    gains = table.set_index("metric").loc[GAINS]
    assert (gains.n == 1).all()
    assert gains[["ci_low", "ci_high", "p_value"]].isna().all(axis=None)


def test_nothing_to_compare_with():
    table = compare(make_results(finetune=AFTER, population=BEFORE))
    assert len(table) == 0
    assert list(table.columns) == [
        *("problem", "people", "method", "imputer", "num_perfect", "metric"),
        *("n", "mean", "ci_low", "ci_high", "p_value"),
    ]


# Figures.


def write_tables(results, workdir):
    results.to_csv(workdir / "results.csv", index=False)
    keys = ["problem", "people", "method", "imputer", "num_perfect", "split"]
    means = persons.by_person(results)
    summary = tables.summarize(means, keys, persons.GAINS)
    summary.to_csv(workdir / "summary.csv", index=False)


ONE = ([0.6], [0.8])


EVERYTHING = {"none": BEFORE, "finetune": AFTER, "population": AFTER}


@pytest.mark.parametrize(
    ("source", "methods"),
    [
        ("specialist", EVERYTHING),
        ("specialist", {"finetune": ONE}),
        ("cifar10h", EVERYTHING),
        ("cifar10s", {"none": ONE, "finetune": ONE}),
        ("cifar10s", {"none": BEFORE}),
        ("cifar10s", {"finetune": AFTER}),
        ("cifar10s", {"crowd": AFTER, "propagation": BEFORE}),
    ],
)
def test_figures_of_few_rows_without_a_warning(tmp_path, source, methods):
    num_perfect = 5.0 if source == "specialist" else NAN
    write_tables(make_results(source, num_perfect, **methods), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people_figures.draw(tmp_path)
    (figure,) = (tmp_path / "figures").iterdir()
    name = "specialists.png" if source == "specialist" else f"people_{source}.png"
    assert figure.name == name and figure.read_bytes().startswith(b"\x89PNG")


def test_figures_are_of_the_first_method(tmp_path):
    """Others would lie over it, and what is not applicable is of nobody."""
    results = make_results(**EVERYTHING)
    other = results.assign(method="confidence", system_accuracy=0.1)
    nobody = pd.DataFrame({"method": ["joint"], "note": ["not applicable: of several"]})
    write_tables(pd.concat([results, other], ignore_index=True), tmp_path)
    rows = pd.read_csv(tmp_path / "results.csv")
    pd.concat([rows, nobody]).to_csv(tmp_path / "results.csv", index=False)
    people_figures.draw(tmp_path)
    several = (tmp_path / "figures" / "people_cifar10s.png").read_bytes()
    write_tables(results, tmp_path)
    people_figures.draw(tmp_path)
    assert several == (tmp_path / "figures" / "people_cifar10s.png").read_bytes()


def test_who_goes_up_and_down_in_the_figure():
    results = make_results(none=BEFORE, population=AFTER)
    figure = people_figures.draw_people(results)
    human, system = figure.axes

    def legend(axes):
        return [text.get_text() for text in axes.get_legend().get_texts()]

    assert legend(human) == ["up: 2", "down: 1", "unchanged: 1", "none"]
    assert legend(system) == ["up: 2", "down: 2", "unchanged: 0", "none"]
    people_figures.plt.close(figure)


# Bad input.

BAD = [
    ({"images": "mnist"}, "images must be one of digits, cifar10, .*, got 'mnist'"),
    ({"imputers": ()}, "imputers must hold at least one value"),
    ({"imputers": ("magic",)}, "imputers must be one of none, finetune, .* 'magic'"),
    ({"imputers": ("none", "none")}, "imputers must not repeat a value"),
    ({"optimizer": "lion"}, "optimizer must be one of sgd, .*adam, got 'lion'"),
    ({"placement": "moon"}, "placement must be one of auto, vmap, "),
    ({"tune": "nothing"}, "tune must be one of head, network, got 'nothing'"),
    ({"num_perfect": (11,)}, "num_perfect must be a whole number in .*10, got 11"),
    ({"model__name": "vit"}, "model.name must be one of mlp, "),
    ({"human_model__hidden": (0,)}, "human_model.hidden must be a whole number >= 1"),
    ({"base__model__name": "vit"}, "base.model.name must be one of mlp, "),
    ({"people__sources": ()}, "people.sources must hold at least one value"),
    (
        {"people__sources": ("specialist", "oracle")},
        "people.sources must be one of specialist, .*, got 'oracle'",
    ),
    (
        {"people__sources": ("specialist", "specialist")},
        "people.sources must not repeat a value",
    ),
    (
        {"people__sources": ("cifar10s",)},
        "people.sources: cifar10s answered no digits; choose of specialist",
    ),
    ({"people__crowd": "wise"}, "people.crowd must be one of simulated, cifar10h"),
    ({"people__crowd": "cifar10h"}, "people.crowd cifar10h is of images of cifar10"),
    (
        {"images": "cifar10", "people__sources": ("cifar10h_raw",)},
        "people.raw_file: there is no file ''; name your cifar10h-raw.zip",
    ),
    (
        {
            "images": "cifar10",
            "people__sources": ("cifar10h_raw",),
            "people__raw_file": "/nowhere/raw.zip",
        },
        "people.raw_file: there is no file '/nowhere/raw.zip'; name your",
    ),
    ({"people__human_fraction": 1.0}, r"people.human_fraction must be .* in \[0.01"),
    ({"people__reserved": -1}, "people.reserved must be a whole number >= 0"),
    ({"people__reserved": 5000}, "people.reserved 5000 leaves none of the 7"),
    ({"people__unlabelled": -1}, "people.unlabelled must be a whole number >= 0"),
    ({"people__crowd_images": 0}, "people.crowd_images must be a whole number >= 1"),
    ({"people__crowd_skill": (1.0,)}, "people.crowd_skill must hold 2 values, got"),
    ({"people__crowd_skill": (1.0, 0.0)}, "people.crowd_skill must be .* > 0, got 0.0"),
    ({"people__budget": 0}, "people.budget must be a whole number >= 1, got 0"),
    ({"people__budget": 5000}, "people.budget 5000 is larger than the 5"),
    ({"people__real_budget": 1}, "people.real_budget must be a whole number >= 2"),
    ({"people__folds": 1}, "people.folds must be a whole number >= 2, got 1"),
    ({"people__max_people": -1}, "people.max_people must be a whole number >= 0"),
    ({"seed": -1}, r"seed must be a whole number in 0\.\.2147483647, got -1"),
    ({"num_seeds": 0}, "num_seeds must be a whole number >= 1, got 0"),
    ({"finetune_ratio": 1e30}, "finetune_ratio times human_model_epochs must be a wh"),
    ({"batch_size": 5000}, "batch_size 5000 is larger than the 1"),
    ({"valid_fraction": 0.0}, "valid_fraction 0.0 leaves 7.* 0 to validate on"),
    ({"base__batch_size": 5000}, "base.batch_size 5000 is larger than the 6"),
    ({"finetune_ratio": 0.0}, "finetune_ratio must be .* > 0, got 0"),
    ({"finetune_learning_rate": 0.0}, "finetune_learning_rate must be .* > 0, got 0.0"),
    ({"propagation__num_neighbors": 0}, "propagation.num_neighbors must be a whole"),
    ({"propagation__num_neighbors": 9999}, "propagation.num_neighbors 9999 must be be"),
    ({"propagation__retention": 1.0}, r"propagation.retention must be .* in \[0, "),
    (
        {"propagation__prior_answers": 0.0},
        "propagation.prior_answers must be .* > 0, got 0.0",
    ),
    ({"population__overall": ()}, "population.overall must hold at least one value"),
    ({"population__by_class": (0.0,)}, "population.by_class must be .* > 0, got 0.0"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda part: str(part)[:40])
def test_bad_config(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        run_main(make_config(**changes), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_base_network_that_diverges(tmp_path):
    with pytest.raises(ConfigError, match=r"^base: the network diverged; lower"):
        run_main(make_config(base__learning_rate=1e30, num_seeds=1), tmp_path)


@pytest.mark.parametrize("scale", ["smoke", "default", "paper"])
@pytest.mark.parametrize("config", [digits_finetune, cifar10_finetune])
def test_configs_of_all_scales_are_sound(config, scale):
    schema.check(config.get_config(scale))

"""The zoo in PyTorch trains what the library's trainings do; nothing is timed."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pandas as pd
import pytest

from experiments import trainings
from experiments.configs import benchmark as benchmark_config
from experiments.methods import METHODS
from l2d_jax import losses
from l2d_jax.learners import batches

torch = pytest.importorskip("torch", reason="PyTorch is the extra `bench`")

from experiments.benchmark import rates, timing, torch_zoo, zoo  # noqa: E402

pytestmark = pytest.mark.usefixtures("cheap_compiles")
NAMES = zoo.needed_trainings()
SHAPES = {"two classes": (2, (5,)), "three classes, linear": (3, ())}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Several threads of PyTorch on shared cores wait for each other, for minutes.
    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    yield
    torch.set_num_threads(before)


def sizes_of(num_classes, hidden):
    sizes = {"rows": 64, "valid_rows": 33, "features": 6, "classes": num_classes}
    sizes |= {"hidden": hidden, "batch": 10, "seeds": 1, "epochs": 4}
    return ml_collections.ConfigDict({**sizes, "runs_per_device": 1})


# Losses, example by example, against the library's.

LOSSES = {
    "deferral": lambda g, y, c, kept: losses.deferral_cross_entropy(g, y, c),
    "one_vs_all": lambda g, y, c, kept: losses.one_vs_all_loss(g, y, c[None]),
    "asymmetric_softmax": lambda g, y, c, kept: losses.asymmetric_softmax_loss(g, y, c),
    "realizable": lambda g, y, c, kept: losses.realizable_surrogate_loss(g, y, c),
    "rl2d": lambda g, y, c, kept: losses.rl2d_loss(g, y, 1.0 - c, 0.7),
    "classifier": lambda g, y, c, kept: losses.classification_cross_entropy(
        jnp.array([-g[0] / 2, g[0] / 2]) if len(g) == 1 else g, y
    ),
    "expert_model": lambda g, y, c, kept: losses.expert_correctness_nll(g[0], c),
    "two_stage": lambda g, y, c, kept: losses.two_stage_loss(
        g, 1.0 - jnp.array([c, kept])
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients(name, num_classes):
    generator = np.random.default_rng(num_classes)
    peer = torch_zoo.PEERS[name]
    outputs = generator.normal(0, 3, (40, peer.num_outputs(num_classes)))
    outputs = outputs.astype(np.float32)
    labels = generator.integers(0, num_classes, 40)
    correct, kept = generator.integers(0, 2, (2, 40)).astype(np.float32)

    def mean_loss(outputs):
        return jnp.mean(jax.vmap(LOSSES[name])(outputs, labels, correct, kept))

    expected, slope = jax.value_and_grad(mean_loss)(outputs)
    known = torch_zoo.Known(
        torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float(),
        torch.tensor(correct)[:, None],
        torch.tensor(kept)[:, None],
    )
    leaf = torch.tensor(outputs, requires_grad=True)
    loss = peer.loss(leaf, peer.targets(known))
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(leaf.grad, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_training_is_that_of_the_library(shape):
    """All trainings of a seed from the same networks and minibatches, Adam and all."""
    num_classes, hidden = SHAPES[shape]
    sizes = sizes_of(num_classes, hidden)
    config, problem = zoo.make_config(sizes), zoo.make_problem(sizes)
    pool, fold = problem.pool, problem.split(0)
    order = np.stack(
        [np.random.default_rng(e).permutation(fold.train)[:60] for e in range(3)]
    ).reshape(3, 6, 10)
    layers = {
        name: zoo.draw_layers(
            number, (6, *hidden, torch_zoo.PEERS[name].num_outputs(num_classes))
        )
        for number, name in enumerate(NAMES)
    }
    done = torch_zoo.train_in_turn(
        NAMES, pool, num_classes, fold.valid, order, layers, learning_rate=0.1
    )
    probs = None
    for name in NAMES:
        given = pool._replace(
            class_probs=probs if trainings.TRAININGS[name].after else None
        )
        program = trainings.make_program(config, problem, name, len(fold.train))
        hparams = {"seed": 0, "learning_rate": 0.1, "mix": 1.0, "q": 0.7, "warm": 0.0}
        hparams |= {"alpha": 1.0, "price": 0.0, "fairness": 0.0}
        hparams = jax.tree.map(jnp.asarray, hparams)
        first = jax.tree.map(lambda leaf: leaf[:2], given)
        state = program.learner.init(jax.random.key(0), hparams, first)
        params = {
            f"Dense_{number}": {"kernel": kernel, "bias": bias}
            for number, (kernel, bias) in enumerate(layers[name])
        }
        params = jax.tree.map(jnp.asarray, params)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_equal(ours.shape, theirs.shape),
            params,
            state.variables.params,
        )
        state = state._replace(variables=state.variables._replace(params=params))

        def run_epoch(state, rows, program=program, hparams=hparams, given=given):
            def step(state, rows):
                batch = batches.take(given, rows)
                return program.learner.update(state, hparams, batch)[0], None

            state, _ = jax.lax.scan(step, state, rows)
            held = batches.take(given, fold.valid)
            outputs = program.learner.predict(state.variables, hparams, held.inputs)
            return state, program.score(outputs, held, hparams)

        state, scores = jax.jit(jax.lax.scan, static_argnums=0)(run_epoch, state, order)
        for number, layer in enumerate(done[name].layers):
            kernel, bias = (tensor.numpy() for tensor in layer)
            dense = state.variables.params[f"Dense_{number}"]
            np.testing.assert_allclose(kernel, dense["kernel"], rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(bias, dense["bias"], rtol=1e-3, atol=1e-4)
            assert np.abs(kernel - layers[name][number][0]).max() > 0.1
        np.testing.assert_allclose(
            done[name].best_score, max(scores), rtol=1e-5, atol=1e-6, err_msg=name
        )
        if name == "classifier":
            # What is given on to the second stage is the best epoch's.
            best = {
                f"Dense_{number}": {"kernel": kernel.numpy(), "bias": bias.numpy()}
                for number, (kernel, bias) in enumerate(done[name].best_layers)
            }
            variables = state.variables._replace(params=best)
            probs = program.learner.predict(variables, hparams, pool.inputs)
            probs = np.asarray(probs)[:, None]


def test_best_layers_are_those_of_the_best_epoch():
    """Trained at a rate that spoils them; the best layers give the best score."""
    sizes = sizes_of(2, ())
    problem = zoo.make_problem(sizes)
    pool, fold = problem.pool, problem.split(0)
    order = np.tile(fold.train[:60].reshape(1, 6, 10), (5, 1, 1))
    done = torch_zoo.train_in_turn(
        ["expert_model"],
        pool,
        2,
        fold.valid,
        order,
        {"expert_model": zoo.draw_layers(0, (6, 1))},
        learning_rate=3.0,
    )["expert_model"]
    correct = (pool.expert_labels[:, 0] == pool.labels)[fold.valid]

    def score(layers):
        ((kernel, bias),) = layers
        logits = pool.inputs[fold.valid] @ kernel.numpy() + bias.numpy()
        return -np.mean(np.logaddexp(0, np.where(correct, -1, 1) * logits[:, 0]))

    np.testing.assert_allclose(done.best_score, score(done.best_layers), rtol=1e-5)
    assert done.best_score > score(done.layers)


def test_seven_methods_by_their_own_trainings():
    assert len(zoo.NAMES) == len(set(zoo.NAMES)) == 7
    for method in zoo.NAMES:
        assert set(METHODS[method].trainings) <= set(NAMES)
    assert len(NAMES) == len(set(NAMES)) == 8
    assert NAMES.index("classifier") < NAMES.index("two_stage")
    assert set(NAMES) == set(torch_zoo.PEERS)


def test_made_up_answers():
    sizes = sizes_of(3, ())
    sizes.rows = 5000
    pool = zoo.make_problem(sizes).pool
    right = np.mean(pool.expert_labels[:, 0] == pool.labels)
    assert abs(right - 0.7) < 0.03  # Five standard errors.
    assert set(np.unique(pool.labels)) == {0, 1, 2}
    assert pool.expert_labels.max() == 2


def test_operations_by_hand():
    """21-10-3: 240 products; 96 steps of 64 and 1543 rows that validate."""
    sizes = benchmark_config.get_config().zoo.compas
    expected = 2 * (96 * 64 * (2 * 240 + 30) + 1543 * 240)
    assert zoo.epoch_flops(sizes, (21, 10, 3)) == expected


def test_description():
    table = pd.DataFrame(
        {
            "workload": "a",
            "unit": zoo.UNIT,
            "variant": [
                f"{timing.SEQUENTIAL_TORCH}, 1 thread(s)",
                f"{timing.SEQUENTIAL_TORCH}, 2 thread(s)",
                timing.SWEEP,
            ],
            "width": [1, 1, 100],
            "rate": [0.02, 0.05, 4.0],
            "compile_seconds": [0.0, 0.0, 8.0],
        }
    )
    (line,) = zoo.describe(table)
    assert line == (
        "a: one seed in PyTorch takes 20 s, all 100 in l2d_jax 25 s, 1.25 times as"
        " long, compilation (8 s) included"
    )
    assert zoo.describe(table.assign(unit="epochs of a run")) == []


@pytest.mark.slow
def test_workload(tmp_path, capsys):
    config = benchmark_config.get_config("smoke")
    config.workloads = ("zoo",)
    del config.zoo["sentences"]
    rates.main(config, tmp_path)
    table = pd.read_csv(tmp_path / "benchmark.csv")
    assert list(table.width) == [1, 3]
    assert (table.unit == zoo.UNIT).all()
    np.testing.assert_allclose(
        table.ratio_to_sequential_torch,
        table.rate / table.steady_rate[0],
        rtol=1e-9,
        atol=0,
    )
    assert zoo.describe(table)[0] in capsys.readouterr().out

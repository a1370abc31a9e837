import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2d_jax import models
from l2d_jax.learners import mixture
from l2d_jax.types import Dataset

torch = pytest.importorskip(
    "torch",
    reason="PyTorch is only needed by the benchmark: pip install l2d-jax[bench]",
)

from experiments.benchmark import torch_peers as bt  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _small_dataset(generator, num_rows, num_features=4):
    inputs = generator.normal(size=(num_rows, num_features)).astype(np.float32)
    labels = (inputs[:, 0] + generator.normal(size=num_rows) > 0).astype(np.int64)
    probs = generator.uniform(0.05, 0.95, num_rows).astype(np.float32)
    experts = np.stack([1 - probs, probs], 1)[:, None]
    return Dataset(inputs, labels, expert_probs=experts)


def _orders(generator, num_rows, num_epochs, num_steps, batch_size):
    rows = [generator.permutation(num_rows) for _ in range(num_epochs)]
    rows = np.stack(rows)[:, : num_steps * batch_size]
    return rows.reshape(num_epochs, num_steps, batch_size)


@pytest.fixture(scope="module")
def small():
    """Three runs that differ in seed and cost; 23 rows leave 3 out of an epoch."""
    generator = np.random.default_rng(0)
    params = bt.SmallParams(
        bt.xavier_params([1, 2, 3], 4, 3, 1), bt.xavier_params([4, 5, 6], 5, 3, 1)
    )
    return (
        _small_dataset(generator, 23),
        _small_dataset(generator, 11),
        _orders(generator, 23, num_epochs=6, num_steps=4, batch_size=5),
        np.array([0.0, 0.1, 0.5]),
        params,
    )


def _sigmoid64(logit):
    return 1.0 / (1.0 + np.exp(-np.asarray(logit, np.float64)))


def _probs64(data, params, run):
    """Probabilities of label 1 and of deferring, float64."""

    def net(mlp, inputs):
        w1, b1, w2, b2 = (np.asarray(array[run], np.float64) for array in mlp)
        return _sigmoid64(_sigmoid64(inputs @ w1 + b1) @ w2 + b2)[:, 0]

    inputs = data.inputs.astype(np.float64)
    prob = net(params.classifier, inputs)
    return prob, net(params.rejector, np.column_stack([inputs, prob]))


def _small_loss64(data, gamma, params, run):
    """The mixture as the paper writes it, in probabilities and float64."""

    def cross_entropy(prob):
        return -data.labels * np.log(prob) - (1 - data.labels) * np.log(1 - prob)

    prob, defer_prob = _probs64(data, params, run)
    expert_prob = data.expert_probs[:, 0, 1].astype(np.float64)
    mixture = (1 - defer_prob) * cross_entropy(prob) + defer_prob * cross_entropy(
        expert_prob
    )
    return mixture.mean() + gamma * defer_prob.mean()


@pytest.mark.parametrize(
    "train_small", [bt.train_small_sequential, bt.train_small_stacked]
)
def test_small_best_loss_is_the_oracle_at_the_best_params(small, train_small):
    _, valid, _, gammas, _ = small
    result = train_small(*small, learning_rate=0.3)
    expected = [
        _small_loss64(valid, gamma, result.best_params, run)
        for run, gamma in enumerate(gammas)
    ]
    np.testing.assert_allclose(result.best_losses, expected, rtol=1e-5, atol=1e-6)
    # The rate is large enough that the best epoch is not the last one everywhere.
    assert np.any(result.best_losses < result.final_losses)


def test_small_loss_by_hand():
    """All parameters zero: p = pi = 1/2, the loss is (log 2 + expert + gamma) / 2."""
    data = Dataset(
        np.ones((2, 1), np.float32),
        np.array([1, 0]),
        expert_probs=np.array([[[0.25, 0.75]], [[0.25, 0.75]]], np.float32),
    )
    zeros = bt.SmallParams(
        *(
            bt.MLPParams(*(0 * array for array in bt.xavier_params([0], n, 2, 1)))
            for n in (1, 2)
        )
    )
    # A rate of zero leaves the parameters where they are.
    result = bt.train_small_stacked(
        data, data, np.array([[[0, 1]]]), np.array([0.3]), zeros, learning_rate=0.0
    )
    # Expert's mean loss: (-log 0.75 - log 0.25) / 2 = 0.836988.
    expected = (0.693147 + 0.836988 + 0.3) / 2
    np.testing.assert_allclose(result.final_losses, [expected], rtol=0, atol=1e-6)


def test_small_stacked_equals_sequential(small):
    one_by_one = bt.train_small_sequential(*small, learning_rate=0.05)
    together = bt.train_small_stacked(*small, learning_rate=0.05)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        together,
        one_by_one,
    )
    # Runs that differ in nothing would hide a mixing of the run axis.
    assert np.ptp(one_by_one.final_losses) > 1e-3


def test_small_run_does_not_depend_on_its_neighbours(small):
    train, valid, orders, gammas, params = small
    together = bt.train_small_stacked(*small)
    alone = bt.train_small_stacked(
        train, valid, orders, gammas[1:2], jax.tree.map(lambda x: x[1:2], params)
    )
    np.testing.assert_allclose(
        alone.final_losses, together.final_losses[1:2], rtol=1e-5, atol=1e-6
    )


def test_small_training_equals_jax(small):
    train, valid, orders, gammas, params = small

    def mlp(net, inputs):
        hidden = jax.nn.sigmoid(inputs @ net.hidden_kernel + net.hidden_bias)
        return (hidden @ net.output_kernel + net.output_bias)[:, 0]

    def loss(params, gamma, data):
        logit = mlp(params.classifier, data.inputs)
        prob = jax.lax.stop_gradient(jax.nn.sigmoid(logit))
        seen = jnp.column_stack([data.inputs, prob])
        defer_prob = jax.nn.sigmoid(mlp(params.rejector, seen))
        nll = optax.sigmoid_binary_cross_entropy(logit, data.labels)
        expert_prob = data.expert_probs[:, 0, 1]
        expert_nll = -jnp.log(jnp.where(data.labels == 1, expert_prob, 1 - expert_prob))
        return jnp.mean((1 - defer_prob) * nll + defer_prob * (expert_nll + gamma))

    optimizer = optax.adam(0.05)

    @jax.jit
    def final_loss(params, gamma, train, valid, rows):
        def step(carry, batch_rows):
            params, opt_state = carry
            batch = jax.tree.map(lambda x: x[batch_rows], train)
            grads = jax.grad(loss)(params, gamma, batch)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), rows)
        return loss(params, gamma, valid)

    train, valid, params = jax.tree.map(jnp.asarray, (train, valid, params))
    expected = jax.vmap(final_loss, (0, 0, None, None, None))(
        params, jnp.asarray(gammas), train, valid, orders.reshape(-1, orders.shape[-1])
    )
    result = bt.train_small_sequential(*small, learning_rate=0.05)
    np.testing.assert_allclose(result.final_losses, expected, rtol=1e-4, atol=1e-5)


def test_small_stacked_equals_sequential_on_large_batches():
    """140 rows of 3 units are multiplied in another way than 5 rows are."""
    generator = np.random.default_rng(3)
    params = bt.SmallParams(
        bt.xavier_params([1, 2], 4, 3, 1), bt.xavier_params([3, 4], 5, 3, 1)
    )
    task = (
        _small_dataset(generator, 141),
        _small_dataset(generator, 11),
        _orders(generator, 141, num_epochs=3, num_steps=1, batch_size=140),
        np.array([0.0, 0.3]),
        params,
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        bt.train_small_stacked(*task, learning_rate=0.05),
        bt.train_small_sequential(*task, learning_rate=0.05),
    )


@pytest.fixture(scope="module")
def fair(small):
    """The same runs with groups; of 24 minibatches of 5, most lack a cell."""
    generator = np.random.default_rng(4)
    train, valid, orders, gammas, params = small
    train, valid = (
        part._replace(groups=generator.integers(0, 2, len(part.labels)))
        for part in (train, valid)
    )
    alphas = np.array([0.5, 2.0, 1.0])
    keys = jax.random.split(jax.random.key(0), (3, orders[..., 0].size))
    noise = jax.vmap(jax.vmap(lambda key: jax.random.logistic(key, (5,))))(keys)
    uniforms = _sigmoid64(noise).reshape(3, *orders.shape)
    return (train, valid, orders, gammas, params), alphas, keys, uniforms


def _disparity64(data, params, run):
    prob, defer_prob = _probs64(data, params, run)
    system = (1 - defer_prob) * prob + defer_prob * data.expert_probs[:, 0, 1]

    def mean_error(label, group):
        cell = (data.labels == label) & (data.groups == group)
        return np.abs(system - data.labels)[cell].mean()

    return sum(abs(mean_error(y, 0) - mean_error(y, 1)) for y in (0, 1)) / 2


@pytest.mark.parametrize(
    "train_small", [bt.train_small_sequential, bt.train_small_stacked]
)
def test_fair_best_loss_is_the_oracle_at_the_best_params(fair, train_small):
    task, alphas, _, uniforms = fair
    _, valid, _, gammas, _ = task
    result = train_small(*task, learning_rate=0.3, alphas=alphas, uniforms=uniforms)
    disparities = [_disparity64(valid, result.best_params, run) for run in range(3)]
    expected = [
        _small_loss64(valid, gammas[run], result.best_params, run)
        + alphas[run] * disparities[run]
        for run in range(3)
    ]
    assert min(disparities) > 0.01
    np.testing.assert_allclose(result.best_losses, expected, rtol=1e-5, atol=1e-6)


def test_fair_loss_by_hand():
    """All parameters zero: p = pi = 1/2; label 0 has no member of group 1."""
    expert = np.array([0.9, 0.3, 0.8], np.float32)
    data = Dataset(
        np.ones((3, 1), np.float32),
        np.array([1, 1, 0]),
        groups=np.array([0, 1, 0]),
        expert_probs=np.stack([1 - expert, expert], 1)[:, None],
    )
    zeros = bt.SmallParams(
        *(
            bt.MLPParams(*(0 * array for array in bt.xavier_params([0], n, 2, 1)))
            for n in (1, 2)
        )
    )
    # The system's probabilities are 0.7 and 0.4 for label 1: a gap of 0.3, halved.
    expert_nll = -(np.log(0.9) + np.log(0.3) + np.log(0.2)) / 3
    expected = (np.log(2) + expert_nll) / 2 + 2.0 * 0.15
    for train_small in (bt.train_small_sequential, bt.train_small_stacked):
        result = train_small(
            data,
            data,
            np.array([[[0, 1, 2]]]),
            np.zeros(1),
            zeros,
            learning_rate=0.0,
            alphas=np.array([2.0]),
        )
        np.testing.assert_allclose(result.final_losses, [expected], rtol=0, atol=1e-6)


def test_fair_stacked_equals_sequential(fair):
    task, alphas, _, uniforms = fair
    given = {"learning_rate": 0.05, "alphas": alphas, "uniforms": uniforms}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        bt.train_small_stacked(*task, **given),
        bt.train_small_sequential(*task, **given),
    )


def test_fair_training_equals_the_library(fair):
    """The library's network, loss and score, with the noise of its own keys."""
    task, alphas, keys, uniforms = fair
    train, valid, orders, gammas, (classifier, rejector) = task
    model, optimizer = models.gated_pair(3), optax.adam(0.05)
    loss_fn = mixture.make_batch_loss(regularized=True)
    score = mixture.loss_score(regularized=True)
    # Both first layers in one, the features' weights and the bias of each unit a row.
    kernel = np.concatenate(
        [
            np.concatenate([kernel.swapaxes(1, 2), bias[:, :, None]], 2)
            for kernel, bias in (
                (classifier.hidden_kernel, classifier.hidden_bias),
                (rejector.hidden_kernel[:, :4], rejector.hidden_bias),
            )
        ],
        1,
    )
    out_kernels = [net.output_kernel[:, :, 0] for net in (classifier, rejector)]
    params = {
        "kernel": kernel,
        "prob_kernel": rejector.hidden_kernel[:, 4],
        "out_kernel": np.stack(out_kernels, 1),
        "out_bias": np.zeros((3, 2), np.float32),
    }

    @jax.jit
    def final_loss(params, hparams, keys, train, valid, rows):
        def loss(params, batch, key):
            outputs, _ = model.apply(params, {}, batch.inputs, train=True)
            return loss_fn(outputs, batch, hparams, key)

        def step(carry, rows_and_key):
            params, opt_state = carry
            batch_rows, key = rows_and_key
            batch = jax.tree.map(lambda x: x[batch_rows], train)
            grads = jax.grad(loss)(params, batch, key)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        start = (params, optimizer.init(params))
        (params, _), _ = jax.lax.scan(step, start, (rows, keys))
        outputs, _ = model.apply(params, {}, valid.inputs, train=False)
        return -score(mixture.decide(outputs, hparams), valid, hparams)

    train, valid = jax.tree.map(jnp.asarray, (train, valid))
    expected = jax.vmap(final_loss, (0, 0, 0, None, None, None))(
        jax.tree.map(jnp.asarray, params),
        {"cost": jnp.asarray(gammas), "fairness": jnp.asarray(alphas)},
        keys,
        train,
        valid,
        orders.reshape(-1, orders.shape[-1]),
    )
    result = bt.train_small_sequential(
        *task, learning_rate=0.05, alphas=alphas, uniforms=uniforms
    )
    np.testing.assert_allclose(result.final_losses, expected, rtol=1e-4, atol=1e-5)
    plain = bt.train_small_sequential(*task, learning_rate=0.05)
    assert np.abs(result.final_losses - plain.final_losses).min() > 1e-2


@pytest.mark.parametrize(
    "train_small", [bt.train_small_sequential, bt.train_small_stacked]
)
def test_fair_without_weight_is_plain(fair, train_small):
    """Without weight it matters neither that there is noise nor which."""
    task, _, _, _ = fair
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        train_small(*task, learning_rate=0.05, alphas=np.zeros(3)),
        train_small(*task, learning_rate=0.05),
    )


@pytest.mark.parametrize(
    "train_small", [bt.train_small_sequential, bt.train_small_stacked]
)
def test_fair_runs_draw_noise_of_their_own(fair, train_small):
    train, valid, orders, _, params = fair[0]
    twins = jax.tree.map(lambda x: x[[0, 0]], params)

    def final_losses(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return train_small(
                train, valid, orders, np.zeros(2), twins, 0.05, alphas=np.full(2, 2.0)
            ).final_losses

    first = final_losses(0)
    assert abs(first[0] - first[1]) > 1e-4
    np.testing.assert_array_equal(first, final_losses(0))
    assert np.all(first != final_losses(1))


def test_drawn_noise_is_logistic_over_the_temperature():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = bt._noise((200, 200), None).double()
    # Variance pi^2 / 3 over 0.5^2; five standard errors of 40,000 draws.
    assert abs(noise.mean()) < 0.1
    assert abs(noise.var() / (4 * np.pi**2 / 3) - 1) < 0.05


def test_fair_rejects_what_does_not_fit(fair):
    task, alphas, _, uniforms = fair
    train, *rest = task
    for train_small in (bt.train_small_sequential, bt.train_small_stacked):
        with pytest.raises(ValueError, match=r"alphas must give one weight for each"):
            train_small(*task, alphas=alphas[:2])
        with pytest.raises(ValueError, match=r"uniforms must be \[runs, epochs"):
            train_small(*task, alphas=alphas, uniforms=uniforms[0])
        with pytest.raises(ValueError, match=r"give alphas as well"):
            train_small(*task, uniforms=uniforms)
        with pytest.raises(ValueError, match=r"train\.groups is None"):
            train_small(train._replace(groups=None), *rest, alphas=alphas)


def test_small_rejects_wrong_shapes(small):
    train, valid, orders, gammas, params = small
    with pytest.raises(
        ValueError, match=r"gammas must give one cost for each of the 3"
    ):
        bt.train_small_stacked(train, valid, orders, gammas[:2], params)
    with pytest.raises(ValueError, match=r"orders must be row numbers"):
        bt.train_small_sequential(train, valid, orders[0], gammas, params)
    hard = valid._replace(expert_probs=valid.labels[:, None])
    with pytest.raises(ValueError, match=r"valid\.expert_probs must be probabilities"):
        bt.train_small_sequential(train, hard, orders, gammas, params)


def test_xavier_params_depend_on_their_own_seed():
    many, one = bt.xavier_params([3, 7], 5, 4, 2), bt.xavier_params([7], 5, 4, 2)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1:], b), many, one)
    limit = np.sqrt(6 / 9)
    assert 0.5 * limit < np.abs(many.hidden_kernel).max() <= limit
    assert [array.shape for array in many] == [(2, 5, 4), (2, 4), (2, 4, 2), (2, 2)]


def test_deferral_targets_by_hand():
    data = Dataset(np.zeros((2, 1)), np.array([2, 0]), np.array([[2], [1]]))
    np.testing.assert_array_equal(
        bt.deferral_targets(data, num_classes=3, alpha=0.5),
        np.array([[0, 0, 0.5, 1], [1, 0, 0, 0]], np.float32),
    )
    with pytest.raises(ValueError, match=r"data\.expert_labels must be the answers"):
        bt.deferral_targets(data._replace(expert_labels=np.array([2, 1])), 3, 0.5)


@pytest.fixture(scope="module")
def digits():
    """Three runs on 21 rows of 3 classes, each run in its own order."""
    generator = np.random.default_rng(1)
    labels = generator.integers(3, size=21)
    inputs = generator.normal(size=(21, 6)) + np.eye(6)[labels]
    data = Dataset(inputs, labels, generator.integers(3, size=(21, 1)))
    orders = np.stack([_orders(generator, 21, 3, 4, 5) for _ in range(3)])
    targets = bt.deferral_targets(data, num_classes=3, alpha=0.5)
    return inputs, targets, orders, bt.xavier_params([1, 2, 3], 6, 8, 4)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("sgd", optax.sgd(0.05, momentum=0.9, nesterov=True)), ("adam", optax.adam(0.05))],
)
def test_digits_training_equals_jax(digits, name, optimizer):
    inputs, targets, orders, params = digits

    def loss(params, rows):
        w1, b1, w2, b2 = params
        log_probs = jax.nn.log_softmax(jax.nn.relu(inputs[rows] @ w1 + b1) @ w2 + b2)
        return -jnp.mean(jnp.sum(targets[rows] * log_probs, axis=1))

    @jax.jit
    def final_loss(params, orders):
        def step(carry, rows):
            params, opt_state = carry
            grads = jax.grad(loss)(params, rows)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        rows = orders.reshape(-1, orders.shape[-1])
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), rows)
        return loss(params, np.arange(len(inputs)))

    inputs, targets = jnp.asarray(inputs, jnp.float32), jnp.asarray(targets)
    expected = jax.vmap(final_loss)(jax.tree.map(jnp.asarray, params), orders)
    for train_digits in (bt.train_digits_sequential, bt.train_digits_stacked):
        losses = train_digits(*digits, optimizer=name, learning_rate=0.05)
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


def test_digits_rejects_an_unknown_optimizer(digits):
    with pytest.raises(ValueError, match=r"optimizer must be 'sgd' or 'adam', got 'x'"):
        bt.train_digits_stacked(*digits, optimizer="x")


@pytest.mark.parametrize(
    ("depth", "width", "num_outputs", "expected"),
    [
        # Stem 432; groups 14,432 + 57,536 + 229,760; norm 256; head 128 * 11 + 11.
        (10, 2, 11, 303_835),
        # The count commonly given for WRN-28-10 on CIFAR-10.
        (28, 10, 10, 36_479_194),
    ],
)
def test_wide_resnet_parameter_count(depth, width, num_outputs, expected):
    with torch.device("meta"):
        model = bt.WideResNet(depth, width, num_outputs)
    assert sum(param.numel() for param in model.parameters()) == expected


def test_wide_resnet_has_the_parameters_of_the_jax_model():
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    params, _ = jax.eval_shape(
        models.wide_resnet(16, 2, 11).init, jax.random.key(0), images
    )
    model, _ = bt.make_wide_resnet(0, 16, 2, 11)
    assert sorted(param.numel() for param in model.parameters()) == sorted(
        leaf.size for leaf in jax.tree.leaves(params)
    )


def test_wide_resnet_rejects_an_impossible_depth():
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 4 .* got 12"):
        bt.WideResNet(12, 1, 11)


@pytest.fixture(scope="module")
def image_batch():
    generator = np.random.default_rng(2)
    labels = generator.integers(3, size=4)
    images = generator.normal(size=(4, 8, 8, 3)).astype(np.float32)
    data = Dataset(images, labels, generator.integers(3, size=(4, 1)))
    return images, bt.deferral_targets(data, num_classes=3, alpha=0.5)


def test_wide_resnet_forward_equals_reference(image_batch):
    """Written out with float64 functions, in the default memory format."""
    images, _ = image_batch
    model, _ = bt.make_wide_resnet(0, depth=10, width=1, num_outputs=4)
    weights = {k: v.detach().double() for k, v in model.named_parameters()}
    conv = torch.nn.functional.conv2d

    def norm_relu(x, name):
        mean = x.mean((0, 2, 3), keepdim=True)
        var = x.var((0, 2, 3), correction=0, keepdim=True)
        return torch.relu((x - mean) / torch.sqrt(var + 1e-5))

    # The first group keeps 16 channels, so only the other two have a shortcut.
    x = torch.tensor(images.transpose(0, 3, 1, 2)).double().contiguous()
    x = conv(x, weights["stem.weight"], padding=1)
    for block, stride in enumerate((1, 2, 2)):
        part = f"blocks.{block}."
        active = norm_relu(x, part + "norm1")
        kept = x
        if block > 0:
            kept = conv(active, weights[part + "shortcut.weight"], stride=stride)
        y = conv(active, weights[part + "conv1.weight"], stride=stride, padding=1)
        y = conv(
            norm_relu(y, part + "norm2"), weights[part + "conv2.weight"], padding=1
        )
        x = kept + y
    expected = (
        norm_relu(x, "norm").mean((2, 3)) @ weights["head.weight"].T
        + weights["head.bias"]
    )
    with torch.no_grad():
        outputs = model(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert "blocks.0.shortcut.weight" not in weights


def test_wide_resnet_step(image_batch):
    images, targets = image_batch
    model, optimizer = bt.make_wide_resnet(0, 10, 1, 4, learning_rate=0.02)
    assert model.blocks[1].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = model(torch.from_numpy(images).permute(0, 3, 1, 2)).double().numpy()
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    given = torch.from_numpy(images), torch.from_numpy(targets)
    losses = [float(bt.wide_resnet_step(model, optimizer, *given)) for _ in range(6)]
    np.testing.assert_allclose(
        losses[0], -(targets * log_probs).sum(1).mean(), rtol=1e-5, atol=1e-5
    )
    assert losses[-1] < 0.8 * losses[0]


def test_wide_resnet_seed(image_batch):
    def first_loss(seed):
        state = torch.random.get_rng_state()
        model, optimizer = bt.make_wide_resnet(seed, 10, 1, 4)
        # The caller's own random stream is left as it was.
        assert torch.equal(state, torch.random.get_rng_state())
        return bt.wide_resnet_step(
            model, optimizer, *map(torch.from_numpy, image_batch)
        )

    assert first_loss(3) == first_loss(3) != first_loss(4)

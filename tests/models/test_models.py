import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.models import convnet, gated_pair, linear, mlp, separate_mlps, wide_resnet

pytestmark = pytest.mark.usefixtures("cheap_compiles")


def _count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def digits():
    network = wide_resnet(10, 1, 5)
    inputs = _draw(0, 6, 8, 8, 1)
    params, model_state = jax.jit(network.init)(jax.random.key(0), inputs)
    apply = jax.jit(network.apply, static_argnums=3)
    return network, apply, params, model_state, inputs


def test_mlp_by_hand():
    params = {
        "Dense_0": {"kernel": np.float32([[1.0], [2.0]]), "bias": np.float32([-1.0])},
        "Dense_1": {
            "kernel": np.float32([[3.0, -1.0]]),
            "bias": np.float32([0.0, 4.0]),
        },
    }
    inputs = np.float32([[[1.0], [1.0]], [[-1.0], [0.0]]])
    # Hidden unit: relu(1 + 2 - 1) = 2 and relu(-1 - 1) = 0.
    outputs, model_state = mlp([1], 2, "relu").apply(params, {}, inputs, True)
    np.testing.assert_array_equal(outputs, [[6.0, 2.0], [0.0, 4.0]])
    assert model_state == {}


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("relu", 0.5), ("sigmoid", 0.6224593312), ("tanh", 0.4621171573)],
)
def test_mlp_activation(activation, expected):
    network = mlp([1], 1, activation)
    ones = {"kernel": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    params = {"Dense_0": ones, "Dense_1": ones}
    outputs, _ = network.apply(params, {}, np.float32([[0.5]]), False)
    np.testing.assert_allclose(outputs, [[expected]], rtol=1e-6, atol=1e-6)


def test_mlp_linear_takes_images_and_integers():
    network = mlp([], 3)
    inputs = np.arange(8, dtype=np.int32).reshape(2, 2, 2, 1)
    params, model_state = network.init(jax.random.key(0), inputs)
    assert model_state == {}
    assert _count(params) == 4 * 3 + 3
    outputs, _ = network.apply(params, model_state, inputs, False)
    assert outputs.shape == (2, 3)
    assert outputs.dtype == jnp.float32


@pytest.mark.parametrize(
    ("depth", "width", "expected"),
    [
        # Stem 432, groups 14,432 + 57,536 + 229,760, last norm 256, head 1,290.
        (10, 2, 303_706),
        # Stem 432, groups 269,216 + 1,116,032 + 4,460,288, last norm 512, head 2,570.
        (28, 4, 5_849_050),
        # The paper's Table 4 says 36.5M.
        (28, 10, 36_479_194),
    ],
)
def test_wide_resnet_parameter_count(depth, width, expected):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params, _ = jax.eval_shape(
        wide_resnet(depth, width, 10).init, jax.random.key(0), images
    )
    assert _count(params) == expected


@pytest.mark.parametrize(
    ("stem_stride", "sizes"), [(1, [32, 32, 16, 8]), (2, [16, 16, 8, 4])]
)
def test_wide_resnet_resolutions(stem_stride, sizes):
    network = wide_resnet(10, 1, 10, stem_stride=stem_stride, convolution="xla")
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    params, model_state = jax.eval_shape(network.init, jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(network.apply, static_argnums=3)(
        params, model_state, images, False
    )
    shapes = [
        equation.outvars[0].aval.shape
        for equation in jaxpr.eqns
        if equation.primitive.name == "conv_general_dilated"
        and equation.invars[1].aval.shape[0] == 3
    ]
    # The stem and two convolutions in each of three blocks.
    assert len(shapes) == 7
    assert [shapes[i][1] for i in (0, 2, 4, 6)] == sizes
    assert [shapes[i][3] for i in (0, 2, 4, 6)] == [16, 16, 32, 64]


def test_wide_resnet_starts_with_the_variance_of_he(digits):
    _, _, params, _, _ = digits
    kernel = np.asarray(params["group_2_block_0"]["conv_1"]["kernel"])
    # 36,864 draws: the standard error of their deviation is 0.4 % of it.
    np.testing.assert_allclose(
        kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02, atol=1e-6
    )
    other = np.asarray(params["group_2_block_0"]["conv_0"]["kernel"])
    assert not np.isin(other.ravel()[:9], kernel).any()


def test_wide_resnet_shapes(digits):
    _, apply, params, model_state, inputs = digits
    for train in (False, True):
        outputs, new_state = apply(params, model_state, inputs, train)
        assert outputs.shape == (6, 5)
        assert outputs.dtype == jnp.float32
        # A state that changes its structure could not be carried by a scan.
        assert jax.tree.structure(new_state) == jax.tree.structure(model_state)


def test_features_of_a_wide_resnet_are_below_its_head(digits):
    _, apply, params, model_state, inputs = digits
    below = wide_resnet(10, 1, None)
    features, _ = below.apply(params, model_state, inputs, False)
    assert features.shape == (6, 64)
    head = params["head"]
    outputs, _ = apply(params, model_state, inputs, False)
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_features_of_an_mlp_are_its_last_hidden_layer():
    network = mlp((4, 3), 2)
    inputs = jnp.arange(10.0).reshape(5, 2) / 10
    params, model_state = network.init(jax.random.key(0), inputs)
    features, _ = mlp((4, 3), None).apply(params, model_state, inputs, False)
    assert features.shape == (5, 3)
    outputs, _ = network.apply(params, model_state, inputs, False)
    head = params["Dense_2"]
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_norm_statistics_move_in_training_only(digits):
    _, apply, params, model_state, inputs = digits
    _, kept = apply(params, model_state, inputs, False)
    _, moved = apply(params, model_state, inputs, True)
    for before, same, after in zip(
        *map(jax.tree.leaves, (model_state, kept, moved)), strict=True
    ):
        np.testing.assert_array_equal(before, same)
        assert not np.array_equal(before, after)


def test_norm_statistics_move_by_a_tenth(digits):
    _, apply, params, model_state, inputs = digits
    kernel = np.asarray(params["stem"]["kernel"], np.float64)
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    stem = sum(
        padded[:, i : i + 8, j : j + 8] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    _, moved = apply(params, model_state, inputs, True)
    norm = moved["batch_stats"]["group_0_block_0"]["norm_0"]
    np.testing.assert_allclose(
        norm["mean"], 0.1 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        norm["var"], 0.9 + 0.1 * stem.var((0, 1, 2)), rtol=1e-4, atol=1e-6
    )


def test_evaluation_does_not_see_the_rest_of_the_batch(digits):
    _, apply, params, model_state, inputs = digits
    other = np.concatenate([inputs[:3], 9.0 + inputs[3:]])
    alone, _ = apply(params, model_state, inputs, False)
    among, _ = apply(params, model_state, other, False)
    np.testing.assert_allclose(alone[:3], among[:3], rtol=1e-6, atol=1e-6)
    trained, _ = apply(params, model_state, inputs, True)
    trained_among, _ = apply(params, model_state, other, True)
    assert float(jnp.abs(trained[:3] - trained_among[:3]).max()) > 1e-3


def test_implementations_agree_through_the_network(digits):
    _, apply, params, model_state, inputs = digits
    for name in ("explicit", "xla"):
        network = wide_resnet(10, 1, 5, convolution=name)
        outputs, _ = jax.jit(network.apply, static_argnums=3)(
            params, model_state, inputs, False
        )
        expected, _ = apply(params, model_state, inputs, False)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_seeds_in_vmap_learn_and_do_not_touch_each_other(digits):
    network, _, _, _, inputs = digits
    states = jax.jit(jax.vmap(network.init, (0, None)))(
        jax.random.split(jax.random.key(1), 2), inputs
    )

    def train(state):
        def step(state, _):
            params, model_state = state

            def loss(params):
                outputs, new_state = network.apply(params, model_state, inputs, True)
                return jnp.mean(jnp.square(outputs - 1.0)), new_state

            (value, model_state), gradients = jax.value_and_grad(loss, has_aux=True)(
                params
            )
            params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients)
            return (params, model_state), value

        return jax.lax.scan(step, state, length=4)[1]

    train = jax.jit(jax.vmap(train))
    losses = train(states)
    assert np.all(losses[:, -1] < losses[:, 0])
    assert abs(float(losses[0, 0] - losses[1, 0])) > 1e-3
    twice = train(jax.tree.map(lambda leaf: leaf[jnp.array([1, 1])], states))
    np.testing.assert_array_equal(twice[0], twice[1])
    np.testing.assert_array_equal(twice[1], losses[1])


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(digits):
    _, apply, params, model_state, inputs = digits
    network = wide_resnet(10, 1, 5, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    outputs, moved = jax.jit(network.apply, static_argnums=3)(
        params, model_state, inputs, True
    )
    assert outputs.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(jnp.float32)}
    exact, _ = apply(params, model_state, inputs, True)
    scale = float(jnp.abs(exact).max())
    assert 0.0 < float(jnp.abs(outputs - exact).max()) < 0.1 * scale


def test_convnet_is_its_layers_written_out():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 13, 12, 3)).astype(np.float32)
    sizes = dict(channels=(4, 5), window=3, hidden=(6,))
    network = convnet(7, **sizes)
    params, model_state = network.init(jax.random.key(0), images)
    assert model_state == {}
    # Biases that are not 0 are seen in the result.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    want = images.astype(np.float64)
    for layer in range(2):
        kernel = np.asarray(params[f"kernel_{layer}"], np.float64)
        rows, columns = want.shape[1] - 2, want.shape[2] - 2
        found = np.zeros((2, rows, columns, kernel.shape[3]))
        for i in range(3):
            for j in range(3):
                found += want[:, i : i + rows, j : j + columns] @ kernel[i, j]
        found = np.maximum(found + np.asarray(params[f"bias_{layer}"]), 0)
        rows, columns = rows // 2, columns // 2
        want = np.max(
            [
                found[:, i : 2 * rows : 2, j : 2 * columns : 2]
                for i in range(2)
                for j in range(2)
            ],
            axis=0,
        )
    want = want.reshape(2, -1)
    dense, head = params["Dense_0"], params["head"]
    below = np.maximum(want @ np.asarray(dense["kernel"]) + dense["bias"], 0)
    outputs, _ = network.apply(params, {}, images, True)
    np.testing.assert_allclose(
        outputs, below @ np.asarray(head["kernel"]) + head["bias"], rtol=1e-4, atol=1e-4
    )
    features, _ = convnet(None, **sizes).apply(params, {}, images, False)
    np.testing.assert_allclose(features, below, rtol=1e-4, atol=1e-4)


def test_convnet_has_the_sizes_of_the_benchmark_of_the_field():
    shapes, _ = jax.eval_shape(
        convnet(11).init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
    )
    shapes = jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert shapes["kernel_1"] == (5, 5, 100, 100)
    assert shapes["Dense_0"]["kernel"] == (2500, 1000)
    assert shapes["head"]["kernel"] == (500, 11)


@pytest.mark.parametrize("depth", [4, 9, 11, 27])
def test_depth_must_fit_the_blocks(depth):
    with pytest.raises(ValueError, match=f"depth is {depth}; give 6 n"):
        wide_resnet(depth, 1, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wide_resnet(10, 0, 10), "width is 0"),
        (lambda: wide_resnet(10, 1, 0), "num_outputs is 0"),
        (lambda: wide_resnet(10, 1, 10, stem_stride=0), "stem_stride is 0"),
        (lambda: wide_resnet(10, 1, 10, convolution="fast"), "convolution is 'fast'"),
        (lambda: convnet(0), "num_outputs is 0"),
        (lambda: convnet(3, channels=()), "at least one convolution"),
        (lambda: convnet(3, hidden=(4, 0)), "at least one unit"),
        (lambda: convnet(3, convolution="fast"), "convolution is 'fast'"),
        (lambda: mlp([4, 0], 2), r"hidden is \(4, 0\)"),
        (lambda: mlp([4], 2, "gelu"), "activation is 'gelu'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def plain_pair(params, inputs):
    """`models.gated_pair` as two networks, written out."""
    half = len(params["kernel"]) // 2
    kernel, bias = params["kernel"][:, :-1], params["kernel"][:, -1]

    def sigmoid(x):
        return 1 / (1 + jnp.exp(-x))

    units = sigmoid(inputs @ kernel[:half].T + bias[:half])
    logit = units @ params["out_kernel"][0] + params["out_bias"][0]
    prob = jax.lax.stop_gradient(sigmoid(logit))
    first = inputs @ kernel[half:].T + bias[half:]
    units = sigmoid(first + prob[:, None] * params["prob_kernel"])
    defer_logit = units @ params["out_kernel"][1] + params["out_bias"][1]
    return jnp.stack([logit, defer_logit], axis=-1)


@pytest.mark.long
def test_gated_pair_is_two_networks():
    model = gated_pair(4)
    inputs = jax.random.normal(jax.random.key(1), (7, 3))
    params, model_state = model.init(jax.random.key(0), inputs)
    assert model_state == {}
    assert jax.tree.map(jnp.shape, params) == {
        "kernel": (8, 4),
        "prob_kernel": (4,),
        "out_kernel": (2, 4),
        "out_bias": (2,),
    }
    # Xavier's limits: 3 + 4 units of the classifier, 4 + 4 of the rejector.
    assert jnp.abs(params["kernel"][:4, :-1]).max() <= (6 / 7) ** 0.5
    assert jnp.abs(params["kernel"][4:, :-1]).max() <= (6 / 8) ** 0.5
    assert (params["kernel"][:, -1] == 0).all()

    def ours(params):
        return model.apply(params, model_state, inputs, train=True)[0]

    np.testing.assert_allclose(
        ours(params), plain_pair(params, inputs), rtol=1e-5, atol=1e-6
    )
    weights = jax.random.normal(jax.random.key(2), (7, 2))
    gradient = jax.grad(lambda p: jnp.sum(weights * ours(p)))(params)
    expected = jax.grad(lambda p: jnp.sum(weights * plain_pair(p, inputs)))(params)
    for name in params:
        np.testing.assert_allclose(
            gradient[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_gated_pair_refuses_no_units():
    with pytest.raises(ValueError, match="hidden is 0"):
        gated_pair(0)


def test_linear():
    model = linear(2)
    inputs = np.float32([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])
    params, model_state = model.init(jax.random.key(0), inputs)
    assert model_state == {}
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 2), "bias": (2,)}
    outputs, model_state = model.apply(params, model_state, inputs, True)
    np.testing.assert_array_equal(outputs, np.zeros((2, 2), np.float32))
    assert outputs.dtype == jnp.float32 and model_state == {}
    params = {
        "kernel": np.float32([[1, 0], [2, -1], [0, 3]]),
        "bias": np.float32([0.5, 1]),
    }
    # 1 + 4 + .5 and -2 - 3 + 1; 1 + .5 and -.5 + 9 + 1.
    for apply in (model.apply, jax.jit(model.apply, static_argnums=3)):
        outputs, _ = apply(params, {}, inputs, False)
        np.testing.assert_allclose(outputs, [[5.5, -4], [1.5, 9.5]], atol=1e-6)
    with pytest.raises(ValueError, match="num_outputs is 0; give at least one"):
        linear(0)


def test_separate_mlps_by_hand():
    """Each output is a network alone, with ReLU between its layers."""
    model = separate_mlps([2], 2)
    params = {
        "kernel_0": np.float32([[[1, -1]], [[2, 1]]]),
        "bias_0": np.float32([[[0, 1]], [[-1, 0]]]),
        "kernel_1": np.float32([[[1], [2]], [[3], [-1]]]),
        "bias_1": np.float32([[[0.5]], [[0]]]),
    }
    # First: relu(x) + 2 relu(1 - x) + .5; second: 3 relu(2 x - 1) - relu(x).
    inputs = np.float32([[2.0], [-1.0], [0.25]])
    outputs, model_state = model.apply(params, {}, inputs, True)
    np.testing.assert_allclose(outputs, [[2.5, 7], [4.5, 0], [2.25, -0.25]], atol=1e-6)
    assert model_state == {}


def test_separate_mlps_share_nothing():
    model = separate_mlps([5, 4], 3)
    inputs = _draw(3, 6, 2)
    params, model_state = jax.jit(model.init)(jax.random.key(0), inputs)
    assert _count(params) == 3 * (2 * 5 + 5 + 5 * 4 + 4 + 4 + 1)

    @jax.jit
    def second(params):
        return jnp.sum(model.apply(params, model_state, inputs, True)[0][:, 1])

    for leaf in jax.device_get(jax.tree.leaves(jax.jit(jax.grad(second))(params))):
        assert (leaf[0] == 0).all() and (leaf[2] == 0).all()
        assert (leaf[1] != 0).any()
    # As a network of one output alone.
    alone = jax.tree.map(lambda leaf: leaf[1:2], jax.device_get(params))
    ours, _ = model.apply(params, model_state, inputs, True)
    theirs, _ = separate_mlps([5, 4], 1).apply(alone, {}, inputs, True)
    np.testing.assert_allclose(ours[:, 1:2], theirs, rtol=1e-5, atol=1e-6)
    # It starts as a dense layer does: variance 1 / fan-in, however many there are.
    start = jax.jit(separate_mlps([40], 50).init)
    wide, _ = start(jax.random.key(1), _draw(0, 1, 25))
    np.testing.assert_allclose(wide["kernel_0"].std(), 0.2, rtol=0.02, atol=0)
    np.testing.assert_allclose(wide["kernel_1"].std(), 40**-0.5, rtol=0.1, atol=0)


def test_separate_mlps_may_have_no_hidden_layers():
    model = separate_mlps([], 3)
    params, _ = jax.jit(model.init)(jax.random.key(0), _draw(0, 1, 4))
    inputs = _draw(1, 5, 4)
    outputs, _ = model.apply(params, {}, inputs, True)
    expected = inputs @ params["kernel_0"][..., 0].T
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for hidden, num_outputs in (([0], 1), ([3, 0], 1), ([], 0)):
        with pytest.raises(ValueError, match="give every layer at least one unit"):
            separate_mlps(hidden, num_outputs)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from l2d_jax.models.convolutions import convolve


def _reference(inputs, kernel, stride, padding="SAME"):
    return lax.conv_general_dilated(
        inputs,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_even_size_at_stride_two_is_padded_at_the_end_only():
    inputs = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    kernel = jnp.array([[0.0] * 3, [1.0, 10.0, 100.0], [0.0] * 3]).reshape(3, 3, 1, 1)
    # Windows (1, 2, 3) and (3, 4, 0); padding at both ends would give (0, 1, 2) first.
    # One row is an odd size: a row of zeros before it and one after.
    outputs = convolve(inputs, kernel, 2, implementation="explicit")
    np.testing.assert_array_equal(outputs.ravel(), [321.0, 43.0])


def test_input_gradient_by_hand():
    inputs = jnp.zeros((1, 1, 4, 1))
    kernel = jnp.array([[0.0] * 3, [1.0, 10.0, 100.0], [0.0] * 3]).reshape(3, 3, 1, 1)
    _, vjp = jax.vjp(
        lambda x: convolve(x, kernel, 2, implementation="explicit"), inputs
    )
    (gradient,) = vjp(jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1))
    # Pixel 2 is the last of the first window and the first of the second.
    np.testing.assert_array_equal(gradient.ravel(), [1.0, 10.0, 102.0, 20.0])


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((6, 6), (3, 3), 1),
        ((6, 6), (3, 3), 2),
        ((5, 8), (3, 3), 2),
        ((7, 6), (2, 5), 3),
        ((6, 5), (1, 3), 2),
        ((6, 6), (1, 1), 1),
        ((5, 6), (1, 1), 2),
        ((1, 2), (3, 3), 2),
    ],
)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_equals_xla_in_value_and_gradients(size, window, stride, padding):
    size = tuple(map(max, size, window)) if padding == "VALID" else size
    inputs = _draw(0, 2, *size, 3)
    kernel = _draw(1, *window, 3, 4)
    expected, expected_vjp = jax.vjp(
        lambda *a: _reference(*a, stride, padding), inputs, kernel
    )
    cotangents = _draw(2, *expected.shape)
    outputs, vjp = jax.vjp(
        jax.jit(
            lambda *a: convolve(*a, stride, padding=padding, implementation="explicit")
        ),
        inputs,
        kernel,
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(vjp(cotangents), expected_vjp(cotangents), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("batched", [(0, 0), (None, 0), (0, None)])
def test_vmap_equals_each_alone(batched):
    inputs = _draw(0, 3, 2, 5, 5, 2)
    kernel = _draw(1, 3, 3, 3, 2, 4)
    pair = [
        a if axis == 0 else a[0]
        for a, axis in zip((inputs, kernel), batched, strict=True)
    ]

    def loss(x, w):
        return jnp.sum(jnp.sin(convolve(x, w, 2, implementation="explicit")))

    gradient = jax.grad(loss, (0, 1))
    together = jax.jit(jax.vmap(gradient, batched))(*pair)
    for i in range(3):
        alone = gradient(
            *(a[i] if x == 0 else a for a, x in zip(pair, batched, strict=True))
        )
        for got, want in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loop", ["scan", "map"])
def test_gradients_in_a_loop(loop):
    inputs = _draw(0, 3, 2, 4, 4, 2)
    kernel = jnp.asarray(_draw(1, 3, 3, 2, 2))

    def gradient(x, w):
        def loss(w):
            return jnp.sum(convolve(x, w, implementation="explicit") ** 2)

        return jax.grad(loss)(w)

    def looped(kernel, inputs):
        if loop == "map":
            return lax.map(lambda x: gradient(x, kernel), inputs)
        return lax.scan(lambda w, x: (w, gradient(x, w)), kernel, inputs)[1]

    got = jax.jit(looped)(kernel, inputs)
    for i in range(3):
        want = jax.grad(lambda w, i=i: jnp.sum(_reference(inputs[i], w, 1) ** 2))(
            kernel
        )
        np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA's CPU compiler")
def test_only_plain_convolutions_are_left_in_a_loop():
    # Reversed windows and permuted dimensions are what makes XLA's own gradients slow
    # in a loop, so neither may be in the compiled program.
    inputs, kernel = _draw(0, 4, 8, 8, 16), _draw(1, 3, 3, 16, 16)

    def loss(x, w):
        return jnp.sum(jnp.sin(convolve(x, w, implementation="explicit")))

    def looped(x, w):
        def body(pair, _):
            return jax.grad(loss, (0, 1))(*pair), None

        return lax.scan(body, (x, w), length=2)[0]

    text = jax.jit(looped).lower(inputs, kernel).compile().as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert len(convolutions) >= 3
    for line in convolutions:
        assert "b01f_01io->b01f" in line
        assert "rhs_reversal" not in line


def test_bfloat16_stays_bfloat16():
    inputs = jnp.asarray(_draw(0, 2, 4, 4, 3), jnp.bfloat16)
    kernel = jnp.asarray(_draw(1, 3, 3, 3, 4), jnp.bfloat16)

    def loss(function, x, w):
        return jnp.sum(function(x, w).astype(jnp.float32) ** 2)

    def explicit(x, w):
        return convolve(x, w, implementation="explicit")

    got = jax.grad(loss, (1, 2))(explicit, inputs, kernel)
    want = jax.grad(loss, (1, 2))(
        lambda x, w: _reference(x, w, 1),
        inputs.astype(jnp.float32),
        kernel.astype(jnp.float32),
    )
    for a, b in zip(got, want, strict=True):
        assert a.dtype == jnp.bfloat16
        # Eight bits of mantissa, and sums of up to 36 products of such numbers.
        np.testing.assert_allclose(
            a.astype(jnp.float32), b, rtol=0.05, atol=0.02 * float(jnp.abs(b).max())
        )


def test_inside_shard_map():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("runs",))
    inputs, kernel = _draw(0, 2, 4, 4, 2), _draw(1, 3, 3, 2, 2)

    def gradient(w, x):
        return jax.grad(
            lambda w: jnp.sum(convolve(x, w, implementation="explicit") ** 2)
        )(w)

    spec = jax.sharding.PartitionSpec
    sharded = jax.shard_map(
        lambda w, x: jax.vmap(gradient, (0, None))(w, x),
        mesh=mesh,
        in_specs=(spec("runs"), spec()),
        out_specs=spec("runs"),
        check_vma=False,
    )
    got = jax.jit(sharded)(kernel[None], inputs)
    np.testing.assert_allclose(got[0], gradient(kernel, inputs), rtol=1e-5, atol=1e-4)


def test_auto_is_explicit_on_a_cpu_and_xla_elsewhere(monkeypatch):
    inputs, kernel = _draw(0, 1, 4, 4, 1), _draw(1, 3, 3, 1, 1)

    def has_gradients_of_our_own():
        jaxpr = jax.make_jaxpr(lambda x, w: convolve(x, w))(inputs, kernel)
        return "custom_vjp" in str(jaxpr)

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert has_gradients_of_our_own()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not has_gradients_of_our_own()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(implementation="fast"), "implementation is 'fast'"),
        (dict(stride=0), "stride is 0"),
        (dict(padding="FULL"), "padding is 'FULL'"),
        (
            dict(kernel=np.zeros((5, 3, 1, 1), np.float32), padding="VALID"),
            "must lie in the inputs",
        ),
        (
            dict(inputs=np.zeros((4, 4, 1), np.float32)),
            r"inputs have shape \(4, 4, 1\)",
        ),
        (dict(kernel=np.zeros((3, 3, 2, 1), np.float32)), r"kernel has shape"),
        (dict(kernel=np.zeros((3, 3, 1, 1), np.float16)), "kernel is float16"),
    ],
)
def test_bad_arguments(arguments, message):
    good = dict(inputs=_draw(0, 1, 4, 4, 1), kernel=_draw(1, 3, 3, 1, 1))
    with pytest.raises(ValueError, match=message):
        convolve(**{**good, **arguments})

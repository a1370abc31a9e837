import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.models import Context, Query, context_rejector

pytestmark = [pytest.mark.usefixtures("cheap_compiles"), pytest.mark.long]

NUM_CLASSES, FEATURES, SIZE, LENGTH = 3, 4, 5, 6
KINDS = pytest.mark.parametrize("num_heads", [0, 2], ids=["mean", "attentive"])


def make_network(num_heads):
    return context_rejector(
        NUM_CLASSES, embedding=2, encoder=(8, 4), rejector=(8,), num_heads=num_heads
    )


def make_query(seed=0, num_contexts=SIZE):
    generator = np.random.default_rng(seed)
    context = Context(
        generator.normal(size=(num_contexts, LENGTH, FEATURES)).astype(np.float32),
        generator.integers(0, NUM_CLASSES, (num_contexts, LENGTH)),
        generator.integers(0, NUM_CLASSES, (num_contexts, LENGTH)),
        np.ones((num_contexts, LENGTH), np.float32),
    )
    return Query(generator.normal(size=(SIZE, FEATURES)).astype(np.float32), context)


def as_arrays(params):
    return jax.tree.map(np.float32, params, is_leaf=lambda x: isinstance(x, list))


def changed(query, **fields):
    return query._replace(context=query.context._replace(**fields))


def start(num_heads, query):
    network = make_network(num_heads)
    params, model_state = jax.jit(network.init)(jax.random.key(0), query)
    assert model_state == {}

    @jax.jit
    def apply(query):
        return network.apply(params, {}, query, False)[0]

    return apply, params, network


def test_the_mean_by_hand():
    """One class weight each: what is left of an answer is features, label, answer."""
    network = context_rejector(2, embedding=1, encoder=(1,), rejector=())
    query = Query(
        np.float32([[1.0], [2.0]]),
        Context(
            np.float32([[[3.0], [5.0], [100.0]]]),
            np.array([[0, 1, 0]]),
            np.array([[1, 1, 0]]),
            np.float32([[1.0, 1.0, 0.0]]),
        ),
    )
    params = as_arrays(
        {
            "table": [[10.0], [20.0]],
            "of_features": {"kernel": [[1.0]], "bias": [0.0]},
            "of_label": {"kernel": [[1.0]]},
            "of_answer": {"kernel": [[0.01]]},
            "logit": {"kernel": [[1.0], [2.0]], "bias": [0.0]},
        }
    )
    # 3 + 10 + .2 and 5 + 20 + .2: the mean is 19.2, and padding is not in it.
    outputs, _ = network.apply(params, {}, query, False)
    np.testing.assert_allclose(outputs, [[39.4], [40.4]], rtol=1e-6)


def test_attention_by_hand():
    """A single head that tells the examples apart by their features alone."""
    network = context_rejector(2, embedding=1, encoder=(1,), rejector=(), num_heads=1)
    query = Query(
        np.float32([[1.0], [0.0]]),
        Context(
            np.float32([[[0.0], [np.log(3.0)], [7.0]]]),
            np.array([[0, 1, 0]]),
            np.array([[0, 0, 0]]),
            np.float32([[1.0, 1.0, 0.0]]),
        ),
    )
    params = as_arrays(
        {
            "table": [[4.0], [8.0]],
            "of_features": {"kernel": [[0.0]], "bias": [0.0]},
            "of_label": {"kernel": [[1.0]]},
            "of_answer": {"kernel": [[0.0]]},
            **{name: {"kernel": [[1.0]]} for name in ("query", "keys", "values")},
            "logit": {"kernel": [[0.0], [1.0]], "bias": [0.0]},
        }
    )
    # Shares 1/4 and 3/4 of the values 4 and 8, and halves where the input is 0.
    outputs, _ = network.apply(params, {}, query, False)
    np.testing.assert_allclose(outputs, [[7.0], [6.0]], rtol=1e-6)


@KINDS
def test_a_context_is_a_set(num_heads):
    query = make_query()
    apply, *_ = start(num_heads, query)
    order = np.random.default_rng(1).permutation(LENGTH)
    turned = jax.tree.map(lambda leaf: leaf[:, order], query.context)
    np.testing.assert_allclose(
        apply(query), apply(query._replace(context=turned)), rtol=0, atol=1e-5
    )


@KINDS
def test_padding_counts_for_nothing(num_heads):
    """Whatever it holds, NaN included, and of as much of it as there is."""
    query = make_query()
    apply, *_ = start(num_heads, query)
    weights = np.array(query.context.weights)
    weights[:, 4:] = 0.0
    features = np.array(query.context.features)
    features[:, 4:] = np.nan
    labels = np.array(query.context.labels)
    labels[:, 4:] = 0
    padded = changed(query, features=features, labels=labels, weights=weights)
    short = query._replace(
        context=jax.tree.map(lambda leaf: leaf[:, :4], query.context)
    )
    np.testing.assert_allclose(apply(padded), apply(short), rtol=0, atol=1e-5)


@KINDS
def test_every_part_of_an_answer_matters(num_heads):
    query = make_query()
    apply, *_ = start(num_heads, query)
    known = apply(query)
    others = {
        "features": -query.context.features,
        "labels": (query.context.labels + 1) % NUM_CLASSES,
        "answers": (query.context.answers + 1) % NUM_CLASSES,
        "weights": np.zeros((SIZE, LENGTH), np.float32),
    }
    for name, value in others.items():
        moved = np.abs(apply(changed(query, **{name: value})) - known)
        assert (moved > 1e-4).all(), name


@KINDS
def test_one_person_is_asked_about_all(num_heads):
    """A first axis of 1 is the same context beside every input."""
    query = make_query(num_contexts=1)
    apply, *_ = start(num_heads, query)
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, SIZE, axis=0), query.context)
    outputs = apply(query)
    assert outputs.shape == (SIZE, 1)
    np.testing.assert_allclose(
        outputs, apply(query._replace(context=repeated)), rtol=0, atol=1e-5
    )


@KINDS
def test_nothing_known_has_a_finite_gradient(num_heads):
    query = changed(make_query(), weights=np.zeros((SIZE, LENGTH), np.float32))
    _, params, network = start(num_heads, query)

    def total(params):
        return jnp.sum(network.apply(params, {}, query, True)[0])

    gradient = jax.jit(jax.grad(total))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    for leaf in jax.tree.leaves(gradient["of_features"]):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 1}, "give two classes"),
        ({"embedding": 0}, "every layer a unit"),
        ({"encoder": ()}, "the encoder a layer"),
        ({"rejector": (0,)}, "every layer a unit"),
        ({"num_heads": -1}, "num_heads -1"),
        ({"num_heads": 3}, "8 units, which 3 heads cannot share"),
    ],
)
def test_bad_sizes(changes, message):
    sizes = {"num_classes": 2, "embedding": 1, "encoder": (8,), "rejector": (4,)}
    sizes |= changes
    with pytest.raises(ValueError, match=message):
        context_rejector(sizes.pop("num_classes"), **sizes)


@pytest.mark.parametrize("num_heads", [0, 2])
def test_padding_that_is_nan_reaches_no_gradient(num_heads):
    query = make_query()
    weights = np.array(query.context.weights)
    weights[:, -1] = 0.0
    _, params, network = start(num_heads, query)

    def gradient(last):
        features = np.array(query.context.features)
        features[:, -1] = last
        padded = changed(query, features=features, weights=weights)
        return jax.grad(
            lambda params: jnp.sum(network.apply(params, {}, padded, False)[0] ** 2)
        )(params)

    jax.tree.map(np.testing.assert_array_equal, gradient(np.nan), gradient(0.0))

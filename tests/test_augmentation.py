import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2d_jax.augmentation import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    random_crop_and_flip,
    standardize,
)

pytestmark = pytest.mark.long


def numbered(batch_size, height, width, channels=2):
    """Images in which no two pixels are equal: each says where it came from."""
    count = batch_size * height * width * channels
    return np.arange(count, dtype=np.int32).reshape(batch_size, height, width, channels)


def crops(image, padding):
    """Every crop of the padded image and its mirror image, by NumPy's own padding."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), "reflect")
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            found[(top, left, False)] = crop
            found[(top, left, True)] = crop[:, ::-1]
    return found


def draws(images, augmented, padding):
    """Top, left and flip of each image: the one crop that equals it.

    Images must be higher than padding + 1 and wider than 2 padding + 1: in smaller ones
    some crops are equal.
    """
    result = []
    for image, output in zip(np.asarray(images), np.asarray(augmented), strict=True):
        matches = [
            name
            for name, crop in crops(image, padding).items()
            if np.array_equal(crop, output)
        ]
        assert len(matches) == 1
        result.append(matches[0])
    return np.array(result)


@pytest.fixture(scope="module")
def drawn():
    """Draws of 400 images of 5 x 6 with padding 2."""
    images = numbered(400, 5, 6)
    augmented = jax.jit(random_crop_and_flip, static_argnums=2)(
        jax.random.key(0), images, 2
    )
    return draws(images, augmented, 2)


def test_each_output_is_one_crop_of_its_own_padded_image(drawn):
    # `draws` fails unless every output is exactly one crop of its own image.
    assert drawn.shape == (400, 3)


def test_shifts_and_flips_are_uniform_and_per_image(drawn):
    for column in (0, 1):  # Expected 80 each, standard deviation 8.
        counts = np.bincount(drawn[:, column], minlength=5)
        assert counts.shape == (5,)
        assert 48 <= counts.min() and counts.max() <= 112
    assert 160 <= drawn[:, 2].sum() <= 240  # Expected 200, standard deviation 10.


def test_shifts_and_flips_are_independent(drawn):
    correlations = np.corrcoef(drawn.T)[np.triu_indices(3, k=1)]
    assert np.abs(correlations).max() < 0.2  # Standard deviation 0.05.


def test_crop_by_hand():
    # 1 x 2 x 3 x 1, padding 1. Reflected columns of "a b c": b a b c b.
    image = np.array([[[[1], [2], [3]], [[4], [5], [6]]]], np.uint8)
    legal_rows = {
        row for base in ("212", "123", "232") for row in (base, base[::-1])
    }  # Crops of 2 1 2 3 2, and mirrored.
    for seed in range(20):
        output = random_crop_and_flip(jax.random.key(seed), image, 1)[0, :, :, 0]
        top, bottom = np.asarray(output)
        # Reflected rows of "p q": q p q p, so two neighbours always differ.
        upper, lower = (top, bottom) if top.max() <= 3 else (bottom, top)
        assert "".join(map(str, upper)) in legal_rows
        np.testing.assert_array_equal(lower, upper + 3)


def test_without_padding_it_only_mirrors():
    images = numbered(40, 3, 2)
    augmented = random_crop_and_flip(jax.random.key(0), images, 0)
    flips = draws(images, augmented, 0)[:, 2]
    assert 0 < flips.sum() < 40


def test_largest_padding():
    images = numbered(8, 3, 6)
    augmented = np.asarray(random_crop_and_flip(jax.random.key(0), images, 2))
    for image, output in zip(images, augmented, strict=True):
        assert any(np.array_equal(crop, output) for crop in crops(image, 2).values())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, jnp.bfloat16])
def test_shape_and_type_stay(dtype):
    images = numbered(2, 6, 5, 3).astype(dtype)
    augmented = random_crop_and_flip(jax.random.key(0), images)
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype


def test_the_key_decides():
    images = numbered(16, 5, 5)
    first = random_crop_and_flip(jax.random.key(0), images, 2)
    again = random_crop_and_flip(jax.random.key(0), images, 2)
    other = random_crop_and_flip(jax.random.key(1), images, 2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_scan_and_vmap_change_nothing():
    images = np.stack([numbered(3, 5, 5), numbered(3, 5, 5)[::-1]])
    keys = jax.random.split(jax.random.key(0), 2)
    alone = np.stack(
        [
            random_crop_and_flip(key, batch, 2)
            for key, batch in zip(keys, images, strict=True)
        ]
    )
    mapped = jax.vmap(lambda key, batch: random_crop_and_flip(key, batch, 2))(
        keys, images
    )

    @jax.jit
    def scan(keys, images):
        def step(carry, x):
            return carry, random_crop_and_flip(*x, 2)

        return jax.lax.scan(step, 0, (keys, images))[1]

    np.testing.assert_array_equal(mapped, alone)
    np.testing.assert_array_equal(scan(keys, images), alone)


@pytest.mark.parametrize("padding", [-1, 3, 7])
def test_padding_out_of_range_raises(padding):
    with pytest.raises(ValueError, match=r"padding must be in \[0, 2\]"):
        random_crop_and_flip(jax.random.key(0), numbered(1, 3, 4), padding)


@pytest.mark.parametrize("shape", [(4, 4, 3), (2, 2, 4, 4, 3)])
def test_other_ranks_raise(shape):
    with pytest.raises(ValueError, match=r"images must be \[B, H, W, C\]"):
        random_crop_and_flip(jax.random.key(0), np.zeros(shape))
    with pytest.raises(ValueError, match=r"images must be \[B, H, W, C\]"):
        standardize(np.zeros(shape), np.zeros(3), np.ones(3))


def test_standardize_by_hand():
    # (0 / 255 - 0.5) / 0.25 = -2; (255 / 255 - 0.5) / 0.25 = 2; (51/255 - 0) / 2 = 0.1.
    images = np.array([[[[0, 51]], [[255, 255]]]], np.uint8)
    expected = np.array([[[[-2.0, 0.1]], [[2.0, 0.5]]]])
    output = standardize(images, (0.5, 0.0), (0.25, 2.0))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, rtol=1e-6, atol=1e-6)
    from_float = standardize(images.astype(np.float32) / 255, (0.5, 0.0), (0.25, 2.0))
    np.testing.assert_allclose(from_float, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_standardize_agrees_with_numpy(jit):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    mean, std = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])
    expected = (images.astype(np.float64) - mean) / std
    function = jax.jit(standardize) if jit else standardize
    output = function(images, CIFAR10_MEAN, CIFAR10_STD)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    mapped = jax.vmap(standardize, in_axes=(0, None, None))(
        images[None], jnp.array(CIFAR10_MEAN), jnp.array(CIFAR10_STD)
    )
    np.testing.assert_allclose(mapped[0], expected, rtol=1e-5, atol=1e-5)


def test_standardize_rejects_other_types_and_shapes():
    with pytest.raises(ValueError, match="images must be uint8 or floating, not int32"):
        standardize(numbered(1, 2, 2), (0.0, 0.0), (1.0, 1.0))
    images = np.zeros((1, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="mean must have shape"):
        standardize(images, 0.5, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="std must have shape"):
        standardize(images, CIFAR10_MEAN, (1.0,))

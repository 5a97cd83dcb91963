"""The Gaussian against scipy.ndimage on float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import ParameterError

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
SCIPY = {"constant": "grid-constant", "wrap": "grid-wrap"}


def reference(image, sigma, mode="reflect", **options):
    return ndimage.gaussian_filter(
        image.astype(np.float64), sigma, mode=SCIPY.get(mode, mode), **options
    )


def close(result, expected, tolerance=1e-6):
    np.testing.assert_allclose(
        result, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30)
    )


def noise(dtype, shape):
    rng = np.random.default_rng(11)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int32", "float64"),
    ],
)
def test_is_scipys(mode, dtype, expected):
    image = noise(dtype, (23, 31))
    result = cf.gaussian(image, sigma=(1.7, 0.8), mode=mode, cval=1.0)
    assert result.dtype == expected
    close(result, reference(image, (1.7, 0.8), mode, cval=1.0))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.2, 0.5, 1.0, 2.3, 6.0]),
    st.sampled_from([1.0, 3.0, 4.0]),
    st.sampled_from(MODES),
)
def test_small_images_and_large_sigmas(shape, sigma, truncate, mode):
    image = noise("float64", shape)
    result = cf.gaussian(image, sigma=sigma, truncate=truncate, mode=mode)
    close(result, reference(image, sigma, mode, truncate=truncate))


@pytest.mark.parametrize("order", [0, 1, 2, 3, (1, 0), (0, 2), (3, 1)])
def test_derivatives(order):
    image = noise("float64", (25, 28))
    result = cf.gaussian(image, sigma=1.5, order=order, mode="nearest")
    close(result, reference(image, 1.5, "nearest", order=order))


def test_a_derivative_has_the_sign_of_the_slope():
    ramp = np.tile(np.arange(40.0), (5, 1))
    result = cf.gaussian(ramp, sigma=1.0, order=(0, 1))
    np.testing.assert_allclose(result[:, 10:30], 1.0, rtol=1e-3)


@pytest.mark.parametrize("radius", [0, 1, 7, (2, 5)])
def test_radius_in_place_of_truncate(radius):
    image = noise("float64", (20, 22))
    close(cf.gaussian(image, sigma=2.0, radius=radius), reference(image, 2.0, radius=radius))


def test_an_axis_with_sigma_0_is_left_alone():
    image = noise("float64", (9, 30))
    close(cf.gaussian(image, sigma=(0, 2)), ndimage.gaussian_filter1d(image, 2, axis=1))
    assert_array_equal(cf.gaussian(image, sigma=0), image)
    with pytest.raises(ParameterError, match="order 1 needs sigma > 0"):
        cf.gaussian(image, sigma=(0, 2), order=1)


def test_batch_axes():
    stack = noise("float32", (3, 12, 13))
    result = cf.gaussian(stack, sigma=1.0, axes=(1, 2))
    for one, expected in zip(result, stack, strict=True):
        close(one, reference(expected, 1.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_reaches_the_window_and_no_further(bad):
    image = noise("float64", (30, 30))
    clean = cf.gaussian(image, sigma=1.0, radius=3)
    image[15, 10] = bad
    result = cf.gaussian(image, sigma=1.0, radius=3)
    hit = np.zeros(image.shape, bool)
    hit[12:19, 7:14] = True
    assert not np.isfinite(result[hit]).any()
    assert_array_equal(result[~hit], clean[~hit])


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e12])
def test_constant_images_stay_constant(value):
    np.testing.assert_allclose(cf.gaussian(np.full((15, 9), value), sigma=2.5), value, rtol=1e-14)


def test_extremes_of_the_dtype():
    image = np.array([[0, 65535] * 8] * 9, dtype=np.uint16)
    close(cf.gaussian(image, sigma=1.3), reference(image, 1.3))
    huge = np.full((5, 5), np.finfo(np.float32).max, np.float32)
    np.testing.assert_allclose(cf.gaussian(huge), huge, rtol=1e-6)


def test_as_integers_rounded_and_not_truncated():
    image = noise("uint8", (15, 15))
    result = cf.gaussian(image, sigma=1.0, dtype="uint8")
    exact = reference(image, 1.0)
    sure = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    assert_array_equal(result[sure], np.rint(exact)[sure])

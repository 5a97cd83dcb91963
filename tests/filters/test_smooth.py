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


def weighted(image, valid, mode="reflect", **options):
    """Sums of the weighted pixels that count, over the sums of their weights."""
    filled = np.where(valid, image, 0.0)
    total = reference(filled, 1.5, mode, **options)
    weight = reference(valid, 1.5, mode, **{**options, "cval": 1.0})
    # Weights of scipy's sums do not cancel to exactly 0 where nothing counts.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 1e-12, total / weight, np.nan)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_pixels_left_out_have_no_weight(mode, dtype):
    image = noise(dtype, (30, 33))
    mask = np.random.default_rng(2).random(image.shape) > 0.6
    mask[5:28, 4:27] = False
    expected = weighted(image, mask, mode, cval=3.0)
    assert np.isnan(expected).any()
    result = cf.gaussian(image, sigma=1.5, mask=mask, mode=mode, cval=3.0)
    assert_array_equal(np.isnan(result), np.isnan(expected))
    close(np.nan_to_num(result), np.nan_to_num(expected))
    if dtype == "float64":
        image[~mask] = np.nan
        omitted = cf.gaussian(image, sigma=1.5, mode=mode, cval=3.0, nan_policy="omit")
        assert_array_equal(omitted, result)


@pytest.mark.parametrize("shape", [(50,), (9, 11, 12)])
def test_left_out_along_one_and_three_axes(shape):
    image = noise("float32", shape)
    valid = np.random.default_rng(4).random(shape) > 0.3
    result = cf.gaussian(image, sigma=1.5, mask=valid)
    close(result, weighted(image.astype(np.float64), valid))


def test_with_nothing_left_out_the_pixels_are_the_same():
    image = noise("float32", (40, 41))
    expected = cf.gaussian(image, sigma=2.0)
    assert_array_equal(cf.gaussian(image, sigma=2.0, nan_policy="omit"), expected)
    assert_array_equal(cf.gaussian(image, sigma=2.0, mask=np.ones(image.shape)), expected)
    image[3, 4] = np.nan
    result = cf.gaussian(image, sigma=2.0, nan_policy="omit")
    far = np.zeros(image.shape, bool)
    far[12:], far[:, 13:] = True, True
    assert_array_equal(result[far], expected[far])
    assert np.isfinite(result).all()


def test_a_derivative_takes_all_pixels():
    image = noise("float32", (20, 20))
    with pytest.raises(ParameterError, match="order 1 with nan_policy 'omit'"):
        cf.gaussian(image, order=1, nan_policy="omit")
    with pytest.raises(ParameterError, match="order 2 with a mask"):
        cf.gaussian(image, order=(0, 2), mask=image > 0)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_nodata_makes_derivatives_unknown(dtype, tmp_path, make_store):
    image = noise("uint8", (30, 31)).astype(dtype)
    image[14, 9] = -1
    held = cf.open(make_store(tmp_path / "in.zarr", image), nodata=-1)
    result = cf.gaussian(held, order=(0, 1), radius=2)[...].astype(np.float64)
    unknown = np.isnan(result) if dtype == "int16" else result == -1
    expected = np.zeros(image.shape, bool)
    # The weight of a first derivative at the centre of its axis is 0.
    expected[12:17, [7, 8, 10, 11]] = True
    expected[14, 9] = True
    assert_array_equal(unknown, expected)
    clean = cf.gaussian(image, order=(0, 1), radius=2)
    assert_array_equal(result[~unknown], clean[~unknown])

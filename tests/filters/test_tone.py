"""Equalisation against scikit-image on the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from skimage.exposure import equalize_hist as skimage_equalize

import chunkfilt as cf
from chunkfilt.errors import InputError


def noise(dtype, shape=(40, 45), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.gamma(2.0, 30.0, shape)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return image > 50
    if kind == np.int16:
        return (image * 20 - 1000).astype(kind)
    return image.astype(kind) if kind.kind == "f" else (image * 3 % 250).astype(kind)


def shares(image, mask=None):
    """The share of counted pixels that are not brighter; beyond the counted range its ends."""
    counted = np.sort((image if mask is None else image[mask]).ravel())
    held = np.clip(image, counted[0], counted[-1])
    return np.searchsorted(counted, held, side="right") / counted.size


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "uint32", "int64"])
def test_integers_are_exact(dtype):
    image = noise(dtype)
    result = cf.equalize_hist(image)
    assert result.dtype == np.float64
    assert_array_equal(result, shares(image))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_integers_are_scikit_images(dtype):
    image = noise(dtype)
    assert_array_equal(cf.equalize_hist(image), skimage_equalize(image))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nbins", [None, 2, 100])
def test_floats_are_scikit_images_on_float64(dtype, nbins):
    image = noise(dtype)
    result = cf.equalize_hist(image, nbins=nbins)
    assert result.dtype == dtype
    expected = skimage_equalize(image.astype(np.float64), nbins=nbins or 256)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32"])
def test_a_mask_of_integers(dtype):
    image, mask = noise(dtype), noise("bool", seed=1)
    assert_array_equal(cf.equalize_hist(image, mask=mask), shares(image, mask))
    assert_array_equal(cf.equalize_hist(image, mask.astype(np.uint8) * 7), shares(image, mask))


def test_a_mask_of_floats():
    image, mask = noise("float64"), noise("bool", seed=1)
    expected = skimage_equalize(image, mask=mask)
    # scikit-image maps with the counted pixels' histogram everywhere, as here.
    np.testing.assert_allclose(cf.equalize_hist(image, mask=mask), expected, rtol=0, atol=1e-6)


def test_nbins_is_ignored_for_small_integers_and_bins_wide_ones():
    small = noise("uint16")
    assert_array_equal(cf.equalize_hist(small, nbins=5), cf.equalize_hist(small))
    wide = noise("int32")
    expected = skimage_equalize(wide.astype(np.float64), nbins=64)
    np.testing.assert_allclose(cf.equalize_hist(wide, nbins=64), expected, rtol=0, atol=1e-6)


def test_too_many_levels_need_nbins():
    image = np.arange((1 << 20) + 1, dtype=np.int32)
    with pytest.raises(InputError, match="nbins="):
        cf.equalize_hist(image)
    result = cf.equalize_hist(image, nbins=256)
    expected = skimage_equalize(image.astype(np.float64), nbins=256)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint32"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_image_of_integers_becomes_1(dtype, value):
    assert_array_equal(cf.equalize_hist(np.full((4, 5), value, dtype)), 1.0)


def test_a_constant_image_of_floats_is_scikit_images():
    image = np.full((4, 5), 2.5)
    np.testing.assert_allclose(cf.equalize_hist(image), skimage_equalize(image), atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "uint64"])
def test_both_ends_of_the_dtype(dtype):
    info = np.iinfo(dtype)
    image = np.array([[info.min, info.max, info.max], [info.min, 5, info.max - 1]], dtype)
    assert_array_equal(cf.equalize_hist(image), shares(image))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(st.sampled_from(["uint8", "int16"]), hnp.array_shapes(max_dims=3, max_side=6)))
def test_any_small_integers(image):
    assert_array_equal(cf.equalize_hist(image), shares(image))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays("float64", st.integers(1, 30), elements=st.floats(-1e3, 1e3)), st.integers(1, 20))
def test_any_small_floats(image, nbins):
    expected = skimage_equalize(image, nbins=nbins)
    np.testing.assert_allclose(cf.equalize_hist(image, nbins=nbins), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
def test_a_stack_plane_by_plane_and_as_one(dtype):
    stack = noise(dtype, (60, 1, 24, 24))
    result = cf.equalize_hist(stack, axes=(-2, -1))
    together = cf.equalize_hist(stack, axes=(-2, -1), scope="all")
    assert result.shape == together.shape == stack.shape
    if dtype == "float32":
        wide = stack.astype(np.float64)
        expected = np.stack([skimage_equalize(plane) for plane in wide])
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(together, skimage_equalize(wide), rtol=0, atol=1e-6)
    else:
        assert_array_equal(result, np.stack([shares(plane) for plane in stack]))
        assert_array_equal(together, shares(stack))


@pytest.mark.parametrize("axes", [(0,), (0, 2), (1, 2, 3)])
def test_any_axes_may_be_the_spatial_ones(axes):
    stack = noise("uint8", (5, 4, 6, 3))
    result = cf.equalize_hist(stack, axes=axes)
    batch = [a for a in range(4) if a not in axes]
    moved = stack.transpose(*batch, *axes)
    flat = moved.reshape(-1, *(stack.shape[a] for a in axes))
    expected = np.stack([shares(one) for one in flat]).reshape(moved.shape)
    assert_array_equal(result.transpose(*batch, *axes), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    image = noise("float64")
    image[1, 1] = bad
    with pytest.raises(InputError, match="1 NaN or infinite pixels"):
        cf.equalize_hist(image)
    masked = cf.equalize_hist(image, mask=np.isfinite(image))
    assert np.isfinite(masked[np.isfinite(image)]).all()


def test_an_empty_mask_is_refused():
    for dtype in ("uint8", "int32", "float64"):
        with pytest.raises(InputError, match="no pixel is left"):
            cf.equalize_hist(noise(dtype), mask=np.zeros((40, 45), bool))


def test_the_result_may_be_cast():
    image = noise("uint8")
    result = cf.equalize_hist(image, dtype="float32")
    assert_array_equal(result, shares(image).astype(np.float32))

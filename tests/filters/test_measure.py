"""Whole-image values against NumPy and exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import chunkfilt as cf
from chunkfilt.errors import InputError, ParameterError

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float32", "float64"]


def noise(dtype, shape=(21, 17), seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.3
    if kind.kind == "f":
        return (rng.normal(size=shape) * 1e3).astype(kind)
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[3::5] = info.max // 2
    return image


@pytest.mark.parametrize("dtype", DTYPES)
def test_extrema(dtype):
    image = noise(dtype)
    found = cf.extrema(image)
    assert found.min.dtype == found.max.dtype == image.dtype
    assert (found.min, found.max) == (image.min(), image.max())


def test_extrema_of_every_plane_and_of_all():
    stack = noise("int16", (4, 5, 6))
    found = cf.extrema(stack, axes=(1, 2))
    assert_array_equal(found.min, stack.min(axis=(1, 2)))
    assert_array_equal(found.max, stack.max(axis=(1, 2)))
    both = cf.extrema(stack, axes=(0, 2))
    assert_array_equal(both.max, stack.max(axis=(0, 2)))
    together = cf.extrema(stack, axes=(1, 2), scope="all")
    assert (together.min, together.max) == (stack.min(), stack.max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["extrema", "histogram", "statistics"])
def test_what_is_not_finite_is_refused_with_the_remedy(name, bad):
    image = noise("float64")
    image[3, 4] = image[5, 6] = bad
    with pytest.raises(InputError, match=r"holds 2 NaN or infinite pixels: leave them out"):
        getattr(cf, name)(image)
    getattr(cf, name)(image, mask=np.isfinite(image))


@pytest.mark.parametrize("name", ["extrema", "histogram", "statistics"])
def test_a_mask_that_leaves_nothing_is_refused(name):
    with pytest.raises(InputError, match="no pixel is left"):
        getattr(cf, name)(noise("uint8"), mask=np.zeros((21, 17), bool))


@pytest.mark.parametrize("name", ["extrema", "histogram", "statistics", "unique_counts"])
def test_an_image_without_pixels_has_no_value(name):
    with pytest.raises(InputError, match="without pixels has no value"):
        getattr(cf, name)(np.zeros((0, 5), np.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nbins", [1, 7, 256])
def test_histogram_is_numpys_on_float64(dtype, nbins):
    image = noise(dtype)
    counts, edges = np.histogram(image.astype(np.float64), nbins)
    found = cf.histogram(image, nbins=nbins)
    assert found.counts.dtype == np.int64
    assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.bin_edges, edges, rtol=1e-15, atol=0)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        "float64",
        st.integers(1, 40),
        elements=st.floats(-1e6, 1e6) | st.integers(-4, 4).map(lambda n: n / 8),
    ),
    st.integers(1, 50),
    st.none() | st.tuples(st.floats(-2, 0), st.floats(0.125, 3)),
)
def test_any_histogram(image, nbins, limits):
    counts, edges = np.histogram(image, nbins, limits)
    found = cf.histogram(image, nbins=nbins, range=limits)
    assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.bin_edges, edges, rtol=1e-14, atol=1e-300)


def test_a_constant_image_has_a_bin_around_its_value():
    image = np.full((5, 6), 3.0)
    counts, edges = np.histogram(image, 4)
    found = cf.histogram(image, nbins=4)
    assert_array_equal(found.counts, counts)
    assert_array_equal(found.bin_edges, edges)


def test_with_a_range_nan_and_what_lies_beyond_is_left_out():
    image = np.array([0.0, 0.5, 1.0, 1.5, np.nan, np.inf, -np.inf])
    assert_array_equal(cf.histogram(image, nbins=2, range=(0, 1)).counts, [1, 2])


def test_histograms_with_mask_and_batch_axes():
    stack, mask = noise("float32", (3, 8, 9)), noise("bool", (3, 8, 9))
    found = cf.histogram(stack, mask=mask, nbins=11, axes=(1, 2))
    assert found.counts.shape == (3, 11)
    assert found.bin_edges.shape == (3, 12)
    for i in range(3):
        counts, edges = np.histogram(stack[i][mask[i]].astype(np.float64), 11)
        assert_array_equal(found.counts[i], counts)
        np.testing.assert_allclose(found.bin_edges[i], edges, rtol=1e-15)
    together = cf.histogram(stack, mask=mask, nbins=11, axes=(1, 2), scope="all")
    assert_array_equal(together.counts, np.histogram(stack[mask].astype(np.float64), 11)[0])


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.startswith("float")])
def test_unique_counts_is_numpys(dtype):
    image = noise(dtype)
    values, counts = np.unique(image, return_counts=True)
    found = cf.unique_counts(image)
    assert_array_equal(np.asarray(found.values), values)
    assert_array_equal(np.asarray(found.counts), counts)
    assert found.values.dtype == image.dtype


def test_unique_counts_of_every_plane_and_of_all():
    for dtype in ("uint8", "int32"):
        stack = (noise("uint8", (3, 6, 7)) // 32).astype(dtype)
        mask = noise("bool", stack.shape)
        found = cf.unique_counts(stack, mask=mask, axes=(1, 2))
        for i in range(3):
            values, counts = np.unique(stack[i][mask[i]], return_counts=True)
            assert_array_equal(found.values[i], values)
            assert_array_equal(found.counts[i], counts)
        values, counts = np.unique(stack[mask], return_counts=True)
        together = cf.unique_counts(stack, mask=mask, axes=(1, 2), scope="all")
        assert_array_equal(together.values, values)
        assert_array_equal(together.counts, counts)


def test_too_many_levels_are_refused_with_a_way_out():
    image = np.arange((1 << 20) + 1, dtype=np.int32)
    with pytest.raises(InputError, match="more than 1048576 different levels: use nbins="):
        cf.unique_counts(image)
    with pytest.raises(ParameterError, match="use histogram"):
        cf.unique_counts(np.zeros(3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_exact_and_rounded_once(dtype):
    image = noise(dtype)
    pixels = [Fraction(v) for v in image.ravel().tolist()]
    n = len(pixels)
    mean = sum(pixels) / n
    variance = sum(p * p for p in pixels) / n - mean * mean
    found = cf.statistics(image)
    assert found.pixels == n
    assert found.mean == float(mean)
    assert found.variance == float(variance)
    assert found.std == np.sqrt(float(variance))
    assert (found.min, found.max) == (image.min(), image.max())
    assert found.percentiles.shape == (0,)


def test_sums_that_cancel():
    image = np.array([1e16, 1.0, -1e16, 1.0, 1e-300, 1e300, -1e300])
    exact = [Fraction(v) for v in image.tolist()]
    mean = sum(exact) / 7
    assert cf.statistics(image).mean == float(mean)
    shifted = np.array([1e15 + 1, 1e15 + 2, 1e15 + 3])
    assert cf.statistics(shifted).variance == float(Fraction(2, 3))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["uint8", "int16", "float32", "float64"]),
        st.integers(1, 30),
        elements=st.integers(0, 100),
    ),
    st.lists(st.floats(0, 100) | st.sampled_from([0, 25, 50, 100]), min_size=1, max_size=4),
)
def test_percentiles_are_numpys(image, percentiles):
    found = cf.statistics(image, percentiles=percentiles).percentiles
    expected = np.percentile(image.astype(np.float64), percentiles)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bool"])
def test_percentiles_over_the_whole_range_of_a_dtype(dtype):
    image = noise(dtype, (40, 41))
    wanted = [0, 2, 33.3, 50, 97.7, 100]
    found = cf.statistics(image, percentiles=wanted).percentiles
    expected = np.percentile(image.astype(np.float64), wanted)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0] == image.min().astype(np.float64)
    assert found[-1] == image.max().astype(np.float64)


def test_statistics_with_mask_and_batch_axes():
    stack, mask = noise("float32", (3, 8, 9)), noise("bool", (3, 8, 9))
    found = cf.statistics(stack, mask=mask, axes=(1, 2), percentiles=[10, 50])
    assert found.percentiles.shape == (3, 2)
    for i in range(3):
        own = stack[i][mask[i]].astype(np.float64)
        assert found.pixels[i] == own.size
        np.testing.assert_allclose(found.mean[i], own.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.variance[i], own.var(), rtol=1e-12)
        np.testing.assert_allclose(found.percentiles[i], np.percentile(own, [10, 50]), rtol=1e-12)
    together = cf.statistics(stack, mask=mask, axes=(1, 2), percentiles=[10, 50], scope="all")
    own = stack[mask].astype(np.float64)
    np.testing.assert_allclose(together.mean, own.mean(), rtol=1e-12)
    np.testing.assert_allclose(together.percentiles, np.percentile(own, [10, 50]), rtol=1e-12)


def test_statistics_of_one_pixel():
    found = cf.statistics(np.array([[7]], np.uint8), percentiles=[0, 50, 100])
    assert (found.pixels, found.mean, found.variance, found.std) == (1, 7, 0, 0)
    assert_array_equal(found.percentiles, [7, 7, 7])


def test_negative_zero_and_zero_are_one_level():
    image = np.array([-0.0, 0.0, 0.0, 1.0])
    found = cf.statistics(image, percentiles=[0, 50])
    assert_array_equal(found.percentiles, [0, 0])

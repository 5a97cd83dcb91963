"""Footprints and dense kernels against exact arithmetic and scipy."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from scipy import ndimage

from chunkfilt.kernels.taps import (
    correlate,
    footprint_mean,
    footprint_sum,
    footprint_variance,
)

SMALL = ["bool", "uint8", "int8", "uint16", "int16"]
WIDE = ["int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]
ALL = [footprint_mean, footprint_sum, footprint_variance]

Y, X = np.mgrid[-3:4, -3:4]
DISK = Y * Y + X * X <= 9
RING = DISK & (Y * Y + X * X >= 4)
SCATTER = np.array([[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], bool)
CROSS = ndimage.generate_binary_structure(3, 1)


def image(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both extremes included."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 100).astype(kind)
    info = np.iinfo(kind)
    pixels = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    pixels.flat[::5] = info.max
    pixels.flat[1::7] = info.min
    return pixels


def under(block, footprint):
    """The pixels under the footprint on one last axis."""
    view = sliding_window_view(block, footprint.shape, tuple(range(1, block.ndim)))
    return view[..., footprint]


def real(dtype):
    kind = np.dtype(dtype)
    return np.float32 if kind.name in (*SMALL, "float16", "float32") else np.float64


def two_pass(block, footprint, ddof=0):
    pixels = under(block.astype(np.float64), footprint)
    mean = pixels.mean(axis=-1, keepdims=True)
    return ((pixels - mean) ** 2).sum(axis=-1) / (pixels.shape[-1] - ddof)


@pytest.mark.parametrize("dtype", ["bool", "int16", *WIDE])
def test_integer_sums_and_means_are_exact(dtype):
    block = image(dtype, (2, 9, 23))
    for cells in (DISK, SCATTER):
        total = under(block.astype(object) + 0, cells).sum(axis=-1).astype(np.float64)
        result = footprint_sum(block, cells)
        assert result.dtype == np.float64
        assert_array_equal(result, total)
        mean = footprint_mean(block, cells)
        assert mean.dtype == real(dtype)
        assert_array_equal(mean, (total / cells.sum()).astype(real(dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_sums_and_means(dtype):
    block = image(dtype, (2, 9, 23))
    expected = under(block.astype(np.float64), RING).sum(axis=-1)
    tolerance = 1e-6 * np.abs(expected).max()
    result = footprint_sum(block, RING)
    assert result.dtype == real(dtype)
    assert_array_equal(np.abs(result - expected) <= tolerance, True)
    mean = footprint_mean(block, RING)
    assert_array_equal(np.abs(mean - expected / RING.sum()) <= tolerance, True)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16"])
def test_variance_of_small_integers_is_exact(dtype):
    block = image(dtype, (1, 12, 21))
    pixels = under(block.astype(np.int64), DISK)
    n, s1, s2 = pixels.shape[-1], pixels.sum(axis=-1), (pixels**2).sum(axis=-1)
    expected = (n * s2 - s1 * s1).astype(np.float64) / (n * (n - 1))
    assert_array_equal(footprint_variance(block, DISK, 1), expected.astype(np.float32))
    root = footprint_variance(block, DISK, 1, sqrt=True)
    assert_array_equal(root, np.sqrt(expected).astype(np.float32))


@pytest.mark.parametrize("dtype", ["int32", "uint64", *FLOATS])
@pytest.mark.parametrize("cells", [DISK, SCATTER])
def test_variance_of_other_dtypes(dtype, cells):
    block = image(dtype, (1, 12, 21))
    result, expected = footprint_variance(block, cells), two_pass(block, cells)
    assert result.dtype == real(dtype)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)


def test_variance_does_not_cancel():
    rng = np.random.default_rng(3)
    block = (1e7 + 20 * rng.normal(size=(1, 30, 30))).astype(np.float32)
    result, expected = footprint_variance(block, DISK), two_pass(block, DISK)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)
    assert_array_equal(footprint_variance(np.full((1, 9, 9), 0.1), DISK), np.zeros((1, 3, 3)))
    assert np.isnan(footprint_variance(block, np.ones((1, 1), bool), ddof=1)).all()


def test_lines_and_volumes():
    line, volume = image("uint16", (2, 40)), image("uint16", (2, 7, 9, 30))
    comb = np.array([1, 0, 1, 1, 0], bool)
    for block, cells in [(line, comb), (volume, CROSS), (volume, CROSS[:2])]:
        pixels = under(block.astype(np.int64), cells)
        assert_array_equal(footprint_mean(block, cells), pixels.mean(axis=-1).astype(np.float32))
        n, s1, s2 = pixels.shape[-1], pixels.sum(axis=-1), (pixels**2).sum(axis=-1)
        variance = ((n * s2 - s1 * s1) / (n * n)).astype(np.float32)
        assert_array_equal(footprint_variance(block, cells), variance)
    weights = np.random.default_rng(1).normal(size=(2, 3, 4))
    expected = np.einsum(
        "bzyxkji,kji->bzyx",
        sliding_window_view(volume.astype(float), (2, 3, 4), (1, 2, 3)),
        weights,
    )
    result = correlate(volume, weights)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * np.abs(expected).max(), True)


def test_large_footprints_on_wide_blocks():
    block = image("uint8", (1, 30, 4500))
    cells = np.ones((20, 301), bool)
    cells[5:9, 40:200] = False
    sums = np.pad(block[0].astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)

    def box(h, w, y, x):
        total = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        return total[y : y + 11, x : x + 4200]

    expected = box(20, 301, 0, 0) - box(4, 160, 5, 40)
    assert_array_equal(footprint_sum(block, cells)[0], expected)


@pytest.mark.parametrize("wild", [np.nan, np.inf])
@pytest.mark.parametrize("kernel", ALL)
def test_wild_pixels_stay_under_their_footprints(wild, kernel):
    clean = image("float32", (1, 24, 40))
    block = clean.copy()
    block[0, 10, 20] = wild
    for cells in (RING, SCATTER):
        hit = under(block != clean, cells).any(axis=-1)
        result = kernel(block, cells)
        assert_array_equal(result[~hit], kernel(clean, cells)[~hit])
        assert not np.isfinite(result[hit]).any()
    if kernel is footprint_variance:
        assert np.isnan(result[hit]).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("kernel", ALL)
def test_a_block_has_no_say_in_the_result(dtype, kernel):
    block = image(dtype, (1, 30, 4500))
    whole = kernel(block, DISK)
    for y0, y1, x0, x1 in [(3, 30, 777, 4001), (0, 10, 5, 40), (11, 18, 4000, 4500)]:
        part = kernel(block[:, y0:y1, x0:x1], DISK)
        assert_array_equal(part, whole[:, y0 : y1 - 6, x0 : x1 - 6])


@pytest.mark.parametrize("dtype", ["bool", "int16", "uint64", *FLOATS])
def test_correlate(dtype):
    block = image(dtype, (1, 14, 33))
    weights = np.random.default_rng(2).normal(size=(5, 6))
    result = correlate(block, weights)
    assert result.dtype == real(dtype)
    full = ndimage.correlate(block[0].astype(np.float64), weights)
    expected = full[2:12, 3 : 3 + 28]
    assert_array_equal(np.abs(result[0] - expected) <= 1e-6 * np.abs(expected).max(), True)


def test_correlate_skips_weights_that_are_none():
    clean = image("float64", (1, 12, 15))
    block = clean.copy()
    block[0, 5, 6] = np.nan
    block[0, 9, 11] = -np.inf
    weights = np.array([[1.0, 0.0, 2.2e-16], [-0.5, -1e-17, 3e-16]])
    hit = under(block != clean, np.abs(weights) > 2.2e-16).any(axis=-1)
    result = correlate(block, weights)
    assert_array_equal(np.isfinite(result), ~hit)
    assert_array_equal(result[~hit], correlate(clean, weights)[~hit])
    assert_array_equal(correlate(block, np.zeros((3, 3))), np.zeros((1, 10, 13)))


def test_correlate_does_not_depend_on_the_block():
    block = image("float32", (1, 30, 4500))
    weights = np.random.default_rng(2).normal(size=(5, 6))
    whole = correlate(block, weights)
    assert_array_equal(correlate(block[:, 4:27, 801:4111], weights), whole[:, 4:23, 801:4106])


@pytest.mark.parametrize("kernel", [*ALL, correlate])
def test_empty_cores_and_read_only_input(kernel):
    block = image("uint16", (1, 9, 9))
    assert kernel(block[:, :6], DISK).shape == (1, 0, 3)
    before = block.copy()
    block.flags.writeable = False
    assert kernel(block, DISK).shape == (1, 3, 3)
    assert_array_equal(block, before)


def test_footprints_that_do_not_fit():
    block = np.zeros((1, 5, 5))
    with pytest.raises(ValueError, match="without a single pixel"):
        footprint_mean(block, np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="window"):
        footprint_sum(block, np.ones(3, bool))

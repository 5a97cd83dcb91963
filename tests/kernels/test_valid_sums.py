"""Measures of the pixels that count, against numpy on windows with NaN for the others."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.kernels import _tiles
from chunkfilt.kernels import valid_sums as module
from chunkfilt.kernels.box import box_mean, box_sum, box_variance
from chunkfilt.kernels.separable import separable
from chunkfilt.kernels.taps import footprint_mean, footprint_sum, footprint_variance
from chunkfilt.kernels.valid_sums import (
    measure_memory,
    smooth_memory,
    valid_mean,
    valid_separable,
    valid_sum,
    valid_variance,
)

SMALL = ["bool", "uint8", "int8", "uint16", "int16"]
WIDE = ["uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]
CROOKED = {
    1: np.array([1, 0, 1, 1], bool),
    2: np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], bool),
    3: np.array([[[0, 1], [1, 0], [1, 1]], [[1, 0], [0, 0], [0, 1]]], bool),
}


def image(dtype, shape, seed=0, missing=0.3):
    """Noise over the whole range of a dtype, and which pixels count."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    valid = rng.random(shape) >= missing
    if kind.kind == "b":
        return rng.random(shape) < 0.5, valid
    if kind.kind == "f":
        return (rng.normal(size=shape) * 100).astype(kind), valid
    info = np.iinfo(kind)
    pixels = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    pixels.flat[::5] = info.max
    pixels.flat[1::7] = info.min
    return pixels, valid


def windows(block, cells):
    """The windows' pixels on one last axis."""
    return sliding_window_view(block, cells.shape, tuple(range(1, block.ndim)))[..., cells]


def real(dtype):
    kind = np.dtype(dtype)
    return np.float32 if kind.name in (*SMALL, "float16", "float32") else np.float64


def quietly(function, *arguments, **options):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def exact(block, valid, cells):
    """Sums, sums of squares and numbers, in Python's integers."""
    pixels = windows(np.where(valid, block, 0).astype(object), cells)
    return pixels.sum(-1), (pixels * pixels).sum(-1), windows(valid, cells).sum(-1)


def two_pass(block, valid, cells, ddof=0):
    pixels = np.where(valid, block, np.nan).astype(np.float64)
    return quietly(np.nanvar, windows(pixels, cells), axis=-1, ddof=ddof)


def close(result, expected, tolerance=1e-6):
    assert_array_equal(np.isnan(result), np.isnan(expected))
    held = ~np.isnan(expected)
    difference = np.abs(result[held] - expected[held])
    assert (difference <= tolerance * np.abs(expected[held])).all()


def both(size):
    """A box and a footprint of that size, as arguments and as the pixels they see."""
    box = np.ones(size, bool)
    return [(None, box), (CROOKED[len(size)], CROOKED[len(size)])]


@pytest.mark.parametrize("dtype", SMALL + WIDE)
def test_sums_and_means_of_integers_are_exact(dtype):
    block, valid = image(dtype, (2, 9, 23), missing=0.8)
    for cells, seen in both((2, 5)):
        total, _, count = exact(block, valid, seen)
        assert (count == 0).any()
        expected = np.where(count > 0, total.astype(np.float64), np.nan)
        result = valid_sum(block, valid, seen.shape, cells)
        assert result.dtype == np.float64
        assert_array_equal(result, expected)
        mean = valid_mean(block, valid, seen.shape, cells)
        assert mean.dtype == real(dtype)
        assert_array_equal(mean, quietly(np.divide, expected, count).astype(real(dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_and_means_of_floats(dtype):
    block, valid = image(dtype, (2, 9, 23), missing=0.8)
    block[~valid] = np.nan
    for cells, seen in both((2, 5)):
        pixels = windows(block.astype(np.float64), seen)
        result = valid_mean(block, valid, seen.shape, cells)
        assert result.dtype == real(dtype)
        np.testing.assert_allclose(result, quietly(np.nanmean, pixels, axis=-1), 1e-6, 1e-4)
        result = valid_sum(block, valid, seen.shape, cells)
        assert result.dtype == real(dtype)
        expected = np.where(np.isnan(pixels).all(-1), np.nan, np.nansum(pixels, -1))
        np.testing.assert_allclose(result, expected, 1e-6, 1e-4)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("ddof", [0, 1, 3])
def test_variances_of_small_integers_are_exact(dtype, ddof):
    block, valid = image(dtype, (1, 12, 21), missing=0.85)
    for cells, seen in both((3, 4)):
        one, two, count = exact(block, valid, seen)
        scaled = (count * two - one * one).astype(np.float64)
        left = count * np.maximum(count - ddof, 0)
        assert (left == 0).any()
        expected = quietly(np.divide, scaled, left.astype(np.float64))
        result = valid_variance(block, valid, seen.shape, cells, ddof)
        assert result.dtype == np.float32
        assert_array_equal(result, expected.astype(np.float32))
        root = valid_variance(block, valid, seen.shape, cells, ddof, sqrt=True)
        assert_array_equal(root, np.sqrt(expected).astype(np.float32))


@pytest.mark.parametrize("dtype", ["int32", "uint64", *FLOATS])
def test_variances_of_other_dtypes(dtype):
    block, valid = image(dtype, (1, 12, 21), missing=0.6)
    for cells, seen in both((3, 4)):
        for ddof in (0, 2):
            expected = two_pass(block, valid, seen, ddof)
            result = valid_variance(block, valid, seen.shape, cells, ddof)
            assert result.dtype == real(dtype)
            close(result, expected)
            root = valid_variance(block, valid, seen.shape, cells, ddof, sqrt=True)
            close(root, np.sqrt(expected))


def test_variances_of_integers_whose_sums_do_not_fit():
    block, valid = image("uint16", (1, 221, 225))
    close(
        valid_variance(block, valid, (220, 222)), two_pass(block, valid, np.ones((220, 222), bool))
    )


@pytest.mark.parametrize("length", [*range(1, 33), 64, 101, 126, 299])
def test_windows_of_every_length(length):
    block, valid = image("float32", (1, 310, 3), missing=0.5)
    block = block.round(0)
    seen = np.ones((length, 1), bool)
    expected = two_pass(block, valid, seen)
    total, _, count = exact(block.astype(np.int64), valid, seen)
    mean = quietly(np.divide, total.astype(np.float64), count)
    for turn in (False, True):
        one, kept = (a.swapaxes(1, 2) if turn else a for a in (block, valid))
        size = (1, length) if turn else (length, 1)
        for kernel, wanted in [(valid_variance, expected), (valid_mean, mean)]:
            result = kernel(one, kept, size)
            close(result.swapaxes(1, 2) if turn else result, wanted)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("depth", [2, 6, 12, 27])
def test_deep_windows(dtype, depth):
    block, valid = image(dtype, (1, depth + 2, 16, 9))
    seen = np.ones((depth, 11, 4), bool)
    close(valid_variance(block, valid, seen.shape), two_pass(block, valid, seen))
    pixels = windows(np.where(valid, block, np.nan).astype(np.float64), seen)
    expected = np.nanmean(pixels, -1)
    np.testing.assert_allclose(valid_mean(block, valid, seen.shape), expected, 1e-6, 1e-4)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_where_all_count_the_bits_are_those_of_whole_windows(dtype, ndim, monkeypatch):
    block, _ = image(dtype, (2, 14, 15, 31)[: ndim + 1])
    every = np.ones(block.shape, bool)
    # As if something were missing further on.
    monkeypatch.setattr(module, "in_tiles", lambda block, valid, *_: _[-1](block, valid))
    for size in [(3, 5, 7)[:ndim], (6, 2, 9)[:ndim], (11, 12, 26)[:ndim]]:
        assert_array_equal(valid_sum(block, every, size), box_sum(block, size))
        assert_array_equal(valid_mean(block, every, size), box_mean(block, size))
        assert_array_equal(valid_variance(block, every, size), box_variance(block, size))
    cells = CROOKED[ndim]
    one, size = (block, every, cells.shape, cells), cells.shape
    assert_array_equal(
        valid_sum(*one).astype(box_sum(block, size).dtype), footprint_sum(block, cells)
    )
    assert_array_equal(valid_mean(*one).astype(real(dtype)), footprint_mean(block, cells))
    result = valid_variance(*one, 1).astype(real(dtype))
    assert_array_equal(result, footprint_variance(block, cells, 1))
    term = tuple(np.array(w) for w in ([0.2, 0.5, 0.3], [0.1, 0.9], [0.3, 0.3, 0.4])[:ndim])
    result = valid_separable(block, every, term).astype(real(dtype))
    assert_array_equal(result, separable(block, (term,)))


@pytest.mark.parametrize("size", [(3, 3), (15, 15), (1, 20), (33, 7)])
@pytest.mark.parametrize("missing", [0.1, 0.9])
def test_variances_do_not_cancel(size, missing):
    rng = np.random.default_rng(3)
    block = (1e7 + 20 * rng.normal(size=(1, 40, 40))).astype(np.float32)
    valid = rng.random(block.shape) >= missing
    block[~valid] = -3e12
    cells = np.ones(size, bool)
    cells[0, 0] = False
    for some, seen in [(None, np.ones(size, bool)), (cells, cells)]:
        result = valid_variance(block, valid, size, some)
        close(result, two_pass(block, valid, seen))
        assert not (result < 0).any()


@pytest.mark.parametrize("value", [0.1, 1e300, -7e7 / 3])
def test_variances_of_a_constant_are_zero(value):
    valid = image("bool", (1, 30, 30), missing=0.9)[1]
    block = np.where(valid, value, np.nan)
    for cells, seen in [(None, np.ones((7, 15), bool)), (CROOKED[2], CROOKED[2])]:
        count = windows(valid, seen).sum(-1)
        result = valid_variance(block, valid, seen.shape, cells)
        assert_array_equal(result, np.where(count > 0, 0.0, np.nan))


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wild_pixels_that_count_stay_in_their_windows(wild, dtype):
    clean, valid = image(dtype, (1, 24, 40))
    valid[0, 10, 20] = True
    block = clean.copy()
    block[~valid] = np.nan
    block[0, 10, 20] = wild
    term = (np.array([0.25, 0.5, 0.25]), np.array([0.5, 0.5]))
    for cells, seen in both((5, 6)):
        hit = windows((block != clean) & valid, seen).any(-1)
        for kernel, inside in [
            (valid_mean, wild),
            (valid_sum, wild),
            (valid_variance, np.nan),
        ]:
            result = kernel(block, valid, seen.shape, cells)
            assert_array_equal(result[~hit], kernel(clean, valid, seen.shape, cells)[~hit])
            assert_array_equal(result[hit], np.full(hit.sum(), inside, dtype))
    hit = windows((block != clean) & valid, np.ones((3, 2), bool)).any(-1)
    result = valid_separable(block, valid, term)
    assert_array_equal(result[~hit], valid_separable(clean, valid, term)[~hit])
    assert_array_equal(result[hit], np.full(hit.sum(), wild, dtype))


def test_what_does_not_count_may_be_anything():
    block, valid = image("float64", (1, 30, 40), missing=0.5)
    term = (np.array([0.25, 0.5, 0.25]), np.array([0.5, 0.5]))
    kernels = [
        *(lambda x, k=k: k(x, valid, (5, 6)) for k in (valid_sum, valid_mean, valid_variance)),
        *(
            lambda x, k=k: k(x, valid, (3, 4), CROOKED[2])
            for k in (valid_sum, valid_mean, valid_variance)
        ),
        lambda x: valid_separable(x, valid, term),
    ]
    for kernel in kernels:
        expected = kernel(block)
        for other in (np.nan, np.inf, 1e300):
            assert_array_equal(kernel(np.where(valid, block, other)), expected)


def test_weights_of_what_is_left_are_scaled():
    block, valid = image("float64", (2, 20, 25), missing=0.8)
    one, two = np.array([0.1, 0.2, 0.4, 0.2, 0.1]), np.array([0.3, 0.0, 0.7])
    weights = np.outer(one, two)
    seen = np.ones(weights.shape, bool)
    pixels, kept = windows(np.where(valid, block, 0), seen), windows(valid, seen)
    total = quietly(np.divide, pixels @ weights.ravel(), kept @ weights.ravel())
    result = valid_separable(block, valid, (one, two))
    assert np.isnan(total).any()
    np.testing.assert_allclose(result, total, 1e-9, 1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shares_without_a_single_pixel(dtype):
    block, valid = image(dtype, (1, 60, 70), missing=0.05)
    valid[:, 11:44, 20:] = False
    for cells, seen in both((5, 4)):
        none = ~windows(valid, seen).any(-1)
        assert none.any()
        for kernel in (valid_sum, valid_mean, valid_variance):
            assert_array_equal(np.isnan(kernel(block, valid, seen.shape, cells)), none)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_block_has_no_say_in_the_result(data):
    dtype = data.draw(st.sampled_from(["uint16", "float32"]))
    shape = tuple(data.draw(st.integers(6, 40)) for _ in range(2))
    size = tuple(data.draw(st.integers(1, n)) for n in (6, 6))
    missing = data.draw(st.sampled_from([0.003, 0.3, 0.97]))
    block, valid = image(dtype, (1, *shape), data.draw(st.integers(0, 99)), missing)
    start = [data.draw(st.integers(0, n - w)) for n, w in zip(shape, size, strict=True)]
    stop = [data.draw(st.integers(a + w, n)) for a, w, n in zip(start, size, shape, strict=True)]
    part = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    core = tuple(slice(a, b - w + 1) for a, b, w in zip(start, stop, size, strict=True))
    cells = np.random.default_rng(5).random(size) < 0.7
    cells.flat[0] = True
    term = tuple(np.full(n, 1.0 / n) for n in size)
    for kernel in (valid_mean, valid_sum, valid_variance):
        for given_cells in (None, cells):
            whole = kernel(block, valid, size, given_cells)
            some = kernel(block[part], valid[part], size, given_cells)
            assert_array_equal(some, whole[:, core[0], core[1]])
    whole = valid_separable(block, valid, term)
    assert_array_equal(valid_separable(block[part], valid[part], term), whole[:, core[0], core[1]])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_tiles_have_no_say_in_the_result(dtype, monkeypatch):
    block, valid = image(dtype, (3, 5, 40, 50), missing=0.1)
    valid[:, :, 20:, 20:] = True
    valid[:, :, :9, :11] = False
    cells = CROOKED[3]
    term = (np.array([1.0]), np.array([0.25, 0.5, 0.25]), np.array([0.5, 0.5]))
    found = []
    for pixels in (1 << 20, 300, 7):
        for name in ("_TILE", "_LARGE", "_SMOOTH"):
            monkeypatch.setattr(module, name, pixels)
        for name in ("_ROW", "_LONG"):
            monkeypatch.setattr(module, name, min(pixels, 13))
        monkeypatch.setattr(_tiles, "_WINDOWS", 2)
        results = [valid_separable(block, valid, term)]
        for kernel in (valid_mean, valid_sum, valid_variance):
            results += [kernel(block, valid, (2, 3, 4)), kernel(block, valid, cells.shape, cells)]
        found.append(results)
    for results in found[1:]:
        for one, other in zip(results, found[0], strict=True):
            assert_array_equal(one, other)


def test_wide_blocks_have_no_say_in_the_result():
    block, valid = image("float32", (1, 20, 4500), missing=0.02)
    for kernel in (valid_mean, valid_variance):
        whole = kernel(block, valid, (5, 15))
        part = kernel(block[:, 3:, 777:4001], valid[:, 3:, 777:4001], (5, 15))
        assert_array_equal(part, whole[:, 3:, 777:3987])


@pytest.mark.parametrize("kernel", [valid_mean, valid_sum, valid_variance])
def test_empty_cores_and_read_only_input(kernel):
    block, valid = image("uint16", (1, 4, 6))
    assert kernel(block, valid, (5, 3)).shape == (1, 0, 4)
    assert kernel(block[:0], valid[:0], (3, 3)).shape == (0, 2, 4)
    for one in (block, valid):
        one.flags.writeable = False
    other = np.asfortranarray(block).astype(">u2")
    expected = kernel(block, valid, (3, 3))
    assert_array_equal(kernel(other, np.asfortranarray(valid), (3, 3)), expected)
    floats, swapped = block.astype(np.float32), block.astype(">f4")
    cells = np.eye(3, dtype=bool)
    assert_array_equal(kernel(swapped, valid, (3, 3), cells), kernel(floats, valid, (3, 3), cells))
    with pytest.raises(ValueError, match="window"):
        kernel(block, valid, (7, 3))


def test_memory_is_that_of_a_tile():
    small, large = (1, 100, 100), (1, 9000, 9000)
    for box in (True, False):
        sizes = [measure_memory(core, (5, 5), np.dtype("f4"), box) for core in (small, large)]
        assert sizes[0] < sizes[1] < 3e7
    assert smooth_memory(small, (9, 9)) < smooth_memory(large, (9, 9)) < 2e7

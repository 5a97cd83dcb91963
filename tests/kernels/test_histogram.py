"""Counts, tables and keys against NumPy."""

import numpy as np
import pytest

from chunkfilt.kernels.histogram import (
    count_bins,
    count_levels,
    digit_counts,
    extremes,
    interpolate,
    key_to_value,
    lookup,
    value_to_key,
)

INTEGERS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
DTYPES = [*INTEGERS, "f2", "f4", "f8"]


def limits(dtype):
    dtype = np.dtype(dtype)
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def pixels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "biu":
        low, high = limits(dtype)
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        values = rng.integers(low, high, shape, dtype=dtype, endpoint=True)
        values[rng.random(shape) < 0.1] = high
        values[rng.random(shape) < 0.1] = low
        return values
    values = rng.normal(size=shape).astype(dtype)
    for special in (np.inf, -np.inf, np.nan, 0.0, -0.0):
        values[rng.random(shape) < 0.02] = special
    return values


def kept(block, mask, b):
    return block[b].ravel() if mask is None else block[b][mask[b]]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_count_levels(dtype):
    rng = np.random.default_rng(1)
    block = pixels(rng, (2, 30, 41), dtype)
    low, high = limits(dtype)
    mask = rng.random(block.shape) < 0.5
    for lo, hi in ((low, min(high, low + 65535)), (max(low, high - 300), high), (1, min(high, 90))):
        for m in (None, mask):
            got = count_levels(block, lo, hi, m)
            assert got.dtype == np.int64
            assert got.shape == (2, hi - lo + 1)
            for b in range(2):
                levels = [v - lo for v in kept(block, m, b).astype(object) if lo <= v <= hi]
                expected = np.bincount(np.array(levels, int), minlength=hi - lo + 1)
                np.testing.assert_array_equal(got[b], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_count_bins_is_numpy(dtype):
    rng = np.random.default_rng(2)
    block = pixels(rng, (2, 40, 50), dtype)
    values = block.astype(np.float64)
    finite = values[np.isfinite(values)]
    lo, hi = np.array([finite.min(), -1.25]), np.array([finite.max(), 0.7])
    mask = rng.random(block.shape) < 0.5
    for nbins in (1, 7, 256):
        for m in (None, mask):
            got = count_bins(block, lo, hi, nbins, m)
            for b in range(2):
                expected, _ = np.histogram(kept(values, m, b), nbins, (lo[b], hi[b]))
                np.testing.assert_array_equal(got[b], expected)


@pytest.mark.parametrize("seed", range(6))
def test_count_bins_at_the_edges(seed):
    # Values on the edges and one step beside them are where rounding decides.
    rng = np.random.default_rng(seed)
    lo, width = rng.normal() * 10.0 ** rng.integers(-3, 6), 10.0 ** rng.uniform(-3, 4)
    for nbins in (3, 10, 49, 1000):
        edges = np.linspace(lo, lo + width, nbins + 1)
        near = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])
        expected, _ = np.histogram(near, nbins, (lo, lo + width))
        np.testing.assert_array_equal(count_bins(near[None], lo, lo + width, nbins)[0], expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u2", "i1"])
@pytest.mark.parametrize(("lo", "hi", "nbins"), [(0, 64, 64), (-3.5, 63, 133), (0, 49, 10)])
def test_count_bins_of_pixels_on_the_edges(dtype, lo, hi, nbins):
    block = np.random.default_rng(9).integers(0, 65, (1, 5000)).astype(dtype)
    expected, _ = np.histogram(block.astype(np.float64), nbins, (lo, hi))
    np.testing.assert_array_equal(count_bins(block, lo, hi, nbins)[0], expected)
    assert count_bins(block, 64.25, 64.75, 2).sum() == 0


@pytest.mark.parametrize(
    ("lo", "step"), [(0.0, 5e-324), (1e15, 0.25), (-1e300, 1e285), (7.0, 2e-15)]
)
def test_count_bins_of_ranges_of_few_numbers(lo, step):
    # Rounding decides nearly everywhere: it has to be NumPy's rounding.
    values = lo + np.arange(257) * step
    block = np.random.default_rng(10).permutation(np.tile(values, 20))[None]
    for nbins in (1, 16, 64):
        expected, _ = np.histogram(block, nbins, (values[0], values[-1]))
        got = count_bins(block, values[0], values[-1], nbins)[0]
        np.testing.assert_array_equal(got, expected)


def test_count_bins_of_a_constant():
    block = np.full((1, 3, 5), 7.0)
    expected, _ = np.histogram(block, 16, (7.0, 7.0))
    np.testing.assert_array_equal(count_bins(block, 7.0, 7.0, 16)[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes(dtype):
    rng = np.random.default_rng(3)
    block = pixels(rng, (3, 13, 37), dtype)
    mask = rng.random(block.shape) < 0.3
    for m in (None, mask):
        got = extremes(block, m)
        assert got.minimum.dtype == got.maximum.dtype == block.dtype
        for b in range(3):
            values = kept(block, m, b)
            finite = values[np.isfinite(values)]
            assert got.minimum[b] == finite.min()
            assert got.maximum[b] == finite.max()
            assert got.count[b] == finite.size
            assert got.nonfinite[b] == values.size - finite.size


@pytest.mark.parametrize("dtype", ["?", "i2", "u8", "f4"])
def test_extremes_of_nothing_join_with_others(dtype):
    block = np.ones((1, 4), dtype)
    empty = extremes(block, np.zeros((1, 4), bool))
    some = extremes(block)
    assert empty.count[0] == 0
    assert extremes(block[:, :0]).count[0] == 0
    assert np.minimum(empty.minimum, some.minimum)[0] == 1
    assert np.maximum(empty.maximum, some.maximum)[0] == 1


@pytest.mark.parametrize("dtype", INTEGERS)
def test_lookup(dtype):
    rng = np.random.default_rng(4)
    block = pixels(rng, (2, 11, 23), dtype)
    low, high = limits(dtype)
    for lo in {low, max(low, high - 99), 1}:
        table = rng.random((2, 2 if dtype == "?" else 100)).astype(np.float32)
        got = lookup(block, table, lo)
        assert got.dtype == np.float32
        assert got.shape == block.shape
        for b in range(2):
            index = [min(max(v - lo, 0), table.shape[1] - 1) for v in block[b].ravel().tolist()]
            np.testing.assert_array_equal(got[b].ravel(), table[b][index])


def test_lookup_keeps_the_dtype_of_the_table():
    block = np.array([[0, 1, 2, 3]], np.uint16)
    table = np.array([[0, 2**63 - 1, 2**64 - 1]], np.uint64)
    assert lookup(block, table).tolist() == [[0, 2**63 - 1, 2**64 - 1, 2**64 - 1]]


@pytest.mark.parametrize("nbins", [1, 2, 256])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1"])
def test_interpolate_is_numpy(dtype, nbins):
    rng = np.random.default_rng(5)
    block = rng.integers(0, 255, (2, 31, 40)).astype(dtype)
    edges = np.linspace([3.5, 20], [199.25, 240], nbins + 1, axis=1)
    centres = (edges[:, :-1] + edges[:, 1:]) / 2
    if np.dtype(dtype).kind == "f":
        block += rng.random(block.shape).astype(dtype)
        block[:, 0, :nbins] = centres[:, :40]
        block[:, 1, :4] = np.nan, np.inf, -np.inf, 1e300 if dtype == "f8" else 1e30
    cdf = np.cumsum(rng.random(centres.shape), axis=1)
    cdf /= cdf[:, -1:]
    got = interpolate(block, centres, cdf)
    single = interpolate(block, centres, cdf, np.float32)
    assert got.dtype == np.float64
    assert single.dtype == np.float32
    for b in range(2):
        x = block[b].astype(np.float64)
        expected = np.interp(x, centres[b], cdf[b])
        expected[np.isnan(x)] = np.nan  # which numpy forgets where there is one bin only
        np.testing.assert_allclose(got[b], expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(single[b], got[b].astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_are_ordered_and_turn_back(dtype):
    values = pixels(np.random.default_rng(6), (2000,), dtype)
    values = np.sort(values[~np.isnan(values)])
    keys = value_to_key(values)
    assert keys.dtype == np.uint64
    assert int(keys.max()) < 2 ** (8 * values.itemsize)
    np.testing.assert_array_equal(keys[1:] > keys[:-1], values[1:] > values[:-1])
    back = key_to_value(keys, values.dtype)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


def test_keys_of_numbers():
    assert int(value_to_key(np.float32(-0.0))) == int(value_to_key(np.float32(0.0))) == 2**31
    assert key_to_value(np.uint64(2**64 - 1), np.uint64) == 2**64 - 1
    assert key_to_value(0, np.int64) == -(2**63)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u8", "i8", "f4", "f8"])
def test_digit_counts_select_exactly(dtype):
    rng = np.random.default_rng(7)
    block = pixels(rng, (2, 30, 35), dtype)
    mask = rng.random(block.shape) < 0.6
    for m in (None, mask):
        ordered = []
        for b in range(2):
            values = kept(block, m, b)
            ordered.append(np.sort(values[~np.isnan(values)]))
        ranks = np.array([[0, len(v) // 3, len(v) - 1] for v in ordered])
        prefix, left, shift = np.zeros((2, 3), np.uint64), ranks.copy(), 8 * block.itemsize
        while shift:
            bits = min(shift, 11)
            shift -= bits
            totals = np.cumsum(digit_counts(block, shift, bits, prefix, m), axis=2)
            digit = (totals <= left[..., None]).sum(2)
            before = np.take_along_axis(totals, np.maximum(digit - 1, 0)[..., None], 2)[..., 0]
            left -= np.where(digit > 0, before, 0)
            prefix = (prefix << np.uint64(bits)) | digit.astype(np.uint64)
        found = key_to_value(prefix, block.dtype)
        for b in range(2):
            np.testing.assert_array_equal(found[b], ordered[b][ranks[b]])


def test_digit_counts_of_the_top_and_bottom_digit():
    block = np.array([[0, 1, 0x1234, 0xFFFF]], np.uint16)
    top = digit_counts(block, 8, 8, np.zeros((1, 1), np.uint64))
    assert top[0, 0, [0, 0x12, 0xFF]].tolist() == [2, 1, 1]
    assert top.sum() == 4
    low = digit_counts(block, 0, 8, np.array([[0x12, 0, 0x55]], np.uint64))
    assert low.sum(2).tolist() == [[1, 2, 0]]
    assert low[0, 0, 0x34] == 1
    nan = digit_counts(np.array([[np.nan, -np.nan, np.inf]]), 60, 4, np.zeros((1, 1), np.uint64))
    assert nan.sum() == 1


@pytest.mark.parametrize("shape", [(2, 60), (2, 6, 10), (2, 3, 4, 5)])
def test_dimensions_and_read_only_inputs(shape):
    block = np.random.default_rng(8).integers(0, 9, shape).astype(np.uint8)
    before = block.copy()
    block.flags.writeable = False
    mask = block > 2
    mask.flags.writeable = False
    flat = block.reshape(2, -1)
    counts = count_levels(block, 0, 8, mask)
    np.testing.assert_array_equal(counts, count_levels(flat, 0, 8, mask.reshape(2, -1)))
    assert counts[:, :3].sum() == 0
    assert counts.sum() == mask.sum()
    assert lookup(block, np.ones((2, 9))).shape == shape
    assert extremes(block, mask).minimum.tolist() == [3, 3]
    assert count_bins(block, 0, 8, 3).sum() == block.size
    np.testing.assert_array_equal(block, before)


def test_empty_blocks():
    block = np.zeros((2, 0, 7), np.uint16)
    assert count_levels(block, 0, 9).tolist() == [[0] * 10] * 2
    assert count_bins(block, 0, 1, 3).sum() == 0
    assert lookup(block, np.ones((2, 4))).shape == block.shape
    assert interpolate(block, np.ones((2, 1)), np.ones((2, 1))).shape == block.shape
    assert digit_counts(block, 0, 8, np.zeros((2, 1), np.uint64)).sum() == 0


def test_errors():
    block = np.zeros((1, 4), np.uint8)
    with pytest.raises(ValueError, match="not within"):
        count_levels(block, 0, 256)
    with pytest.raises(TypeError, match="levels are integers"):
        count_levels(block.astype(float), 0, 1)
    with pytest.raises(ValueError, match="mask of shape"):
        count_levels(block, 0, 1, np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="finite"):
        count_bins(block, 1, 0, 3)
    with pytest.raises(ValueError, match="too narrow"):
        count_bins(block, 1.0, np.nextafter(1.0, 2), 3)
    with pytest.raises(ValueError, match="nbins"):
        count_bins(block, 0, 1, 0)
    with pytest.raises(ValueError, match="table of shape"):
        lookup(block, np.ones((2, 4)))
    with pytest.raises(ValueError, match="tables of shape"):
        interpolate(block, np.ones((1, 4)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="within 64 bits"):
        digit_counts(block, 60, 8, np.zeros((1, 1), np.uint64))
    with pytest.raises(ValueError, match="prefixes of shape"):
        digit_counts(block, 0, 8, np.zeros((2, 1), np.uint64))

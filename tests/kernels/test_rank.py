"""Rank filters against sorting every window."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from chunkfilt.kernels import _network
from chunkfilt.kernels import rank as module
from chunkfilt.kernels.rank import (
    median_rank,
    percentile_rank,
    rank_filter,
    rank_memory,
    signed_rank,
)

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
METHODS = ["network", "slide"]


def disk(radius, inner=0):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (inner * inner <= y * y + x * x) & (y * y + x * x <= radius * radius)


def pixels(rng, shape, dtype):
    """Random values with many extremes, ties, infinities and a few NaN."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        values[rng.random(shape) < 0.1] = info.max
        values[rng.random(shape) < 0.1] = info.min
        return values
    values = rng.normal(size=shape).round(1).astype(dtype)
    values[rng.random(shape) < 0.05] = np.inf
    values[rng.random(shape) < 0.05] = -np.inf
    values[rng.random(shape) < 0.003] = np.nan
    return values


def oracle(block, footprint, rank):
    windows = sliding_window_view(block, footprint.shape, axis=tuple(range(1, block.ndim)))
    chosen = windows[..., footprint]
    result = np.sort(chosen, axis=-1)[..., rank]
    if block.dtype.kind == "f":
        result = np.where(np.isnan(chosen).any(-1), np.array(np.nan, block.dtype), result)
    return result


def run(block, footprint, rank, method):
    return module._rank_filter(block, footprint, rank, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, method):
    rng = np.random.default_rng(7)
    block = pixels(rng, (2, 21, 290), dtype)
    for footprint in (np.ones((3, 3), bool), disk(3, 2), np.ones((4, 2), bool)):
        n = int(footprint.sum())
        for rank in (0, n // 3, median_rank(n), n - 1):
            result = run(block, footprint, rank, method)
            assert result.dtype == block.dtype
            np.testing.assert_array_equal(result, oracle(block, footprint, rank))


@pytest.mark.parametrize("method", METHODS)
def test_extremes_of_64_bits_survive(method):
    for dtype in (np.int64, np.uint64):
        info = np.iinfo(dtype)
        edge = [info.max, info.max - 1, info.min, info.min + 1, 2**53 + 1]
        block = np.array([edge], dtype=dtype)
        for rank, expected in enumerate(sorted(edge)):
            assert int(run(block, np.ones(5, bool), rank, method)[0, 0]) == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "footprint",
    [disk(2), disk(4, 3), np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]], bool), np.eye(5, dtype=bool)],
    ids=["disk", "ring", "corners", "diagonal"],
)
def test_every_rank(footprint, method):
    block = np.random.default_rng(3).integers(0, 50, (1, 17, 40), dtype=np.uint16)
    for rank in range(int(footprint.sum())):
        np.testing.assert_array_equal(
            run(block, footprint, rank, method), oracle(block, footprint, rank)
        )


def test_random_footprints_and_ranks():
    rng = np.random.default_rng(11)
    for _ in range(40):
        shape = tuple(rng.integers(1, 8, 2))
        footprint = rng.random(shape) < rng.uniform(0.1, 1)
        footprint[tuple(rng.integers(0, shape))] = True
        rank = int(rng.integers(footprint.sum()))
        block = rng.integers(0, 1000, (1, 20, 70), dtype=np.uint16)
        expected = oracle(block, footprint, rank)
        for method in METHODS:
            np.testing.assert_array_equal(run(block, footprint, rank, method), expected)


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (4, 3)])
def test_networks_by_the_zero_one_principle(shape):
    # A network that selects right among zeros and ones selects right among any values: in both
    # rows of the result that it finds together, hence once more one row further down. Every
    # window of columns with c ones each (a sorted column is known by its count) is tried, in one
    # order per column; together with random orders this covers the sorting of the columns.
    height, width = shape
    counts = np.array(list(product(range(height + 1), repeat=width)))
    rng = np.random.default_rng(5)
    windows = (np.arange(height)[None, :, None] < counts[:, None, :]).astype(np.uint8)
    windows = rng.permuted(windows, axis=1)
    block = np.concatenate(list(windows), axis=1)[None]
    footprint = np.ones(shape, bool)
    for rank in range(height * width):
        for above in (0, 1):
            lower = np.pad(block, ((0, 0), (above, 0), (0, 0)))
            result = run(lower, footprint, rank, "network")[0, above, ::width]
            np.testing.assert_array_equal(result, height * width - counts.sum(1) <= rank)


def test_three_by_three_on_all_zero_one_windows():
    codes = np.arange(512)
    windows = ((codes[:, None] >> np.arange(9)) & 1).astype(np.uint8).reshape(512, 3, 3)
    block = np.concatenate(list(windows), axis=1)[None]
    result = run(block, np.ones((3, 3), bool), 4, "network")[0, 0, ::3]
    np.testing.assert_array_equal(result, windows.sum((1, 2)) >= 5)


def test_network_sizes():
    # The whole point of sharing sorted columns; the best unshared networks have 19 and 99.
    for size, most in ((3, 14), (5, 46.5), (7, 107.5)):
        footprint = np.ones((1, size, size), bool)
        net = _network.network_for(footprint.shape, footprint.tobytes(), size * size // 2)
        assert len(net.ops) <= most * len(net.results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 3), (5, 5)])
def test_straight_code_of_boxes(dtype, size):
    rng = np.random.default_rng(13)
    footprint = np.ones(size, bool)
    for shape in ((2, 23, 70), (1, 8, 2500)):
        block = pixels(rng, shape, dtype)
        result = run(block, footprint, footprint.size // 2, "straight")
        assert result.dtype == block.dtype
        np.testing.assert_array_equal(result, oracle(block, footprint, footprint.size // 2))


@pytest.mark.parametrize("size", [(1,), (4,), (1, 3), (3, 4), (7, 7), (3, 3, 3)])
def test_straight_code_of_any_box(size):
    rng = np.random.default_rng(14)
    block = pixels(rng, (*(2, 9, 12)[: len(size)], 90), "f4")
    footprint = np.ones(size, bool)
    for rank in {0, footprint.size // 2}:
        result = run(block, footprint, rank, "straight")
        np.testing.assert_array_equal(result, oracle(block, footprint, rank))


def test_small_median_is_scipy():
    block = np.random.default_rng(0).integers(0, 256, (1, 30, 33), dtype=np.uint8)
    expected = ndimage.median_filter(block[0], size=5)[2:-2, 2:-2]
    np.testing.assert_array_equal(rank_filter(block, np.ones((5, 5), bool), 12)[0], expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spatial", [(40,), (12, 30), (7, 9, 80)])
def test_dimensions(spatial, method):
    rng = np.random.default_rng(1)
    block = rng.integers(0, 30, (3, *spatial), dtype=np.uint16)
    footprint = rng.random((3, 4, 5)[: len(spatial)]) < 0.7
    footprint.flat[0] = True
    rank = int(footprint.sum()) // 2
    np.testing.assert_array_equal(
        run(block, footprint, rank, method), oracle(block, footprint, rank)
    )


@pytest.mark.parametrize("method", METHODS)
def test_nan_stays_local(method):
    block = np.random.default_rng(2).normal(size=(1, 40, 600)).astype(np.float32)
    footprint = disk(3, 2)
    clean = run(block, footprint, 6, method)
    dirty_block = block.copy()
    dirty_block[0, 20, 300] = np.nan
    dirty_block[0, 20, 301] = -np.float32(np.nan)
    dirty = run(dirty_block, footprint, 6, method)
    reached = oracle(np.isnan(dirty_block), footprint, int(footprint.sum()) - 1)
    assert np.isnan(dirty[reached]).all()
    np.testing.assert_array_equal(dirty[~reached].view(np.int32), clean[~reached].view(np.int32))


@pytest.mark.parametrize("method", METHODS)
def test_all_nan_and_signed_zeros(method):
    assert np.isnan(run(np.full((1, 5, 5), np.nan), np.ones((3, 3), bool), 4, method)).all()
    zeros = np.array([[0.0, -0.0, 0.0, -0.0]])
    low, high = (run(zeros, np.ones(2, bool), rank, method) for rank in (0, 1))
    assert np.signbit(low).all()
    assert not np.signbit(high).any()


@pytest.mark.parametrize("method", METHODS)
def test_independent_of_the_block(method):
    rng = np.random.default_rng(4)
    block = pixels(rng, (1, 60, 700), "f4")
    footprint = disk(3)
    whole = run(block, footprint, 14, method)
    for _ in range(8):
        y, x = rng.integers(0, 40), rng.integers(0, 600)
        h, w = rng.integers(7, 20), rng.integers(7, 100)
        part = run(block[:, y : y + h, x : x + w], footprint, 14, method)
        same = whole[:, y : y + h - 6, x : x + w - 6]
        np.testing.assert_array_equal(part.view(np.int32), same.view(np.int32))


@pytest.mark.parametrize("method", METHODS)
def test_window_of_one_pixel_and_tall_footprints(method):
    block = np.arange(60, dtype=np.int16).reshape(1, 6, 10)
    np.testing.assert_array_equal(run(block, np.ones((1, 1), bool), 0, method), block)
    only = np.zeros((3, 4), bool)
    only[2, 3] = True
    np.testing.assert_array_equal(run(block, only, 0, method), block[:, 2:, 3:])
    tall = np.ones((6, 1), bool)
    np.testing.assert_array_equal(run(block, tall, 5, method), block[:, 5:])


def test_the_choice_knows_only_footprint_and_dtype():
    small, ring, large = np.ones((1, 3, 3), bool), disk(3, 2)[None], disk(15)[None]
    assert module._choose(small, 4, 8) == "straight"
    assert module._choose(ring, 4, 8) == "network"
    assert module._choose(large, 354, 1) == "slide"
    block = np.random.default_rng(9).integers(0, 999, (1, 45, 60), dtype=np.uint16)
    np.testing.assert_array_equal(rank_filter(block, large[0], 354), oracle(block, large[0], 354))


def test_empty_cores_and_inputs_left_alone():
    footprint = np.ones((3, 3), bool)
    for shape in ((1, 2, 9), (1, 1, 1), (0, 5, 5)):
        core = tuple(max(n - 2, 0) for n in shape[1:])
        assert rank_filter(np.zeros(shape, np.uint8), footprint, 4).shape == (shape[0], *core)
    block = np.random.default_rng(0).normal(size=(1, 9, 9))
    before = block.copy()
    block.flags.writeable = False
    result = rank_filter(block, footprint, 4)
    np.testing.assert_array_equal(block, before)
    assert result.flags.writeable


def test_other_byte_order_and_layout():
    block = np.arange(50, dtype=">u2").reshape(1, 5, 10)[:, :, ::-1]
    result = rank_filter(block, np.ones((3, 3), bool), 4)
    np.testing.assert_array_equal(result, oracle(block, np.ones((3, 3), bool), 4))


def test_errors():
    block = np.zeros((1, 5, 5))
    with pytest.raises(ValueError, match="holds no pixel"):
        rank_filter(block, np.zeros((3, 3), bool), 0)
    with pytest.raises(ValueError, match=r"outside 0 \.\.\. 8"):
        rank_filter(block, np.ones((3, 3), bool), 9)
    with pytest.raises(ValueError, match="footprint has 1 axes"):
        rank_filter(block, np.ones(3, bool), 0)
    with pytest.raises(TypeError, match="complex"):
        rank_filter(block.astype(complex), np.ones((3, 3), bool), 0)


def test_the_rank_of_a_percentile():
    for q in (0.0, 0.1, 29.0, 57.0, 99.99, 100.0, -100.0, -0.5, -71.0):
        positive = q + 100 if q < 0 else q
        for n in (1, 2, 9, 100, 17665):
            rank = n - 1 if positive == 100 else int(float(n) * positive / 100.0)
            assert percentile_rank(n, q) == rank
            assert percentile_rank(np.array([n]), q) == rank
    assert percentile_rank(3, float(np.nextafter(100, 0))) == 2


def test_a_rank_from_either_end():
    assert [signed_rank(4, k) for k in (0, 3, -1, -4)] == [0, 3, 3, 0]
    np.testing.assert_array_equal(signed_rank(np.arange(1, 5), -2), [0, 0, 1, 2])
    np.testing.assert_array_equal(signed_rank(np.arange(1, 5), 1), [0, 1, 1, 1])


def test_the_first_and_the_last_rank_are_extremes():
    rng = np.random.default_rng(1)
    for dtype in DTYPES:
        block = pixels(rng, (1, 12, 14), dtype)
        for rank in (0, int(disk(3, 3).sum()) - 1):
            result = rank_filter(block, disk(3, 3), rank)
            np.testing.assert_array_equal(result, oracle(block, disk(3, 3), rank))


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("footprint", [np.ones((5, 5), bool), disk(7), disk(20), disk(60)])
def test_memory_is_at_least_what_is_taken(footprint, dtype):
    rank, kind = int(footprint.sum()) // 2, np.dtype(dtype)
    block = np.random.default_rng(0).integers(0, 200, (1, 240, 250)).astype(kind)
    rank_filter(block, footprint, rank)
    core = tuple(n - w + 1 for n, w in zip(block.shape[1:], footprint.shape, strict=True))
    tracemalloc.start()
    result = rank_filter(block, footprint, rank)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    told = rank_memory(core, footprint, rank, kind)
    # What a tile takes inside compiled code is not traced.
    assert peak - result.nbytes < told + 100_000
    assert told < 8_000_000


@pytest.mark.parametrize("dtype", ["u1", "i1", "?"])
@pytest.mark.parametrize("window", [(5, 5), (2, 9), (31, 7), (1, 9), (9, 1), (3, 4, 5)])
def test_column_histograms(window, dtype):
    shape = (2, 6, 12, 40) if len(window) == 3 else (2, 45, 1100)
    block = pixels(np.random.default_rng(4), shape, dtype)
    footprint = np.ones(window, bool)
    n = int(footprint.sum())
    for rank in {0, n // 3, n // 2, n - 1}:
        expected = oracle(block, footprint, rank)
        np.testing.assert_array_equal(run(block, footprint, rank, "columns"), expected)


def test_column_histograms_follow_a_rank_that_jumps():
    block = np.zeros((1, 20, 400), np.uint8)
    block[:, :, ::40] = 255
    block[:, 10:, 100:140] = np.arange(40)
    block[:, :, 200:210] = 17
    for rank in (1, 12, 20, 34):
        expected = oracle(block, np.ones((5, 7), bool), rank)
        result = run(block, np.ones((5, 7), bool), rank, "columns")
        np.testing.assert_array_equal(result, expected)


def test_the_method_follows_from_footprint_rank_and_dtype():
    def method(footprint, itemsize):
        mask = footprint.reshape((1,) * (3 - footprint.ndim) + footprint.shape)
        return module._choose(mask, int(footprint.sum()) // 2, itemsize)

    assert method(np.ones((5, 5), bool), 4) == "straight"
    assert method(disk(5), 4) == "network"
    assert method(disk(20), 1) == "slide"
    assert method(np.ones((31, 31), bool), 1) == "columns"
    assert method(np.ones((31, 31), bool), 2) == "slide"
    assert method(np.ones((256, 256), bool), 1) == "slide"
    assert method(np.ones(2001, bool), 1) == "slide"

"""Extremes under footprints, against numpy on windows."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.filters.footprints import ball, disk, ring
from chunkfilt.kernels.extremes import (
    difference,
    extreme_filter,
    extreme_memory,
    range_filter,
    window_of,
)

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)


def noise(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both ends included; floats with infinities."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        image = (rng.normal(size=shape) * 30).astype(kind)
        image.flat[::7], image.flat[1::11], image.flat[2::13] = np.inf, -np.inf, 0
        return image
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[::5], image.flat[1::7] = info.max, info.min
    return image


def expected(block, footprint, largest):
    axes = tuple(range(1, block.ndim))
    pixels = sliding_window_view(block, footprint.shape, axes)[..., footprint]
    return pixels.max(-1) if largest else pixels.min(-1)


def check(block, footprint):
    for largest in (True, False):
        result = extreme_filter(block, footprint, largest)
        assert result.dtype == block.dtype
        assert_array_equal(result, expected(block, footprint, largest))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_exact(dtype):
    check(noise(dtype, (2, 14, 19)), CROOKED)
    check(noise(dtype, (2, 14, 19)), np.ones((3, 4), bool))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "float32", "int64"])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 129])
def test_boxes_about_as_long_as_vectors_are_exact(dtype, length):
    for core in (1, 13, 64, 131):
        row = noise(dtype, (2, length + core - 1), core)
        check(row, np.ones(length, bool))
        check(np.ascontiguousarray(row[:, :, None]), np.ones((length, 1), bool))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (7, 31), (40, 2)])
def test_signs_of_zero_and_nans_in_boxes_do_not_depend_on_the_block(size):
    rng = np.random.default_rng(5)
    block = rng.choice(np.array([0.0, -0.0, 1, -1]), (1, 90, 120))
    block[0, 50, 60], block[0, 51, 3] = np.nan, -np.nan
    for largest in (True, False):
        whole = extreme_filter(block, size, largest)
        # -0.0 is less than 0.0.
        order = block + np.copysign(0.5, block)
        signs = expected(order, np.ones(size, bool), largest) < 0
        assert_array_equal(np.signbit(whole)[whole == 0], signs[whole == 0])
        assert_array_equal(whole, expected(block, np.ones(size, bool), largest))
        part = extreme_filter(block[:, 7:83, 5:114], size, largest)
        kept = whole[:, 7 : 7 + part.shape[1], 5 : 5 + part.shape[2]]
        assert part.tobytes() == kept.tobytes()


@pytest.mark.parametrize("shape", [(3, 40), (2, 12, 40), (2, 8, 9, 10)])
def test_every_number_of_axes(shape):
    rng = np.random.default_rng(3)
    footprint = rng.random((2, 5, 7)[4 - len(shape) :]) < 0.6
    check(noise("int16", shape), footprint)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=3),
    st.floats(0.05, 1),
    st.integers(0, 9),
)
def test_any_footprint(axes, density, seed):
    rng = np.random.default_rng(seed)
    window, core = zip(*axes, strict=True)
    window = tuple(min(n, 6) for n in window[:-1]) + window[-1:]
    footprint = rng.random(window) < density
    footprint.flat[seed % footprint.size] = True
    block = tuple(n + c - 1 for n, c in zip(window, core, strict=True))
    check(noise("uint8", (1 + seed % 2, *block), seed), footprint)


@pytest.mark.parametrize(
    "footprint",
    [disk(1), disk(2), disk(7), disk(13), ring(9, 11), np.eye(33, dtype=bool), disk(6)[:, :9]],
    ids=lambda f: str(f.shape),
)
def test_shapes_in_use(footprint):
    check(noise("float32", (1, 60, 71)), footprint)


def test_a_ball():
    check(noise("uint16", (1, 14, 15, 40)), ball(5))


def test_a_row_longer_than_a_strip():
    check(noise("uint8", (1, 9, 9000)), disk(3))
    check(noise("float64", (1, 20, 2000)), ring(3, 9))


def test_planes_of_many_rows_are_done_in_tiles():
    footprint = np.zeros((3, 2, 5), bool)
    footprint[0, 0, 1:] = footprint[2, 1, :3] = footprint[1, 0, 2] = True
    check(noise("int64", (1, 5, 1500, 260)), footprint)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_nan_reaches_exactly_its_footprints(dtype):
    block = noise(dtype, (1, 20, 21))
    block[0, 7, 8] = np.nan
    block[0, 19, 20] = -np.array(np.nan, dtype)
    check(block, CROOKED)
    assert np.isnan(extreme_filter(block, CROOKED, True)).sum() == CROOKED.sum() + 1


def test_the_sign_of_zero_is_kept():
    block = np.array([[0.0, -0.0, 0.0, -0.0]])
    footprint = np.array([True, False, True])
    assert_array_equal(np.signbit(extreme_filter(block, footprint, False)), [[False, True]])


def test_columns_of_a_large_block_are_those_of_a_small_one():
    block, footprint = noise("float32", (1, 30, 700)), disk(4)
    whole = extreme_filter(block, footprint, True)
    for first in (0, 1, 333):
        part = extreme_filter(block[:, 2:17, first : first + 77], footprint, True)
        assert_array_equal(part, whole[:, 2:9, first : first + 69])


def test_a_strided_or_foreign_block():
    block = noise("int32", (2, 30, 34))
    check(block[:, ::2, ::-1], CROOKED)
    swapped = block.astype(">i4")
    assert_array_equal(extreme_filter(swapped, CROOKED, True), extreme_filter(block, CROOKED, True))


def test_a_core_without_pixels():
    assert extreme_filter(np.zeros((2, 2, 9)), CROOKED[:, :3], True).shape == (2, 0, 7)


@pytest.mark.parametrize("footprint", [disk(2), disk(75), (5, 5), (151, 151)], ids=len)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_memory_is_what_is_told(footprint, dtype):
    core, window = (64, 300), window_of(footprint)
    block = noise(dtype, (1, *(n + w - 1 for n, w in zip(core, window, strict=True))))
    extreme_filter(block, footprint, True)
    tracemalloc.start()
    result = extreme_filter(block, footprint, True)
    peak = tracemalloc.get_traced_memory()[1] - result.nbytes
    tracemalloc.stop()
    assert peak < extreme_memory(core, footprint, block.itemsize) + 20_000


def test_memory_does_not_grow_with_block_times_window():
    big = extreme_memory((4096, 4096), disk(75), 4)
    assert big < 4_000_000
    assert extreme_memory((64, 64), disk(75), 4) <= big
    assert extreme_memory((0, 0), disk(3), 4) >= 0
    assert extreme_memory((5, 0), (3, 3), 4) >= 0


def test_the_range_and_differences():
    block = noise("int16", (1, 12, 13))
    wide = expected(block, CROOKED, True).astype(int) - expected(block, CROOKED, False)
    assert_array_equal(range_filter(block, CROOKED), np.minimum(wide, 32767))
    bits = noise("bool", (1, 6, 7))
    high, low = expected(bits, CROOKED, True), expected(bits, CROOKED, False)
    assert_array_equal(range_filter(bits, CROOKED), high ^ low)
    most = np.array([2**64 - 1, 5], np.uint64)
    assert_array_equal(difference(most.copy(), np.array([5, 0], np.uint64)), [2**64 - 6, 5])


def test_what_does_not_fit_is_refused():
    block = np.zeros((1, 4, 4))
    with pytest.raises(ValueError, match="no pixel"):
        extreme_filter(block, np.zeros((2, 2), bool), True)
    with pytest.raises(ValueError, match="axes"):
        extreme_filter(block, np.ones(3, bool), True)
    with pytest.raises(ValueError, match="pixels"):
        extreme_filter(block, disk(3), True)

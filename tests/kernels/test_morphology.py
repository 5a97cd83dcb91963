"""Steps on bits, and structures that are not flat, against numpy on windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.filters.footprints import ball, disk, ring
from chunkfilt.kernels import morphology
from chunkfilt.kernels._bits import cover
from chunkfilt.kernels.morphology import (
    binary_memory,
    binary_steps,
    grey_extreme,
    make_step,
    saturated_difference,
    uneven_filter,
)

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)


def noise(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both ends included."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 30).astype(kind)
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[::5], image.flat[1::7] = info.max, info.min
    return image


def seen(block, shape):
    """The windows of a block, pixels on the last axis."""
    view = sliding_window_view(block, shape, tuple(range(1, block.ndim)))
    return view.reshape(*view.shape[: block.ndim], -1)


def stepped(block, steps, free=None):
    """Take the steps one by one on bool arrays."""
    held = block != 0
    may = np.ones(held.shape, bool) if free is None else free != 0
    for cells, centre, grow in steps:
        pixels = seen(held, cells.shape)[..., cells.ravel()]
        changed = pixels.any(-1) if grow else pixels.all(-1)
        core = (
            slice(None),
            *(slice(c, c + n) for c, n in zip(centre, changed.shape[1:], strict=True)),
        )
        held, may = np.where(may[core], changed, held[core]), may[core]
    return held


def check_steps(block, steps, free=None):
    made = [make_step(*step) for step in steps]
    result = binary_steps(block, made, free)
    assert result.dtype == bool
    assert_array_equal(result, stepped(block, steps, free))


@pytest.mark.parametrize("grow", [False, True])
@pytest.mark.parametrize(
    "cells",
    [
        np.ones((1, 1), bool),
        np.ones((5, 5), bool),
        np.ones((31, 3), bool),
        np.ones((2, 70), bool),
        np.ones((1, 129), bool),
        np.ones((40, 1), bool),
        np.eye(9, dtype=bool),
        CROOKED,
        disk(7),
        disk(20),
        ring(4, 6),
        np.random.default_rng(5).random((15, 66)) < 0.5,
    ],
    ids=str,
)
def test_one_step_is_all_or_any_of_the_structure(cells, grow):
    rng = np.random.default_rng(1)
    share = 1 / (1 + int(cells.sum()))
    block = rng.random((2, 60, 200)) < (share if grow else 1 - share)
    check_steps(block, [(cells, (0, 0), grow)])


@pytest.mark.parametrize("shape", [(9,), (200,), (65, 64), (5, 7, 6), (4, 3, 130)])
def test_lines_planes_and_volumes(shape):
    rng = np.random.default_rng(2)
    block = rng.random((3, *shape)) < 0.6
    for number in range(4):
        window = tuple(int(rng.integers(1, 4)) for _ in shape)
        cells = rng.random(window) < 0.6
        cells.flat[number % cells.size] = True
        check_steps(block, [(cells, (0,) * len(shape), number % 2 == 0)])


def test_a_ball_is_joined_from_boxes_of_three_axes():
    block = np.random.default_rng(3).random((1, 24, 20, 70)) < 0.995
    check_steps(block, [(ball(3), (3, 3, 3), False)])
    check_steps(~block, [(np.ones((9, 5, 6), bool), (0, 0, 0), True)])


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *FLOATS])
def test_what_is_not_zero_is_set(dtype):
    block = (np.random.default_rng(4).integers(-1, 2, (1, 9, 70))).astype(dtype)
    if np.dtype(dtype).kind == "f":
        block[0, 2, 3:9] = np.nan
    check_steps(block, [(CROOKED, (1, 1), False)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_steps_of_any_kind_one_after_another(data):
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    ndim = data.draw(st.integers(1, 3))
    steps = []
    for _ in range(data.draw(st.integers(1, 4))):
        window = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
        cells = rng.random(window) < 0.6
        cells.flat[int(rng.integers(cells.size))] = True
        centre = tuple(int(rng.integers(n)) for n in window)
        steps.append((cells, centre, data.draw(st.booleans())))
    lost = [sum(step[0].shape[axis] - 1 for step in steps) for axis in range(ndim)]
    shape = [data.draw(st.integers(1, 12 if axis < ndim - 1 else 150)) for axis in range(ndim)]
    grown = tuple(n + m for n, m in zip(shape, lost, strict=True))
    block = rng.random((2, *grown)) < rng.random()
    free = rng.random(block.shape) < 0.7 if data.draw(st.booleans()) else None
    check_steps(block, steps, free)


def test_pixels_that_are_not_free_keep_their_values():
    block = np.array([[0, 1, 1, 1, 1, 1, 0]])
    free = np.array([[1, 1, 0, 1, 1, 1, 1]], np.uint8)
    step = make_step(np.ones(3, bool), (1,), False)
    assert_array_equal(binary_steps(block, [step], free), [[False, True, True, True, False]])


def test_bands_make_no_difference(monkeypatch):
    block = np.random.default_rng(6).random((2, 3, 90, 40)) < 0.9
    free = np.random.default_rng(7).random(block.shape) < 0.9
    cells = np.random.default_rng(8).random((2, 4, 5)) < 0.5
    steps = [make_step(cells, (1, 2, 2), False), make_step(cells, (0, 1, 1), True)]
    whole = binary_steps(block, steps, free)
    monkeypatch.setattr(morphology, "_BAND", 1)
    assert_array_equal(binary_steps(block, steps, free), whole)
    assert binary_memory(block.shape, (2, 6, 8)) > block.size


def test_cores_without_pixels():
    step = make_step(np.ones((3, 3), bool), (1, 1), False)
    assert binary_steps(np.ones((1, 2, 9), bool), [step]).shape == (1, 0, 7)
    assert binary_steps(np.ones((0, 5, 9), bool), [step]).shape == (0, 3, 7)
    with pytest.raises(ValueError, match="a window of"):
        binary_steps(np.ones((1, 1, 9), bool), [step])


@pytest.mark.parametrize("cells", [disk(6)[None], ball(3), np.ones((2, 5, 7), bool)], ids=str)
def test_boxes_cover_the_structure_and_nothing_else(cells):
    held = np.zeros(cells.shape, bool)
    for box in cover(cells):
        held[tuple(slice(at, at + n) for at, n in box)] = True
    assert_array_equal(held, cells)
    assert len(cover(np.ones((9, 50, 80), bool))) == 1


def least_of(block, cells, heights, largest, valid=None):
    """Exact sums in Python's integers, saturated; floats in float32 or float64."""
    kind = block.dtype
    if kind.kind == "f":
        wide = block.astype(np.float64 if kind.itemsize == 8 else np.float32)
        lift = heights[cells].astype(wide.dtype)
        low, high = -np.inf, np.inf
    else:
        wide = block.astype(object) * 1
        lift = np.trunc(heights[cells]).astype(object)
        low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    pixels = seen(wide, cells.shape)[..., cells.ravel()]
    pixels = pixels + lift if largest else pixels - lift
    if valid is not None:
        kept = seen(valid, cells.shape)[..., cells.ravel()]
        pixels = np.where(kept, pixels, low if largest else high)
    best = pixels.max(-1) if largest else pixels.min(-1)
    with np.errstate(over="ignore"):
        return np.clip(best, low, high).astype(kind)


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("largest", [False, True])
def test_uneven_structures_are_exact_and_saturate(dtype, largest):
    rng = np.random.default_rng(9)
    block = noise(dtype, (2, 11, 90))
    valid = rng.random(block.shape) < 0.5
    valid[0, :5, :9] = False
    for scale in (3, 200, 1 << 40):
        heights = rng.integers(-scale, scale, CROOKED.shape, endpoint=True)
        for cells in (CROOKED, np.ones(CROOKED.shape, bool)):
            result = uneven_filter(block, cells, heights, largest)
            assert result.dtype == dtype
            assert_array_equal(result, least_of(block, cells, heights, largest))
            # Where no pixel counts anything may come out here.
            result = uneven_filter(block, cells, heights, largest, valid)
            some = seen(valid, cells.shape)[..., cells.ravel()].any(-1)
            expected = least_of(block, cells, heights, largest, valid)
            assert_array_equal(result[some], expected[some])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float16", "float32", "float64"])
def test_fractions_are_cut_off_for_integers_and_kept_for_floats(dtype):
    y, x = np.ogrid[-2:3, -2:3]
    heights = np.sqrt(9.0 - y * y - x * x) - 1.7
    block, cells = noise(dtype, (1, 12, 40)), heights == heights
    for largest in (False, True):
        result = uneven_filter(block, cells, heights, largest)
        assert_array_equal(result, least_of(block, cells, heights, largest))


@pytest.mark.parametrize("shape", [(30,), (5, 6, 7)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_uneven_lines_and_volumes(shape, dtype):
    rng = np.random.default_rng(10)
    heights = rng.integers(-5, 6, (3, 2, 4)[-len(shape) :])
    block, cells = noise(dtype, (2, *shape)), rng.random(heights.shape) < 0.8
    for largest in (False, True):
        result = uneven_filter(block, cells, heights, largest)
        assert_array_equal(result, least_of(block, cells, heights, largest))


def test_nan_and_infinity_reach_their_windows_only():
    heights = np.array([[1.0, 5.0, 2.0]])
    clean = noise("float64", (1, 4, 30))
    block = clean.copy()
    block[0, 1, 10], block[0, 2, 15], block[0, 3, 20] = np.nan, np.inf, -np.inf
    for largest in (False, True):
        result = uneven_filter(block, heights > 0, heights, largest)
        assert_array_equal(result, least_of(block, heights > 0, heights, largest))
        assert np.isnan(result).sum() == 3
        valid = ~np.isnan(block)
        result = uneven_filter(block, heights > 0, heights, largest, valid)
        assert_array_equal(result, least_of(block, heights > 0, heights, largest, valid))
        assert not np.isnan(result).any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("height", [0, 40, -40])
def test_a_level_structure_is_a_flat_one_moved(dtype, height):
    block = noise(dtype, (1, 20, 30))
    heights = np.full(CROOKED.shape, height)
    heights[~CROOKED] = 7
    for largest in (False, True):
        result = grey_extreme(block, CROOKED, heights, largest)
        assert_array_equal(result, least_of(block, CROOKED, heights, largest))


@pytest.mark.parametrize("heights", [None, "level", "uneven"])
def test_windows_without_a_pixel_that_counts(heights):
    block, valid = noise("int16", (1, 12, 20)), np.ones((1, 12, 20), bool)
    valid[0, 3:9, 4:12] = False
    shape = (3, 4)
    given_ = {"level": np.full(shape, 3), "uneven": np.arange(12).reshape(shape)}.get(heights)
    cells = np.ones(shape, bool)
    result = grey_extreme(block, shape, given_, True, valid, np.int16(-7))
    lift = np.zeros(shape, int) if given_ is None else given_
    expected = least_of(block, cells, lift, True, valid)
    some = seen(valid, shape).any(-1)
    assert_array_equal(result, np.where(some, expected, -7))
    assert (~some).sum() == 20


def test_an_empty_structure_asks_for_nothing():
    block = np.random.default_rng(11).random((1, 9, 70)) < 0.5
    check_steps(block, [(np.zeros((2, 3), bool), (0, 0), grow) for grow in (False, True)])
    check_steps(block, [(np.zeros((2, 3), bool), (0, 0), True)])


def test_a_structure_with_heights_has_pixels():
    with pytest.raises(ValueError, match="without a single pixel"):
        uneven_filter(np.zeros((1, 5)), np.zeros(3, bool), np.ones(3), False)


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_differences_of_integers_saturate(dtype):
    a, b = noise(dtype, (30, 31), 1), noise(dtype, (30, 31), 2)
    result = saturated_difference(a, b)
    assert result.dtype == dtype
    if dtype == "bool":
        assert_array_equal(result, a ^ b)
        return
    info = np.iinfo(dtype)
    wide = a.astype(object) - b.astype(object)
    assert_array_equal(result, np.clip(wide, info.min, info.max).astype(dtype))

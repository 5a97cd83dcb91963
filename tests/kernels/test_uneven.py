"""Extremes under structures that are not flat, against scipy, for widths about those of vectors."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from chunkfilt.kernels import _uneven
from chunkfilt.kernels.morphology import uneven_filter

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"]
WIDTHS = [1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 97, 127, 129, 255, 257, 331]


def pixels(dtype, shape, seed=0):
    """Noise that heights below 10 do not carry beyond the dtype's limits, where scipy wraps."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=shape) * 30).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min + 10, info.max - 10, shape, dtype)


def scipys(block, cells, heights, largest):
    """The core of what scipy gives for the whole block."""
    core = tuple(
        slice(n // 2, n // 2 + m - n + 1) for n, m in zip(cells.shape, block.shape[1:], strict=True)
    )
    if not largest:
        return np.stack([ndimage.grey_erosion(one, None, cells, heights)[core] for one in block])
    # Theirs is turned round, by a pixel more where a side is even.
    origin = [-(1 - n % 2) for n in cells.shape]
    turned = np.flip(cells), np.flip(heights)
    return np.stack(
        [ndimage.grey_dilation(one, None, *turned, origin=origin)[core] for one in block]
    )


def check(block, cells, heights):
    for largest in (False, True):
        result = uneven_filter(block, cells, heights, largest)
        assert result.dtype == block.dtype
        assert_array_equal(result, scipys(block, cells, heights, largest))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_width_are_scipys(dtype):
    heights = np.random.default_rng(1).integers(-9, 10, (3, 4))
    cells = np.random.default_rng(2).random(heights.shape) < 0.8
    for width in WIDTHS:
        check(pixels(dtype, (2, 5, width + 3)), cells, heights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(1,), (6,), (1, 1), (5, 5), (4, 6), (9, 1), (3, 2, 4)], ids=str)
def test_windows_of_any_shape_are_scipys(dtype, window):
    core = (37, 150, 200)[-len(window) :] if len(window) < 3 else (3, 5, 150)
    shape = tuple(n + m - 1 for n, m in zip(core, window, strict=True))
    for heights in (
        np.random.default_rng(3).integers(-9, 10, window),
        np.random.default_rng(4).integers(0, 10, window),
        -np.random.default_rng(5).integers(1, 10, window),
    ):
        check(pixels(dtype, (1, *shape)), np.ones(window, bool), heights)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_strips_make_no_difference(dtype, monkeypatch):
    heights = np.arange(15).reshape(3, 5) % 10
    block, cells = pixels(dtype, (2, 6, 1500)), np.ones((3, 5), bool)
    monkeypatch.setattr(_uneven, "_CACHE", 1)
    check(block, cells, heights)


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 3, 1000), (1, 5, 1499), (1, 0, 700)], ids=str)
def test_a_nan_is_found_wherever_it_is(place, monkeypatch):
    monkeypatch.setattr(_uneven, "_CACHE", 1)
    heights, cells = np.arange(6.0).reshape(2, 3), np.ones((2, 3), bool)
    block = pixels("float32", (2, 6, 1500))
    clean = {largest: uneven_filter(block, cells, heights, largest) for largest in (False, True)}
    block[place] = np.nan
    b, y, x = place
    for largest, expected in clean.items():
        expected[b, max(y - 1, 0) : y + 1, max(x - 2, 0) : x + 1] = np.nan
        assert_array_equal(uneven_filter(block, cells, heights, largest), expected)


@pytest.mark.parametrize("largest", [False, True])
def test_bits_are_those_of_the_window_alone(largest):
    rng = np.random.default_rng(6)
    # Sums of zeros of either sign, and ties among them.
    block = rng.choice(np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf], np.float32), (1, 8, 300))
    heights, cells = rng.integers(-1, 2, (3, 4)), np.ones((3, 4), bool)
    whole = uneven_filter(block, cells, heights, largest)
    for y, x, height, width in ((0, 0, 1, 1), (2, 5, 3, 30), (1, 100, 2, 77), (5, 296, 1, 1)):
        part = block[:, y : y + height + 2, x : x + width + 3]
        part = uneven_filter(part, cells, heights, largest)
        same = whole[:, y : y + height, x : x + width]
        assert part.shape == (1, height, width)
        assert part.tobytes() == same.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_cores_without_pixels(dtype):
    heights, cells = np.arange(6).reshape(2, 3), np.ones((2, 3), bool)
    for shape, core in (((1, 1, 9), (1, 0, 7)), ((0, 5, 9), (0, 4, 7))):
        block = np.zeros(shape, dtype)
        assert uneven_filter(block, cells, heights, False).shape == core
        valid = np.ones(shape, bool)
        assert uneven_filter(block, cells, heights, True, valid).shape == core

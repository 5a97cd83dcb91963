"""Ranks and extremes among valid pixels, against sorting with numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.filters.footprints import ball, disk
from chunkfilt.kernels import valid as module
from chunkfilt.kernels.rank import median_rank, percentile_rank, signed_rank
from chunkfilt.kernels.valid import valid_extreme, valid_memory, valid_range, valid_rank

INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)


def noise(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both ends often."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        image = (rng.normal(size=shape) * 30).astype(kind)
        image.flat[::7], image.flat[1::11] = np.inf, -np.inf
        return image
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[::5], image.flat[1::7] = info.max, info.min
    return image


def holes(shape, share, seed=0):
    """Which pixels count: not some scattered ones, not a corner, not a row."""
    valid = np.random.default_rng(seed + 1).random(shape) >= share
    valid[(slice(None), *(slice(n // 3) for n in shape[1:]))] = False
    valid[:, -1] &= share < 0.5
    return valid


def expected(block, footprint, valid, missing, choose):
    """Give ``choose(sorted valid pixels)`` for every window."""
    axes = tuple(range(1, block.ndim))
    pixels = sliding_window_view(block, footprint.shape, axes)[..., footprint]
    kept = sliding_window_view(valid, footprint.shape, axes)[..., footprint]
    out = np.empty(pixels.shape[:-1], block.dtype)
    for at in np.ndindex(out.shape):
        seen = np.sort(pixels[at][kept[at]])
        out[at] = missing if seen.size == 0 else choose(seen)
    return out


def check(block, footprint, valid, missing):
    count = np.arange(footprint.sum() + 1)
    for rule in (median_rank, lambda n: percentile_rank(n, 29.0), lambda n: signed_rank(n, -2)):
        result = valid_rank(block, footprint, rule(count), valid, missing)
        assert result.dtype == block.dtype
        want = expected(
            block, footprint, valid, missing, lambda seen, rule=rule: seen[rule(seen.size)]
        )
        assert_array_equal(result, want)
    for largest in (True, False):
        result = valid_extreme(block, footprint, largest, valid, missing)
        assert result.dtype == block.dtype
        choose = np.max if largest else np.min
        want = expected(block, footprint, valid, missing, choose)
        assert_array_equal(result, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_exact(dtype):
    block = noise(dtype, (2, 12, 15))
    missing = np.dtype(dtype).type(1)
    check(block, CROOKED, holes(block.shape, 0.3), missing)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.9, 1.0])
def test_few_and_many_missing_pixels(share):
    block = noise("int16", (1, 25, 31))
    check(block, disk(3), holes(block.shape, share), 7)


@pytest.mark.parametrize("shape", [(3, 40), (2, 12, 20), (2, 7, 8, 9)])
def test_every_number_of_axes(shape):
    block = noise("uint8", shape)
    footprint = np.random.default_rng(3).random((3, 4, 5)[4 - len(shape) :]) < 0.6
    check(block, footprint, holes(shape, 0.3), 0)


def test_a_ball():
    block = noise("float32", (1, 9, 10, 12))
    check(block, ball(2), holes(block.shape, 0.4), np.nan)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_any_footprint_and_any_holes(axes, share, seed):
    rng = np.random.default_rng(seed)
    window, core = zip(*axes, strict=True)
    window = tuple(min(n, 4) for n in window[:-1]) + window[-1:]
    footprint = rng.random(window) < 0.6
    footprint.flat[seed % footprint.size] = True
    shape = (1 + seed % 2, *(n + c - 1 for n, c in zip(window, core, strict=True)))
    check(noise("uint8", shape, seed), footprint, rng.random(shape) >= share, 9)


def test_the_range_of_the_valid_pixels():
    block = np.array([[3, 1, 2, 9, 5, 250]], np.uint8)
    valid = np.array([[1, 0, 1, 0, 0, 1]], bool)
    assert_array_equal(valid_range(block, (2,), valid, 77), [[0, 0, 0, 77, 0]])
    assert_array_equal(valid_range(block, (6,), valid, 77), [[248]])
    wide = np.array([[-(2**63), 5, 2**63 - 1]])
    assert_array_equal(valid_range(wide, (3,), np.ones((1, 3), bool), 0), [[2**63 - 1]])
    assert_array_equal(valid_range(wide, (3,), np.array([[1, 1, 0]], bool), 0), [[2**63 - 1]])


def test_a_valid_nan_reaches_exactly_its_windows():
    block = noise("float64", (1, 14, 16))
    valid = holes(block.shape, 0.3)
    block[0, 6, 9], valid[0, 6, 9] = np.nan, True
    block[0, 10, 3], valid[0, 10, 3] = np.nan, False
    axes = (1, 2)
    bad = sliding_window_view(np.isnan(block) & valid, CROOKED.shape, axes)[..., CROOKED].any(-1)
    clean = np.where(np.isnan(block), 0, block)
    ranks = np.arange(CROOKED.sum() + 1) // 2
    for run in (
        lambda image: valid_rank(image, CROOKED, ranks, valid, -7.0),
        lambda image: valid_extreme(image, CROOKED, True, valid, -7.0),
        lambda image: valid_extreme(image, CROOKED, False, valid, -7.0),
    ):
        result = run(block)
        assert_array_equal(np.isnan(result), bad)
        assert_array_equal(result[~bad], run(clean)[~bad])


def test_bands_and_tiles_make_no_difference(monkeypatch):
    block = noise("float32", (2, 90, 70))
    valid = holes(block.shape, 0.2)
    ranks = np.arange(disk(4).sum() + 1) // 2
    whole = valid_rank(block, disk(4), ranks, valid, np.nan)
    most = valid_extreme(block, disk(4), True, valid, np.nan)
    monkeypatch.setattr(module, "_BAND", 1)
    monkeypatch.setattr(module._slide, "_TILE_2D", (1, 16, 13))
    assert_array_equal(valid_rank(block, disk(4), ranks, valid, np.nan), whole)
    assert_array_equal(valid_extreme(block, disk(4), True, valid, np.nan), most)


def test_memory_is_that_of_a_band():
    small = valid_memory((1, 4096, 4096), disk(7), 4, ranks=True)
    assert small < 12_000_000
    assert valid_memory((1, 16384, 4096), disk(7), 4, ranks=True) == small
    assert valid_memory((1, 0, 5), (3, 3), 4, ranks=False) >= 0

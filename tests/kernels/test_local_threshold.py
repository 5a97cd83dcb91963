"""Thresholds of mean and deviation against the same of every window in float64."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from chunkfilt.kernels.local_threshold import spread_threshold, threshold_memory

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i8", "f2", "f4", "f8"]
NIBLACK, SAUVOLA, BOTH = (1.0, 0.0, -0.2), (0.8, 0.2 / 127.5, 0.0), (0.5, -0.01, 2.0)


def oracle(block, size, weights):
    axes = tuple(range(1, block.ndim))
    windows = sliding_window_view(block.astype(np.float64), size, axis=axes)
    mean, std = (f(windows, axis=tuple(range(-len(size), 0))) for f in (np.mean, np.std))
    return mean * (weights[0] + weights[1] * std) + weights[2] * std


def pixels(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.4
    return (rng.normal(size=shape) * 30 + 60).clip(0, 127).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(7,), (15, 15), (1, 9), (31, 3), (3, 5, 7), (1, 1, 1)])
def test_every_dtype_and_window(dtype, size):
    shape = (2, *(n + 10 for n in size))
    block = pixels(shape, dtype)
    for weights in (NIBLACK, SAUVOLA, BOTH):
        found, expected = spread_threshold(block, size, weights), oracle(block, size, weights)
        small = np.dtype(dtype).itemsize <= 2 or dtype == "f4"
        assert found.dtype == (np.float32 if small else np.float64)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_a_large_offset_costs_no_digits(dtype):
    offset = 60_000 if dtype == "u2" else 1e7
    block = (pixels((1, 40, 41), "f8").round() + offset).astype(dtype)
    # The deviation alone: what a formula of squares would lose first.
    found = spread_threshold(block, (9, 9), (0.0, 0.0, 1.0))
    np.testing.assert_allclose(found, oracle(block, (9, 9), (0.0, 0.0, 1.0)), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_nan_stays_in_its_windows(dtype, bad):
    block = pixels((1, 30, 30), dtype)
    clean = spread_threshold(block, (5, 7), SAUVOLA)
    block[0, 11, 12] = bad
    found = spread_threshold(block, (5, 7), SAUVOLA)
    gone = np.isnan(found[0])
    assert gone[7:12, 6:13].all()
    assert gone.sum() == 35
    np.testing.assert_array_equal(found[0][~gone], clean[0][~gone])


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
@pytest.mark.parametrize("weights", [NIBLACK, SAUVOLA])
def test_a_part_of_a_block_gives_the_same_bits(dtype, weights):
    block = pixels((2, 60, 3000), dtype, seed=1)
    whole = spread_threshold(block, (9, 15), weights)
    part = spread_threshold(np.ascontiguousarray(block[:, 5:40, 700:2100]), (9, 15), weights)
    np.testing.assert_array_equal(part, whole[:, 5:32, 700:2086])


def test_equal_pixels_have_no_deviation():
    block = np.full((1, 20, 20), 0.1)
    np.testing.assert_array_equal(
        spread_threshold(block, (7, 7), (0.0, 0.0, 1.0)), np.zeros((1, 14, 14))
    )


def test_nothing_to_do_and_mistakes():
    assert spread_threshold(np.zeros((1, 4, 2)), (3, 3), NIBLACK).shape == (1, 2, 0)
    with pytest.raises(ValueError, match="a window of"):
        spread_threshold(np.zeros((1, 4, 4)), (3, 9), NIBLACK)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(7,), (15, 15), (1, 9), (3, 5, 7), (1, 1, 1)])
def test_pixels_that_do_not_count_are_left_out(dtype, size):
    shape = (2, *(n + 10 for n in size))
    block, valid = pixels(shape, dtype), np.random.default_rng(1).random(shape) < 0.6
    valid[0], valid[1, ..., : size[-1] + 2] = True, False
    axes = tuple(range(1, block.ndim))
    inner = tuple(range(-len(size), 0))
    windows = sliding_window_view(block.astype(np.float64), size, axis=axes)
    kept = sliding_window_view(valid, size, axis=axes)
    some = kept.any(axis=inner)
    if np.dtype(dtype).kind == "f":
        block[~valid] = np.nan
    for weights in (NIBLACK, SAUVOLA, BOTH):
        mean, std = (f(windows, axis=inner, where=kept | ~some[(..., *(None,) * len(size))])
                     for f in (np.mean, np.std))  # fmt: skip
        expected = mean * (weights[0] + weights[1] * std) + weights[2] * std
        found = spread_threshold(block, size, weights, valid)
        np.testing.assert_array_equal(np.isnan(found), ~some)
        assert np.abs(found - expected)[some].max() <= 1e-6 * np.abs(expected[some]).max()
        whole = kept.all(axis=inner)
        clean = spread_threshold(np.where(valid, block, block.dtype.type(0)), size, weights)
        np.testing.assert_array_equal(found[whole], clean[whole])


def test_the_memory_told_does_not_grow_with_the_rows():
    told = threshold_memory((1, 4096, 4096), (15, 15))
    assert told == threshold_memory((1, 16384, 4096), (15, 15)) < 3e7
    assert threshold_memory((1, 0, 5), (3, 3)) >= 0

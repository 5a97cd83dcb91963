"""Exact sums against Python's fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from chunkfilt.kernels.moments import Moments, combine, finalize, moments

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def pixels(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        values[rng.random(shape) < 0.1] = info.max
        values[rng.random(shape) < 0.1] = info.min
        return values
    top = 4 if dtype.itemsize == 2 else 30
    return (rng.normal(size=shape) * 10.0 ** rng.uniform(-top, top - 1, shape)).astype(dtype)


def rounded(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def oracle(values, ddof=0):
    """Return count, sum, mean, variance of the finite values, each rounded once."""
    exact = [Fraction(v) for v in values.ravel().tolist() if math.isfinite(v)]
    n, total = len(exact), sum(exact, Fraction(0))
    if n == 0:
        return 0, 0.0, math.nan, math.nan
    squares = sum((v * v for v in exact), Fraction(0))
    spread = rounded((n * squares - total * total) / (n * (n - ddof))) if n > ddof else math.nan
    return n, rounded(total), rounded(total / n), spread


def check(block, mask=None, ddof=0):
    result = finalize(moments(block, mask), ddof)
    for b in range(block.shape[0]):
        values = block[b] if mask is None else block[b][mask[b]]
        got = [float(f[b]) for f in (result.count, result.sum, result.mean, result.variance)]
        np.testing.assert_array_equal(got, oracle(values, ddof))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    rng = np.random.default_rng(1)
    block = pixels(rng, (2, 23, 31), dtype)
    check(block)
    check(block, rng.random(block.shape) < 0.4, ddof=1)


def test_the_whole_range_of_floats():
    top, least = np.finfo(np.float64).max, 5e-324
    check(np.array([[top, least, -top, 1.0, 1e-300], [top, top, top, -least, 3e-310]]))
    small = np.finfo(np.float32).smallest_subnormal
    check(np.array([[np.finfo(np.float32).max, small, 1.0, -3e-40]], np.float32))
    check(np.array([[65504, 6e-8, -6e-8, 1]], np.float16))


def test_cancellation_and_fsum():
    values = np.array([[1e16, 1.0, -1e16, 1e-16] * 50 + [1e100, 3.0, -1e100]])
    assert finalize(moments(values)).sum[0] == math.fsum(values[0]) == 53 + 50e-16
    check(values)


def test_offset_does_not_hurt_the_variance():
    rng = np.random.default_rng(2)
    values = (1e7 + rng.normal(size=(1, 50, 50))).astype(np.float32)
    check(values)
    constant = finalize(moments(np.full((1, 9), 0.1)))
    assert constant.variance[0] == 0.0
    assert constant.mean[0] == 0.1


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nonfinite_are_counted_apart(dtype):
    block = np.array([[1, np.nan, np.inf, -np.inf, 2, -np.nan, np.inf], [np.nan] * 7], dtype)
    result = finalize(moments(block))
    assert result.count.tolist() == [2, 0]
    assert result.nan.tolist() == [2, 7]
    assert result.posinf.tolist() == [2, 0]
    assert result.neginf.tolist() == [1, 0]
    assert result.mean[0] == 1.5
    assert np.isnan(result.mean[1])
    assert result.sum[1] == 0
    mask = np.array([[1, 0, 1, 0, 1, 1, 0]] * 2, bool)
    masked = moments(block, mask)
    assert masked.counts.tolist() == [[2, 1, 1, 0], [0, 4, 0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_partition_and_order(dtype):
    rng = np.random.default_rng(3)
    block = pixels(rng, (2, 40, 30), dtype)
    whole = moments(block)
    for cuts in ([7], [1, 2, 39], [20, 30]):
        parts = [moments(part) for part in np.split(block, cuts, axis=1)]
        order = rng.permutation(len(parts))
        total = parts[order[0]]
        for i in order[1:]:
            total = combine(parts[i], total)
        for got, expected in zip(total, whole, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_more_pixels_than_one_emptying():
    # 2**20 pixels are added between two emptyings of the cells; the largest mantissas fill them.
    value = np.nextafter(2.0, 1.0)
    block = np.full((1, (1 << 20) + 12345), value)
    result = finalize(moments(block))
    n = block.size
    assert result.sum[0] == rounded(n * Fraction(value))
    assert result.mean[0] == value
    assert result.variance[0] == 0
    block = np.full((1, (1 << 20) + 12345), np.iinfo(np.int64).min)
    result = finalize(moments(block))
    assert result.sum[0] == float(-(2**63) * n)
    assert result.variance[0] == 0


def test_combining_many_never_overflows():
    part = moments(np.array([[np.finfo(np.float64).max, -1.0]]))
    for _ in range(40):
        part = combine(part, part)
    n = 2**41
    assert int(part.counts[0, 0]) == n
    exact = (Fraction(np.finfo(np.float64).max) - 1) / 2
    assert finalize(part).mean[0] == rounded(exact)
    assert finalize(part).sum[0] == math.inf


@pytest.mark.parametrize("shape", [(2, 12), (2, 3, 4), (2, 2, 3, 2)])
def test_dimensions(shape):
    check(np.arange(24, dtype=np.int32).reshape(shape))


def test_empty_and_degrees_of_freedom():
    result = finalize(moments(np.zeros((2, 0, 5))))
    assert result.count.tolist() == [0, 0]
    assert np.isnan(result.mean).all()
    one = finalize(moments(np.array([[4.0]])), ddof=1)
    assert one.mean[0] == 4
    assert np.isnan(one.variance[0])


def test_partials_are_plain_small_arrays_and_inputs_are_left_alone():
    block = np.random.default_rng(0).normal(size=(2, 30))
    before = block.copy()
    block.flags.writeable = False
    partial = moments(block)
    np.testing.assert_array_equal(block, before)
    assert isinstance(partial, Moments)
    assert sum(a.nbytes for a in partial) < 2000
    assert all(a.shape[0] == 2 and a.flags.writeable for a in partial)


def test_errors():
    with pytest.raises(TypeError, match="complex"):
        moments(np.zeros((1, 3), complex))
    with pytest.raises(ValueError, match="mask of shape"):
        moments(np.zeros((1, 3)), np.ones((1, 4), bool))
    with pytest.raises(ValueError, match="do not match"):
        combine(moments(np.zeros((1, 3))), moments(np.zeros((2, 3))))

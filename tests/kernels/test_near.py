"""Dense weights summed in registers, against sums made pixel by pixel in the same order."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from chunkfilt.kernels._sweep import Plan, run

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "float16", "float32"]
DTYPES += ["int32", "uint32", "int64", "uint64", "float64"]
RNG = np.random.default_rng(0)


def image(dtype, shape):
    kind = np.dtype(dtype)
    if kind.kind in "bf":
        return (RNG.normal(size=shape) * 100).astype(kind)
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max, shape, kind, endpoint=True)


def in_order(block, weights):
    core = tuple(n - k + 1 for n, k in zip(block.shape[1:], weights.shape, strict=True))
    total = np.zeros((len(block), *core))
    for at in np.argwhere(np.abs(weights) > 2.2e-16):
        window = tuple(slice(i, i + n) for i, n in zip(at, core, strict=True))
        total += weights[tuple(at)] * block[(slice(None), *window)].astype(np.float64)
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 31, 32, 33, 90])
def test_sums_are_made_in_the_order_of_the_weights(dtype, width):
    weights = RNG.normal(size=(3, 4))
    block = image(dtype, (2, 7, width + 3))
    result = run(block, (3, 4), [Plan((), weights)], np.dtype(np.float64))
    assert_array_equal(result, in_order(block, weights))
    result = run(block, (3, 4), [Plan((), weights)], np.dtype(np.float32))
    assert_array_equal(result, in_order(block, weights).astype(np.float32))


@pytest.mark.parametrize("shape", [(40,), (9, 70), (5, 6, 35), (4, 9, 8)])
@pytest.mark.parametrize("count", [2, 3])
def test_magnitudes(shape, count):
    kernels = [RNG.normal(size=(3,) * len(shape)) for _ in range(count)]
    kernels[0].flat[1] = 0.0
    block = image("float32", (2, *shape))
    total = 0.0
    for kernel in kernels:
        total = total + in_order(block, kernel) ** 2
    plans = [Plan((), kernel) for kernel in kernels]
    result = run(block, kernels[0].shape, plans, np.dtype(np.float64))
    assert_array_equal(result, np.sqrt(total))


def test_wild_pixels_go_where_they_are_weighed():
    weights = np.array([[1.0, 0.0, -1.0], [0.0, 1e-17, 2.0]])
    block = image("float64", (1, 9, 50))
    block[0, 4, 20], block[0, 6, 40], block[0, 6, 42] = np.nan, np.inf, np.inf
    with np.errstate(invalid="ignore"):
        expected = in_order(block, weights)
    assert_array_equal(run(block, (2, 3), [Plan((), weights)], np.dtype(float)), expected)


def test_nothing_to_sum():
    none = Plan((), np.zeros((2, 2)))
    assert_array_equal(
        run(np.ones((1, 4, 40)), (2, 2), [none], np.dtype(float)), np.zeros((1, 3, 39))
    )
    assert run(np.ones((1, 1, 40)), (2, 2), [none], np.dtype(float)).shape == (1, 0, 39)
    assert run(np.ones((0, 4, 40)), (2, 2), [none], np.dtype(float)).shape == (0, 3, 39)

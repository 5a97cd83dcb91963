"""The way chosen for a kernel, and that all ways give the same."""

import pickle

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.kernels import fourier
from chunkfilt.kernels.correlation import (
    choose,
    correlate,
    memory,
    passes_cost,
    plan_cost,
    tiles_instead,
)
from chunkfilt.kernels.separable import Plan

RNG = np.random.default_rng(0)


def outer(*lines):
    total = np.ones(())
    for line in lines:
        total = np.multiply.outer(total, line)
    return total


def gaussian(n, order=0):
    x = np.linspace(-3, 3, n)
    weights = np.exp(-0.5 * x * x)
    return weights if order == 0 else (x * x - 1) * weights


LAPLACES = sum(outer(*(gaussian(9, a == axis) for a in range(3))) for axis in range(3))
CASES = {
    "line": (RNG.normal(size=50), "separable"),
    "short line": ([1, -2, 1], "3 weights"),
    "outer product": (outer(gaussian(9), RNG.normal(size=8)), "separable"),
    "volume": (outer(*RNG.normal(size=(3, 5))), "separable"),
    "two terms": (RNG.normal(size=(9, 2)) @ RNG.normal(size=(2, 9)), "2 separable terms"),
    "bends in a volume": (LAPLACES, "4 separable terms"),
    "small": (np.ones((3, 3)), "9 weights"),
    "eye": (np.eye(7), "7 weights"),
    "noise": (RNG.normal(size=(7, 7)), "49 weights"),
    "noise in a volume": (RNG.normal(size=(4, 3, 5)), "60 weights"),
    "one": ([[0, 3.0, 0]], "1 weight"),
    "zeros": (np.zeros((9, 9)), "0 weights"),
    "large": (RNG.normal(size=(21, 24)), "Fourier tiles of 192 x 288"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_way_and_what_it_gives(name):
    weights, how = CASES[name]
    way = pickle.loads(pickle.dumps(choose(weights)))
    assert way.how == how
    weights = np.asarray(weights, np.float64)
    block = RNG.normal(size=(2, *(n + 7 for n in weights.shape))).astype(np.float32)
    axes = tuple(range(1, block.ndim))
    windows = sliding_window_view(block.astype(np.float64), weights.shape, axes)
    expected = np.tensordot(windows, weights, weights.ndim)
    plan = way.plan if way.tiles is None else fourier.fourier_plan([weights], way.tiles)
    result = correlate(block, plan)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6 * max(np.abs(expected).max(), 1))
    assert correlate(block.astype(np.float64), plan).dtype == np.float64
    assert memory(way) >= 0
    assert way.cost >= 0


def test_an_outer_product_keeps_its_zeros():
    kernel = outer([1.0, 0.0, -2.0, 1e-3, 5.0, 2.0, 7.0], [3.0, 0.0, 0.0, 7.0, 1.0, 1.0, 2.0])
    plan = choose(np.tile(kernel, (1, 3))).plan
    assert len(plan.terms) == 1
    assert plan.dense is None
    assert_array_equal(outer(*plan.terms[0]) == 0, np.tile(kernel, (1, 3)) == 0)


def test_terms_that_fill_zeros_know_the_kernel():
    kernel = outer(gaussian(12), gaussian(12))
    kernel[0, 0] = 0.0
    kernel[1, 1] *= 1 + 1e-13
    kernel = np.where(kernel > 1e-3, kernel, kernel * 1e-13)
    plan = choose(kernel).plan
    assert plan.dense is not None
    block = np.ones((1, 40, 41))
    block[0, 20, 20] = np.nan
    hit = sliding_window_view(np.isnan(block), (12, 12), (1, 2))[..., kernel > 2.2e-16]
    assert_array_equal(np.isnan(correlate(block, plan)), hit.any(axis=-1))


def test_tiles_are_for_large_kernels_of_two_axes():
    assert tiles_instead((99,), 1, 1e9) is None
    assert tiles_instead((9, 9, 9), 1, 1e9) is None
    assert tiles_instead((9, 9), 1, 1e-9) is None
    assert tiles_instead((9, 9), 2, 1e9) == fourier.layout((9, 9), 2)


def test_costs():
    assert plan_cost(Plan((), np.eye(5))) == plan_cost(Plan((), np.ones(5)))
    assert passes_cost((5, 9, 9), 1) > passes_cost((9, 9), 1)
    assert passes_cost((9, 9), 2) > passes_cost((9, 9), 1)


@pytest.mark.parametrize("bad", [np.float64(3), np.ones((1, 1, 1, 1)), [1, np.inf], [[np.nan]]])
def test_weights_that_are_none(bad):
    with pytest.raises(ValueError, match="weights must be finite, along one to three axes"):
        choose(bad)

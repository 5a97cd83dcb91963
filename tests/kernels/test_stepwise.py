"""Edges extended by a constant pass by pass, as scipy's functions of several passes do."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from chunkfilt.kernels import separable
from chunkfilt.kernels.stepwise import Fringe, correlate

RNG = np.random.default_rng(0)
CVAL = 7.0


def scipys(image, passes):
    for axis, weights in passes:
        image = ndimage.correlate1d(image, weights, axis, mode="constant", cval=CVAL)
    return image


def kernel(passes):
    total = np.ones(())
    for _, weights in sorted(passes, key=lambda one: one[0]):
        total = np.multiply.outer(total, weights)
    return separable.Plan((), total)


@pytest.mark.parametrize("shape", [(9,), (3, 12), (8, 2, 9)])
@pytest.mark.parametrize("seed", range(4))
def test_passes_of_any_sum_in_any_order(shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.random(shape)
    # Windows reach further than the image does.
    lines = [rng.normal(size=size) for size in rng.choice([1, 3, 5, 9], len(shape))]
    passes = tuple((int(axis), lines[axis]) for axis in rng.permutation(len(shape)))
    expected = scipys(image, passes)
    halo = [(len(line) // 2,) * 2 for line in lines]
    block = np.pad(image, halo, constant_values=CVAL)[None]
    fringe = Fringe(CVAL, ((passes,),))
    result = correlate(block, [kernel(passes)], fringe, (0,) * len(shape), shape)
    assert_allclose(result[0], expected, rtol=0, atol=1e-12)
    start, stop = [n // 3 for n in shape], [n - n // 4 for n in shape]
    box = tuple(slice(a, b + sum(h)) for a, b, h in zip(start, stop, halo, strict=True))
    part = correlate(block[(slice(None), *box)], [kernel(passes)], fringe, start, shape)
    core = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    assert_array_equal(part[0], result[0][core])


def test_magnitudes_and_terms():
    image, slope, smooth = RNG.random((9, 14)), np.array([-1.0, 0, 1]), np.array([1.0, 3, 1])
    down, along = ((0, slope), (1, smooth)), ((0, smooth), (1, slope))
    block = np.pad(image, 1, constant_values=CVAL)[None].astype(np.float32)
    plans = [kernel(down), kernel(along)]
    result = correlate(block, plans, Fringe(CVAL, ((down,), (along,))), (0, 0), image.shape)
    assert result.dtype == np.float32
    assert_allclose(result[0], np.hypot(scipys(image, down), scipys(image, along)), rtol=1e-5)
    both = separable.Plan(((slope, smooth), (smooth, slope)), None)
    result = correlate(block, [both], Fringe(CVAL, ((down, along),)), (0, 0), image.shape)
    assert_allclose(result[0], scipys(image, down) + scipys(image, along), rtol=0, atol=1e-4)
    plain = correlate(block, plans, None, (0, 0), image.shape)
    assert_array_equal(plain, separable.magnitude(block, plans))

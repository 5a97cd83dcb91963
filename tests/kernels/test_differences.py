"""Slopes and bends against numpy.gradient, in blocks that touch the image's edge and do not."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chunkfilt.kernels.differences import gradient, hessian

SHAPES = [(2,), (3,), (4,), (45,), (2, 3), (4, 2), (5, 40), (2, 2, 2), (3, 4, 5), (6, 5, 37)]
RNG = np.random.default_rng(0)


def slopes(image, spacing):
    found = np.gradient(image, *spacing)
    return np.stack([found] if image.ndim == 1 else found)


def bends(image, spacing):
    first = slopes(image, spacing)
    pairs = itertools.combinations_with_replacement(range(image.ndim), 2)
    return np.stack([np.gradient(first[i], spacing[j], axis=j) for i, j in pairs])


def cores(shape):
    """The whole image, and blocks that touch its edge on no, some or all sides."""
    ends = [sorted({(0, n), (0, 1), (n - 1, n), (n // 2, n), (0, -(-n // 2))}) for n in shape]
    return [tuple(zip(*core, strict=True)) for core in itertools.product(*ends)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("function", "halo", "oracle"), [(gradient, 1, slopes), (hessian, 2, bends)]
)
def test_is_numpys(function, halo, oracle, shape):
    image = RNG.random((2, *shape))
    spacing = RNG.random(len(shape)) + 0.5
    # What lies beyond the edge must not matter.
    wide = np.pad(image, [(0, 0)] + [(halo, halo)] * len(shape), constant_values=1e9)
    expected = np.stack([oracle(one, spacing) for one in image])
    for start, stop in cores(shape):
        box = tuple(slice(a, b + 2 * halo) for a, b in zip(start, stop, strict=True))
        result = function(wide[(slice(None), *box)], spacing, start, shape)
        core = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        assert_allclose(result, expected[(slice(None), slice(None), *core)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "uint64"])
def test_dtypes(dtype):
    image = (RNG.random((9, 12)) * 100).astype(dtype)
    block = np.pad(image, 2)[None]
    result = hessian(block, (1.0, 1.0), (0, 0), (9, 12))
    assert result.dtype == (np.float64 if dtype == "uint64" else np.float32)
    assert_allclose(result[0], bends(image.astype(np.float64), (1, 1)), rtol=0, atol=1e-4)
    result = gradient(block[:, 1:-1, 1:-1], (1.0, 1.0), (0, 0), (9, 12))
    assert_allclose(result[0], slopes(image.astype(np.float64), (1, 1)), rtol=0, atol=1e-4)


def test_nothing_to_do():
    assert gradient(np.ones((1, 2, 9)), (1, 1), (0, 0), (5, 7)).shape == (1, 2, 0, 7)
    assert hessian(np.ones((0, 9, 9)), (1, 1), (0, 0), (5, 5)).shape == (0, 3, 5, 5)
    with pytest.raises(ValueError, match="window"):
        hessian(np.ones((1, 3, 9)), (1, 1), (0, 0), (5, 7))

"""The checksums of all units of a block against those of each unit by itself."""

import numpy as np
import pytest

from chunkfilt.grid import Blocks
from chunkfilt.kernels.checksum import image_checksum
from chunkfilt.kernels.unit_checksums import unit_checksums


def draw(rng, dtype):
    """Return an image's shape, a unit, and a block of whole units with its origin."""
    ndim = int(rng.integers(1, 5))
    shape = [int(n) for n in rng.integers(1, 9, ndim)]
    unit = [int(n) for n in rng.integers(1, 8, ndim)]
    start = [int(rng.integers(0, -(-n // u))) * u for n, u in zip(shape, unit, strict=True)]
    stop = [
        min(a + int(rng.integers(1, 4)) * u, n) for a, u, n in zip(start, unit, shape, strict=True)
    ]
    block = rng.integers(0, 200, np.subtract(stop, start)).astype(dtype)
    if block.dtype.kind in "fc":
        block[block == 7] = np.nan
        block[block == 8] = -0.0
    return shape, unit, start, block


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8", "f2", "f4", "f8", "c8", "c16"])
def test_every_unit_has_its_own_checksum(dtype):
    rng = np.random.default_rng(0)
    for _ in range(80):
        shape, unit, start, block = draw(rng, dtype)
        expected = [
            image_checksum(block[u.slices], np.add(start, u.start), shape)
            for u in Blocks(block.shape, tuple(unit))
        ]
        assert unit_checksums(block, start, shape, unit) == expected
        turned = np.asfortranarray(block)
        turned.flags.writeable = False
        assert unit_checksums(turned, start, shape, unit) == expected


def test_no_pixels():
    assert unit_checksums(np.zeros((0, 3)), (0, 0), (0, 3), (2, 2)) == []


def test_what_is_refused():
    with pytest.raises(ValueError, match="not inside the image"):
        unit_checksums(np.zeros((2, 3)), (1, 0), (2, 3), (2, 2))
    with pytest.raises(TypeError, match="no checksum"):
        unit_checksums(np.zeros(3, "M8[s]"), (0,), (3,), (2,))

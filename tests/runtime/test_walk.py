"""Reading strip by strip: the same pixels, every chunk of a block once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkfilt.engine.graph import Source
from chunkfilt.grid import Blocks, ImageSpec, Region
from chunkfilt.runtime.walk import Walk


class Chunked:
    """An array as a store: counts how often each pixel is read."""

    def __init__(self, data, chunks):
        self.data, self.chunks = data, chunks
        self.count = np.zeros(data.shape, int)

    def read(self, region):
        self.count[region.slices] += 1
        return self.data[region.slices].copy()


def source(shape, chunks, names="zyx"):
    data = np.arange(np.prod(shape)).reshape(shape)
    axes = tuple(names[-len(shape) :])
    spec = ImageSpec(shape, data.dtype, axes, tuple(range(len(shape))))
    return Source(spec, Chunked(data, chunks))


def grown(region, halo, shape):
    start = tuple(max(a - halo, 0) for a in region.start)
    return Region(start, tuple(min(b + halo, n) for b, n in zip(region.stop, shape, strict=True)))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 15),
    st.integers(0, 1),
    st.data(),
)
def test_strips_give_the_pixels_of_the_block_and_read_each_once(n, chunk, rows, halo, axis, data):
    shape = (n, 7) if axis == 0 else (7, n)
    image = source(shape, (chunk, chunk))
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first + 1, n))
    start, stop = ((first, 2), (last, 5)) if axis == 0 else ((2, first), (5, last))
    block = Region(start, stop)
    strip = (rows, 3) if axis == 0 else (3, rows)
    needed = grown(block, halo, shape)
    walk = Walk({id(image): needed.runs}, "yx"[axis])
    for one in Blocks(block.shape, strip):
        region = grown(one.shift(block.start), halo, shape)
        np.testing.assert_array_equal(walk.read(image, region), image.reader.data[region.slices])
    expected = np.zeros(shape, int)
    expected[needed.slices] = 1
    np.testing.assert_array_equal(image.reader.count, expected)


def test_the_opposite_edge_does_not_disturb_the_walk():
    image = source((40, 6), (8, 6))
    held = ((0, 2), (30, 40))
    walk = Walk({id(image): [held, ((0, 6),)]}, "y")
    for start in (32, 36):
        for a, b in ((0, 2), (start - 2, min(start + 6, 40))):
            region = Region((a, 0), (b, 6))
            got = walk.read(image, region)
            np.testing.assert_array_equal(got, image.reader.data[region.slices])
    assert image.reader.count[30:].max() <= 2


def test_what_has_no_such_axis_or_no_chunks_is_read_as_it_is():
    image = source((10, 10), (4, 4))
    region = Region((2, 2), (6, 6))
    Walk({id(image): region.runs}, None).read(image, region)
    Walk({id(image): region.runs}, "z").read(image, region)
    image.reader.chunks = None
    Walk({id(image): region.runs}, "y").read(image, region)
    assert image.reader.count.sum() == 3 * 16

"""Regions, runs, boxes and blocks against sets of pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkfilt.grid import (
    Blocks,
    ImageSpec,
    Region,
    boxes,
    merge_runs,
    round_up,
    window_halo,
    write_unit,
)

INDICES = st.sets(st.integers(0, 30)).map(sorted)
# Runs as one would write them down: any order, touching, overlapping.
LOOSE = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=5,
)


def pixels_of(runs):
    return sorted(itertools.chain.from_iterable(range(a, b) for a, b in runs))


def runs_of(pixels):
    """Return the runs of sorted distinct pixels, the slow and plain way."""
    runs = []
    for pixel in pixels:
        if runs and runs[-1][1] == pixel:
            runs[-1] = (runs[-1][0], pixel + 1)
        else:
            runs.append((pixel, pixel + 1))
    return tuple(runs)


@settings(max_examples=100, deadline=None)
@given(st.lists(LOOSE, max_size=3))
def test_merged_runs_are_the_union(many):
    merged = merge_runs(*(tuple(sorted(one)) for one in many))
    union = sorted({pixel for one in many for pixel in pixels_of(one)})
    assert pixels_of(merged) == union
    assert merged == runs_of(union)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)).map(sorted), min_size=1, max_size=3))
def test_boxes_cut_a_packed_array_into_its_parts(indices):
    runs = [runs_of(one) for one in indices]
    image = np.arange(10 ** len(runs)).reshape((10,) * len(runs))
    packed = image[np.ix_(*indices)]
    filled = np.zeros(packed.shape, dtype=int)
    for region, place in boxes(runs):
        np.testing.assert_array_equal(packed[place], image[region.slices])
        filled[place] += 1
    np.testing.assert_array_equal(filled, 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 15)), min_size=1, max_size=3))
def test_blocks_partition_the_image(sides):
    shape, block = zip(*sides, strict=True)
    blocks = Blocks(shape, block)
    seen = np.zeros(shape, dtype=int)
    for index, region in enumerate(blocks):
        assert region == blocks[index]
        assert all(a % b == 0 for a, b in zip(region.start, block, strict=True))
        assert all(1 <= n <= b for n, b in zip(region.shape, block, strict=True))
        seen[region.slices] += 1
    np.testing.assert_array_equal(seen, 1)
    assert len(blocks) == sum(1 for _ in blocks)


def test_blocks_are_in_c_order():
    starts = [region.start for region in Blocks((5, 7), (2, 3))]
    assert starts == sorted(starts)
    assert starts[:2] == [(0, 0), (0, 3)]


def test_blocks_of_an_image_without_pixels_and_without_axes():
    assert list(Blocks((0, 5), (2, 2))) == []
    assert list(Blocks((), ())) == [Region((), ())]


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_a_block_that_does_not_exist_is_an_error(index):
    with pytest.raises(IndexError, match=f"block {index} of 6"):
        Blocks((10, 10), (4, 8))[index]


@pytest.mark.parametrize(("shape", "block"), [((4, 4), (2,)), ((4,), (0,)), ((4,), (-1,))])
def test_blocks_that_do_not_fit(shape, block):
    with pytest.raises(ValueError, match="do not fit"):
        Blocks(shape, block)


def test_a_block_far_into_a_huge_image_is_computed_not_counted():
    blocks = Blocks((10**9, 10**9), (7, 5))
    assert blocks[len(blocks) - 1].stop == (10**9, 10**9)
    across = -(-(10**9) // 5)
    assert blocks[across * 3 + 4] == Region((21, 20), (28, 25))


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 100)), min_size=1, max_size=3))
def test_window_halo_is_what_the_window_sees(axes):
    size = [n for n, _ in axes]
    # Every origin that leaves the pixel itself in the window.
    origin = [-(n // 2) + o % n for n, o in axes]
    for (before, after), n, o in zip(window_halo(size, origin), size, origin, strict=True):
        seen = range(-(n // 2) - o, -(n // 2) - o + n)
        assert (-before, after) == (seen[0], seen[-1])
        assert before >= 0
        assert after >= 0


def test_windows_of_even_size_reach_further_back():
    assert window_halo((1, 2, 3, 4, 5)) == ((0, 0), (1, 0), (1, 1), (2, 1), (2, 2))
    assert window_halo((4, 4), (-2, 1)) == ((0, 3), (3, 0))


def test_region():
    region = Region((2, 3), (5, 3))
    assert region.shape == (3, 0)
    assert region.size == 0
    assert region.runs == (((2, 5),), ())
    assert region.slices == np.s_[2:5, 3:3]
    assert region.shift((1, -3)) == Region((3, 0), (6, 0))
    assert region.grow(((1, 2), (4, 0))) == Region((1, -1), (7, 3))
    assert Region.whole((4, 0)) == Region((0, 0), (4, 0))


@pytest.mark.parametrize(("start", "stop"), [((2,), (1,)), ((0, 0), (1,))])
def test_a_region_that_is_no_box(start, stop):
    with pytest.raises(ValueError, match="a region needs start <= stop per axis"):
        Region(start, stop)


def test_image_spec_puts_leading_axes_in_full():
    spec = ImageSpec((4, 6, 50, 60), np.dtype("float32"), tuple("coyx"), (2, 3), (1,))
    assert spec.grid == (0, 2, 3)
    assert spec.grid_shape == (4, 50, 60)
    region = spec.from_grid(Region((1, 10, 20), (2, 30, 40)))
    assert region == Region((1, 0, 10, 20), (2, 6, 30, 40))
    assert spec.size == 4 * 6 * 50 * 60
    assert spec.nbytes == 4 * spec.size


@given(st.integers(0, 1000), st.integers(1, 50))
def test_round_up(value, multiple):
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert 0 <= rounded - value < multiple


def test_write_unit_is_the_shard_where_there_is_one():
    assert write_unit((4, 8), None) == (4, 8)
    assert write_unit((4, 8), (16, 16)) == (16, 16)

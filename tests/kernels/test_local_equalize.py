"""Local equalisation against scikit-image's rank filter, and against counting every window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from skimage.filters import rank

from chunkfilt.kernels import local_equalize as module
from chunkfilt.kernels.local_equalize import equalize_memory, local_equalize, pixel_cost

pytestmark = pytest.mark.filterwarnings("ignore:Bad rank filter performance:UserWarning")
# How to count: place by place, with a sliding histogram, or as chosen by cost.
WAYS = (True, False, None)


def disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return y * y + x * x <= radius * radius


def top(image):
    return 255 if image.dtype == np.uint8 else max(3, int(image.max()))


def whole(image, footprint, counting=None, valid=None):
    """Equalise an image that is extended by zeros."""
    halo = [(n // 2, n - 1 - n // 2) for n in footprint.shape]
    inside = [(a, a + n) for (a, _), n in zip(halo, image.shape, strict=True)]
    if valid is not None:
        # What is said of pixels beyond the image must not matter.
        valid = np.pad(valid, halo, constant_values=True)[None]
    block = np.pad(image, halo)[None]
    block.flags.writeable = False
    return module._local_equalize(
        block, footprint, top(image), inside, valid, missing=0, counting=counting
    )[0]


def oracle(block, footprint, scale):
    """Count in every window of a block that lies within the image."""
    windows = sliding_window_view(block, footprint.shape)[..., footprint]
    centre = tuple(slice(n // 2, n // 2 - n + 1 or None) for n in footprint.shape)
    below = (windows <= block[centre][..., None]).sum(-1)
    return (scale * below // np.count_nonzero(footprint)).astype(block.dtype)


@st.composite
def problems(draw, axes):
    """An image of few or many levels, and a footprint larger or smaller than it."""
    sides, windows = ((14, 9), (6, 4))[axes - 2]
    shape = draw(st.tuples(*[st.integers(1, sides)] * axes))
    window = draw(st.tuples(*[st.integers(1, windows)] * axes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, levels = draw(
        st.sampled_from([("uint8", 3), ("uint8", 256), ("uint16", 2), ("uint16", 65536)])
    )
    footprint = rng.random(window) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    footprint.flat[rng.integers(footprint.size)] = True
    return rng.integers(0, levels, shape).astype(dtype), footprint


@settings(max_examples=80, deadline=None)
@given(problems(2), st.sampled_from(WAYS), st.booleans())
def test_planes_are_scikit_images(problem, counting, masked):
    image, footprint = problem
    mask = np.random.default_rng(image.size).random(image.shape) < 0.6 if masked else None
    expected = rank.equalize(image, footprint, mask=mask)
    assert_array_equal(whole(image, footprint, counting, mask), expected)


@settings(max_examples=30, deadline=None)
@given(problems(3), st.sampled_from(WAYS))
def test_volumes_are_scikit_images(problem, counting):
    image, footprint = problem
    assert_array_equal(whole(image, footprint, counting), rank.equalize(image, footprint))


@pytest.mark.parametrize("counting", WAYS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_lines(dtype, counting):
    image = np.random.default_rng(1).integers(0, 200, 50).astype(dtype)
    footprint = np.array([1, 0, 1, 1], bool)
    expected = rank.equalize(image[None], footprint[None])[0]
    assert_array_equal(whole(image, footprint, counting), expected)


@pytest.mark.parametrize("counting", WAYS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_more_pixels_than_a_small_counter_holds(dtype, counting):
    # 1257 places, and pixels all alike, so that every one is counted.
    image = np.full((30, 60), 7, dtype)
    image[:, 30:] = np.random.default_rng(2).integers(0, 9, (30, 30))
    footprint = disk(20)
    assert_array_equal(whole(image, footprint, counting), rank.equalize(image, footprint))


@pytest.mark.parametrize("counting", WAYS)
def test_rows_of_several_strips(counting, monkeypatch):
    image = np.random.default_rng(3).integers(0, 65536, (4, 2600)).astype(np.uint16)
    footprint = np.ones((3, 9), bool)
    monkeypatch.setattr(module, "_CACHE", 1)
    assert_array_equal(whole(image, footprint, counting), rank.equalize(image, footprint))


@pytest.mark.parametrize("shape", [(40, 33), (7, 9, 8), (90,)])
def test_bands_where_pixels_are_left_out(shape, monkeypatch):
    rng = np.random.default_rng(4)
    image, valid = rng.integers(0, 256, shape).astype(np.uint8), rng.random(shape) < 0.5
    footprint = np.ones((3,) * len(shape), bool)
    expected = whole(image, footprint, valid=valid)
    monkeypatch.setattr(module, "_BAND", 200)
    assert_array_equal(whole(image, footprint, valid=valid), expected)


@pytest.mark.parametrize("counting", WAYS)
def test_every_row_of_the_batch_has_its_own_scale(counting):
    block = np.random.default_rng(5).integers(0, 90, (3, 9, 12)).astype(np.uint16)
    footprint, scales = np.ones((3, 4), bool), np.array([3, 90, 65535])
    found = module._local_equalize(
        block, footprint, scales, [(0, 9), (0, 12)], None, 0, counting=counting
    )
    expected = [oracle(one, footprint, scale) for one, scale in zip(block, scales, strict=True)]
    assert_array_equal(found, np.stack(expected))


@pytest.mark.parametrize("counting", WAYS)
def test_a_block_within_the_image_knows_no_edge(counting):
    block = np.random.default_rng(6).integers(0, 256, (20, 31)).astype(np.uint8)
    footprint = disk(3)
    inside = [(0, 20), (0, 31)]
    found = module._local_equalize(block[None], footprint, 255, inside, counting=counting)
    assert_array_equal(found[0], oracle(block, footprint, 255))


def test_a_window_without_pixels_that_count_is_missing():
    block, valid = np.full((1, 1, 5), 9, np.uint8), np.array([[[1, 0, 0, 0, 1]]], bool)
    found = local_equalize(block, np.ones((1, 3), bool), 255, [(0, 1), (0, 5)], valid, 77)
    assert found.tolist() == [[[255, 77, 255]]]


def test_nothing_to_do():
    block = np.zeros((2, 4, 2), np.uint16)
    found = local_equalize(block, np.ones((3, 3), bool), 3, [(0, 4), (0, 2)])
    assert found.shape == (2, 2, 0)


def test_mistakes():
    block = np.zeros((1, 5, 5), np.uint8)
    with pytest.raises(ValueError, match="without a single pixel"):
        local_equalize(block, np.zeros((3, 3), bool), 255, [(0, 5), (0, 5)])
    with pytest.raises(ValueError, match="a window of"):
        local_equalize(block, np.ones((7, 3), bool), 255, [(0, 5), (0, 5)])
    with pytest.raises(TypeError, match="takes uint8 and uint16"):
        local_equalize(block.astype(float), np.ones((3, 3), bool), 255, [(0, 5), (0, 5)])


def test_the_cheaper_way_is_taken():
    small, large = disk(5), disk(100)
    assert module._choose(small[None], 1)[0]
    assert not module._choose(large[None], 1)[0]
    assert pixel_cost(small, 2) < pixel_cost(large, 2) < pixel_cost(np.tile(large, 4), 2)


def test_memory_does_not_grow_with_pixels_times_window():
    band = equalize_memory((1, 4096, 4096), (11, 11), 2)
    assert equalize_memory((1, 1 << 20, 4096), (11, 11), 2) == band
    assert equalize_memory((1, 4096, 4096), (101, 101), 2) < 10 * band

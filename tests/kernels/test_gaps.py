"""Filled gaps against scipy's distance transform, and against every pixel's own neighbours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import distance_transform_edt

from chunkfilt.kernels import _gap_means, gaps
from chunkfilt.kernels.gaps import fill_nearest, fill_weighted, gaps_memory

# Whole numbers, roots of whole numbers (where rounding decides), and others.
DISTANCES = [0.5, 1, 1.5, 2, math.sqrt(3), math.sqrt(5), 2.9, 3, 3.7, 6, 11.5, 40]


def whole(image, valid, distance, power=None, missing=0):
    """Fill an image that is extended by pixels which are said to count."""
    halo = [(math.floor(distance),) * 2] * image.ndim
    inside = [(a, a + n) for (a, _), n in zip(halo, image.shape, strict=True)]
    block = np.pad(image, halo, constant_values=1)[None]
    counts = np.pad(valid, halo, constant_values=True)[None]
    block.flags.writeable = counts.flags.writeable = False
    if power is None:
        return fill_nearest(block, distance, counts, inside, missing)[0]
    return fill_weighted(block, distance, power, counts, inside, missing)[0]


def nearest(image, valid, distance, missing):
    """Take what scipy's distance transform points at."""
    if not valid.any():
        return np.full_like(image, missing)
    far, at = distance_transform_edt(~valid, return_indices=True)
    return np.where(far <= distance, image[tuple(at)], image.dtype.type(missing))


def weighted(image, valid, distance, power, missing):
    """Average pixel by pixel, from a list of all valid ones."""
    out, points = image.copy(), np.argwhere(valid)
    for gap in np.argwhere(~valid):
        far = np.sqrt(((points - gap) ** 2).sum(axis=1))
        held = far <= distance
        weights = far[held] ** -power
        values = image[tuple(points[held].T)].astype(np.float64)
        if not held.any():
            out[tuple(gap)] = missing
            continue
        mean = (values * weights).sum() / weights.sum()
        out[tuple(gap)] = mean if image.dtype.kind == "f" else np.rint(mean)
    return out


@st.composite
def problems(draw, sides=((50,), (17, 20), (6, 7, 9))):
    """An image of one to three axes with few or many valid pixels, and a distance."""
    most = draw(st.sampled_from(sides))
    shape = tuple(draw(st.integers(1, side)) for side in most)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    valid = rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.4, 0.9]))
    dtype = draw(st.sampled_from(["uint8", "int32", "float32", "float64"]))
    image = (rng.random(shape) * 200).astype(dtype)
    missing = 7
    if image.dtype.kind == "f":
        image[~valid] = missing = np.nan
    return image, valid, draw(st.sampled_from(DISTANCES)), missing


@settings(max_examples=300, deadline=None)
@given(problems())
def test_nearest_is_what_scipys_distance_transform_points_at(problem):
    assert_array_equal(whole(*problem[:3], missing=problem[3]), nearest(*problem))


@settings(max_examples=60, deadline=None)
@given(problems(((20,), (9, 11), (4, 5, 6))), st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_means_are_those_of_the_pixels_within_reach(problem, power):
    image, valid, distance, missing = problem
    found = whole(image, valid, distance, power, missing)
    assert_allclose(found, weighted(image, valid, distance, power, missing), rtol=1e-6)
    assert_array_equal(found[valid], image[valid])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_ties_go_to_the_last_axis_then_the_one_before(axes):
    """Valid pixels on a sparse grid: every gap has several as near."""
    shape = (25, 13, 13)[:axes]
    valid = np.zeros(shape, bool)
    valid[(slice(None, None, 4),) * axes] = True
    image = np.arange(valid.size).reshape(shape)
    for distance in (2, 3.5, 8):
        assert_array_equal(whole(image, valid, distance), nearest(image, valid, distance, 0))


@pytest.mark.parametrize("distance", [2.0, 25.0])
def test_wide_gaps_and_islands(distance):
    """Gaps much wider than the reach, whose middle is settled many pixels at a time."""
    rng = np.random.default_rng(1)
    valid = rng.random((60, 300)) < 0.002
    valid[:, :20] = True
    image = rng.random(valid.shape)
    found = whole(image, valid, distance, missing=np.nan)
    assert_array_equal(found, nearest(image, valid, distance, np.nan))


@pytest.mark.parametrize(
    ("dtype", "power"),
    [(name, None) for name in ("?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f8")]
    + [(name, 2.0) for name in ("?", "i1", "u8", "i8", "f2", "f8")],
)
def test_every_dtype_keeps_its_own(dtype, power):
    rng = np.random.default_rng(2)
    kind = np.dtype(dtype)
    image = (rng.random((12, 13)) * 100).astype(kind)
    if kind.kind in "iu":
        image[::3] = np.iinfo(kind).max
        image[1::3] = np.iinfo(kind).min
    valid = rng.random(image.shape) < 0.5
    found = whole(image, valid, 3, power)
    assert found.dtype == kind
    assert_array_equal(found[valid], image[valid])
    if power is None:
        assert_array_equal(found, nearest(image, valid, 3, 0))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i8", "u8"])
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_means_of_extreme_integers_do_not_wrap(dtype, power):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        image = np.full((5, 5), value, dtype)
        valid = np.ones((5, 5), bool)
        valid[2, 2] = False
        assert whole(image, valid, 2, power)[2, 2] == value


@pytest.mark.parametrize(("values", "mean"), [((1, 2), 2), ((2, 3), 2), ((0, 1), 0), ((4, 7), 6)])
def test_integer_means_are_rounded_half_to_even(values, mean):
    image = np.array([values[0], 99, values[1]], np.int16)
    assert whole(image, np.array([True, False, True]), 1, 0.0)[1] == mean


def test_an_infinity_is_a_pixel_like_others():
    image = np.array([1.0, np.nan, np.inf, 5.0, np.nan, 2.0])
    valid = ~np.isnan(image)
    assert whole(image, valid, 1, 0.0).tolist() == [1.0, np.inf, np.inf, 5.0, 3.5, 2.0]
    assert whole(image, valid, 1).tolist() == [1.0, 1.0, np.inf, 5.0, 5.0, 2.0]


@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_stretches_do_not_show_in_the_bits(power, share, monkeypatch):
    """A pixel by itself, in a stretch, or at another place of one: the same order of sums."""
    rng = np.random.default_rng(3)
    valid = rng.random((40, 700)) < share
    image = rng.normal(size=valid.shape) * 10.0 ** rng.integers(-8, 8, valid.shape)
    found = whole(image, valid, 6.5, power, np.nan)
    for start, stop in ((0, 30), (100, 103), (101, 650)):
        columns = slice(start, stop)
        near = slice(max(start - 6, 0), stop + 6)
        inner = whole(image[:, near], valid[:, near], 6.5, power, np.nan)
        assert_array_equal(inner[:, start - near.start :][:, : stop - start], found[:, columns])
    assert _gap_means.STRETCH < 700


@pytest.mark.parametrize("power", [None, 1.0])
def test_batches_are_filled_one_by_one(power):
    rng = np.random.default_rng(4)
    images, valid = rng.random((3, 9, 10)), rng.random((3, 9, 10)) < 0.2
    fill = fill_nearest if power is None else fill_weighted
    halo = ((0, 0), (2, 2), (2, 2))
    blocks = np.pad(images, halo), 2.5, *(() if power is None else (power,))
    found = fill(*blocks, np.pad(valid, halo), [(2, 11), (2, 12)], np.nan)
    for one, image, kept in zip(found, images, valid, strict=True):
        assert_array_equal(one, whole(image, kept, 2.5, power, np.nan))


def test_nothing_to_do_and_mistakes():
    empty = np.zeros((1, 2, 7))
    kept = np.ones(empty.shape, bool)
    inside = [(0, 2), (0, 7)]
    assert fill_nearest(empty, 1, kept, inside, 0).shape == (1, 0, 5)
    assert fill_weighted(empty, 1, 2, kept, inside, 0).shape == (1, 0, 5)
    with pytest.raises(ValueError, match="a window of"):
        fill_nearest(empty, 3, kept, inside, 0)
    with pytest.raises(ValueError, match="leaves no weight"):
        fill_weighted(np.zeros((1, 99)), 40, 300.0, np.ones((1, 99), bool), [(0, 99)], 0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_lies_within_reach(distance):
    reach, limit = gaps._reach(distance)
    assert reach == math.floor(distance)
    assert math.sqrt(limit) <= distance < math.sqrt(limit + 1)
    cells = np.indices((2 * reach + 1,) * 3) - reach
    square = (cells**2).sum(axis=0)
    rows = gaps._rows_within(3, reach, limit)
    assert (2 * rows[:, 3] + 1).sum() == (square <= limit).sum()
    places = gaps._places_within(3, reach, limit)
    near = np.sort(square[square <= limit])[1 : 1 + gaps._CLOSE]
    assert_array_equal((places**2).sum(axis=1)[: gaps._CLOSE], near)


def test_memory_is_a_few_bytes_a_pixel():
    assert gaps_memory((2, 100, 50), 3) <= 8 * 2 * 106 * 56

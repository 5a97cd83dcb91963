"""Filled gaps: what counts as missing, what stays, blocks and errors."""

import math

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.ndimage import distance_transform_edt

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Source, plain_axes
from chunkfilt.errors import ParameterError
from chunkfilt.grid import ImageSpec, Region

METHODS = ["nearest", "mean", "idw"]


class Memory:
    """Pixels that may only be read."""

    def __init__(self, array):
        self.array = array

    def read(self, region):
        """Return the pixels of a region inside the image."""
        return self.array[region.slices]


def with_nodata(image, nodata, **params):
    """Fill the gaps of an image that declares a nodata value; return the node and its pixels."""
    spatial = tuple(range(image.ndim))
    spec = ImageSpec(image.shape, image.dtype, plain_axes(image.ndim), spatial, nodata=nodata)
    node = bind(cf.fill_gaps.filter, [Source(spec, Memory(image))], params)
    return node, evaluate_region(node, Region.whole(image.shape))


def holes(shape=(40, 50), seed=0, share=0.4, dtype="float64"):
    rng = np.random.default_rng(seed)
    image = (rng.random(shape) * 200).astype(dtype)
    valid = rng.random(shape) > share
    # One gap that no pixel within a few reaches into.
    valid[tuple(slice(n // 3, n // 3 + 12) for n in shape)] = False
    return image, valid


def nearest(image, valid, distance, missing):
    far, at = distance_transform_edt(~valid, return_indices=True)
    return np.where(far <= distance, image[tuple(at)], image.dtype.type(missing))


@pytest.mark.parametrize("distance", [1, 2.5, math.sqrt(3), 4, 30])
@pytest.mark.parametrize("shape", [(90,), (40, 50), (17, 18, 19)])
def test_nan_is_filled_with_the_nearest(shape, distance):
    image, valid = holes(shape)
    image[~valid] = np.nan
    found = cf.fill_gaps(image, max_distance=distance)
    assert_array_equal(found, nearest(image, valid, distance, np.nan))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_a_mask_says_what_is_missing(dtype):
    image, valid = holes(dtype=dtype)
    found = cf.fill_gaps(image, valid, max_distance=3)
    assert found.dtype == image.dtype
    missing = np.nan if dtype == "float32" else 0
    assert_array_equal(found, nearest(image, valid, 3, missing))


@pytest.mark.parametrize("method", METHODS)
def test_the_nodata_value_is_missing_and_stays_where_nothing_is_near(method):
    image, valid = holes(dtype="int16")
    image[~valid] = -99
    node, found = with_nodata(image, -99, max_distance=3, method=method)
    assert node.spec.nodata == -99
    assert_array_equal(found[valid], image[valid])
    beyond = distance_transform_edt(~valid) > 3
    assert beyond.any()
    assert_array_equal(found == -99, beyond)
    if method == "nearest":
        assert_array_equal(found, nearest(image, valid, 3, -99))


@pytest.mark.parametrize("method", METHODS)
def test_without_gaps_nothing_changes(method):
    for dtype in ("uint8", "float32"):
        image, _ = holes(dtype=dtype)
        found = cf.fill_gaps(image, max_distance=2, method=method)
        assert_array_equal(found, image)
        assert not np.shares_memory(found, image)


def test_means_are_of_the_pixels_within_reach():
    image = np.array([[1.0, 2.0, 4.0], [np.nan, np.nan, 8.0], [np.nan, np.nan, np.nan]])
    found = cf.fill_gaps(image, max_distance=1, method="mean")
    assert_array_equal(found, [[1, 2, 4], [1, 5, 8], [np.nan, np.nan, 8]])
    found = cf.fill_gaps(image, max_distance=1.5, method="idw", power=2)
    # (2 + 8) / 1 and (1 + 4) / 2 of the weights 2 and 1
    assert found[1, 1] == pytest.approx(12.5 / 3)
    assert_array_equal(
        cf.fill_gaps(image, max_distance=1.5, method="idw", power=0),
        cf.fill_gaps(image, max_distance=1.5, method="mean"),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [(7, 50), (11, 9)])
def test_chunks_do_not_show(method, chunks):
    image, valid = holes()
    image *= 10.0 ** np.random.default_rng(1).integers(-9, 9, image.shape)
    image[~valid] = np.nan
    params = {"max_distance": 3.7, "method": method}
    lazy = cf.fill_gaps(da.from_array(image, chunks=chunks), **params)
    assert_array_equal(lazy.compute(), cf.fill_gaps(image, **params))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", [2, 3.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_halo_is_enough_and_no_more(method, distance, axis):
    """A single valid pixel fills exactly what lies within reach of it."""
    image = np.full((15, 16), np.nan)
    image[7, 7] = 3.0
    found = cf.fill_gaps(image, max_distance=distance, method=method)
    filled = np.flatnonzero((found == 3).any(axis=1 - axis))
    reach = math.floor(distance)
    assert (filled[0], filled[-1]) == (7 - reach, 7 + reach)
    node = with_nodata(image, np.nan, max_distance=distance, method=method)[0]
    assert node.halo[axis] == (reach, reach)


@pytest.mark.parametrize("method", METHODS)
def test_each_image_of_a_stack_is_filled_by_itself(method):
    image, valid = holes((3, 20, 30))
    image[~valid] = np.nan
    image[1] = np.nan
    params = {"max_distance": 4, "method": method}
    found = cf.fill_gaps(image, axes=(1, 2), **params)
    for one, plane in zip(found, image, strict=True):
        assert_array_equal(one, cf.fill_gaps(plane, **params))


def test_half_floats_keep_their_dtype():
    image, valid = holes(dtype="float16")
    image[~valid] = np.nan
    found = cf.fill_gaps(image, max_distance=2, method="mean")
    assert found.dtype == np.float16
    assert_array_equal(found[valid], image[valid])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "max_distance is required"),
        ({"max_distance": 0}, "max_distance must be > 0"),
        ({"max_distance": 5000}, "max_distance must be <= 4096"),
        ({"max_distance": 3000, "method": "mean"}, "at most 2048 for method 'mean' along 2 axes"),
        ({"max_distance": 3, "method": "linear"}, "method must be one of"),
        ({"max_distance": 3, "power": -1.0}, "power must be >= 0"),
        ({"max_distance": 30, "method": "idw", "power": 300}, "power 300 leaves no weight"),
        ({"max_distance": 3, "nan_policy": "omit"}, "has no parameter 'nan_policy'"),
    ],
)
def test_mistakes(params, message):
    with pytest.raises(ParameterError, match=message):
        cf.fill_gaps(np.zeros((4, 5)), **params)

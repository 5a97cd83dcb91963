"""Filters written with other filters, whatever they are given."""

import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.ndimage as ndi

import chunkfilt as cf
from chunkfilt.arrays.public import public
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source
from chunkfilt.errors import ParameterError
from chunkfilt.filters.declare import composite_filter
from chunkfilt.filters.params import WindowSize
from chunkfilt.grid import ImageSpec


@composite_filter()
def _opened(image, *, size: WindowSize = 3, apply):
    """Erode, then dilate."""
    return apply(cf.maximum, apply(cf.minimum, image, size=size), size=size)


@composite_filter(pointwise=True)
def _first_of(image, *, axis: str = "c", apply):
    """Take the first index of an axis, doubled."""
    return apply(cf.multiply, apply.take(image, axis, 0), 2)


@pytest.fixture
def picture():
    return np.random.default_rng(3).integers(0, 200, (33, 41)).astype("uint8")


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant", "wrap"])
def test_the_edge_is_extended_at_every_step(picture, mode):
    expected = ndi.grey_opening(picture, size=5, mode=mode, cval=7)
    function = public(_opened)
    np.testing.assert_array_equal(function(picture, size=5, mode=mode, cval=7), expected)
    lazy = function(da.from_array(picture, chunks=(9, 13)), size=5, mode=mode, cval=7)
    np.testing.assert_array_equal(lazy.compute(), expected)


def test_axes_and_dtype_go_where_they_belong(picture):
    stack = np.stack([picture, picture[::-1]])
    made = public(_opened)(stack, size=3, axes=(1, 2), dtype="float32")
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[1], ndi.grey_opening(picture[::-1], size=3))
    lazy = public(_opened)(da.from_array(stack), size=3, axes=(1, 2), dtype="float32")
    np.testing.assert_array_equal(lazy.compute(), made)


def test_one_index_of_an_axis_is_taken():
    pixels = np.arange(24).reshape(2, 3, 4)
    spec = ImageSpec(pixels.shape, pixels.dtype, ("c", "y", "x"), (1, 2))
    node = bind(_first_of, [Source(spec, None)], {})
    assert node.spec.shape == (3, 4)
    assert node.spec.axes == ("y", "x")
    lazy = public(_first_of)(da.from_array(pixels), axis="z")
    np.testing.assert_array_equal(lazy.compute(), 2 * pixels[0])


def test_mistakes_name_the_filter_as_it_was_written(picture):
    with pytest.raises(ParameterError, match=r"^_opened: size must be one value or 2"):
        public(_opened)(picture, size=(3, 3, 3))
    with pytest.raises(ParameterError, match="_opened has no parameter 'sise'"):
        public(_opened)(picture, sise=3)


def test_the_node_remembers_how_it_was_written_and_travels(picture):
    source = Source(ImageSpec(picture.shape, picture.dtype, ("y", "x"), (0, 1)), None)
    node = bind(_opened, [source], {"size": 5})
    assert node.written.filter is _opened
    assert node.written.inputs == (source,)
    assert node.filter.name == "maximum"
    copy = pickle.loads(pickle.dumps(node))
    assert copy.written.params["size"] == 5

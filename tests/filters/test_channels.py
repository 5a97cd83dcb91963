"""Weighted sums of channels against `numpy.tensordot` and scikit-image."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skimage.color import rgb2gray

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Source
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters.filter import find_filter
from chunkfilt.grid import ImageSpec, Region
from chunkfilt.kernels import real_dtype

DTYPES = ["bool", "uint8", "int16", "uint16", "int64", "float16", "float32", "float64"]


def channels(dtype, count=3, axis=0, seed=0, plane=(9, 11)):
    rng = np.random.default_rng(seed)
    shape = list(plane)
    shape.insert(axis % (len(plane) + 1), count)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    return (rng.random(shape) * 200).astype(dtype)


def in_order(image, weights, axis):
    """Return the sum in float64 and in the order of the channels, cast once."""
    total = np.zeros(np.delete(image.shape, axis))
    for i, weight in enumerate(weights):
        total = total + weight * np.take(image, i, axis).astype(np.float64)
    return total.astype(real_dtype(image.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_a_weighted_sum(dtype, axis):
    image = channels(dtype, axis=axis)
    weights = [0.25, -1.5, 2.0]
    result = cf.mix_channels(image, weights=weights, axis=axis)
    assert result.dtype == real_dtype(dtype)
    assert_array_equal(result, in_order(image, weights, axis % 3))
    assert_allclose(result, np.tensordot(image.astype(float), weights, (axis, 0)), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=13), st.integers(0, 2))
def test_any_number_of_channels(weights, axis):
    image = channels("float64", len(weights), axis)
    if not any(abs(weight) > 2.2e-16 for weight in weights):
        with pytest.raises(ParameterError, match="at least one number that is not zero"):
            cf.mix_channels(image, weights=weights, axis=axis)
        return
    result = cf.mix_channels(image, weights=weights, axis=axis)
    assert_allclose(result, np.tensordot(image, weights, (axis, 0)), rtol=0, atol=1e-9)
    kept = [weight if abs(weight) > 2.2e-16 else 0.0 for weight in weights]
    assert_array_equal(result, in_order(image, kept, axis))


@pytest.mark.parametrize(
    ("name", "weights"),
    [("rec601", [0.299, 0.587, 0.114]), ("rec709", [0.2126, 0.7152, 0.0722])],
)
def test_named_weights(name, weights):
    image = channels("uint8", axis=-1)
    result = cf.mix_channels(image, weights=name, axis=-1)
    assert_array_equal(result, cf.mix_channels(image, weights=weights, axis=-1))


def test_grey_as_scikit_image_has_it():
    image = channels("float64", axis=-1) / 200
    assert_allclose(
        cf.mix_channels(image, weights="rgb2gray", axis=-1), rgb2gray(image), rtol=1e-14
    )
    eight = channels("uint8", axis=-1)
    grey = cf.mix_channels(eight, weights="rgb2gray", axis=-1)
    assert_allclose(grey / 255, rgb2gray(eight), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float64"])
def test_a_mean_is_divided_once(count, dtype):
    image = channels(dtype, count)
    result = cf.mix_channels(image, weights="mean", axis=0)
    if image.dtype.kind == "f":
        assert_allclose(result, image.mean(axis=0), rtol=1e-14)
    else:
        exact = image.astype(np.int64).sum(axis=0) / count
        assert_array_equal(result, exact.astype(real_dtype(dtype)))


def test_a_dtype_is_cast_to_once():
    image = channels("uint8", axis=-1)
    weights = [0.299, 0.587, 0.114]
    wide = cf.mix_channels(image, weights=weights, axis=-1, dtype="float64")
    assert_array_equal(wide, in_order(image.astype(float), weights, 2))
    narrow = cf.mix_channels(image, weights=weights, axis=-1, dtype="uint8")
    assert narrow.dtype == np.uint8
    assert_array_equal(narrow, np.rint(wide))
    loud = cf.mix_channels(image, weights=[5, 5, 5], axis=-1, dtype="uint8")
    assert_array_equal(loud, np.minimum(image.sum(axis=-1, dtype=int) * 5, 255))


def test_a_channel_without_weight_is_not_looked_at():
    image = channels("float64")
    image[1] = np.nan
    result = cf.mix_channels(image, weights=[1, 0, 2], axis=0)
    assert_array_equal(result, image[0] + 2 * image[2])
    image[2, 0, 0] = np.inf
    assert cf.mix_channels(image, weights=[1, 0, 2], axis=0)[0, 0] == np.inf


def test_weights_as_an_array():
    image = channels("uint16")
    weights = np.array([1, 2, 3], np.float32)
    assert_array_equal(
        cf.mix_channels(image, weights=weights, axis=0),
        cf.mix_channels(image, weights=[1, 2, 3], axis=0),
    )


class Memory:
    """Pixels, and what was read of them."""

    def __init__(self, array):
        self.array, self.chunks, self.read_regions = array, array.shape, []

    def read(self, region):
        self.read_regions.append(region)
        return self.array[region.slices]


def test_an_axis_by_name_and_what_is_read():
    image = channels("uint16", 6, axis=0, plane=(20, 30))
    reader = Memory(image)
    source = Source(ImageSpec(image.shape, image.dtype, ("c", "y", "x"), (1, 2)), reader)
    node = bind(find_filter("mix_channels"), [source], {"weights": [0, 1, 0, 0, 2, 3]})
    assert node.spec.axes == ("y", "x")
    assert node.spec.shape == (20, 30)
    box = Region((3, 4), (10, 12))
    expected = (image[1] + 2.0 * image[4] + 3.0 * image[5])[box.slices]
    assert_array_equal(evaluate_region(node, box), expected)
    read = {i for region in reader.read_regions for i in range(region.start[0], region.stop[0])}
    assert read == {1, 4, 5}
    assert all(r.start[1:] == (3, 4) and r.stop[1:] == (10, 12) for r in reader.read_regions)


@pytest.mark.parametrize("chunks", [(1, 4, 5), (3, 9, 11), (2, 9, 3)])
def test_dask_arrays(chunks):
    image = channels("uint8")
    lazy = da.from_array(image, chunks=chunks)
    for params in ({"weights": "rec601"}, {"weights": "mean"}, {"weights": [1, 0, 0]}):
        result = cf.mix_channels(lazy, axis=0, **params)
        assert isinstance(result, da.Array)
        assert_array_equal(result.compute(), cf.mix_channels(image, axis=0, **params))


def test_a_stored_image_and_back(tmp_path, make_store, make_pixels):
    pixels = make_pixels((3, 40, 50), "uint8")
    make_store(tmp_path / "in.zarr", pixels, chunks=(1, 16, 16), dims="cyx")
    grey = cf.mix_channels(cf.open(tmp_path / "in.zarr"), weights="rec709")
    assert grey.axes == ("y", "x")
    expected = cf.mix_channels(pixels, weights="rec709", axis=0)
    assert_array_equal(grey[...], expected)
    mixed = cf.mean(cf.mix_channels(cf.open(tmp_path / "in.zarr"), weights="mean"), size=3)
    text = cf.to_yaml(mixed, tmp_path / "job.yaml")
    assert "mix_channels: {weights: mean}" in text
    cf.from_yaml(tmp_path / "job.yaml").save(tmp_path / "out.zarr", progress=False)
    whole = cf.mean(cf.mix_channels(pixels, weights="mean", axis=0), size=3)
    assert_array_equal(cf.open(tmp_path / "out.zarr")[...], whole)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "weights is required"),
        ({"weights": "rec602"}, "or one of 'rec601', 'rec709', 'rgb2gray', 'mean', got 'rec602'"),
        ({"weights": [1, 2], "axis": 0}, "must be 3 numbers, one for each .* axis 0, got 2"),
        ({"weights": "rec601", "axis": 1}, "must be 9 numbers, one for each .* axis 1, got 3"),
        ({"weights": [0, 0, 0], "axis": 0}, "at least one number that is not zero"),
        ({"weights": [1, np.nan, 1], "axis": 0}, "finite numbers"),
        ({"weights": [1, True, 1], "axis": 0}, "finite numbers"),
        ({"weights": [1, 10**400, 1], "axis": 0}, "finite numbers"),
        ({"weights": [], "axis": 0}, "finite numbers"),
        ({"weights": np.ones((3, 3)), "axis": 0}, "finite numbers"),
        ({"weights": "mean"}, r"of shape \(3, 9, 11\), has no axis 'c' .* by number"),
        ({"weights": "mean", "axis": 3}, "has no axis 3"),
        ({"weights": "mean", "axis": [0, 1]}, "axis must be one axis, by number or by name"),
        ({"weights": "mean", "axis": True}, "axis must be one axis"),
        ({"weights": "mean", "axes": 0}, "has no parameter 'axes'"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, da.asarray], ids=["numpy", "dask"])
def test_what_is_refused(params, message, kind):
    with pytest.raises(ParameterError, match=f"mix_channels:? .*{message}"):
        cf.mix_channels(kind(channels("uint8")), **params)


def test_a_line_has_no_channels_and_a_number_no_axis():
    with pytest.raises(ParameterError, match="has no axis 0 to mix along"):
        cf.mix_channels(np.zeros(3), weights=[1, 2, 3], axis=0)
    with pytest.raises(ParameterError, match="has no channels along axis 0"):
        cf.mix_channels(np.zeros((0, 4)), weights="mean", axis=0)
    with pytest.raises(InputError, match="mix_channels takes image as input"):
        cf.mix_channels(3, weights="mean", axis=0)


def test_an_image_without_pixels():
    assert cf.mix_channels(np.zeros((3, 0, 5)), weights="mean", axis=0).shape == (0, 5)

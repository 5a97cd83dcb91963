"""Odd images through real runs: no pixels, one pixel, many axes, extremes, NaN and infinities."""

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import InputError

SHAPES = [
    *((0,), (1,), (0, 5), (5, 0), (0, 0), (1, 1), (1, 17), (17, 1), (2, 2), (13, 29), (31, 37)),
    *((1, 1, 1), (5, 0, 3), (3, 7, 11), (2, 3, 5, 7), (2, 1, 3, 5, 7), (1, 1, 1, 1, 1)),
]
FILTERS = {
    "mean": lambda image: cf.mean(image, size=5),
    "median": lambda image: cf.median(image, size=3),
    "gaussian": lambda image: cf.gaussian(image, sigma=3),
    "erosion": lambda image: cf.erosion(image, size=4),
    "two steps": lambda image: cf.maximum(cf.gaussian(image, sigma=1, mode="wrap"), size=7),
    "equalized": cf.equalize_hist,
}


def spatial_of(shape):
    return tuple(range(max(len(shape) - 3, 0), len(shape)))


def stored(path, data, **options):
    """Store an image with zarr alone, in chunks that do not divide it."""
    names = [*"abc", "z", "y", "x"][-data.ndim :]
    array = zarr.create_array(
        str(path), shape=data.shape, chunks=tuple(min(4, max(n, 1)) for n in data.shape),
        dtype=data.dtype, dimension_names=names, **options,
    )  # fmt: skip
    if data.size:
        array[...] = data
    return path


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes_from_store_to_store_as_in_memory(tmp_path, make_pixels, shape, name):
    data = make_pixels(shape)
    image = cf.open(stored(tmp_path / "in.zarr", data))
    made = FILTERS[name](image)
    result = made.save(tmp_path / "out.zarr", progress=False)
    same(zarr.open_array(str(result.path), mode="r")[...], made.compute())
    assert cf.open(result.path).shape == shape


def test_an_image_without_pixels_has_no_values(tmp_path):
    image = cf.open(stored(tmp_path / "in.zarr", np.zeros((0, 5), "u1")))
    with pytest.raises(InputError, match="without pixels"):
        cf.save({"s": cf.statistics(image)}, tmp_path / "out.zarr", progress=False)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) < 4 and 0 not in s], ids=str)
def test_odd_shapes_as_scipy_has_them(tmp_path, make_pixels, shape):
    data = make_pixels(shape, "float32")
    image = cf.open(stored(tmp_path / "in.zarr", data))
    cf.save(
        {"low": cf.minimum(image, size=4), "smooth": cf.gaussian(image, sigma=2)},
        tmp_path / "out.zarr",
        progress=False,
    )
    low = zarr.open_array(str(tmp_path / "out.zarr" / "low"), mode="r")[...]
    smooth = zarr.open_array(str(tmp_path / "out.zarr" / "smooth"), mode="r")[...]
    same(low, ndimage.minimum_filter(data, 4))
    reference = ndimage.gaussian_filter(data.astype(np.float64), 2)
    assert np.abs(smooth - reference).max() <= 1e-6 * np.abs(reference).max()


def test_an_image_without_axes_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "a"), shape=(), dtype="f4")
    with pytest.raises(InputError, match="0 axes"):
        cf.open(tmp_path / "a")


INTEGERS = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def extremes(dtype):
    """Return pixels that are for the most part the ends of what the dtype holds."""
    dtype = np.dtype(dtype)
    ends = [0, 1] if dtype.kind == "b" else [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]
    return np.random.default_rng(3).choice(np.array(ends, dtype), (11, 13))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_extremes_of_integers_survive_a_run(tmp_path, dtype):
    data = extremes(dtype)
    image = cf.open(stored(tmp_path / "in.zarr", data))
    made = {
        "low": cf.minimum(image, size=3),
        "high": cf.maximum(image, size=3),
        "middle": cf.median(image, size=3),
        "span": cf.range(image, size=3),
    }
    cf.save(made, tmp_path / "out.zarr", progress=False)
    found = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    # scipy goes by float64: beyond 2**53 only sorting windows tells.
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(data, 1, mode="symmetric"), (3, 3))
    sorted_ = np.sort(windows.reshape(11, 13, 9), axis=-1)
    same(found["low"][...], sorted_[..., 0])
    same(found["high"][...], sorted_[..., -1])
    same(found["middle"][...], sorted_[..., 4])
    exact = sorted_[..., -1].astype(object) - sorted_[..., 0].astype(object)
    most = 1 if dtype == "bool" else np.iinfo(dtype).max
    same(found["span"][...], np.minimum(exact, most).astype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf], ids=str)
def test_an_odd_float_reaches_its_windows_and_no_others(tmp_path, make_pixels, dtype, odd):
    data = make_pixels((19, 23), dtype)
    data[7, 11] = odd
    image = cf.open(stored(tmp_path / "in.zarr", data))
    made = {
        "mean": cf.mean(image, size=5),
        "variance": cf.variance(image, size=5),
        "gaussian": cf.gaussian(image, sigma=0.5),
    }
    cf.save(made, tmp_path / "out.zarr", progress=False)
    reached = np.zeros(data.shape, bool)
    reached[5:10, 9:14] = True
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    for name in made:
        np.testing.assert_array_equal(np.isfinite(group[name][...]), ~reached)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_floats(tmp_path, dtype):
    top = np.finfo(dtype).max
    data = np.where(np.random.default_rng(0).random((9, 9)) < 0.5, top, -top).astype(dtype)
    image = cf.open(stored(tmp_path / "in.zarr", data))
    result = cf.median(image, size=3).save(tmp_path / "out.zarr", progress=False)
    same(zarr.open_array(str(result.path), mode="r")[...], ndimage.median_filter(data, 3))


def test_negative_zeros_and_the_smallest_floats_come_back(tmp_path):
    data = np.array([[-0.0, 0.0, 5e-324], [np.inf, -np.inf, -5e-324]])
    image = cf.open(stored(tmp_path / "in.zarr", data))
    result = cf.median(image, size=1).save(tmp_path / "out.zarr", progress=False)
    found = zarr.open_array(str(result.path), mode="r")[...]
    assert found.tobytes() == data.tobytes()

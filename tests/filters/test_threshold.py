"""Local thresholds against scikit-image on float64, and windows of the padded image."""

import dask.array as da
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from scipy import ndimage
from skimage import filters

import chunkfilt as cf
from chunkfilt.errors import ParameterError
from chunkfilt.filters.threshold import half_range

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
DTYPES = ["bool", "uint8", "int16", "uint16", "uint32", "int64", "float16", "float32", "float64"]
PAD = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


def noise(dtype="float64", shape=(37, 41), seed=0):
    image = np.random.default_rng(seed).random(shape)
    return image > 0.6 if dtype == "bool" else (image * 120).astype(dtype)


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def spread(image, size, mode="mirror", cval=0):
    """The mean and the standard deviation of every window, in float64."""
    values = {"constant_values": cval} if mode == "constant" else {}
    widths = [(n // 2, n // 2) for n in size]
    padded = np.pad(image.astype(np.float64), widths, PAD.get(mode, mode), **values)
    windows = sliding_window_view(padded, size)
    inner = tuple(range(-len(size), 0))
    return windows.mean(axis=inner), windows.std(axis=inner)


@pytest.mark.parametrize("method", ["gaussian", "mean", "median"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_local_thresholds_are_scikit_images(dtype, method):
    image = noise(dtype)
    for size, offset in ((3, 0.0), ((7, 5), 10.5)):
        found = cf.threshold_local(image, block_size=size, method=method, offset=offset)
        expected = filters.threshold_local(
            image.astype(np.float64), size, method=method, offset=offset
        )
        small = image.dtype.itemsize <= 2 or dtype == "float32"
        assert found.dtype == (np.float32 if small else np.float64)
        assert_close(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["gaussian", "mean", "median"])
def test_local_thresholds_in_every_mode(method, mode):
    image = noise("uint8")
    found = cf.threshold_local(image, block_size=9, method=method, mode=mode, cval=3)
    expected = filters.threshold_local(
        image.astype(np.float64), 9, method=method, mode=mode, cval=3
    )
    assert_close(found, expected)


def test_a_given_sigma_is_the_gaussians():
    image = noise()
    found = cf.threshold_local(image, block_size=5, sigma=(2.0, 0.0), offset=1)
    assert_close(found, ndimage.gaussian_filter(image, (2.0, 0.0)) - 1)


@pytest.mark.parametrize("method", ["gaussian", "mean", "median"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_an_offset_as_large_as_the_mean_leaves_the_difference_its_digits(dtype, method):
    image = (noise() + 60_000).astype(dtype)
    found = cf.threshold_local(image, block_size=5, method=method, offset=60_060)
    expected = filters.threshold_local(image.astype(np.float64), 5, method=method, offset=60_060)
    assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [3, (9, 5)])
def test_thresholds_of_mean_and_deviation(dtype, window):
    image = noise(dtype)
    size = (window,) * 2 if isinstance(window, int) else window
    mean, std = spread(image, size)
    found = cf.threshold_niblack(image, window_size=window, k=-0.4)
    small = image.dtype.itemsize <= 2 or dtype == "float32"
    assert found.dtype == (np.float32 if small else np.float64)
    assert_close(found, mean + 0.4 * std)
    for r in (None, 33.0):
        half = half_range(image.dtype) if r is None else r
        found = cf.threshold_sauvola(image, window_size=window, k=0.3, r=r)
        assert_close(found, mean * (1 + 0.3 * (std / half - 1)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "float64"])
def test_defaults_are_scikit_images(dtype):
    image = noise(dtype)
    assert_close(cf.threshold_niblack(image), filters.threshold_niblack(image * 1.0))
    # On float64 scikit-image has another r: that of the image's own dtype is given.
    half = half_range(image.dtype)
    expected = filters.threshold_sauvola(image * 1.0, r=half)
    assert_close(cf.threshold_sauvola(image), expected)
    own = filters.threshold_sauvola(image if dtype != "bool" else image.astype("uint8"))
    if dtype != "bool":
        np.testing.assert_allclose(cf.threshold_sauvola(image), own, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(30,), (14, 15), (8, 7, 9)])
def test_thresholds_of_deviation_in_every_mode_and_dimension(mode, shape):
    image = noise("uint8", shape)
    size = (5,) * len(shape)
    mean, std = spread(image, size, mode, cval=7)
    found = cf.threshold_niblack(image, window_size=5, mode=mode, cval=7)
    assert_close(found, mean - 0.2 * std)


def test_a_value_beyond_the_edge_does_not_change_the_range():
    """Blocks are floats then; the range is still that of the image's dtype."""
    image = noise("uint8")
    mean, std = spread(image, (5, 5), "constant", cval=0.5)
    found = cf.threshold_sauvola(image, window_size=5, mode="constant", cval=0.5)
    assert_close(found, mean * (1 + 0.2 * (std / 127.5 - 1)))


@pytest.mark.parametrize(
    ("dtype", "half"),
    [("bool", 0.5), ("uint8", 127.5), ("int8", 127.5), ("uint16", 32767.5), ("float32", 1.0)],
)
def test_the_range_is_half_of_the_dtypes(dtype, half):
    assert half_range(np.dtype(dtype)) == half


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("threshold_local", {"block_size": 5, "method": "mean"}),
        ("threshold_niblack", {"window_size": 5}),
        ("threshold_sauvola", {"window_size": 5}),
    ],
)
def test_a_nan_stays_in_its_windows(name, params, bad):
    image = noise()
    clean = getattr(cf, name)(image, **params)
    image[20, 20] = bad
    found = getattr(cf, name)(image, **params)
    reached = np.zeros(image.shape, bool)
    reached[18:23, 18:23] = True
    assert not np.isfinite(found[reached]).any()
    assert_array_equal(found[~reached], clean[~reached])


@pytest.mark.parametrize("name", ["threshold_local", "threshold_niblack", "threshold_sauvola"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_chunks_do_not_show(name, dtype):
    image = noise(dtype, (60, 70))
    function = getattr(cf, name)
    lazy = function(da.from_array(image, chunks=(11, 23)))
    assert_array_equal(lazy.compute(), function(image))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("threshold_local", {"block_size": 4}, "block_size must be odd, got 4"),
        ("threshold_local", {"block_size": (3, 6)}, r"block_size\[1\] must be odd, got 6"),
        ("threshold_local", {"method": "generic"}, "method must be one of"),
        ("threshold_local", {"method": "mean", "sigma": 1.0}, "sigma is for method 'gaussian'"),
        ("threshold_local", {"sigma": 1e6}, "the Gaussian would reach 4e"),
        ("threshold_niblack", {"window_size": 0}, "window_size must be >= 1"),
        ("threshold_niblack", {"window_size": 8}, "window_size must be odd, got 8"),
        ("threshold_niblack", {"k": np.nan}, "k must be a finite number"),
        ("threshold_sauvola", {"r": 0.0}, "r must be > 0"),
    ],
)
def test_mistakes(name, params, message):
    with pytest.raises(ParameterError, match=message):
        getattr(cf, name)(noise(), **params)

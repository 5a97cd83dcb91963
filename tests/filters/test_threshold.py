"""Local thresholds against scikit-image on float64, and windows of the padded image."""

import itertools

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


def gaussian_of(pixels):
    """The mean of the pixels that count, weighted by a Gaussian of sigma 1."""
    taps = np.exp(-0.5 * np.arange(-(pixels.shape[0] // 2), pixels.shape[0] // 2 + 1) ** 2)
    weights = np.ones(())
    for n in pixels.shape:
        weights = np.multiply.outer(weights, taps[:n])
    return np.nansum(weights * pixels) / weights[~np.isnan(pixels)].sum()


def of_spread(combine):
    return lambda pixels: combine(np.nanmean(pixels), np.nanstd(pixels))


# What a filter makes of the pixels of a window, NaN where they do not count: its parameters, how
# wide the window is, and the same in NumPy.
OMITTING = {
    "mean": ("threshold_local", {"block_size": 5, "method": "mean"}, 5, np.nanmean),
    "less": (
        "threshold_local",
        {"block_size": 3, "method": "mean", "offset": 7.5},
        3,
        lambda pixels: np.nanmean(pixels) - 7.5,
    ),
    "gaussian": (
        "threshold_local",
        {"sigma": 1.0, "offset": -3.0},
        9,
        lambda p: gaussian_of(p) + 3,
    ),
    "median": (
        "threshold_local",
        {"block_size": 5, "method": "median", "offset": 0.5},
        5,
        lambda p: np.sort(p[~np.isnan(p)])[np.count_nonzero(~np.isnan(p)) // 2] - 0.5,
    ),
    "niblack": (
        "threshold_niblack",
        {"window_size": 7, "k": 0.7},
        7,
        of_spread(lambda m, s: m - 0.7 * s),
    ),
    "sauvola": (
        "threshold_sauvola",
        {"window_size": 5, "k": 0.4, "r": 50.0},
        5,
        of_spread(lambda m, s: m * (1 + 0.4 * (s / 50 - 1))),
    ),
}
SHAPES = {1: (60,), 2: (19, 23), 3: (10, 11, 12)}


def by_windows(seen, width, measure, mode, cval=0.0):
    """Measure one window after the other; NaN where a window has nothing but NaN."""
    values = {"constant_values": cval} if mode == "constant" else {}
    padded = np.pad(seen, width // 2, PAD.get(mode, mode), **values)
    out = np.full(seen.shape, np.nan)
    for at in itertools.product(*map(range, seen.shape)):
        pixels = padded[tuple(slice(i, i + width) for i in at)]
        if not np.isnan(pixels).all():
            out[at] = measure(pixels)
    return out


def holes(shape, seed=3):
    """Which pixels count: most, but none in a hole larger than the windows, and all at one side."""
    mask = np.random.default_rng(seed).random(shape) < 0.7
    mask[tuple(slice(n // 2) for n in shape)] = False
    mask[..., -4:] = True
    return mask


def assert_same_gaps(found, expected):
    assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(expected).any()
    assert_close(np.nan_to_num(found), np.nan_to_num(expected))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("case", OMITTING)
def test_pixels_under_no_mask_are_left_out(case, dtype, ndim):
    name, params, width, measure = OMITTING[case]
    image, mask = noise(dtype, SHAPES[ndim]), holes(SHAPES[ndim])
    found = getattr(cf, name)(image, mask, **params, mode="reflect")
    assert found.dtype == getattr(cf, name)(image, **params).dtype
    seen = np.where(mask, image.astype(np.float64), np.nan)
    assert_same_gaps(found, by_windows(seen, width, measure, "reflect"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", OMITTING)
def test_nan_is_left_out_in_every_mode(case, mode):
    name, params, width, measure = OMITTING[case]
    image = np.where(holes(SHAPES[2]), noise("float64", SHAPES[2]), np.nan)
    found = getattr(cf, name)(image, **params, nan_policy="omit", mode=mode, cval=9.0)
    assert_same_gaps(found, by_windows(image, width, measure, mode, 9.0))
    spread = np.isnan(np.pad(image, width // 2, "reflect"))
    reached = sliding_window_view(spread, (width, width)).any(axis=(-1, -2))
    assert_array_equal(np.isnan(getattr(cf, name)(image, **params, mode="mirror")), reached)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("case", OMITTING)
def test_nodata_is_left_out(case, dtype, tmp_path, make_store):
    name, params, width, measure = OMITTING[case]
    pixels, mask = noise(dtype, SHAPES[2]), holes(SHAPES[2])
    pixels[~mask] = -99
    image = cf.open(make_store(tmp_path / "in.zarr", pixels, chunks=(8, 8)), nodata=-99)
    found = getattr(cf, name)(image, **params, mode="mirror").compute()
    nodata = np.float32(-99) if dtype == "float32" else np.float32(np.nan)
    assert_array_equal(found[~mask], np.full(np.count_nonzero(~mask), nodata))
    expected = by_windows(np.where(mask, pixels * 1.0, np.nan), width, measure, "mirror")
    assert_close(found[mask], expected[mask])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int64"])
@pytest.mark.parametrize("case", OMITTING)
def test_a_whole_window_has_the_same_threshold_whatever_is_missing_elsewhere(case, dtype):
    name, params, width, _ = OMITTING[case]
    image, mask = noise(dtype), np.ones((37, 41), bool)
    whole = getattr(cf, name)(image, **params, mode="mirror")
    assert_array_equal(getattr(cf, name)(image, mask, **params, mode="mirror"), whole)
    mask[20, 20] = mask[0] = False
    held = ~np.pad(mask, width // 2, "reflect")
    reached = sliding_window_view(held, (width, width)).any(axis=(-1, -2))
    found = getattr(cf, name)(image, mask, **params, mode="mirror")
    assert_array_equal(found[~reached], whole[~reached])


@pytest.mark.parametrize("case", OMITTING)
def test_a_nan_that_a_mask_lets_in_still_spreads(case):
    name, params, width, measure = OMITTING[case]
    image, mask = noise(), np.ones((37, 41), bool)
    image[20, 20], image[9, 9], mask[9, 9] = np.nan, np.nan, False
    found = getattr(cf, name)(image, mask, **params, mode="reflect")
    reached = np.zeros(image.shape, bool)
    reached[(slice(20 - width // 2, 21 + width // 2),) * 2] = True
    assert_array_equal(np.isnan(found), reached)
    expected = by_windows(image, width, measure, "reflect")
    assert_close(found[~reached], expected[~reached])


@pytest.mark.parametrize("case", OMITTING)
def test_chunks_do_not_show_where_pixels_are_missing(case):
    name, params, _, _ = OMITTING[case]
    image, mask = noise("float32", (60, 70)), holes((60, 70))
    image[~holes((60, 70), 5)] = np.nan
    given = {**params, "nan_policy": "omit"}
    lazy = getattr(cf, name)(
        da.from_array(image, (11, 23)), mask=da.from_array(mask, (13, 70)), **given
    )
    assert_array_equal(lazy.compute(), getattr(cf, name)(image, mask=mask, **given))


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

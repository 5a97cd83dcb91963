"""Measures of a window, against exact arithmetic on the padded image."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

import chunkfilt as cf

PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
}
MEASURES = ["mean", "sum", "variance", "std"]
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)


def noise(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both ends included; floats around 100."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 30 + 100).astype(kind)
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[::5], image.flat[1::7] = info.max, info.min
    return image


def windows(image, footprint, mode="reflect", cval=0, origin=None):
    """The pixels that every output sees, on a last axis."""
    origin = (0,) * image.ndim if origin is None else origin
    halo = [(n // 2 + o, n - 1 - n // 2 - o) for n, o in zip(footprint.shape, origin, strict=True)]
    options = {"constant_values": cval} if mode == "constant" else {}
    view = sliding_window_view(np.pad(image, halo, PAD[mode], **options), footprint.shape)
    return view[..., footprint]


def real(dtype):
    small = np.dtype(dtype).itemsize <= 2 or np.dtype(dtype) == np.float32
    return np.dtype(np.float32 if small else np.float64)


def exact(name, pixels, ddof=0):
    """Measures of integers: exact sums, one division in float64 (or the root of it)."""
    wide = pixels.astype(object) if pixels.dtype.itemsize > 2 else pixels.astype(np.int64)
    n = pixels.shape[-1]
    total = wide.sum(-1)
    if name == "sum":
        return total.astype(np.float64)
    if name == "mean":
        return (total.astype(np.float64) / n).astype(real(pixels.dtype))
    scaled = n * (wide * wide).sum(-1) - total * total
    variance = scaled.astype(np.float64) / (n * (n - ddof))
    return (np.sqrt(variance) if name == "std" else variance).astype(real(pixels.dtype))


def close(result, expected, tolerance=1e-6):
    assert result.shape == expected.shape
    scale = np.abs(expected).max() if expected.size else 0
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)


def two_pass(name, pixels, ddof=0):
    wide = pixels.astype(np.float64)
    if name in ("mean", "sum"):
        return getattr(wide, name)(-1)
    return getattr(wide, "var" if name == "variance" else "std")(-1, ddof=ddof)


@pytest.mark.parametrize("dtype", ["bool", "int16", "uint16"])
@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_small_integers_are_exact(name, dtype):
    image = noise(dtype, (13, 17))
    for size, origin, mode in [
        ((3, 3), (0, 0), "reflect"),
        ((4, 5), (1, -2), "wrap"),
        ((1, 30), (0, 3), "mirror"),
    ]:
        pixels = windows(image, np.ones(size, bool), mode, 0, origin)
        result = getattr(cf, name)(image, size=size, origin=origin, mode=mode)
        expected = exact(name, pixels)
        assert result.dtype == (np.float64 if name == "sum" else np.float32)
        assert_array_equal(result, expected)


@pytest.mark.parametrize("name", ["mean", "sum"])
def test_sums_of_wide_integers_are_exact(name):
    image = noise("int64", (9, 12))
    expected = exact(name, windows(image, np.ones((3, 4), bool)))
    assert_array_equal(getattr(cf, name)(image, size=(3, 4)), expected)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", sorted(PAD))
def test_measures_of_floats(name, dtype, mode):
    image = noise(dtype, (14, 11))
    expected = two_pass(name, windows(image, np.ones((5, 4), bool), mode, 7.5, (1, 0)))
    result = getattr(cf, name)(image, size=(5, 4), origin=(1, 0), mode=mode, cval=7.5)
    assert result.dtype == dtype
    close(result, expected)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_measures_under_a_footprint(name, dtype):
    image = noise(dtype, (12, 15))
    pixels = windows(image, CROOKED, "mirror")
    result = getattr(cf, name)(image, footprint=CROOKED, mode="mirror")
    if dtype == "uint8":
        assert_array_equal(result, exact(name, pixels))
    else:
        close(result, two_pass(name, pixels))


@pytest.mark.parametrize("name", MEASURES)
def test_a_footprint_without_holes_is_a_window(name):
    image = noise("uint8", (10, 12))
    function = getattr(cf, name)
    assert_array_equal(
        function(image, footprint=np.ones((3, 4), bool)), function(image, size=(3, 4))
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MEASURES),
    st.lists(
        st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(0, 11)), min_size=1, max_size=3
    ),
    st.sampled_from(sorted(PAD)),
)
def test_any_window_on_any_small_image(name, axes, mode):
    shape, size, shift = zip(*axes, strict=True)
    origin = tuple(-(n // 2) + s % n for n, s in zip(size, shift, strict=True))
    image = noise("uint8", shape, seed=len(axes))
    pixels = windows(image, np.ones(size, bool), mode, 3, origin)
    result = getattr(cf, name)(image, size=size, origin=origin, mode=mode, cval=3)
    assert_array_equal(result, exact(name, pixels))


@pytest.mark.parametrize("name", MEASURES)
def test_batch_axes_are_filtered_one_by_one(name):
    stack = noise("uint8", (2, 9, 3, 8))
    function = getattr(cf, name)
    result = function(stack, size=(3, 2), axes=(1, 3))
    for i in range(2):
        for j in range(3):
            assert_array_equal(result[i, :, j], function(stack[i, :, j], size=(3, 2)))
    # A last axis of length 3 is no colour of its own.
    rgb = noise("uint8", (9, 8, 3))
    assert_array_equal(function(rgb, size=3), function(rgb, size=(3, 3, 3), axes=(0, 1, 2)))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("window", [{"size": (3, 4)}, {"footprint": CROOKED}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_reaches_its_windows_and_no_further(name, window, bad):
    image = noise("float64", (15, 16))
    clean = getattr(cf, name)(image, **window)
    image[7, 8] = image[14, 0] = bad
    footprint = window.get("footprint", np.ones((3, 4), bool))
    hit = ~np.isfinite(windows(image, footprint)).all(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = getattr(cf, name)(image, **window)
    if np.isnan(bad):
        assert_array_equal(np.isnan(result), hit)
    else:
        assert not np.isfinite(result[hit]).any()
    assert_array_equal(result[~hit], clean[~hit])


@pytest.mark.parametrize("name", MEASURES)
def test_huge_values_reach_their_windows_and_no_further(name):
    image = noise("float64", (6, 300))
    clean = getattr(cf, name)(image, size=(1, 5))
    image[2, 100] = 1e17
    result = getattr(cf, name)(image, size=(1, 5))
    same = np.ones(image.shape, bool)
    same[2, 98:103] = False
    assert_array_equal(result[same], clean[same])


@pytest.mark.parametrize("offset", [0.0, 1e7, -1e7])
@pytest.mark.parametrize("size", [3, 8, 31])
def test_an_offset_costs_the_variance_no_digits(offset, size):
    image = (np.random.default_rng(5).normal(size=(40, 40)) * 50 + offset).astype(np.float32)
    expected = two_pass("variance", windows(image, np.ones((size, size), bool)))
    result = cf.variance(image, size=size)
    assert (result >= 0).all()
    # The result itself is rounded to float32.
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 255, 7])
def test_constant_images(value):
    image = np.full((9, 11), value, dtype=np.uint8)
    assert_array_equal(cf.mean(image, size=4), value)
    for name in ("variance", "std"):
        assert_array_equal(getattr(cf, name)(image, size=4), 0)
        assert_array_equal(getattr(cf, name)(np.full((9, 9), 0.1 + value), size=5), 0)
    assert_array_equal(cf.sum(image, size=4), 16.0 * value)


@pytest.mark.parametrize("name", ["variance", "std"])
def test_degrees_of_freedom(name):
    image = noise("uint8", (8, 9))
    pixels = windows(image, np.ones((2, 3), bool))
    assert_array_equal(getattr(cf, name)(image, size=(2, 3), ddof=2), exact(name, pixels, 2))
    floats = image.astype(np.float64)
    close(getattr(cf, name)(floats, size=(2, 3), ddof=2), two_pass(name, pixels, 2))
    for ddof in (6, 7):
        assert np.isnan(getattr(cf, name)(image, size=(2, 3), ddof=ddof)).all()
        assert np.isnan(getattr(cf, name)(floats, size=(2, 3), ddof=ddof)).all()


def test_extremes_of_16_bits_do_not_overflow_in_a_large_window():
    image = np.zeros((40, 420), dtype=np.uint16)
    image[:, ::2] = 65535
    result = cf.variance(image, size=(40, 300), mode="wrap")
    assert_array_equal(result, np.float32(Fraction(65535**2, 4)))


def test_a_cval_that_the_dtype_cannot_hold():
    image = noise("uint8", (6, 7))
    pixels = windows(image.astype(np.float64), np.ones((3, 3), bool), "constant", -0.5)
    close(cf.mean(image, size=3, mode="constant", cval=-0.5), pixels.mean(-1))


def test_the_result_may_be_cast():
    image = noise("uint8", (9, 9))
    exact_mean = windows(image, np.ones((2, 2), bool)).astype(np.float64).mean(-1)
    result = cf.mean(image, size=2, dtype="uint8")
    assert result.dtype == np.uint8
    assert_array_equal(result, np.rint(exact_mean))
    assert_array_equal(
        cf.sum(image, size=3, dtype="uint8"),
        np.minimum(exact("sum", windows(image, np.ones((3, 3), bool))), 255),
    )


def test_float16_gives_float32():
    image = noise("float16", (8, 8))
    expected = two_pass("mean", windows(image, np.ones((3, 3), bool)))
    assert cf.mean(image).dtype == np.float32
    close(cf.mean(image), expected)


def test_big_endian_images():
    image = noise("uint16", (8, 9))
    for name in MEASURES:
        function = getattr(cf, name)
        assert_array_equal(function(image.astype(">u2"), size=3), function(image, size=3))


def test_a_window_of_one_pixel():
    image = noise("int16", (7, 8))
    for name in ("mean", "sum"):
        assert_array_equal(getattr(cf, name)(image, size=1), image)
    assert_array_equal(cf.variance(image, size=1), 0)

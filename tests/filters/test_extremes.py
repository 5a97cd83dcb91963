"""Minimum, maximum and range, against scipy and numpy on the padded image."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import ParameterError

PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
}
SCIPY = {"constant": "grid-constant", "wrap": "grid-wrap"}
NAMES = ["minimum", "maximum", "range"]
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


def apart(high, low):
    """Subtract in integers of any width, then saturate; bool gives xor."""
    if high.dtype.kind == "f":
        return high - low
    if high.dtype.kind == "b":
        return high ^ low
    wide = high.astype(object) - low.astype(object)
    return np.minimum(wide, np.iinfo(high.dtype).max).astype(high.dtype)


def expected(name, pixels):
    if name == "range":
        return apart(pixels.max(-1), pixels.min(-1))
    return pixels.min(-1) if name == "minimum" else pixels.max(-1)


def among(name, pixels, kept, missing):
    """Give the result for the pixels kept of every window."""
    out = np.empty(pixels.shape[:-1], pixels.dtype)
    for place in np.ndindex(out.shape):
        seen = pixels[place][kept[place]]
        out[place] = expected(name, seen[None])[0] if seen.size else missing
    return out


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("name", ["minimum", "maximum"])
def test_extremes_are_scipys(name, dtype):
    image = noise(dtype, (16, 13))
    for mode in sorted(PAD):
        for window in ({"size": (3, 4)}, {"footprint": CROOKED}, {"footprint": np.ones((2, 5))}):
            reference = getattr(ndimage, f"{name}_filter")(
                image.astype(np.uint8) if dtype == "bool" else image,
                **window,
                mode=SCIPY.get(mode, mode),
                cval=1,
                origin=(0, -2),
            )
            result = getattr(cf, name)(image, **window, mode=mode, cval=1, origin=(0, -2))
            assert result.dtype == image.dtype
            assert_array_equal(result, reference.astype(dtype))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float64"]
)
@pytest.mark.parametrize("name", NAMES)
def test_every_dtype_is_exact(name, dtype):
    image = noise(dtype, (9, 10))
    for footprint in (CROOKED, np.ones((3, 2), bool)):
        result = getattr(cf, name)(image, footprint=footprint)
        assert result.dtype == dtype
        assert_array_equal(result, expected(name, windows(image, footprint)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(0, 11)), min_size=1, max_size=3
    ),
    st.sampled_from(sorted(PAD)),
    st.booleans(),
)
def test_any_window_on_any_small_image(name, axes, mode, masked):
    shape, size, shift = zip(*axes, strict=True)
    origin = tuple(-(n // 2) + s % n for n, s in zip(size, shift, strict=True))
    image = noise("int8", shape, seed=len(axes))
    mask = np.random.default_rng(1).random(shape) < 0.6
    box = np.ones(size, bool)
    pixels = windows(image, box, mode, 3, origin)
    kept = windows(mask, box, mode, True, origin) if masked else np.ones(pixels.shape, bool)
    extra = {"mask": mask} if masked else {}
    result = getattr(cf, name)(image, size=size, origin=origin, mode=mode, cval=3, **extra)
    assert_array_equal(result, among(name, pixels, kept, 0))


@pytest.mark.parametrize("name", NAMES)
def test_pixels_left_out(name):
    image = noise("float32", (14, 15))
    image[3:8, 4:9] = image[::4, ::3] = np.nan
    image[12, 12], image[12, 2] = np.inf, -np.inf
    mask = np.random.default_rng(2).random(image.shape) < 0.8
    pixels = windows(image, CROOKED, "mirror")
    function = getattr(cf, name)
    result = function(image, nan_policy="omit", footprint=CROOKED, mode="mirror")
    with np.errstate(invalid="ignore"):
        assert_array_equal(result, among(name, pixels, ~np.isnan(pixels), np.nan))
        kept = windows(mask, CROOKED, "mirror")
        wanted = among(name, pixels, kept, np.nan)
    assert_array_equal(function(image, mask=mask, footprint=CROOKED, mode="mirror"), wanted)


@pytest.mark.parametrize("name", NAMES)
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
    assert_array_equal(result[~hit], clean[~hit])


def test_a_range_that_is_too_wide_saturates():
    image = np.array([-128, 127, 0], np.int8)
    assert_array_equal(cf.range(image), [127, 127, 127])
    assert_array_equal(cf.range(image[1:]), [127, 127])
    most = np.float16(65504)
    assert_array_equal(cf.range(np.array([-most, most])), [np.inf, np.inf])
    assert np.isnan(cf.range(np.array([np.inf, np.inf]))).all()


@pytest.mark.parametrize("name", NAMES)
def test_batch_axes_are_filtered_one_by_one(name):
    stack = noise("uint8", (2, 9, 3, 8))
    function = getattr(cf, name)
    result = function(stack, footprint=CROOKED[:, :3], axes=(1, 3))
    for i in range(2):
        for j in range(3):
            assert_array_equal(result[i, :, j], function(stack[i, :, j], footprint=CROOKED[:, :3]))


def test_constants_and_infinities_beyond_the_edge():
    image = noise("uint8", (6, 7))
    for name in NAMES:
        with pytest.raises(ParameterError, match="cval must be representable as uint8"):
            getattr(cf, name)(image, mode="constant", cval=300)
    infinite = cf.maximum(noise("float32", (5, 5)), mode="constant", cval=np.inf)
    assert np.isinf(infinite[0]).all()
    assert np.isfinite(infinite[1:-1, 1:-1]).all()


def test_a_window_of_one_pixel():
    image = noise("int16", (7, 8))
    assert_array_equal(cf.minimum(image, size=1), image)
    assert_array_equal(cf.maximum(image, size=1), image)
    assert_array_equal(cf.range(image, size=1), 0 * image)


def test_images_in_another_byte_order():
    image = noise("uint16", (8, 9))
    for name in NAMES:
        function = getattr(cf, name)
        swapped = image.astype(">u2")
        assert_array_equal(function(swapped, footprint=CROOKED), function(image, footprint=CROOKED))

"""Median, percentile and rank, against scipy and against sorting the padded image."""

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
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)
# What each filter is asked for, and the rank of that among n pixels.
ASKED = [
    ("median", {}, lambda n: n // 2),
    ("percentile", {"percentile": 29.0}, lambda n: int(float(n) * 29.0 / 100.0)),
    ("percentile", {"percentile": -20.0}, lambda n: int(float(n) * 80.0 / 100.0)),
    ("percentile", {"percentile": 100.0}, lambda n: n - 1),
    ("rank", {"rank": 2}, lambda n: min(2, n - 1)),
    ("rank", {"rank": -3}, lambda n: max(n - 3, 0)),
    ("rank", {"rank": 0}, lambda n: 0),
]
every = pytest.mark.parametrize(
    ("name", "asked", "at"),
    ASKED,
    ids=[f"{name}{list(asked.values())}" for name, asked, _ in ASKED],
)


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


def among(pixels, kept, at, missing):
    """Sort the pixels kept of every window and take the one of rank ``at(n)``."""
    out = np.empty(pixels.shape[:-1], pixels.dtype)
    for place in np.ndindex(out.shape):
        seen = np.sort(pixels[place][kept[place]])
        out[place] = seen[at(seen.size)] if seen.size else missing
    return out


@every
@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
def test_ranks_are_scipys(name, asked, at, dtype):
    image = noise(dtype, (16, 13))
    for mode in sorted(PAD):
        for window in ({"size": (3, 4)}, {"footprint": CROOKED}):
            reference = getattr(ndimage, f"{name}_filter")(
                image.astype(np.uint8) if dtype == "bool" else image,
                **window,
                **asked,
                mode=SCIPY.get(mode, mode),
                cval=1,
                origin=(1, -2),
            )
            result = getattr(cf, name)(image, **window, **asked, mode=mode, cval=1, origin=(1, -2))
            assert result.dtype == image.dtype
            assert_array_equal(result, reference.astype(dtype))


@every
@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16"])
def test_every_bit_is_kept(name, asked, at, dtype):
    # scipy's own go through float64, which cannot tell neighbours above 2**53 apart.
    image = noise(dtype, (8, 9))
    if dtype != "float16":
        image[2:5, 2:5] = np.iinfo(dtype).max - np.arange(9, dtype=dtype).reshape(3, 3)
    pixels = np.sort(windows(image, np.ones((3, 3), bool)), axis=-1)
    result = getattr(cf, name)(image, size=3, **asked)
    assert result.dtype == dtype
    assert_array_equal(result, pixels[..., at(9)])


@pytest.mark.parametrize("size", [2, 4, (1, 2), (2, 3)])
def test_the_median_of_an_even_number_is_the_upper_of_the_two(size):
    image = noise("uint8", (11, 12))
    window = np.ones((size, size) if isinstance(size, int) else size, bool)
    pixels = np.sort(windows(image, window), axis=-1)
    assert_array_equal(cf.median(image, size=size), pixels[..., pixels.shape[-1] // 2])


def test_a_percentile_is_rounded_as_scipy_rounds_it():
    image = noise("uint16", (12, 13))
    pixels = np.sort(windows(image, np.ones((10, 10), bool)), axis=-1)
    assert_array_equal(cf.percentile(image, percentile=29, size=10), pixels[..., 29])
    for q in (0, 7.3, 57, 99.99, np.nextafter(100, 0), -0.0, -1e-30, -100, -43):
        reference = ndimage.percentile_filter(image, q, size=5)
        assert_array_equal(cf.percentile(image, percentile=q, size=5), reference)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ASKED),
    st.lists(
        st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(0, 11)), min_size=1, max_size=3
    ),
    st.sampled_from(sorted(PAD)),
    st.booleans(),
)
def test_any_window_on_any_small_image(one, axes, mode, masked):
    name, asked, at = one
    shape, size, shift = zip(*axes, strict=True)
    if name == "rank" and np.prod(size) < 3:
        return
    origin = tuple(-(n // 2) + s % n for n, s in zip(size, shift, strict=True))
    image = noise("uint8", shape, seed=len(axes))
    mask = np.random.default_rng(1).random(shape) < 0.6
    box = np.ones(size, bool)
    pixels = windows(image, box, mode, 3, origin)
    # Outside, the mask is extended as the image is; a constant lies under no mask.
    kept = windows(mask, box, mode, True, origin) if masked else np.ones(pixels.shape, bool)
    extra = {"mask": mask} if masked else {}
    asked = {**asked, **extra, "size": size, "origin": origin, "mode": mode, "cval": 3}
    assert_array_equal(getattr(cf, name)(image, **asked), among(pixels, kept, at, 0))


@every
def test_pixels_left_out(name, asked, at):
    image = noise("float32", (14, 15))
    image[3:8, 4:9] = image[::4, ::3] = np.nan
    mask = np.random.default_rng(2).random(image.shape) < 0.8
    pixels = windows(image, CROOKED, "mirror")
    function = getattr(cf, name)
    options = {**asked, "footprint": CROOKED, "mode": "mirror"}
    result = function(image, nan_policy="omit", **options)
    assert_array_equal(result, among(pixels, ~np.isnan(pixels), at, np.nan))
    both = ~np.isnan(pixels) & windows(mask, CROOKED, "mirror")
    result = function(image, mask=mask, nan_policy="omit", **options)
    assert_array_equal(result, among(pixels, both, at, np.nan))
    # A NaN that counts spoils its windows.
    spoilt = (np.isnan(pixels) & windows(mask, CROOKED, "mirror")).any(-1)
    result = function(image, mask=mask, **options)
    assert np.isnan(result[spoilt]).all()
    assert_array_equal(result[~spoilt], among(pixels, both, at, np.nan)[~spoilt])


@every
@pytest.mark.parametrize("window", [{"size": (3, 4)}, {"footprint": CROOKED}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_reaches_its_windows_and_no_further(name, asked, at, window, bad):
    image = noise("float64", (15, 16))
    clean = getattr(cf, name)(image, **window, **asked)
    image[7, 8] = image[14, 0] = bad
    footprint = window.get("footprint", np.ones((3, 4), bool))
    hit = ~np.isfinite(windows(image, footprint)).all(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = getattr(cf, name)(image, **window, **asked)
    if np.isnan(bad):
        assert_array_equal(np.isnan(result), hit)
    assert_array_equal(result[~hit], clean[~hit])


@every
def test_batch_axes_are_filtered_one_by_one(name, asked, at):
    stack = noise("uint8", (2, 9, 3, 8))
    function = getattr(cf, name)
    result = function(stack, size=(3, 2), axes=(1, 3), **asked)
    for i in range(2):
        for j in range(3):
            assert_array_equal(result[i, :, j], function(stack[i, :, j], size=(3, 2), **asked))


@every
def test_other_layouts_of_the_input(name, asked, at):
    image = noise("uint16", (8, 9))
    function = getattr(cf, name)
    assert_array_equal(function(image.astype(">u2"), **asked), function(image, **asked))
    assert_array_equal(
        function(image[::-1, ::2], **asked), function(image[::-1, ::2].copy(), **asked)
    )


def test_a_window_of_one_pixel():
    image = noise("int16", (7, 8))
    assert_array_equal(cf.median(image, size=1), image)
    assert_array_equal(cf.percentile(image, percentile=30, size=1), image)
    assert_array_equal(cf.rank(image, rank=-1, size=1), image)


def test_what_a_rank_may_be():
    image = noise("uint8", (6, 7))
    with pytest.raises(ParameterError, match="rank is required"):
        cf.rank(image)
    for rank in (9, -10):
        with pytest.raises(ParameterError, match=f"within -9 and 8 .* 9 pixels, got {rank}"):
            cf.rank(image, rank=rank)
    with pytest.raises(ParameterError, match=r"within -6 and 5"):
        cf.rank(image, rank=6, footprint=CROOKED)
    with pytest.raises(ParameterError, match="must be an integer"):
        cf.rank(image, rank=1.5)


def test_what_a_percentile_may_be():
    image = noise("uint8", (6, 7))
    with pytest.raises(ParameterError, match="percentile is required"):
        cf.percentile(image)
    for q in (100.5, -101):
        with pytest.raises(ParameterError, match=f"must be .= -?100.0, got {q}"):
            cf.percentile(image, percentile=q)
    with pytest.raises(ParameterError, match="finite"):
        cf.percentile(image, percentile=np.nan)


def test_a_cval_that_the_dtype_cannot_hold():
    with pytest.raises(ParameterError, match="cval must be representable as uint8"):
        cf.median(noise("uint8", (6, 7)), mode="constant", cval=300)

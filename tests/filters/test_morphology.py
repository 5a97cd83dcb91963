"""Grey morphology, against scipy on the whole image and numpy on the padded one."""

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
SCIPY = {
    "erosion": ndimage.grey_erosion,
    "dilation": ndimage.grey_dilation,
    "opening": ndimage.grey_opening,
    "closing": ndimage.grey_closing,
    "morphological_gradient": ndimage.morphological_gradient,
    "white_tophat": ndimage.white_tophat,
    "black_tophat": ndimage.black_tophat,
}
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)
HEIGHTS = np.array([[2, -1, 0, 3], [0, 5, 1, -4], [-2, 0, 7, 2]])


def calm(dtype, shape, seed=0):
    """Noise that stays away from the limits of every dtype."""
    return (np.random.default_rng(seed).integers(40, 90, shape)).astype(dtype)


def noise(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both ends included."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 30).astype(kind)
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[::5], image.flat[1::7] = info.max, info.min
    return image


def same_as_scipy(name, image, **params):
    result = getattr(cf, name)(image, **params)
    assert result.dtype == image.dtype
    assert_array_equal(result, SCIPY[name](image, **params))


@pytest.mark.parametrize("mode", sorted(PAD))
@pytest.mark.parametrize("name", sorted(SCIPY))
def test_boxes_of_any_size_and_origin_are_scipys(name, mode):
    image = calm("int16", (14, 17))
    for size, origin in ((3, 0), (4, 0), ((2, 5), (-1, 2)), (4, (1, -2)), ((1, 6), 0)):
        same_as_scipy(name, image, size=size, origin=origin, mode=mode, cval=55)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("name", sorted(SCIPY))
def test_footprints_and_structures_are_scipys(name, dtype):
    image = calm(dtype, (16, 13))
    for origin in (0, (-1, 1), (1, -2)):
        for mode in ("mirror", "constant"):
            more = {"origin": origin, "mode": mode, "cval": 60}
            same_as_scipy(name, image, footprint=CROOKED, **more)
            same_as_scipy(name, image, structure=HEIGHTS, **more)
            same_as_scipy(name, image, structure=HEIGHTS, footprint=CROOKED, **more)


@pytest.mark.parametrize("name", sorted(SCIPY))
def test_lines_and_volumes_are_scipys(name):
    same_as_scipy(name, calm("int32", 31), size=4, origin=-2)
    same_as_scipy(name, calm("int32", 31), structure=HEIGHTS[0])
    cells = np.random.default_rng(1).random((2, 3, 4)) < 0.6
    image = calm("float64", (6, 7, 9))
    same_as_scipy(name, image, footprint=cells, mode="wrap", origin=(0, 1, -2))
    same_as_scipy(name, image, structure=cells * 7.5, mode="nearest")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_image_is_scipys(data):
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(3, 12)) for _ in range(ndim))
    window = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    origin = [data.draw(st.integers(-(n // 2), (n - 1) // 2)) for n in window]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    params = {"origin": tuple(origin), "mode": data.draw(st.sampled_from(sorted(PAD)))}
    kind = data.draw(st.sampled_from(["size", "footprint", "structure"]))
    if kind == "size":
        params["size"] = window
    else:
        held = rng.random(window) < 0.7
        held.flat[-1] = True
        params[kind] = held if kind == "footprint" else held * rng.integers(-9, 9, window)
    name = data.draw(st.sampled_from(sorted(SCIPY)))
    dtype = data.draw(st.sampled_from(["int16", "int32", "float32", "float64"]))
    same_as_scipy(name, calm(dtype, shape, data.draw(st.integers(0, 99))), **params)


@pytest.mark.parametrize("name", ["erosion", "dilation", "opening", "closing"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32"])
def test_flat_structures_select_pixels_of_the_whole_range(name, dtype):
    same_as_scipy(name, noise(dtype, (15, 16)), size=(3, 4))
    same_as_scipy(name, noise(dtype, (15, 16)), footprint=CROOKED)


@pytest.mark.parametrize("name", ["white_tophat", "black_tophat", "morphological_gradient"])
def test_differences_of_masks_are_xor(name):
    image = noise("bool", (20, 21))
    low, high = ndimage.grey_erosion(image, size=3), ndimage.grey_dilation(image, size=3)
    expected = {
        "white_tophat": image ^ ndimage.grey_dilation(low, size=3),
        "black_tophat": image ^ ndimage.grey_erosion(high, size=3),
        "morphological_gradient": low ^ high,
    }
    assert_array_equal(getattr(cf, name)(image, size=3), expected[name])


def wide(image, mode, footprint, heights, largest):
    """Erode or dilate integers of any size in Python's own, windows not turned round."""
    halo = [(n // 2, n - 1 - n // 2) for n in footprint.shape]
    pixels = sliding_window_view(np.pad(image, halo, PAD[mode]), footprint.shape)
    pixels = pixels[..., footprint].astype(object)
    lift = heights[footprint].astype(object)
    best = (pixels + lift).max(-1) if largest else (pixels - lift).min(-1)
    info = np.iinfo(image.dtype)
    return np.clip(best, info.min, info.max).astype(image.dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int32", "int64", "uint64"])
def test_integers_saturate_where_scipys_wrap_round(dtype):
    image, info = noise(dtype, (12, 14)), np.iinfo(dtype)
    heights = np.array([[3, 100, -50], [0, 7, 90], [-99, 60, 1]])
    cells = heights != 7
    params = {"structure": heights, "footprint": cells}
    low = wide(image, "reflect", cells, heights, False)
    high = wide(image, "reflect", cells[::-1, ::-1], heights[::-1, ::-1], True)
    assert_array_equal(cf.erosion(image, **params), low)
    assert_array_equal(cf.dilation(image, **params), high)
    apart = high.astype(object) - low.astype(object)
    expected = np.clip(apart, info.min, info.max).astype(dtype)
    assert_array_equal(cf.morphological_gradient(image, **params), expected)
    opened = wide(low, "reflect", cells[::-1, ::-1], heights[::-1, ::-1], True)
    apart = image.astype(object) - opened.astype(object)
    expected = np.clip(apart, info.min, info.max).astype(dtype)
    assert_array_equal(cf.white_tophat(image, **params), expected)


def test_fractions_of_heights_count_for_floats_only():
    image, heights = calm("float32", (9, 12)), np.array([[0.0, 1.6, 0.7], [2.5, 0.1, 3.9]])
    same_as_scipy("erosion", image, structure=heights)
    same_as_scipy("dilation", image, structure=heights)
    whole = image.astype("uint8")
    expected = cf.erosion(whole, structure=np.trunc(heights).astype(int))
    assert_array_equal(cf.erosion(whole, structure=heights), expected)


@pytest.mark.parametrize("params", [{"size": 3}, {"structure": HEIGHTS}], ids=["flat", "uneven"])
@pytest.mark.parametrize("name", sorted(SCIPY))
def test_nan_reaches_its_windows_and_no_further(name, params):
    image = noise("float64", (25, 26))
    clean = getattr(cf, name)(image, **params)
    image[12, 13] = np.nan
    result = getattr(cf, name)(image, **params)
    steps = 1 if name in ("erosion", "dilation", "morphological_gradient") else 2
    seen = np.isnan(result)
    assert seen[12, 13]
    window = params["structure"].shape if "structure" in params else (3, 3)
    for axis, n in enumerate(window):
        reach = np.flatnonzero(seen.any(axis=1 - axis))
        assert reach.size <= 1 + steps * 2 * (n // 2)
    assert_array_equal(result[~seen], clean[~seen])


@pytest.mark.parametrize("params", [{"size": (3, 4)}, {"structure": HEIGHTS}], ids=str)
def test_pixels_left_out_do_not_count(params):
    image = noise("float32", (20, 18))
    image[4:12, 5:13] = np.nan
    image[15, 3] = np.inf
    for name, empty in (("erosion", np.inf), ("dilation", -np.inf)):
        filled = np.where(np.isnan(image), np.float32(empty), image)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = getattr(cf, name)(image, nan_policy="omit", **params)
        expected = SCIPY[name](filled, **params)
        # Where no pixel of the window counts, the window being turned round for a dilation.
        none = ndimage.grey_erosion(np.isnan(image), size=(3, 4))
        if name == "dilation":
            none = ~ndimage.grey_dilation(~np.isnan(image), size=(3, 4))
        assert none.any()
        assert_array_equal(result, np.where(none, np.nan, expected))


def test_a_mask_leaves_pixels_out():
    image, mask = noise("int16", (20, 18)), np.random.default_rng(3).random((20, 18)) < 0.5
    mask[3:12, 4:14] = False
    low = ndimage.grey_erosion(np.where(mask, image, 32767), size=3)
    some = ndimage.grey_dilation(mask, size=3)
    assert_array_equal(cf.erosion(image, mask, size=3)[some], low[some])
    high = ndimage.grey_dilation(np.where(mask, image, -32768), size=3)
    result = cf.morphological_gradient(image, mask, size=3)
    apart = np.minimum(high.astype(int) - low, 32767)
    assert_array_equal(result, np.where(some, apart, 0))


def test_structures_in_yaml_and_by_maker():
    image = calm("uint8", (15, 15))
    disk = cf.disk(2)
    expected = ndimage.grey_closing(image, footprint=disk)
    assert_array_equal(cf.closing(image, footprint={"disk": 2}), expected)
    written = cf.erosion.filter.dump(cf.erosion.filter.validate({"structure": HEIGHTS}))
    assert written == {"structure": HEIGHTS.tolist()}


def test_what_does_not_go_together_is_refused():
    image = np.zeros((5, 5), np.uint8)
    for wrong, message in (
        ({"size": 3, "footprint": CROOKED}, "takes size or footprint, got both"),
        ({"size": 3, "structure": HEIGHTS}, "takes size or structure, got both"),
        ({"structure": [1, 2]}, "structure must have 2 axes .*, got 1"),
        ({"structure": [[1, 2]], "footprint": CROOKED}, "must have one shape"),
        ({"structure": [[np.nan]]}, "must be an array of finite numbers"),
        ({"structure": [[1], [2, 3]]}, "must be an array of finite numbers"),
        ({"structure": []}, "must be an array of finite numbers"),
        ({"structure": HEIGHTS, "origin": 3}, "origin must be within -1 and 1"),
        ({"size": 4, "origin": 2}, "origin must be within -2 and 1"),
        ({"mode": "constant", "cval": 300}, "cval must be representable as uint8"),
    ):
        for name in SCIPY:
            with pytest.raises(ParameterError, match=f"^{name}: .*{message}"):
                getattr(cf, name)(image, **wrong)

"""Measures of the pixels that are not missing: masks, NaN left out, nodata; against numpy."""

import warnings

import dask.array as da
import numpy as np
import pytest
import zarr
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
MEASURES = {"mean": np.nanmean, "sum": np.nansum, "variance": np.nanvar, "std": np.nanstd}
CROOKED = {
    1: np.array([1, 0, 1, 1], bool),
    2: np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], bool),
    3: np.array([[[0, 1], [1, 0], [1, 1]], [[1, 0], [0, 0], [0, 1]]], bool),
}


def noise(shape, dtype="float64", missing=0.3):
    """Pixels, and a mask with a hole larger than the windows."""
    rng = np.random.default_rng(8)
    pixels = (rng.normal(size=shape) * 30 + 100).clip(0, 250).astype(dtype)
    mask = rng.random(shape) >= missing
    mask[tuple(slice(0, 7) for _ in shape)] = False
    return pixels, mask


def windows(image, footprint, mode="reflect", cval=0.0, origin=0):
    """The pixels that every output sees, NaN where missing, on a last axis."""
    halo = [(n // 2 + origin, n - 1 - n // 2 - origin) for n in footprint.shape]
    options = {"constant_values": cval} if mode == "constant" else {}
    view = sliding_window_view(np.pad(image, halo, PAD[mode], **options), footprint.shape)
    return view[..., footprint]


def expect(name, image, *arguments, **options):
    """What numpy makes of the pixels of every window that are not NaN."""
    ddof = {"ddof": options.pop("ddof")} if "ddof" in options else {}
    pixels = windows(image, *arguments, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = MEASURES[name](pixels, axis=-1, **ddof)
    return np.where(np.isnan(pixels).all(-1), np.nan, result)


def close(result, expected, tolerance=1e-6):
    assert result.shape == expected.shape
    assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def blank(pixels, mask):
    return np.where(mask, pixels.astype(np.float64), np.nan)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("mode", sorted(PAD))
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_masked_pixels_are_left_out(name, mode, dtype):
    pixels, mask = noise((18, 23), dtype)
    held = blank(pixels, mask)
    for size, origin in [(5, 0), (4, 1), (3, -1)]:
        seen = np.ones((size, size), bool)
        result = getattr(cf, name)(pixels, mask=mask, size=size, origin=origin, mode=mode, cval=7.0)
        assert result.dtype == ("float64" if name == "sum" and dtype == "uint8" else "float32")
        # What lies beyond the edge counts, whatever the mask.
        close(result, expect(name, held, seen, mode, 7.0, origin))
    result = getattr(cf, name)(pixels, mask=mask, footprint=CROOKED[2], mode=mode, cval=7.0)
    close(result, expect(name, held, CROOKED[2], mode, 7.0))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("shape", [(40,), (17, 21), (10, 12, 13)])
def test_nan_is_left_out(name, shape):
    held = blank(*noise(shape))
    for size in (3, 6):
        seen = np.ones((size,) * held.ndim, bool)
        close(getattr(cf, name)(held, size=size, nan_policy="omit"), expect(name, held, seen), 1e-9)
        spread = np.isnan(windows(held, seen)).any(-1)
        assert_array_equal(np.isnan(getattr(cf, name)(held, size=size)), spread)
    cells = CROOKED[held.ndim]
    result = getattr(cf, name)(held, footprint=cells, nan_policy="omit")
    close(result, expect(name, held, cells), 1e-9)


@pytest.mark.parametrize("name", ["variance", "std"])
@pytest.mark.parametrize("ddof", [1, 3])
def test_too_few_pixels_give_nan(name, ddof):
    pixels, mask = noise((20, 20), missing=0.8)
    held = blank(pixels, mask)
    expected = expect(name, held, np.ones((3, 3), bool), ddof=ddof)
    assert np.isnan(expected).sum() > np.isnan(expect(name, held, np.ones((3, 3), bool))).sum()
    close(getattr(cf, name)(pixels, mask=mask, ddof=ddof), expected, 1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_a_nan_that_the_mask_lets_in_still_spreads(name):
    pixels, mask = noise((20, 21))
    mask[12, 13], pixels[12, 13] = True, np.nan
    measure, seen = getattr(cf, name), np.ones((3, 3), bool)
    result = measure(pixels, mask=mask)
    spread = np.zeros(pixels.shape, bool)
    spread[11:14, 12:15] = True
    assert np.isnan(result[spread]).all()
    close(result[~spread], expect(name, blank(pixels, mask), seen)[~spread])
    close(measure(pixels, mask=mask, nan_policy="omit"), expect(name, blank(pixels, mask), seen))


@pytest.mark.parametrize("name", [*MEASURES, "gaussian"])
def test_dask_arrays_with_a_mask(name):
    pixels, mask = noise((30, 34), "float32")
    measure = getattr(cf, name)
    for options in ({"mask": mask}, {"mask": mask, "nan_policy": "omit"}):
        wanted = measure(pixels, **options)
        for chunks in ((7, 9), (30, 5)):
            lazy = {**options, "mask": da.from_array(mask, chunks)}
            result = measure(da.from_array(pixels, (11, 16)), **lazy).compute()
            assert_array_equal(result, wanted)


@pytest.mark.parametrize("name", [*MEASURES, "gaussian"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_nodata_of_a_stored_image(name, dtype, tmp_path, make_store):
    pixels, mask = noise((45, 52), dtype)
    pixels[~mask] = -9
    image = cf.open(make_store(tmp_path / "in.zarr", pixels, chunks=(16, 16)), nodata=-9)
    result = getattr(cf, name)(image)
    expected = getattr(cf, name)(pixels, mask=mask).astype(np.float64)
    if dtype == "int16":
        assert np.isnan(result.nodata)
        expected[~mask] = np.nan
    else:
        assert result.nodata == -9
        expected[~mask | np.isnan(expected)] = -9
    assert_array_equal(result[...], expected.astype(result.dtype))
    whole = cf.save(result, tmp_path / "whole.zarr", chunks=(45, 52))
    small = cf.save(result, tmp_path / "small.zarr", chunks=(8, 13))
    assert whole.checksums == small.checksums
    for path in ("whole.zarr", "small.zarr"):
        stored = cf.open(tmp_path / path)
        assert_array_equal(stored[...], expected.astype(result.dtype))
        np.testing.assert_equal(stored.nodata, result.nodata)
    assert zarr.open_array(str(tmp_path / "small.zarr"), mode="r").chunks == (8, 13)


@pytest.mark.parametrize("name", MEASURES)
def test_as_integers(name, tmp_path, make_store):
    pixels, mask = noise((20, 24), "uint8")
    pixels[mask & (pixels == 0)] = 1
    pixels[~mask] = 0
    image = cf.open(make_store(tmp_path / "in.zarr", pixels), nodata=0)
    result = getattr(cf, name)(image, dtype="uint16")
    assert result.nodata == 0
    expected = getattr(cf, name)(pixels, mask=mask)
    close(result[...], np.where(mask, np.rint(np.nan_to_num(expected)), 0))

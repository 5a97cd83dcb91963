"""Missing pixels: nodata values and masks, in windows and pixel by pixel, whatever the blocks."""

import math

import dask.array as da
import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.engine.missing import nodata_of
from chunkfilt.errors import InputError, StorageError
from chunkfilt.grid import ImageSpec

SHAPE, CHUNKS = (37, 43), (8, 16)


@pytest.fixture
def pixels():
    return np.random.default_rng(7).integers(0, 12, SHAPE).astype("int16")


@pytest.fixture
def image(pixels, tmp_path):
    zarr.create_array(str(tmp_path / "in.zarr"), data=pixels, chunks=CHUNKS)
    return cf.open(tmp_path / "in.zarr", nodata=3)


def saved(image, tmp_path, **options):
    """Return what a run over small blocks leaves in a store, opened again."""
    cf.save(image, tmp_path / "out.zarr", **options)
    return cf.open(tmp_path / "out.zarr")


def holed(pixels):
    """Return pixels as floats, NaN where they are missing."""
    return np.where(pixels == 3, np.nan, pixels)


def spec(dtype, nodata):
    return ImageSpec((4,), np.dtype(dtype), ("x",), (0,), nodata=nodata)


@pytest.mark.parametrize(
    ("given", "nodata", "result", "expected"),
    [
        ("uint8", 255, "uint8", 255),
        ("int16", -9999, "int32", -9999),
        ("int16", -9999, "uint8", None),
        ("int16", -9999, "float32", math.nan),
        ("float32", -9999.0, "float64", -9999.0),
        ("float32", -9999.0, "int16", -9999),
        ("float32", math.nan, "float64", math.nan),
        ("float32", math.nan, "uint8", None),
        ("uint8", 0, "bool", None),
    ],
)
def test_what_stands_for_missing_pixels_in_a_result(given, nodata, result, expected):
    found = nodata_of(np.dtype(result), [spec("uint8", None), spec(given, nodata)])
    assert found == expected or (found is not None and math.isnan(found) and math.isnan(expected))
    assert nodata_of(np.dtype(result), [spec(given, None)]) is None


def test_a_window_that_holds_one_is_missing_where_the_filter_cannot_leave_it_out(
    image, pixels, tmp_path
):
    made = cf.gabor(image, frequency=0.3, sigma_x=1.0, sigma_y=1.0)
    expected = cf.gabor(holed(pixels), frequency=0.3, sigma_x=1.0, sigma_y=1.0)
    assert made.dtype == np.float32
    assert math.isnan(made.nodata)
    out = saved(made, tmp_path, chunks=(8, 16))
    assert math.isnan(out.nodata)
    np.testing.assert_allclose(out[...], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.isnan(out[...]), np.isnan(expected))


def test_pixel_by_pixel_they_stay_missing(image, pixels, tmp_path):
    out = saved(cf.multiply(image, 2), tmp_path)
    assert (out.nodata, out.dtype) == (3, np.int16)
    np.testing.assert_array_equal(out[...], np.where(pixels == 3, 3, 2 * pixels))
    # The store says it in its metadata.
    held = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    assert held.attrs["nodata"] == 3
    assert held.fill_value == 3


def test_a_cast_keeps_them(image, pixels, tmp_path):
    as_float = cf.cast(image, dtype="float32")
    np.testing.assert_array_equal(as_float[...], holed(pixels))
    back = saved(cf.cast(as_float, dtype="uint8"), tmp_path)
    # NaN has no place among integers.
    assert back.nodata is None
    np.testing.assert_array_equal(back[...], np.where(pixels == 3, 0, pixels))


def test_values_leave_them_out(image, pixels, tmp_path):
    there = pixels[pixels != 3]
    assert cf.statistics(image).compute().mean == pytest.approx(there.mean())
    equal = saved(cf.equalize_hist(image), tmp_path)
    expected = cf.equalize_hist(pixels, pixels != 3)
    assert math.isnan(equal.nodata)
    np.testing.assert_array_equal(equal[...], np.where(pixels == 3, np.nan, expected))


def test_values_of_what_is_not_nan(pixels):
    held = holed(pixels)
    with pytest.raises(InputError, match="mask="):
        cf.statistics(held)
    there = held[~np.isnan(held)]
    assert cf.statistics(held, nan_policy="omit").mean == pytest.approx(there.mean())
    mask = pixels > 5
    assert cf.histogram(held, mask, nan_policy="omit").counts.sum() == mask.sum()
    equal = cf.equalize_hist(held, nan_policy="omit")
    np.testing.assert_array_equal(np.isnan(equal), np.isnan(held))
    lazy = cf.equalize_hist(da.from_array(held, chunks=9), nan_policy="omit")
    np.testing.assert_array_equal(lazy.compute(), equal)


def test_a_value_that_no_pixel_can_have(tmp_path, pixels):
    zarr.create_array(str(tmp_path / "in.zarr"), data=pixels, chunks=CHUNKS)
    with pytest.raises(StorageError, match=r"nodata must be a value .*int16.*got 0\.5"):
        cf.open(tmp_path / "in.zarr", nodata=0.5)
    with pytest.raises(StorageError, match="got 100000"):
        cf.open(tmp_path / "in.zarr", nodata=100000)


@pytest.mark.parametrize("text", ["NaN", "nan"])
def test_nan_in_attributes(tmp_path, text):
    held = zarr.create_array(str(tmp_path / "in.zarr"), data=np.zeros((3, 4), "f4"))
    held.attrs["nodata"] = text
    assert math.isnan(cf.open(tmp_path / "in.zarr").nodata)
    held.attrs["nodata"] = {"a": 1}
    assert cf.open(tmp_path / "in.zarr").nodata is None

"""Filters of a user's own, by the public decorators: on arrays, dask arrays and stored images.

Their names begin with an underscore, so that the tests of all registered filters do not meet them.
"""

import subprocess
import sys
import textwrap
from typing import Annotated, NamedTuple

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import Field

import chunkfilt as cf
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters import filter as filters
from chunkfilt.filters.params import PerAxis

Reach = Annotated[int, Field(ge=0, le=50), PerAxis()]


def _halo(p):
    return tuple((reach, 0) for reach in p.reach)


def _signed(p, dtypes):
    return np.result_type(dtypes[0], np.int8)


@cf.image_filter(halo=_halo, dtype=_signed, selection=True, name="_own_drop")
def own_drop(block, *, reach: Reach = 1, times: float = 1.0):
    """Subtract the pixel that lies `reach` before, in every direction at once.

    Returns
    -------
    image
        Signed, and of the image's dtype where that is.
    """
    core = (slice(None), *(slice(n, None) for n in _reaches(block, reach)))
    before = tuple(slice(None, -n or None) for n in _reaches(block, reach))
    here, there = block[core], block[(slice(None), *before)]
    wide = np.result_type(block.dtype, np.int8)
    return times * (here.astype(wide) - there.astype(wide))


def _reaches(block, reach):
    return (reach,) * (block.ndim - 1) if isinstance(reach, int) else reach


@cf.image_filter(
    halo=lambda p: ((1, 1),) * p.ndim,
    leading=lambda p: (("shift", p.count), ("sign", 2)),
    name="_own_stack",
)
def own_stack(block, *, count: int = 3, origin_px):
    """Give several images at once, along leading axes, that know where they lie."""
    inner = block[(slice(None), *(slice(1, -1),) * (block.ndim - 1))].astype(np.float64)
    first = inner + origin_px[0]
    return np.stack(
        [np.stack([sign * (first + i) for sign in (1, -1)], axis=1) for i in range(count)], axis=1
    )


class Spread(NamedTuple):
    """The smallest and the largest pixel."""

    low: np.ndarray
    high: np.ndarray


def _wider(a, b):
    return Spread(np.minimum(a.low, b.low), np.maximum(a.high, b.high))


@cf.value_filter(
    combine=_wider,
    finalize=lambda partial, p: Spread(partial.low - p.margin, partial.high + p.margin),
    name="_own_spread",
)
def own_spread(block, *, margin: float = 0.0):
    """Find the smallest and the largest pixel."""
    along = tuple(range(1, block.ndim))
    return Spread(
        block.min(axis=along).astype(np.float64), block.max(axis=along).astype(np.float64)
    )


@cf.image_filter(
    values=lambda p, dtypes: {"spread": (own_spread, {"margin": p.margin})},
    prepare=lambda p: {"top": float(p.top)},
    name="_own_stretch",
)
def own_stretch(block, *, top: int = 1, margin: float = 0.0, spread):
    """Stretch the whole image's range to 0 ... `top`."""
    low, high = (one.reshape((-1,) + (1,) * (block.ndim - 1)) for one in spread)
    return top * (block - low) / (high - low)


def noise(shape, dtype="uint8", seed=0):
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def dropped(image, reach, mode="reflect"):
    """Return what `own_drop` gives, for spatial axes all."""
    pad = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}[mode]
    reach = (reach,) * image.ndim if isinstance(reach, int) else reach
    wide = np.pad(image, [(n, 0) for n in reach], mode=pad).astype(np.int64)
    return wide[tuple(slice(n, None) for n in reach)] - wide[tuple(slice(n) for n in image.shape)]


@pytest.fixture(params=["numpy", "dask", "stored"])
def made(request, tmp_path, make_store):
    """Return pixels as each kind of image, and computed again."""

    def make(pixels, dims="yx"):
        if request.param == "numpy":
            return pixels
        chunks = tuple(max(n // 3, 1) for n in pixels.shape)
        if request.param == "dask":
            return da.from_array(pixels, chunks=chunks)
        make_store(tmp_path / "in.zarr", pixels, chunks=chunks, dims=dims)
        return cf.open(tmp_path / "in.zarr")

    return make


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap"])
@pytest.mark.parametrize("reach", [1, 7, (4, 0)])
def test_a_neighbourhood(made, mode, reach):
    pixels = noise((23, 31))
    image = own_drop(made(pixels), reach=reach, mode=mode)
    assert image.dtype == np.int16
    assert image.shape == pixels.shape
    assert_array_equal(np.asarray(image), dropped(pixels, reach, mode))


def test_parameters_and_dtypes(made):
    pixels = noise((13, 17))
    image = made(pixels)
    doubled = own_drop(image, times=2, dtype="float32")
    assert doubled.dtype == np.float32
    assert_array_equal(np.asarray(doubled), 2.0 * dropped(pixels, 1))
    narrow = own_drop(image, dtype="uint8")
    assert_array_equal(np.asarray(narrow), np.maximum(dropped(pixels, 1), 0))
    edge = own_drop(image, mode="constant", cval=3)
    assert np.asarray(edge)[0, 0] == int(pixels[0, 0]) - 3


def test_batch_axes(made):
    pixels = noise((3, 11, 13))
    image = made(pixels, dims="cyx")
    result = np.asarray(own_drop(image, reach=(2, 1), axes=(1, 2)))
    for i in range(3):
        assert_array_equal(result[i], dropped(pixels[i], (2, 1)))


def test_what_a_filter_of_ones_own_refuses(made):
    image = made(noise((9, 9)))
    with pytest.raises(ParameterError, match="_own_drop: reach must be one value or 2"):
        own_drop(image, reach=(1, 2, 3))
    with pytest.raises(ParameterError, match=r"_own_drop: reach must be <= 50, got 51"):
        own_drop(image, reach=51)
    with pytest.raises(ParameterError, match="_own_drop has no parameter 'raech'"):
        own_drop(image, raech=1)
    with pytest.raises(ParameterError, match="cval must be representable as uint8"):
        own_drop(image, mode="constant", cval=-1)
    with pytest.raises(InputError, match="_own_stretch takes image by position"):
        own_stretch(image, 3)


@pytest.mark.parametrize("spatial", [(0, 1), (1, 2)])
def test_leading_axes_and_where_a_block_lies(made, spatial):
    batch = spatial[0]
    pixels = noise((3,) * batch + (11, 13))
    image = own_stack(made(pixels, dims="cyx"[-pixels.ndim :]), count=2, axes=spatial)
    lead = pixels.shape[:batch]
    assert image.shape == (*lead, 2, 2, 11, 13)
    first = pixels.astype(np.float64)
    rows = np.arange(11)[:, None]
    got = np.asarray(image)
    assert got.dtype == np.float32
    for i in range(2):
        for j, sign in enumerate((1, -1)):
            part = got[(slice(None),) * batch + (i, j)]
            # A block's rows are numbered from where it begins in the image, so that every block
            # adds one number to all of its rows: never more than the row's own.
            added = sign * part - first - i
            assert (added >= 0).all()
            assert (added <= rows).all()


def test_the_axes_of_a_stored_image_have_names(tmp_path, make_store):
    make_store(tmp_path / "in.zarr", noise((2, 9, 9)), dims="cyx")
    image = own_stack(cf.open(tmp_path / "in.zarr"))
    assert image.axes == ("c", "shift", "sign", "y", "x")
    assert cf.mean(image, size=3).shape == (2, 3, 2, 9, 9)


def value_of(value):
    return value.compute() if hasattr(value, "compute") else value


def test_a_value(made):
    pixels = noise((3, 20, 30))
    image = made(pixels, dims="cyx")
    found = value_of(own_spread(image, margin=0.5, axes=(1, 2)))
    assert isinstance(found, Spread)
    assert_array_equal(found.low, pixels.min(axis=(1, 2)) - 0.5)
    assert_array_equal(found.high, pixels.max(axis=(1, 2)) + 0.5)
    whole = value_of(own_spread(image, axes=(1, 2), scope="all"))
    assert (whole.low, whole.high) == (pixels.min(), pixels.max())


@pytest.mark.parametrize("scope", ["batch", "all"])
def test_an_image_that_takes_a_value(made, scope):
    pixels = noise((3, 20, 30))
    image = own_stretch(made(pixels, dims="cyx"), top=5, axes=(1, 2), scope=scope)
    along = (1, 2) if scope == "batch" else None
    low, high = (f(axis=along, keepdims=True).astype(float) for f in (pixels.min, pixels.max))
    assert_allclose(np.asarray(image), 5 * (pixels - low) / (high - low), rtol=1e-6)


def test_own_filters_and_built_in_ones_together(made):
    pixels = noise((24, 33))
    image = made(pixels)
    result = cf.median(own_stretch(own_drop(cf.mean(image, size=3), reach=2)), size=3)
    whole = cf.median(own_stretch(own_drop(cf.mean(pixels, size=3), reach=2)), size=3)
    assert_array_equal(np.asarray(result), np.asarray(whole))


def test_saved_with_its_value(tmp_path, make_store):
    pixels = noise((40, 50))
    make_store(tmp_path / "in.zarr", pixels, chunks=(16, 16), dims="yx")
    image = own_stretch(own_drop(cf.open(tmp_path / "in.zarr"), reach=(3, 5)), margin=1.0)
    outputs = {"image": image, "spread": own_spread(image)}
    result = cf.save(outputs, tmp_path / "out.zarr", progress=False, chunks=8, workers=2)
    expected = own_stretch(own_drop(pixels, reach=(3, 5)), margin=1.0)
    assert_array_equal(cf.open(tmp_path / "out.zarr", "image")[...], expected)
    assert set(result.values) == {"spread"}
    with pytest.raises(InputError, match=r"'_own_stretch' is not registered|'_own_drop' is not"):
        cf.to_yaml(image)


def test_written_down_and_read_in_the_same_process(tmp_path, make_store):
    pixels = noise((20, 30))
    make_store(tmp_path / "in.zarr", pixels, dims="yx")
    try:

        @cf.image_filter()
        def own_scale(block, *, factor: float = 2.0):
            return block * factor

        text = cf.to_yaml(own_scale(cf.open(tmp_path / "in.zarr"), factor=3), tmp_path / "job.yaml")
        assert "own_scale: {factor: 3.0}" in text
        assert_array_equal(cf.from_yaml(tmp_path / "job.yaml")[...], pixels * np.float32(3))
    finally:
        filters._REGISTRY.pop("own_scale", None)
    with pytest.raises(InputError, match="unknown filter 'own_scale'"):
        cf.from_yaml(tmp_path / "job.yaml")


def test_a_filter_of_a_program_travels_to_workers(tmp_path, make_store):
    pixels = noise((40, 50))
    make_store(tmp_path / "in.zarr", pixels, chunks=(16, 16), dims="yx")
    program = textwrap.dedent(
        """
        import numpy as np
        import chunkfilt as cf

        @cf.image_filter(halo=lambda p: ((p.reach, 0),) * p.ndim)
        def behind(block, *, reach: int = 1):
            return block[:, :-reach, :-reach]

        @cf.value_filter(combine=np.maximum)
        def top(block):
            return block.max(axis=tuple(range(1, block.ndim)))

        if __name__ == "__main__":
            image = behind(cf.open("in.zarr"), reach=2)
            result = cf.save(
                {"image": image, "top": top(image)}, "out.zarr",
                scheduler="distributed", workers=1, progress=False,
            )
            print(result.values["top"])
        """
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = np.pad(pixels, [(2, 0), (2, 0)], mode="symmetric")[:-2, :-2]
    assert_array_equal(cf.open(tmp_path / "out.zarr", "image")[...], expected)
    assert str(float(expected.max())) in done.stdout

"""Filters on dask arrays: the same bits as on the NumPy array, and nothing computed early."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import cloudpickle
import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import scipy.ndimage as ndi
from dask.array.core import concatenate3
from dask.callbacks import Callback
from dask.core import flatten
from dask.delayed import Delayed

import chunkfilt as cf
import chunkfilt.filters
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters.filter import registered
from tests.examples import example_of

MODES = ("reflect", "mirror", "nearest", "constant", "wrap")
BUILT_IN = {n: f for n, f in registered().items() if f.function.__module__.startswith("chunkfilt.")}
# One takes away an axis: see its own tests.
IMAGES = [n for n, one in BUILT_IN.items() if one.kind != "value" and n != "mix_channels"]
NEIGHBOURHOODS = [name for name, one in BUILT_IN.items() if "mode" in one.model.model_fields]
VALUES = [name for name, one in BUILT_IN.items() if one.kind == "value"]
# Uneven chunks, chunks thinner than a halo, chunks of one pixel, empty chunks, one chunk.
CHUNKS = {
    "even": (5, 4),
    "uneven": ((1, 6, 2, 4), (7, 4)),
    "pixels": ((1, 1, 4, 1, 5, 1), (1, 4, 1, 4, 1)),
    "strips": (13, 2),
    "empty": ((0, 7, 0, 6), (11, 0)),
    "one": (13, 11),
}


class EarlyError(AssertionError):
    """Something was computed while the result was being put together."""


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise EarlyError


@pytest.fixture(autouse=True)
def _in_series():
    with dask.config.set(scheduler="synchronous"):
        yield


def image(shape: tuple[int, ...] = (13, 11), dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=shape) * 50 + 100).astype(dtype)
    return rng.integers(0, 255, shape).astype(dtype)


def lazily(name: str, *inputs: Any, **params: Any) -> Any:
    with dask.config.set(scheduler=_refuse), Callback(start=_refuse, pretask=_refuse):
        return getattr(cf, name)(*inputs, **params)


def leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    array = np.asarray(value)
    if array.dtype == object:
        return [leaf for part in array.ravel() for leaf in leaves(part)]
    return [array]


def same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    ours, theirs = leaves(got), leaves(wanted)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def check(name: str, chunks: Any, *inputs: Any, **params: Any) -> da.Array:
    """Filter arrays as dask arrays and as they are; compare what was declared with what came."""
    wrapped = [da.from_array(a, chunks) if isinstance(a, np.ndarray) else a for a in inputs]
    got = lazily(name, *wrapped, **params)
    wanted = getattr(cf, name)(*inputs, **params)
    assert got.dtype == wanted.dtype == got._meta.dtype
    assert got.shape == wanted.shape
    assert got._meta.ndim == wanted.ndim
    given = next(one for one in wrapped if isinstance(one, da.Array))
    extra = wanted.ndim - given.ndim
    at = next((i for i in range(given.ndim) if got.shape[i] != given.shape[i]), 0)
    assert (*got.chunks[:at], *got.chunks[at + extra :]) == given.chunks
    assert all(len(along) == 1 for along in got.chunks[at : at + extra])
    blocks = nested(dask.get(dict(got.__dask_graph__()), got.__dask_keys__()))
    for key, block in zip(flatten(got.__dask_keys__()), flatten(blocks), strict=True):
        assert block.dtype == got.dtype
        assert block.shape == tuple(c[i] for c, i in zip(got.chunks, key[1:], strict=True))
        assert type(block) is type(got._meta)
    same(np.asarray(concatenate3(blocks)), wanted)
    return got


def nested(blocks: Any) -> Any:
    return [nested(one) for one in blocks] if isinstance(blocks, (list, tuple)) else blocks


def inputs_of(name: str, pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[::-1].copy() if i else pixels for i in range(BUILT_IN[name].required)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NEIGHBOURHOODS)
def test_neighbourhood_filters_give_the_same_bits(name, mode):
    for chunks in CHUNKS.values():
        check(name, chunks, *inputs_of(name, image()), mode=mode, **example_of(name))


@pytest.mark.parametrize("dtype", ["bool", "uint16", "int64", "float32", "float64"])
@pytest.mark.parametrize("name", IMAGES)
def test_image_filters_give_the_same_bits_for_every_dtype(name, dtype):
    for chunks in (CHUNKS["uneven"], CHUNKS["empty"]):
        given = inputs_of(name, image(dtype=dtype))
        try:
            getattr(cf, name)(*given, **example_of(name))
        except InputError:
            pytest.skip(f"{name} does not take {dtype}")
        check(name, chunks, *given, **example_of(name))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [2, 4, (1, 6), (7, 2), 61])
def test_even_and_large_windows(size, mode):
    for chunks in CHUNKS.values():
        check("mean", chunks, image(), size=size, mode=mode, cval=3)
        check("maximum", chunks, image(dtype="float32"), size=size, mode=mode, cval=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "origin"), [(4, 1), (4, -2), ((5, 3), (2, -1)), (3, (-1, 1))])
def test_origins_make_one_sided_halos(size, origin, mode):
    for chunks in CHUNKS.values():
        check("mean", chunks, image(), size=size, origin=origin, mode=mode)
        check("median", chunks, image(), size=size, origin=origin, mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(17,), (1, 9), (1, 1), (5, 6, 7)])
def test_one_to_three_axes_and_axes_of_one_pixel(shape, mode):
    for chunks in ((2,) * len(shape), (4,) * len(shape)):
        check("gaussian", chunks, image(shape), sigma=1.2, mode=mode)
        check("median", chunks, image(shape), size=4, mode=mode)


@pytest.mark.parametrize("mode", ["mirror", "constant", "wrap"])
@pytest.mark.parametrize("axes", [(1, 2), (0, 2), (0, 1), (2,)])
def test_batch_axes_anywhere(axes, mode):
    pixels = image((4, 7, 6))
    for chunks in ((2, 3, 4), (1, 7, 2), (4, (1, 2, 4), 6)):
        check("variance", chunks, pixels, axes=axes, mode=mode, size=4)
        check("minimum", chunks, pixels, axes=axes, mode=mode, size=3)
        check("equalize_hist", chunks, pixels, axes=axes)
        if len(axes) == 2:
            check("gabor_bank", chunks, pixels, axes=axes, mode=mode, **example_of("gabor_bank"))


def test_leading_axes_are_one_chunk_in_full():
    params = {"frequencies": (0.3, 0.4), "thetas": (0.0, 0.5, 1.0)}
    got = check("gabor_bank", (5, 4), image(), **example_of("gabor_bank") | params)
    assert got.chunks == ((3,), (2,), (5, 5, 3), (4, 4, 3))
    batch = lazily("gabor_bank", da.zeros((4, 40, 30), chunks=(1, 20, 15)), axes=(1, 2))
    assert batch.chunks == ((1,) * 4, (6,), (4,), (20, 20), (15, 15))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("scope", ["batch", "all"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_values(name, scope, dtype):
    pixels = image((4, 13, 11), dtype)
    if name == "unique_counts" and pixels.dtype.kind == "f":
        pytest.skip("counts integers only")
    params = example_of(name) | {"scope": scope}
    for axes in ((0, 1, 2), (1, 2), (1,)):
        wanted = getattr(cf, name)(pixels, axes=axes, **params)
        for chunks in ((3, 5, 4), (2, (0, 13), (11, 0))):
            got = lazily(name, da.from_array(pixels, chunks), axes=axes, **params)
            assert isinstance(got, Delayed)
            same(got.compute(), wanted)


@pytest.mark.parametrize("name", VALUES)
def test_values_of_masked_images(name):
    pixels, mask = image(), image() > 90
    wanted = getattr(cf, name)(pixels, mask=mask)
    given = da.from_array(pixels, (5, 4))
    for held in (mask, da.from_array(mask, (13, 2))):
        same(lazily(name, given, mask=held).compute(), wanted)
        same(lazily(name, pixels, mask=da.from_array(mask, (3, 3))).compute(), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("scope", ["batch", "all"])
def test_equalize_hist(dtype, scope):
    pixels = image((3, 13, 11), dtype)
    mask = image((3, 13, 11)) > 60
    for chunks in ((2, 5, 4), (1, 13, 11), (3, (0, 13), 3)):
        for given in ([pixels], [pixels, mask]):
            check("equalize_hist", chunks, *given, axes=(1, 2), scope=scope)


def test_a_block_is_sent_the_rows_of_its_batch_indices_only():
    got = lazily("equalize_hist", da.from_array(image((6, 5, 4)), (2, 3, 4)), axes=(1, 2))
    graph = dict(got.__dask_graph__())
    rows = [key for key in graph if isinstance(key, tuple) and key[0].endswith("-rows")]
    assert len(rows) == 3
    assert all(len(one.counts) == 2 for one in dask.get(graph, rows))


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_two_inputs(name):
    a, b = image(), image(dtype="float32") + 1
    function = getattr(cf, name)
    da_a, da_b = da.from_array(a, (5, 4)), da.from_array(b, (13, (3, 8)))
    for left, right, chunks in (
        (da_a, da_b, da_a.chunks),
        (da_b, da_a, da_b.chunks),
        (da_a, b, da_a.chunks),
        (a, da_b, da_b.chunks),
        (da_a, 3, da_a.chunks),
        (2.5, da_a, da_a.chunks),
        (da_a, np.float32(2.5), da_a.chunks),
        (da_a, da_a, da_a.chunks),
    ):
        got = lazily(name, left, right)
        assert got.chunks == chunks
        same(
            got.compute(),
            function(*(np.asarray(x) if hasattr(x, "chunks") else x for x in (left, right))),
        )


def test_chains_stay_lazy_and_give_the_same_bits():
    pixels = image((23, 31))
    mask = pixels > 30
    for mode in MODES:
        for chunks in ((7, 9), (3, 31), ((1, 20, 2), 8)):
            x = da.from_array(pixels, chunks)
            step = lazily("gaussian", x, sigma=1.0, mode=mode)
            step = lazily("equalize_hist", step, mask=mask)
            step = lazily("mean", step, size=(4, 5), mode=mode)
            got = lazily("subtract", lazily("maximum", x, size=3, mode=mode), step)
            wanted = cf.equalize_hist(cf.gaussian(pixels, sigma=1.0, mode=mode), mask=mask)
            wanted = cf.mean(wanted, size=(4, 5), mode=mode)
            wanted = cf.subtract(cf.maximum(pixels, size=3, mode=mode), wanted)
            assert got.chunks == x.chunks
            same(got.compute(), wanted)
            same(lazily("statistics", got).compute(), cf.statistics(wanted))


@pytest.mark.parametrize("mode", MODES)
def test_agrees_with_scipy(mode):
    pixels = image((40, 33), "float64")
    scipy_mode = {"reflect": "reflect", "constant": "constant"}.get(mode, mode)
    for chunks in ((9, 10), (3, 33), (1, 7)):
        x = da.from_array(pixels, chunks)
        size = (4, 5)
        got = cf.maximum(x, size=size, mode=mode).compute()
        assert np.array_equal(got, ndi.maximum_filter(pixels, size=size, mode=scipy_mode))
        got = cf.median(x, size=3, mode=mode).compute()
        assert np.array_equal(got, ndi.median_filter(pixels, size=3, mode=scipy_mode))
        got = cf.gaussian(x, sigma=2.0, mode=mode).compute()
        assert np.allclose(got, ndi.gaussian_filter(pixels, 2.0, mode=scipy_mode), atol=1e-10)


def test_nan_and_a_cval_beyond_the_dtype():
    pixels = image(dtype="float32")
    pixels[3, 4] = np.nan
    pixels[9, 9] = np.inf
    for chunks in CHUNKS.values():
        check("mean", chunks, pixels, size=4, mode="wrap")
        check("mean", chunks, image(), size=4, mode="constant", cval=-0.5)
        check("mean", chunks, image(), size=4, mode="constant", cval=np.nan)


def test_map_overlap_serves_where_it_can_and_slices_elsewhere():
    def names(got: da.Array) -> set[str]:
        return {layer.split("-")[0] for layer in got.__dask_graph__().layers}

    x = da.from_array(image(), (5, 4))
    assert "overlap" in names(cf.mean(x, size=3))
    assert "overlap" in names(cf.mean(x, size=2))
    assert "overlap" in names(cf.mean(x, size=3, mode="mirror"))
    assert "overlap" not in names(cf.mean(x, size=3, mode="wrap"))
    assert "overlap" not in names(cf.mean(x, size=9))
    # The first chunk of 3 pixels shows its pixel 3 beyond the edge, which no chunk after sends.
    mirror = {"size": (7, 1), "origin": (3, 0), "mode": "mirror"}
    y = da.from_array(image(), (7, 11)).rechunk(((6, 7), (11,)))
    check("mean", y.chunks, image(), **mirror)
    assert "overlap" not in names(cf.mean(y, **mirror))
    # The only chunk of an axis needs no neighbours, whatever the mode and the window.
    assert "overlap" in names(cf.mean(da.from_array(image(), (5, 11)), size=(3, 40)))
    assert names(cf.abs(x)).isdisjoint({"overlap"})


def test_the_same_call_has_the_same_keys():
    x = da.from_array(image(), (5, 4))
    for name in (*IMAGES, *VALUES):
        given = inputs_of(name, image())
        first, again = (
            lazily(name, x, *given[1:], **example_of(name)).__dask_graph__() for _ in range(2)
        )
        assert set(first.layers) == set(again.layers)
        assert set(first) == set(again)
    assert cf.mean(x, size=3).name != cf.mean(x, size=5).name
    assert cf.mean(x, size=3).name != cf.mean(x + 1, size=3).name
    assert cf.mean(x).name != cf.sum(x).name
    assert cf.equalize_hist(x).name != cf.equalize_hist(x, mask=image() > 3).name
    assert cf.histogram(x, nbins=3).key != cf.histogram(x, nbins=4).key


def test_unknown_chunk_sizes_are_refused():
    x = da.from_array(image(), (5, 4))
    unknown = x[x[:, 0].compute() > 5][da.from_array(image()[:, 0], 5) > 5]
    for name in ("mean", "abs", "equalize_hist", "extrema"):
        with pytest.raises(InputError, match=r"known, got shape \(nan.*compute_chunk_sizes\(\)"):
            getattr(cf, name)(unknown)


def test_bad_inputs_are_refused_at_once():
    x = da.from_array(image(), (5, 4))
    with pytest.raises(InputError, match="shape of the first image"):
        lazily("add", x, x[:5])
    with pytest.raises(InputError, match="shape of the first image"):
        lazily("equalize_hist", x, mask=np.ones((3, 3), bool))
    with pytest.raises(ParameterError, match="size must be >= 1"):
        lazily("mean", x, size=0)
    with pytest.raises(InputError, match="complex128"):
        lazily("mean", x.astype(complex))
    with pytest.raises(InputError, match="NaN or infinite"):
        lazily("extrema", x * np.nan).compute()


def test_images_without_pixels():
    x = da.zeros((0, 5), chunks=(3, 2), dtype="uint8")
    got = lazily("mean", x)
    same(got.compute(), cf.mean(np.zeros((0, 5), "uint8")))
    assert got.chunks == x.chunks
    same(lazily("equalize_hist", x).compute(), cf.equalize_hist(np.zeros((0, 5), "uint8")))
    assert lazily("gabor_bank", x).shape == (6, 4, 0, 5)
    with pytest.raises(InputError, match="without pixels"):
        lazily("extrema", x)


def test_arrays_without_axes():
    pixel = np.array(-3.5, dtype="float32")
    for given in (da.from_array(pixel), da.from_array(image(), (5, 4)).astype("float32").sum()):
        got = lazily("abs", given)
        assert got.chunks == ()
        same(np.asarray(got.compute()), cf.abs(np.asarray(given.compute())))


def test_results_are_the_users_to_write_to():
    pixels = image()
    for name in ("cast", "clip", "abs", "mean"):
        params = {"cast": {"dtype": "uint8"}, "clip": {"min": 0}, "mean": {"size": 1}}
        got = getattr(cf, name)(da.from_array(pixels, (13, 11)), **params.get(name, {})).compute()
        got[:] = 0
    assert np.array_equal(pixels, image())


@cf.image_filter(halo=lambda p: ((-1, 2),) * p.ndim)
def ahead(block):
    """Add the next two pixels along one axis."""
    return block[:, :-1].astype("float64") + block[:, 1:]


@cf.image_filter(halo=lambda p: ((1, 1),), values=lambda p, d: {"extrema": (cf.extrema, {})})
def above_low(block, *, extrema):
    """Compare the sum of two neighbours with the smallest pixel: a halo and a value."""
    return block[:, 2:].astype("float64") + block[:, :-2] - extrema.min[:, None]


def test_filters_of_ones_own():
    pixels = image((17,))
    for mode in MODES:
        for chunks in (1, 3, 5, 17):
            x = da.from_array(pixels, chunks)
            for own in (ahead, above_low):
                same(own(x, mode=mode).compute(), own(pixels, mode=mode))


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_every_scheduler_gives_the_same_bits(scheduler):
    pixels = image((40, 37))
    for mode in ("mirror", "wrap"):
        x = da.from_array(pixels, (16, 11))
        got = cf.variance(cf.equalize_hist(x), size=4, mode=mode)
        wanted = cf.variance(cf.equalize_hist(pixels), size=4, mode=mode)
        same(got.compute(scheduler=scheduler), wanted)


def test_tasks_run_in_a_process_that_has_imported_nothing(tmp_path):
    pixels = image((40, 37))
    x = da.from_array(pixels, (16, 11))
    results = {}
    for mode in ("mirror", "wrap"):
        results[mode] = cf.variance(cf.equalize_hist(x), size=4, mode=mode)
    results["value"] = cf.extrema(x).min
    held = {name: (dict(r.__dask_graph__()), r.__dask_keys__()) for name, r in results.items()}
    (tmp_path / "graphs").write_bytes(cloudpickle.dumps(held))
    script = (
        "import pickle, sys, dask\n"
        "held = pickle.load(open(sys.argv[1], 'rb'))\n"
        "pickle.dump({n: dask.get(*one) for n, one in held.items()}, open(sys.argv[2], 'wb'))\n"
    )
    paths = [str(tmp_path / "graphs"), str(tmp_path / "blocks")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True)
    blocks = pickle.loads((tmp_path / "blocks").read_bytes())
    for mode in ("mirror", "wrap"):
        wanted = cf.variance(cf.equalize_hist(pixels), size=4, mode=mode)
        same(np.asarray(concatenate3(nested(blocks[mode]))), wanted)
    assert blocks["value"][0] == pixels.min()


def test_distributed():
    pixels = image((40, 37))
    with (
        dask.config.set({"distributed.admin.system-monitor.gil.enabled": False}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        x = da.from_array(pixels, (16, 11))
        for mode in ("reflect", "wrap"):
            step = cf.equalize_hist(cf.gaussian(x, sigma=1.5, mode=mode))
            got = cf.gabor_bank(step, mode=mode, **example_of("gabor_bank"))
            wanted = cf.equalize_hist(cf.gaussian(pixels, sigma=1.5, mode=mode))
            wanted = cf.gabor_bank(wanted, mode=mode, **example_of("gabor_bank"))
            same(client.compute(got).result(), wanted)
        statistics = client.compute(cf.statistics(x, percentiles=(5, 50))).result()
        same(statistics, cf.statistics(pixels, percentiles=(5, 50)))


def test_weights_travel_once():
    got = cf.gabor_bank(da.zeros((90, 90), chunks=30, dtype="uint8"))
    graph = dict(got.__dask_graph__())
    heavy = [key for key, task in graph.items() if len(pickle.dumps(task)) > 50_000]
    assert heavy == [f"{got.name}-node"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "chunks", [(275, 33), ((256, 256, 38), (174, 226)), (100, 150), (550, 400)]
)
def test_a_filter_that_works_in_tiles(mode: str, chunks: Any) -> None:
    # Tiles of 256 x 174 pixels that chunks stick out of, and chunks of whole tiles.
    x = image((550, 400), "float32")
    x[300, 200] = np.nan
    params = {"frequency": 0.15, "theta": 0.5, "sigma_x": 3.0, "sigma_y": 6.0, "mode": mode}
    result = lazily("gabor", da.from_array(x, chunks=chunks), **params)
    assert result.chunks == da.from_array(x, chunks=chunks).chunks
    np.testing.assert_array_equal(result.compute(), cf.gabor(x, **params))

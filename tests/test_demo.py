"""The demo's images: real sources, no download, the same pixels every time."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from chunkfilt._optional import require
from chunkfilt.demo import make_demo, make_elevation, make_mosaic, make_stack
from chunkfilt.errors import MissingDependency, ParameterError, StorageError

for needed in ("zarr", "zarrs", "skimage", "matplotlib"):
    pytest.importorskip(needed)

SMALL = (700, 900)  # four camera fields, with their seams


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the demo reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mosaic(tmp_path_factory.mktemp("mosaic") / "m.zarr", shape=SMALL, chunks=256)


def opened(path: Path, mode: str = "r") -> Any:
    return importlib.import_module("zarr").open_array(str(path), mode=mode)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(opened(path)[:])


def test_mosaic_says_what_it_is(mosaic: Path) -> None:
    array = opened(mosaic)
    assert (array.shape, array.chunks, array.dtype) == (SMALL, (256, 256), np.uint16)
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("y", "x")
    assert array.attrs["complete"] is True
    assert array.attrs["field_shape"] == [512, 640]
    assert "scikit-image" in array.attrs["source"]
    assert "CC0" in array.attrs["licence"]


def test_mosaic_uses_the_range_without_saturation(mosaic: Path) -> None:
    image = pixels(mosaic)
    assert image.min() >= 500
    assert image.max() < 60000
    assert image.std() > 2000
    assert len(np.unique(image)) > 5000
    assert all(image[y : y + 100, x : x + 100].any() for y in (0, 600) for x in (0, 800))


@pytest.mark.parametrize("chunks", [100, 512, 1024])
def test_mosaic_is_independent_of_its_chunks(tmp_path: Path, mosaic: Path, chunks: int) -> None:
    again = make_mosaic(tmp_path / "m.zarr", shape=SMALL, chunks=chunks)
    np.testing.assert_array_equal(pixels(again), pixels(mosaic))


@pytest.mark.parametrize("shape", [(1, 1), (300, 580), (474, 590), (507, 600)])
def test_a_larger_mosaic_continues_a_smaller_one(
    tmp_path: Path, mosaic: Path, shape: tuple[int, int]
) -> None:
    small = make_mosaic(tmp_path / "m.zarr", shape=shape, chunks=64)
    np.testing.assert_array_equal(pixels(small), pixels(mosaic)[: shape[0], : shape[1]])


def test_another_seed_is_another_land(tmp_path: Path, mosaic: Path) -> None:
    other = pixels(make_mosaic(tmp_path / "m.zarr", shape=SMALL, seed=1))
    here = pixels(mosaic)
    assert np.mean(other == here) < 0.01
    assert abs(np.corrcoef(other.ravel(), here.ravel())[0, 1]) < 0.9


def test_mosaic_has_seams_and_noise(mosaic: Path) -> None:
    image = pixels(mosaic).astype(float)
    steps = np.abs(np.diff(image, axis=0)).mean(axis=1)
    near_seam = steps[480 - 16 - 6 - 1 : 480 - 16 + 6 + 1]
    assert near_seam.max() > 1.2 * np.median(steps)
    assert np.median(np.abs(np.diff(image, n=2, axis=1))) > 50


def test_mosaic_reports_its_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_mosaic(
        tmp_path / "m.zarr",
        shape=(130, 50),
        chunks=64,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(64, 130), (128, 130), (130, 130)]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    columns, low, tall = 1100, 512, 12288

    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            make_mosaic(tmp_path / f"{rows}.zarr", shape=(rows, columns), chunks=256)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(low)  # what is imported and kept once is counted here
    assert peak(tall) - peak(low) < (tall - low) * columns * 2 / 2


def test_elevation_is_the_terrain_enlarged(tmp_path: Path) -> None:
    path = make_elevation(tmp_path / "e.zarr", factor=2, chunks=300)
    array = opened(path)
    assert (array.shape, array.chunks, array.dtype) == ((688, 806), (300, 300), np.float32)
    assert array.metadata.dimension_names == ("y", "x")
    about = dict(array.attrs)
    assert about["complete"] is True
    assert about["units"] == "m"
    assert "matplotlib" in about["source"]
    extent = about["extent"]
    assert extent["south"] < extent["north"]
    assert extent["west"] < extent["east"]
    high, wide = about["pixel_size_degrees"]
    assert extent["north"] - extent["south"] == pytest.approx(688 * high)
    assert extent["east"] - extent["west"] == pytest.approx(806 * wide)
    terrain = importlib.import_module("matplotlib.cbook").get_sample_data("jacksboro_fault_dem.npz")
    means = pixels(path).reshape(344, 2, 403, 2).mean(axis=(1, 3))
    assert np.abs(means - terrain["elevation"]).max() < 15


def test_elevation_at_factor_one_is_the_source(tmp_path: Path) -> None:
    terrain = importlib.import_module("matplotlib.cbook").get_sample_data("jacksboro_fault_dem.npz")
    np.testing.assert_allclose(
        pixels(make_elevation(tmp_path / "e.zarr", factor=1)), terrain["elevation"], atol=1e-3
    )


def test_stack_is_many_small_images(tmp_path: Path) -> None:
    path = make_stack(tmp_path / "s.zarr", count=21)
    array = opened(path)
    assert (array.shape, array.chunks) == ((21, 1, 96, 96), (16, 1, 96, 96))
    assert array.dtype == np.uint16
    assert array.metadata.dimension_names == ("t", "c", "y", "x")
    assert array.attrs["complete"] is True
    stack = pixels(path)
    assert stack.min() >= 500
    assert stack.max() < 60000
    assert len({image.tobytes() for image in stack}) == 21
    assert (stack.std(axis=(1, 2, 3)) > 200).all()
    np.testing.assert_array_equal(stack, pixels(make_stack(tmp_path / "more.zarr", count=23))[:21])


def test_demo_skips_what_is_complete_and_mends_the_rest(tmp_path: Path) -> None:
    paths = make_demo(tmp_path / "new" / "demo", shape=(200, 300))
    assert {name: path.name for name, path in paths.items()} == {
        "mosaic": "mosaic.zarr",
        "elevation": "elevation.zarr",
        "stack": "stack.zarr",
    }
    before = pixels(paths["stack"])
    opened(paths["mosaic"], "r+")[0, 0] = 7
    opened(paths["stack"], "r+")[0, 0, 0, 0] = 7
    opened(paths["stack"], "r+").update_attributes({"complete": False})
    (paths["elevation"] / "zarr.json").unlink()
    for part in sorted(paths["elevation"].rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() else part.unlink()

    assert make_demo(tmp_path / "new" / "demo", shape=(200, 300)) == paths
    assert opened(paths["mosaic"])[0, 0] == 7
    np.testing.assert_array_equal(pixels(paths["stack"]), before)
    assert opened(paths["elevation"]).attrs["complete"] is True

    make_demo(tmp_path / "new" / "demo", shape=(210, 300))
    assert opened(paths["mosaic"]).shape == (210, 300)


def test_a_mosaic_that_was_stopped_is_made_anew(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "mosaic.zarr"
    with pytest.raises(KeyboardInterrupt):
        make_mosaic(path, shape=(200, 100), chunks=100, progress=stop)
    assert opened(path).attrs["complete"] is False
    assert pixels(path)[100:].max() == 0
    make_demo(tmp_path, shape=(200, 100))
    assert opened(path).attrs["complete"] is True
    assert pixels(path)[100:].min() >= 500


def test_what_the_demo_did_not_make_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    foreign = tmp_path / "foreign.zarr"
    foreign.mkdir()
    (foreign / "zarr.json").write_text(json.dumps({"attributes": {"made_by": "someone"}}))
    for path in (tmp_path, tmp_path / "notes.txt", foreign):
        with pytest.raises(StorageError, match="exists"):
            make_stack(path, count=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (foreign / "zarr.json").exists()


def test_numbers_out_of_range_are_refused_before_anything_is_removed(tmp_path: Path) -> None:
    path = make_stack(tmp_path / "s.zarr", count=1)
    with pytest.raises(ParameterError, match="at least 1"):
        make_stack(path, count=0)
    with pytest.raises(ParameterError, match="at least 1"):
        make_mosaic(path, shape=(0, 5))
    with pytest.raises(ParameterError, match="at least 1"):
        make_mosaic(path, chunks=0)
    with pytest.raises(ParameterError, match="factor"):
        make_elevation(path, factor=0)
    assert opened(path).attrs["complete"] is True


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (make_mosaic, "skimage", "scikit-image"),
        (make_stack, "skimage", "scikit-image"),
        (make_elevation, "matplotlib", "matplotlib"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, module: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as caught:
        make(tmp_path / "image.zarr")
    assert str(caught.value) == f'this needs {package}: pip install "chunkfilt[demo]"'
    assert not (tmp_path / "image.zarr").exists()


def test_a_package_that_is_there_but_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_package.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all") as caught:
        require("half_a_package", extra="demo")
    assert not isinstance(caught.value, MissingDependency)


def test_importing_the_demo_is_light() -> None:
    code = (
        "import sys, chunkfilt.demo\n"
        "heavy = {'zarr', 'zarrs', 'scipy', 'skimage', 'matplotlib', 'dask', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

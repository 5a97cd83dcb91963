"""What several test files share: stores, jobs, and counting what is read."""

import signal
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from chunkfilt.cli import main
from chunkfilt.demo import make_demo
from chunkfilt.storage.stored import StoredImage


def write_store(path, array, *, chunks=None, dims=None, **options):
    """Write an array as a Zarr store with zarr alone, and return its path."""
    array = np.asarray(array)
    if options.get("zarr_format", 3) == 3:
        options["dimension_names"] = list(dims) if dims else None
    chunks = chunks or tuple(max(min(n, 16), 1) for n in array.shape)
    held = zarr.create_array(
        str(path), shape=array.shape, dtype=array.dtype, chunks=chunks, **options
    )
    held[...] = array
    return Path(path)


def pixels_of(shape, dtype="uint16", seed=0):
    """Return pixels that no two places share by accident."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Let the processes that tests start be interrupted; in a shell's background none could be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def make_store():
    """Write an array as a Zarr store: ``make_store(path, array, chunks=..., dims="yx")``."""
    return write_store


@pytest.fixture(scope="session")
def make_pixels():
    """Return seeded pixels: ``make_pixels(shape, dtype)``."""
    return pixels_of


@pytest.fixture
def mosaic(tmp_path):
    """A store of 40 x 50 uint16 pixels in chunks of 16, called ``in.zarr``."""
    return write_store(tmp_path / "in.zarr", pixels_of((40, 50)), chunks=(16, 16), dims="yx")


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo's data in full, which takes some seconds to make: to be copied, never changed."""
    return make_demo(tmp_path_factory.mktemp("demo"))["mosaic"].parent


@pytest.fixture
def make_job(tmp_path):
    """Write a YAML job and return its path."""

    def write(text, name="job.yaml"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def reads(monkeypatch):
    """Every region that is read from a stored image, in a list."""
    held, lock, real = [], threading.Lock(), StoredImage.read

    def read(self, region):
        with lock:
            held.append(region)
        return real(self, region)

    monkeypatch.setattr(StoredImage, "read", read)
    return held


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path, mosaic):
    """Run a command in this process, in `tmp_path`; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    held = signal.getsignal(signal.SIGTERM)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["chunkfilt", *map(str, words)])
        code = 0
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main()
            except SystemExit as error:
                code = error.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    yield run
    signal.signal(signal.SIGTERM, held)


@pytest.fixture
def mistake(cli):
    """Run a command that is wrong: exit code 2, one sentence; return it."""

    def run(*words):
        code, out, err = cli(*words)
        assert (code, out) == (2, ""), err
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("chunkfilt: ")
        return lines[0]

    return run

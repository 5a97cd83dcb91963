"""One answer: every filter's checksum, whatever the chunks, blocks, scheduler and workers."""

import json

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.errors import ParameterError
from tests.examples import EXAMPLES, along

from .conftest import own_filters

SHAPE = (67, 93)
CHUNKS = {"a": (16, 16), "b": (67, 5), "c": (30, 93)}
# How the runs differ: input, output chunks, scheduler, workers.
RUNS = {
    "serial": ("a", (16, 16), "serial", 1),
    "threads 1": ("b", (9, 31), "threads", 1),
    "threads 3": ("c", (67, 93), "threads", 3),
    "threads 8": ("a", (8, 8), "threads", 8),
    "processes 1": ("b", (32, 32), "processes", 1),
    "processes 2": ("a", (64, 11), "processes", 2),
    "processes 8": ("c", (20, 16), "processes", 8),
    "distributed 1": ("a", (33, 47), "distributed", 1),
    "distributed 2": ("b", (16, 16), "distributed", 2),
    "distributed 8": ("c", (12, 93), "distributed", 8),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three images, each in stores of several chunkings."""
    folder, rng = tmp_path_factory.mktemp("everywhere"), np.random.default_rng(5)
    smooth = np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1]) * 0.7)
    images = [
        (100 + 80 * np.sin(smooth / 9) + 15 * rng.normal(size=SHAPE)).clip(0, 255).astype(dtype)
        for dtype in ("uint8", "float32", "uint8")
    ]
    for number, image in enumerate(images):
        for name, chunks in CHUNKS.items():
            zarr.create_array(str(folder / f"{name}{number}"), data=image, chunks=chunks)
    return folder


def everything(folder, cut):
    """Return every filter of the catalogue on images of that chunking, by name."""
    made = {}
    for name, declared in own_filters().items():
        if name in ("mix_channels", "generic"):
            continue  # One takes an axis away, the other runs its user's code.
        for number, example in enumerate(EXAMPLES.get(name, [{}])):
            for first in (0, 1):
                opened = [cf.open(folder / f"{cut}{(first + i) % 3}") for i in range(3)]
                try:
                    one = getattr(cf, name)(*opened[: declared.required], **along(example, 2))
                except ParameterError:
                    continue
                made[f"{name} {number}" if number else name] = one
                break
    return made


def test_some_go_by_fourier_transforms(stores):
    made = everything(stores, "a")
    for name in ("convolve 2", "correlate 2"):
        assert any("Fourier" in note for note in made[name].plan().notes)


def results(folder, target, cut, chunks, scheduler, workers):
    options = {"scheduler": scheduler, "workers": workers, "chunks": chunks}
    found = cf.save(everything(folder, cut), target, progress=False, **options)
    tables = sorted((target / "tables").glob("*")) if (target / "tables").exists() else []
    texts = {one.name: one.read_text() for one in tables}
    return {**found.checksums, "values": json.dumps(found.values, sort_keys=True), **texts}


@pytest.fixture(scope="module")
def found_before():
    return {}


@pytest.fixture
def reference(stores, found_before, tmp_path):
    # Once for all tests, but in the first of them: what is patched for a test is patched here, too.
    if not found_before:
        found_before.update(results(stores, tmp_path / "reference.zarr", *RUNS["serial"]))
    return found_before


@pytest.mark.parametrize("how", list(RUNS)[1:])
def test_every_filter_gives_the_same_bits(stores, reference, tmp_path, how):
    found = results(stores, tmp_path / "out.zarr", *RUNS[how])
    assert len(found) > 90
    assert {n for n in found if found[n] != reference[n]} == set()


def test_the_whole_catalogue_is_there(stores):
    missing = set(own_filters()) - {name.partition(" ")[0] for name in everything(stores, "a")}
    assert missing == {"mix_channels", "generic"}

"""Kernels are loaded before the first block, and compiling is told."""

import subprocess
import sys

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source, topological
from chunkfilt.filters.declare import image_filter
from chunkfilt.runtime.progress import BlockDone, CompileStarted, RunStarted, lines
from chunkfilt.runtime.warm import load_kernels

JOB = """
import sys
import numpy as np, zarr, chunkfilt as cf
from chunkfilt.runtime.progress import json_lines
path, out = sys.argv[1:]
cf.mean(cf.open(path), size=3).save(out, progress=json_lines(), overwrite=True)
"""


@pytest.fixture
def stored(tmp_path, make_store, make_pixels):
    return make_store(tmp_path / "s", make_pixels((40, 50)), chunks=(20, 20))


def test_the_first_run_says_that_it_compiles_and_the_second_does_not(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    told = []
    for _ in range(2):
        command = [sys.executable, "-c", JOB, str(stored), str(tmp_path / "o")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told.append([line.split('"')[3] for line in done.stdout.splitlines()])
    assert told[0][0] == "CompileStarted"
    assert told[0].count("CompileStarted") == 1
    assert told[1] == told[0][1:]
    assert told[1][0] == "RunStarted"


def test_it_is_said_in_words(capsys):
    lines(sys.stdout)(CompileStarted())
    assert "compiling" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make",
    [
        lambda image: cf.equalize_hist(cf.gaussian(image, sigma=1)),
        lambda image: image - cf.mean(image, size=3),
        cf.histogram,
        lambda image: cf.gabor_bank(image, frequencies=[0.2, 0.3], thetas=[0.0]),
    ],
)
def test_nothing_is_read_or_written(stored, make):
    class Closed:
        def read(self, region):
            raise AssertionError

    image = cf.open(stored)
    node = make(image).node
    source = next(one for one in topological([node]) if isinstance(one, Source))
    object.__setattr__(source, "reader", Closed())
    load_kernels({"": node})


def test_filters_of_others_are_not_tried_on_zeros(stored, tmp_path):
    calls = []

    @image_filter(name="_tried")
    def tried(block):
        calls.append(block.shape)
        return block

    seen = []
    image = cf.open(stored)
    made = cf.Image(bind(tried, [image.node], {}))
    result = made.save(tmp_path / "o", scheduler="serial", progress=seen.append)
    assert len(calls) == sum(isinstance(event, BlockDone) for event in seen)
    told = [event for event in seen if not isinstance(event, CompileStarted)]
    assert isinstance(told[0], RunStarted)
    np.testing.assert_array_equal(cf.open(tmp_path / "o")[:], image[:])
    assert result.checksums

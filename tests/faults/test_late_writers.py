"""Tasks that run twice, and writers that nobody waits for any more: an output is not theirs.

A cluster goes on with a block whose run was killed, or that it has given to another worker since.
"""

import shutil
import sys
import textwrap

import pytest

import chunkfilt as cf
from chunkfilt.errors import RunError
from chunkfilt.runtime.passes import run_passes
from chunkfilt.storage.units import OutputArray
from tests.faults.rig import contents, same

# Runs every block twice at once on two threads, then once more.
_TWICE = """
import threading
from chunkfilt import cli
from chunkfilt.runtime import passes, tasks

class Twice(tasks.BlockTask):
    def __call__(self, index):
        real, found = super().__call__, []
        threads = [threading.Thread(target=lambda: found.append(real(index))) for _ in range(2)]
        for each in threads: each.start()
        for each in threads: each.join()
        found.append(real(index))
        assert len({str(one.units) for one in found}) == 1, index
        return found[0]

passes.BlockTask = Twice
cli.main()
"""
# Writes every unit of an output over and over.
_AGAIN = """
from pathlib import Path
from chunkfilt.runtime.ledger import last_records
from chunkfilt.storage.units import OutputArray
from chunkfilt.storage.images import open_image

folder = Path("out.zarr.run")
stores = {
    name: OutputArray(open_image("out.zarr", name), folder / "staging" / name)
    for name in ("ground", "equalize_hist")
}
for store in stores.values():
    store.staging.mkdir(parents=True, exist_ok=True)
recorded = [(stores[n], u) for _, _, units in last_records(folder) for n in units for u in units[n]]
for turn in range(8):
    for store, unit in recorded:
        region = store.region_of(unit.index)
        assert store.write(region, store.image.read(region)) == (unit,), unit
"""
SHARDS = ("--set", "output.chunks=[64, 64]", "--set", "output.shards=[256, 512]")


@pytest.mark.parametrize("options", [(), SHARDS], ids=["chunks", "shards"])
def test_the_same_block_twice_at_once(rig, whole, options):
    words = ("run", "job.yaml", "--allow-code", "--workers", "2", *options)
    rig.script(_TWICE, *words)
    assert rig.recorded(3) == 8
    if options:
        rig.chunkfilt("verify", "out.zarr")
        assert rig.record()["checksums"] == whole.record()["checksums"]
    else:
        same(rig, whole)


@pytest.mark.faults
def test_the_same_units_from_two_processes_at_once(rig, whole):
    rig.run()
    both = [rig.popen([sys.executable, "-c", textwrap.dedent(_AGAIN)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0], rig.words
    shutil.rmtree(rig.folder / "out.zarr.run" / "staging")
    same(rig, whole)


@pytest.fixture
def written(tmp_path, make_store, make_pixels, monkeypatch):
    """An output in four units; what its writers were given; what computes another in its place."""
    path = make_store(tmp_path / "in.zarr", make_pixels((32, 32)), chunks=(16, 16), dims="yx")
    image, out, given = cf.open(path), tmp_path / "out.zarr", []

    def noted(steps, stores, *rest, **more):
        given.append(stores[""])
        return run_passes(steps, stores, *rest, **more)

    monkeypatch.setattr("chunkfilt.runtime.run.run_passes", noted)

    def make(size):
        made = cf.median(image, size=size)
        made.save(out, chunks=(16, 16), overwrite=True, progress=False)
        return contents(out)

    make(3)
    return out, given[0], make


@pytest.mark.parametrize("moment", ["before it stages", "before it settles"])
def test_a_writer_of_a_run_that_is_over_changes_nothing(written, monkeypatch, moment):
    out, store, make = written
    region = store.region_of(3)
    pixels = store.image.read(region)
    store.staging.mkdir(parents=True, exist_ok=True)  # as while its run was on
    settle, stage = OutputArray._settle, OutputArray._stage
    theirs = []

    def late(real):
        def first(*given):
            if not theirs:
                theirs.append(None)
                theirs[0] = make(5)
            return real(*given)

        return first

    if moment == "before it stages":
        monkeypatch.setattr(OutputArray, "_stage", late(stage))
    else:
        monkeypatch.setattr(OutputArray, "_settle", late(settle))
    with pytest.raises((RunError, OSError)):
        store.write(region, pixels)
    assert contents(out) == theirs[0]

"""Random shapes, chunks and shards: stopped anywhere and resumed, every pixel is written once."""

import contextlib
import shutil

import hypothesis
import numpy as np
import pytest
import zarr
from hypothesis import strategies as st
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import StoppedError
from chunkfilt.runtime import run as running
from chunkfilt.runtime.ledger import last_records
from chunkfilt.runtime.tasks import BlockTask
from chunkfilt.runtime.verify import verify
from chunkfilt.storage.units import OutputArray
from tests.faults.rig import contents

AXES = "tzyx"


@st.composite
def cuts(draw):
    """Draw a shape, the input's chunks, the output's chunks and shards, and a block."""
    ndim = draw(st.integers(1, 3))
    longest = {1: 300, 2: 60, 3: 18}[ndim]
    size = st.integers(1, longest)
    shape = tuple(draw(size) for _ in range(ndim))
    held = tuple(draw(st.integers(max(n // 7, 1), n + 3)) for n in shape)
    chunks = tuple(draw(st.integers(max(n // 9, 1), n + 2)) for n in shape)
    shards = None
    if draw(st.booleans()):
        shards = tuple(c * draw(st.integers(1, 4)) for c in chunks)
    unit = shards or chunks
    block = tuple(u * draw(st.integers(1, 3)) for u in unit)
    return shape, held, chunks, shards, block


class Stop(Exception):  # noqa: N818 - it is no error
    """The run is to end here."""


def stopping(after):
    """Return what ends a run once so many blocks are done."""
    left = [after]

    def report(event):
        if type(event).__name__ == "BlockDone":
            left[0] -= 1
            if left[0] < 0:
                raise Stop

    return report


def graph(image):
    smooth = cf.mean(image, size=3)
    return {"even": cf.equalize_hist(smooth), "rank": cf.median(image, size=3, mode="wrap")}


def given(examples):
    """Run a property so many times, with files and runs that take their time."""
    checks = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, suppress_health_check=checks, derandomize=True
    )
    property_ = hypothesis.given(
        cut=cuts(),
        stops=st.lists(st.integers(0, 12), min_size=1, max_size=4),
        workers=st.integers(1, 3),
    )
    return lambda test: settings(property_(test))


def check(folder, monkeypatch, cut, stops, workers):
    """Stop a run as often as `stops` says, resume it, and compare; count who writes what."""
    shape, held, chunks, shards, block = cut
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pixels = np.random.default_rng(len(stops)).integers(0, 9, shape, dtype="u2")
    pixels[: shape[0] // 2] = 0  # units of fill values alone
    axes = list(AXES[-len(shape) :])
    stored = zarr.create_array(
        str(folder / "in.zarr"), shape=shape, chunks=held, dtype="u2", dimension_names=axes
    )
    stored[...] = pixels
    plan, written = running.make_plan, []
    write = OutputArray.write
    with monkeypatch.context() as patch:
        patch.setattr(running, "make_plan", lambda *a, **k: plan(*a, **{**k, "block": block}))

        def noted(self, region, data):
            units = write(self, region, data)
            written.append([(self.image.path, unit.index) for unit in units])
            return units

        options = {"chunks": chunks, "shards": shards, "compressor": {"zstd": 1}}
        images = graph(cf.open(folder / "in.zarr", axes="".join(axes), spatial="".join(axes)))
        patch.setattr(OutputArray, "write", noted)
        cf.save(images, folder / "one" / "out.zarr", progress=False, scheduler="serial", **options)
        once = [unit for units in written for unit in units]
        assert len(once) == len(set(once))
        for number, after in enumerate(stops):
            options |= {"workers": workers} if number % 2 else {"scheduler": "serial"}
            out = folder / "two" / "out.zarr"
            with contextlib.suppress(StoppedError):  # or it is done before that
                cf.save(images, out, progress=stopping(after), resume=True, **options)
        options.pop("scheduler", None)
        cf.save(images, out, progress=False, resume=True, **options)
    compare(folder, pixels)


def compare(folder, pixels):
    """Assert that a run which was stopped has left what one that was not has."""
    whole, mine = folder / "one" / "out.zarr", folder / "two" / "out.zarr"
    ours, theirs = contents(mine), contents(whole)
    assert ours == theirs
    expected = ndimage.median_filter(pixels, size=3, mode="wrap")
    np.testing.assert_array_equal(zarr.open_array(str(mine / "rank"))[...], expected)
    found = verify(mine)
    assert not found.problems
    listed = [
        (name, unit.index)
        for _, _, units in last_records(mine.with_name("out.zarr.run"))
        for name, held in units.items()
        for unit in held
    ]
    assert len(listed) == len(set(listed)) == found.units


@given(12)
def test_stopped_and_resumed(tmp_path, monkeypatch, cut, stops, workers):
    check(tmp_path / "runs", monkeypatch, cut, stops, workers)


@pytest.mark.faults
@given(400)
def test_stopped_and_resumed_often(tmp_path, monkeypatch, cut, stops, workers):
    check(tmp_path / "runs", monkeypatch, cut, stops, workers)


def test_a_task_that_fails_between_its_strips_leaves_whole_units(tmp_path, make_store, monkeypatch):
    """What a block has stored by then is overwritten by equal bytes."""
    pixels = np.arange(64 * 16, dtype="u2").reshape(64, 16)
    path = make_store(tmp_path / "in.zarr", pixels, chunks=(8, 8), dims="yx")
    image, plan = cf.median(cf.open(path), size=3), running.make_plan
    cut = {"block": (32, 16), "strip": (8, 16)}
    monkeypatch.setattr(running, "make_plan", lambda *a, **k: plan(*a, **{**k, **cut}))
    image.save(tmp_path / "one.zarr", chunks=(8, 8), progress=False)
    compute, left = BlockTask._compute, [6]

    def failing(self, *given):
        left[0] -= 1
        if left[0] == 0:
            raise OSError("of this strip")
        return compute(self, *given)

    monkeypatch.setattr(BlockTask, "_compute", failing)
    image.save(tmp_path / "two.zarr", chunks=(8, 8), progress=False, scheduler="serial")
    assert left[0] < 0
    ours, theirs = (contents(tmp_path / name) for name in ("two.zarr", "one.zarr"))
    assert {n: t for n, t in ours.items() if "c/" in n} == {
        n: t for n, t in theirs.items() if "c/" in n
    }

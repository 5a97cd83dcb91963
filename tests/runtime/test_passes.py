"""Passes: what is tried again, what ends a run, and what is not computed again."""

import errno
import os
import threading
from collections import Counter

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.arrays.image import Image
from chunkfilt.engine import costing
from chunkfilt.engine.graph import Source
from chunkfilt.errors import InputError, RunError, StoppedError
from chunkfilt.grid import ImageSpec
from chunkfilt.runtime import run
from chunkfilt.runtime.ledger import PassLedger, last_records
from chunkfilt.runtime.progress import BlockDone, BlockFailed, PassStarted, RunFinished, RunStopped
from chunkfilt.storage.units import OutputArray
from chunkfilt.storage.zarr_output import run_folder
from tests.faults.rig import contents

SHAPE, CHUNKS = (40, 48), (8, 8)
BLOCKS = 30


class Faults:
    """Which blocks fail, and how often each was computed; a block is known by its first pixel."""

    def __init__(self):
        self.lock, self.calls, self.order = threading.Lock(), Counter(), []
        self.failing, self.error = {}, ZeroDivisionError("a kernel went wrong")

    def meet(self, start):
        """Note a call; fail if it is to."""
        with self.lock:
            self.calls[start] += 1
            self.order.append(start)
            times = self.failing.get(start, 0)
            if times:
                self.failing[start] = times - 1
                raise self.error


FAULTS = Faults()


@pytest.fixture
def faults():
    FAULTS.__init__()
    return FAULTS


@cf.image_filter(name="_passes_marked", halo=lambda p: ((1, 1),) * p.ndim)
def marked(block, *, origin_px):
    """Give the pixels themselves, or fail."""
    FAULTS.meet(tuple(origin_px))
    return block[:, 1:-1, 1:-1]


@cf.value_filter(name="_passes_total", combine=lambda a, b: a + b)
def total(block):
    """Sum the pixels."""
    return block.sum(axis=(1, 2), dtype=np.int64)


@pytest.fixture
def source(tmp_path, make_store, make_pixels):
    return make_store(tmp_path / "in", make_pixels(SHAPE), chunks=CHUNKS)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let every block be one chunk."""
    real = run.make_plan

    def planned(*given, **options):
        return real(*given, **{**options, "block": CHUNKS, "strip": CHUNKS})

    monkeypatch.setattr(run, "make_plan", planned)


@pytest.fixture(params=["serial", "threads"])
def options(request, small_blocks):
    return {"scheduler": request.param, "workers": 3, "chunks": CHUNKS}


def first_pixel(block):
    """Return the first pixel of a block."""
    return block // 6 * 8, block % 6 * 8


def save(images, place, told=None, **options):
    given = {"progress": told.append if told is not None else False, **options}
    return cf.save(images, place, **given)


def test_a_block_that_fails_twice_is_tried_a_third_time(faults, source, tmp_path, options):
    faults.failing = {(8, 16): 2}
    told = []
    result = save(marked(cf.open(source)), tmp_path / "o", told, **options)
    assert faults.calls.pop((8, 16)) == 3
    assert set(faults.calls.values()) == {1}
    np.testing.assert_array_equal(cf.open(tmp_path / "o")[:], cf.open(source)[:])
    assert not any(isinstance(event, BlockFailed) for event in told)
    assert [e.done for e in told if isinstance(e, BlockDone)] == list(range(1, BLOCKS + 1))
    assert result.resumed == 0


def test_others_end_before_a_block_comes_back_at_last(faults, source, tmp_path, options):
    faults.failing = {(0, 0): 99, (16, 16): 99}
    told = []
    with pytest.raises(StoppedError) as caught:
        save(marked(cf.open(source)), tmp_path / "o", told, **options)
    text = str(caught.value)
    assert text.startswith("2 of 30 blocks failed, 3 times each: block ")
    for said in ("block 0 (0:8, 0:8): ZeroDivisionError: a kernel went wrong",
                 "block 14 (16:24, 16:24): ZeroDivisionError", "--resume"):  # fmt: skip
        assert said in text
    assert {faults.calls.pop(one) for one in [(0, 0), (16, 16)]} == {3}
    assert len(faults.calls) == BLOCKS - 2
    assert set(faults.calls.values()) == {1}
    failed = [event for event in told if isinstance(event, BlockFailed)]
    assert sorted((one.block, one.region) for one in failed) == [
        (0, "0:8, 0:8"),
        (14, "16:24, 16:24"),
    ]
    last = [event for event in told if isinstance(event, BlockDone)][-1]
    assert (last.done, last.failed, last.blocks) == (BLOCKS - 2, 2, BLOCKS)
    assert isinstance(told[-1], RunStopped)
    assert not any(isinstance(event, RunFinished) for event in told)
    assert len(list(last_records(run_folder(tmp_path / "o")))) == BLOCKS - 2


def test_it_does_not_come_back_at_once(faults, source, tmp_path, small_blocks):
    faults.failing = {(0, 0): 2}
    save(marked(cf.open(source)), tmp_path / "o", chunks=CHUNKS, scheduler="threads", workers=3)
    assert faults.order[1:3] != [(0, 0)] * 2
    assert len(set(faults.order[:4])) > 2


def test_many_blocks_that_fail_are_not_all_named(faults, source, tmp_path, options):
    faults.failing = {(y, x): 99 for y in range(0, 40, 8) for x in range(0, 48, 8)}
    with pytest.raises(StoppedError, match=r"30 of 30 blocks failed.*; and 25 more; the rest"):
        save(marked(cf.open(source)), tmp_path / "o", **options)


def test_what_is_stored_is_not_computed_again(faults, source, tmp_path, options, reads):
    image = marked(cf.open(source))
    whole = save(image, tmp_path / "whole", **options)
    faults.failing = {(0, 0): 3, (16, 16): 3}
    with pytest.raises(StoppedError):
        save(image, tmp_path / "o", **options)
    FAULTS.__init__()
    reads.clear()
    told = []
    result = save(image, tmp_path / "o", told, resume=True, **options)
    assert faults.calls == {(0, 0): 1, (16, 16): 1}
    assert sum(region.size for region in reads) == 9 * 9 + 10 * 10
    begun = [event for event in told if isinstance(event, PassStarted)]
    assert [(e.blocks, e.resumed) for e in begun] == [(BLOCKS, BLOCKS - 2)]
    done = [event for event in told if isinstance(event, BlockDone)]
    assert [(e.done, e.resumed) for e in done] == [(BLOCKS - 1, 28), (BLOCKS, 28)]
    assert isinstance(told[-1], RunFinished)
    assert (told[-1].blocks, told[-1].resumed) == (2, BLOCKS - 2)
    assert result.resumed == BLOCKS - 2
    assert result.checksums == whole.checksums
    reads.clear()
    again = save(image, tmp_path / "o", resume=True, **options)
    assert (reads, again.checksums, again.resumed) == ([], whole.checksums, BLOCKS)


def test_a_value_pass_stops_and_goes_on(faults, source, tmp_path, small_blocks):
    data = zarr.open_array(str(source))[:]
    image = cf.open(source)
    outputs = {"sum": total(marked(image)), "m": cf.maximum(image, size=3)}
    faults.failing = {(16, 16): 3}
    options = {"chunks": CHUNKS, "scheduler": "serial"}
    with pytest.raises(StoppedError, match=r"1 of 30 blocks failed.*block 14"):
        save(outputs, tmp_path / "o", **options)
    # Without that block there is no value: what comes after it is not begun.
    assert len(faults.calls) == 15
    assert faults.calls.pop((16, 16)) == 3
    FAULTS.__init__()
    result = save(outputs, tmp_path / "o", resume=True, **options)
    assert result.values["sum"] == data.sum(dtype=np.int64)
    assert faults.order == [first_pixel(i) for i in range(14, BLOCKS)]
    assert result.resumed == 14
    got = zarr.open_group(str(tmp_path / "o"))["m"][:]
    np.testing.assert_array_equal(got, ndimage.maximum_filter(data, 3))


def test_values_found_by_a_finished_pass_are_not_found_again(
    faults, source, tmp_path, small_blocks
):
    data = zarr.open_array(str(source))[:].astype(float)
    image = cf.open(source)
    # One pass for the extremes of floats, one for their histogram, one that writes.
    made = marked(cf.equalize_hist(cf.cast(image, dtype="float64"), nbins=32))
    faults.failing = {(24, 8): 3}
    options = {"chunks": CHUNKS, "scheduler": "serial"}
    with pytest.raises(StoppedError):
        save(made, tmp_path / "o", **options)
    told = []
    result = save(made, tmp_path / "o", told, resume=True, **options)
    begun = [event for event in told if isinstance(event, PassStarted)]
    assert len(begun) == len(result.plan.passes) >= 2
    assert [e.resumed for e in begun] == [BLOCKS] * (len(begun) - 1) + [BLOCKS - 1]
    whole = save(made, tmp_path / "whole", **options)
    assert result.checksums == whole.checksums
    assert np.ptp(data) > 0


def test_in_memory_the_first_error_comes_as_it_is(faults, source):
    faults.failing = {(0, 0): 99}
    with pytest.raises(ZeroDivisionError, match="a kernel went wrong"):
        marked(cf.open(source))[:]
    assert max(faults.calls.values()) == 1
    with pytest.raises(ZeroDivisionError, match="a kernel went wrong"):
        total(marked(cf.open(source))).compute()


def test_what_the_user_has_to_mend_is_not_tried_again(faults, source, tmp_path, options):
    faults.error = InputError("these pixels cannot be")
    faults.failing = {(0, 0): 99}
    with pytest.raises(RunError, match=r"these pixels cannot be; .* marked unfinished") as caught:
        save(marked(cf.open(source)), tmp_path / "o", **options)
    assert not isinstance(caught.value, StoppedError)
    assert faults.calls[(0, 0)] == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_stops_at_once_and_is_gone_on_from(
    faults, source, tmp_path, small_blocks, monkeypatch, number
):
    real, written = OutputArray.write, []

    def write(self, region, data):
        if len(written) == 5:
            cause = OSError(number, os.strerror(number))
            raise RunError(f"cannot write to {self.image.path}: {cause.strerror}") from cause
        written.append(region)
        return real(self, region, data)

    image, options = marked(cf.open(source)), {"chunks": CHUNKS, "scheduler": "serial"}
    with monkeypatch.context() as patched:
        patched.setattr(OutputArray, "write", write)
        with pytest.raises(StoppedError, match=rf"cannot write to .*{os.strerror(number)}.*resume"):
            save(image, tmp_path / "o", **options)
    assert len(faults.calls) == 6
    result = save(image, tmp_path / "o", resume=True, **options)
    assert result.resumed == 5
    np.testing.assert_array_equal(cf.open(tmp_path / "o")[:], cf.open(source)[:])


def test_a_ledger_that_cannot_be_written_stops_the_run(
    faults, source, tmp_path, small_blocks, monkeypatch
):
    real, recorded = PassLedger.record, []

    def record(self, index, units):
        if len(recorded) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        recorded.append(index)
        real(self, index, units)

    image, options = marked(cf.open(source)), {"chunks": CHUNKS, "scheduler": "serial"}
    with monkeypatch.context() as patched:
        patched.setattr(PassLedger, "record", record)
        with pytest.raises(StoppedError, match="No space left"):
            save(image, tmp_path / "o", **options)
    FAULTS.__init__()
    result = save(image, tmp_path / "o", resume=True, **options)
    assert (result.resumed, len(faults.calls)) == (5, BLOCKS - 5)


class Reader:
    """Reads pixels in memory; counts what is read."""

    def __init__(self, array):
        self.array, self.chunks, self.count = array, CHUNKS, np.zeros(array.shape, int)

    def read(self, region):
        self.count[region.slices] += 1
        return self.array[region.slices]


def test_a_run_of_pixels_in_memory_goes_on_with_the_same_pixels(
    faults, tmp_path, make_pixels, small_blocks
):
    options = {"chunks": CHUNKS, "scheduler": "serial"}
    data = make_pixels(SHAPE)
    spec = ImageSpec(SHAPE, data.dtype, ("y", "x"), (0, 1))
    faults.failing = {(32, 40): 3}
    with pytest.raises(StoppedError):
        save(marked(Image(Source(spec, Reader(data)))), tmp_path / "o", **options)
    reader = Reader(data.copy())
    assert save(marked(Image(Source(spec, reader))), tmp_path / "o", resume=True, **options)
    # Once for the fingerprint, once for the block with its halo.
    expected = np.ones(SHAPE, int)
    expected[31:40, 39:48] += 1
    np.testing.assert_array_equal(reader.count, expected)
    other = data.copy()
    other[3, 3] ^= 1
    with pytest.raises(InputError, match=r"cannot resume .*0 input: pixels was"):
        save(marked(Image(Source(spec, Reader(other)))), tmp_path / "o", resume=True, **options)


def test_intermediates_are_kept_from_run_to_run(
    faults, source, tmp_path, small_blocks, monkeypatch
):
    # Whatever it costs, the filter before the value is kept on the disk.
    monkeypatch.setattr(costing, "_KEEP_BYTE", -1.0)
    made = cf.equalize_hist(cf.median(marked(cf.open(source)), size=5))
    options = {"chunks": CHUNKS, "scheduler": "serial"}
    whole = save(made, tmp_path / "whole", **options)
    assert "keep median" in whole.plan.passes[0]
    assert not (run_folder(tmp_path / "whole") / "intermediate").exists()
    FAULTS.__init__()
    faults.failing = {(14, 14): 3}
    with pytest.raises(StoppedError):
        save(made, tmp_path / "o", **options)
    kept = run_folder(tmp_path / "o") / "intermediate" / "1-0.zarr"
    assert len(list((kept / "c").rglob("*"))) > 10
    FAULTS.__init__()
    result = save(made, tmp_path / "o", resume=True, **options)
    assert (result.checksums, len(faults.calls)) == (whole.checksums, BLOCKS - 14)
    assert not kept.parent.exists()


@pytest.mark.parametrize("values", [True, False])
def test_a_block_is_mended_without_what_was_kept(
    faults, source, tmp_path, small_blocks, monkeypatch, reads, values
):
    monkeypatch.setattr(costing, "_KEEP_BYTE", -1.0)
    made = cf.equalize_hist(cf.median(marked(cf.open(source)), size=5))
    options = {"chunks": CHUNKS, "scheduler": "serial"}
    whole = save(made, tmp_path / "o", **options)
    assert "keep median" in whole.plan.passes[0]
    stored = contents(tmp_path / "o")
    for _ in range(2):
        (tmp_path / "o" / "c" / "2" / "3").write_bytes(b"pixels of some kind")
        if not values:
            (run_folder(tmp_path / "o") / "values-1.npz").unlink()
        FAULTS.__init__()
        reads.clear()
        told = []
        result = save(made, tmp_path / "o", told, resume=True, **options)
        assert contents(tmp_path / "o") == stored
        assert result.checksums == whole.checksums
        assert not (run_folder(tmp_path / "o") / "intermediate").exists()
        # A value that is not on record takes a sweep; then comes the damaged block, with its halo.
        computed = 1 if values else BLOCKS + 1
        tasks = len(whole.plan.passes) * BLOCKS
        assert (told[-1].blocks, told[-1].resumed) == (computed, tasks - computed)
        assert len(faults.order) == computed
        assert faults.order[-1] == (14, 22)
        assert reads[-1].shape == (14, 14)

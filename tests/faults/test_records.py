"""What is recorded is what is done: records that are missing, torn, garbage, or of nothing."""

import os
import shutil
from functools import partial

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.runtime.ledger import PassLedger
from tests.faults.rig import contents, same

# Ends its process for good as the n-th record is about to be written down. What is found of values
# is written down with every block.
_NO_RECORD = """
import os, signal, sys
from chunkfilt import cli
from chunkfilt.runtime import ledger

real, left = ledger.PassLedger.record, [int(sys.argv.pop(1))]
ledger._EVERY = ledger._RARELY = 0.0

def record(self, index, units):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, index, units)

ledger.PassLedger.record = record
cli.main()
"""
slow = partial(pytest.param, marks=pytest.mark.faults)
WORDS = ("run", "job.yaml", "--allow-code", "--workers", "2")


def stopped(image, out, after, **options):
    """Begin a run in this process, and stop it once so many blocks are done."""
    left = [after]

    def report(event):
        left[0] -= type(event).__name__ == "BlockDone"
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        image.save(out, progress=report, **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory, make_store, make_pixels):
    """An image, its output, and the same run stopped after five of nine blocks."""
    folder = tmp_path_factory.mktemp("records")
    path = make_store(folder / "in.zarr", make_pixels((48, 48)), chunks=(16, 16), dims="yx")
    image = cf.median(cf.open(path), size=3)
    image.save(folder / "whole.zarr", progress=False, chunks=(16, 16))
    with pytest.MonkeyPatch.context() as patch:
        one_unit(patch)
        stopped(image, folder / "out.zarr", 5, chunks=(16, 16), scheduler="serial")
    return folder, image


def one_unit(patch):
    """Let blocks be of one write unit."""
    from chunkfilt.runtime import run

    real = run.make_plan
    patch.setattr(run, "make_plan", lambda *a, **k: real(*a, **{**k, "block": (16, 16)}))


@pytest.fixture
def torn(small, tmp_path):
    """A folder with a stopped run, and what resumes it and returns how many blocks were done."""
    folder = tmp_path / "torn"

    def resume(text):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(small[0] / "out.zarr", folder / "out.zarr")
        shutil.copytree(small[0] / "out.zarr.run", folder / "out.zarr.run")
        (folder / "out.zarr.run" / "ledger-1.jsonl").write_bytes(text)
        result = small[1].save(folder / "out.zarr", progress=False, resume=True, chunks=(16, 16))
        ours, theirs = contents(folder / "out.zarr"), contents(small[0] / "whole.zarr")
        assert without_root(ours) == without_root(theirs)
        return result.resumed

    return resume


def without_root(held):
    """Return files but for the root's metadata, whose paths are those of its own folder."""
    return {name: text for name, text in held.items() if name != "zarr.json"}


def text_of(small):
    return (small[0] / "out.zarr.run" / "ledger-1.jsonl").read_bytes()


@pytest.mark.parametrize("nth", [6, 9, 24, *(slow(n) for n in (1, 8, 13, 16, 17, 20))])
def test_killed_between_a_block_and_its_record(rig, whole, run_here, nth):
    rig.script(_NO_RECORD, str(nth), *WORDS, "--scheduler", "serial", expect=-9)
    assert [rig.recorded(1), rig.recorded(3)] == [min(nth - 1, 8), max(nth - 17, 0)]
    run_here(rig, "--resume", "--workers", "2")
    # Also what was found of values, in passes that store nothing.
    assert rig.record()["sessions"][-1]["resumed"] == nth - 1
    same(rig, whole)


@pytest.mark.parametrize("step", [7, slow(1)])
def test_a_record_cut_short(small, torn, step):
    lines = text_of(small).splitlines(keepends=True)
    assert len(lines) == 6
    before, last = b"".join(lines[:-1]), lines[-1]
    for kept in range(0, len(last), step):
        assert torn(before + last[:kept]) == 4
    assert torn(before + last) == 5


@pytest.mark.parametrize("step", [23, slow(1)])
def test_a_flipped_bit_anywhere_in_the_records(small, torn, step):
    text, lines = text_of(small), text_of(small).splitlines(keepends=True)
    for at in range(0, len(text), step):
        held = bytearray(text)
        held[at] ^= 1 << at % 8
        done = torn(bytes(held))
        assert done >= 3 if at >= len(lines[0]) else done in (0, 5)


@pytest.mark.parametrize(
    ("change", "done"),
    [
        (lambda lines: [], 0),
        (lambda lines: lines[:1], 0),
        (lambda lines: lines[1:], 0),
        (lambda lines: [b"\0" * 512], 0),
        (lambda lines: [*lines, b"\0" * 4096], 5),
        (lambda lines: [*lines[:3], b"\0" * len(lines[3]), *lines[4:]], 3),
        (lambda lines: [*lines[:3], b"garbage\n", *lines[3:]], 5),
        (lambda lines: [*lines, b"\xff\xfe{\n", b"[]\n", b'{"block": "x", "units": {}}\n'], 5),
        (lambda lines: [*lines, b'{"block": 99, "units": {"": []}}\n'], 5),
        (lambda lines: [*lines, b'{"block": 8, "units": {"": []}}\n'], 5),
        (lambda lines: [*lines, b'{"block": 8, "units": {}}\n'], 5),
        (lambda lines: [*lines, lines[1].replace(b'"block": 0', b'"block": 8')], 5),
        (lambda lines: [*lines, lines[1].replace(b'"0:', b'"8:')], 5),
        (lambda lines: [*lines, lines[1].replace(b'"0:', b'"99:')], 5),
        (lambda lines: [*lines, *lines[1:]], 5),
        (lambda lines: [lines[0], *reversed(lines[1:])], 5),
        (lambda lines: [lines[0].replace(b"16", b"32"), *lines[1:]], 0),
        (lambda lines: [*lines, b"9" * 100_000 + b"\n"], 5),
        (lambda lines: [*lines, b"[" * 100_000 + b"\n"], 5),
    ],
)
def test_records_that_are_none(small, torn, change, done):
    lines = text_of(small).splitlines(keepends=True)
    assert torn(b"".join(change(lines))) == done


@pytest.mark.faults
def test_garbage_where_values_are_kept(rig, whole):
    rig.script(_NO_RECORD, "13", *WORDS, expect=-9)
    kept = rig.folder / "out.zarr.run" / "values-1.npz"
    for text in (b"PK\3\4 garbage", kept.read_bytes()[:-40]):
        mine = rig.copy(rig.folder.parent / f"copy-{len(text)}")
        (mine.folder / "out.zarr.run" / "values-1.npz").write_bytes(text)
        mine.run("--resume")
        same(mine, whole)


@pytest.mark.parametrize("name", ["run.json", "ledger-3.jsonl"])
def test_what_is_gone_of_the_records(rig, whole, run_here, name):
    rig.script(_NO_RECORD, "19", *WORDS, expect=-9)
    (rig.folder / "out.zarr.run" / name).unlink()
    if name == "run.json":
        said = run_here(rig, "--resume", expect=2)
        assert "no record of a run" in said
        assert "--overwrite" in said
        run_here(rig, "--overwrite")
    else:
        run_here(rig, "--resume")
    same(rig, whole)


def test_an_output_of_nothing_but_fill_values(tmp_path, make_store):
    path = make_store(tmp_path / "in.zarr", np.zeros((64, 64), "u2"), chunks=(16, 16), dims="yx")
    image = cf.median(cf.open(path), size=3)
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        one_unit(patch)
        stopped(image, out, 7, chunks=(16, 16), scheduler="serial")
    assert sorted(contents(out)) == ["zarr.json"]
    result = image.save(out, progress=False, resume=True, chunks=(16, 16))
    assert result.resumed == 7
    assert sorted(contents(out)) == ["zarr.json"]
    again = image.save(out, progress=False, resume=True, chunks=(16, 16))
    assert again.resumed == 16
    from chunkfilt.runtime.verify import verify

    assert not verify(out).problems
    assert verify(out).units == 16
    # A file that is there all the same is none of this run's, and goes.
    stray = out / "c" / "1" / "2"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(os.urandom(64))
    assert "c/1/2 (y 16:32, x 32:48) should not exist" in verify(out).problems[0]
    assert image.save(out, progress=False, resume=True, chunks=(16, 16)).resumed == 15
    assert not verify(out).problems
    assert not stray.exists()


def test_a_finished_run_has_nothing_to_do(rig, whole, run_here):
    run_here(rig)
    before = {f: os.stat(rig.out / f).st_mtime_ns for f in contents(rig.out) if "c/" in f}
    run_here(rig, "--resume")
    last = rig.record()["sessions"][-1]
    assert (last["blocks"], last["resumed"]) == (0, 24)
    assert before == {f: os.stat(rig.out / f).st_mtime_ns for f in before}
    same(rig, whole)


def test_records_are_on_the_disk_before_the_run_is_finished(monkeypatch, small, tmp_path):
    from chunkfilt.runtime.provenance import RunRecord

    order = []
    for kind, name in ((PassLedger, "close"), (RunRecord, "finish")):
        real = getattr(kind, name)

        def noted(self, *given, real=real, name=name):
            order.append(name)
            return real(self, *given)

        monkeypatch.setattr(kind, name, noted)
    small[1].save(tmp_path / "out.zarr", progress=False)
    assert order == ["close", "finish"]

"""What a run refuses before it computes or touches anything; each time the command line is 2."""

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.faults.rig import contents, kill_group, make_input, same, wait_for


def state(folder):
    """Return the bytes and times of all below a folder."""
    files = [file for file in sorted(Path(folder).rglob("*")) if file.is_file()]
    return [(str(file), file.read_bytes(), file.stat().st_mtime_ns) for file in files]


def test_two_runs_on_one_output(rig, whole):
    rig.fault(pause=0.05)
    process = rig.start("--workers", "2")
    wait_for(lambda: rig.recorded(1) >= 1, process)
    holder = f"process {process.pid} on host {socket.gethostname()}"
    for option in ("--resume", "--overwrite"):
        said = rig.run(option, expect=2)
        assert holder in said
    assert holder in rig.chunkfilt("verify", "out.zarr", "--repair", "--allow-code", expect=2)
    rig.fault()
    assert process.wait(60) == 0, rig.words
    same(rig, whole)


def test_the_lock_of_a_run_that_was_killed(rig, whole):
    rig.fault(pause=0.05)
    process = rig.start("--scheduler", "processes", "--workers", "2")
    wait_for(lambda: rig.recorded(1) >= 1, process)
    kill_group(process, signal.SIGKILL)
    assert (rig.folder / "out.zarr.run" / "lock").exists()
    rig.fault()
    rig.run("--resume")
    same(rig, whole)


@pytest.mark.parametrize(
    "target",
    ["in.zarr", "in.zarr/c/out", ".", "link", "link/c", "./deep/../in.zarr", "in.zarr.run/.."],
)
def test_the_output_is_or_touches_the_input(rig, run_here, target):
    (rig.folder / "deep").mkdir()
    (rig.folder / "link").symlink_to("in.zarr")
    before = state(rig.folder / "in.zarr")
    for option in ("--overwrite", "--resume"):
        said = run_here(rig, "--set", f"output.path={target}", option, expect=2)
        assert "input" in said
    assert state(rig.folder / "in.zarr") == before
    assert (rig.folder / "link").is_symlink()


def test_the_input_is_a_link_to_the_output(rig, run_here):
    rig.run()
    (rig.folder / "input").symlink_to("out.zarr/ground")
    before = state(rig.out)
    said = run_here(rig, "--set", "input=input", "--overwrite", expect=2)
    assert "input" in said
    assert state(rig.out) == before


def test_an_output_that_exists(rig, whole, run_here):
    rig.run()
    before = state(rig.out)
    said = run_here(rig, expect=2)
    assert "exists" in said
    assert "--overwrite" in said
    assert state(rig.out) == before
    run_here(rig, "--resume")
    same(rig, whole)
    run_here(rig, "--overwrite")
    assert rig.record()["sessions"][-1]["blocks"] == 24
    same(rig, whole)


def stopped(rig, options=()):
    """Run until blocks of the last pass are recorded, and be killed."""
    rig.fault(pause=0.03)
    process = rig.start("--workers", "2", *options)
    wait_for(lambda: rig.recorded(3) >= 1, process)
    kill_group(process)
    rig.fault()


def changed_pixels(rig):
    """Change pixels, and nothing of a file's size."""
    file = rig.folder / "in.zarr" / "c" / "0" / "7"
    file.write_bytes(file.read_bytes())


def changed_times_within(rig):
    """Change a pixel's byte in place, leaving the size."""
    file = rig.folder / "in.zarr" / "c" / "0" / "3"
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    with file.open("r+b") as out:
        out.write(held)


def other_shape(rig):
    shutil.rmtree(rig.folder / "in.zarr")
    make_input(rig.folder, (256, 4000), (256, 256))


def missing_chunk(rig):
    (rig.folder / "in.zarr" / "c" / "0" / "15").unlink()


def other_function(rig):
    file = rig.folder / "faulty.py"
    text = file.read_text()
    file.write_text(text.replace("windows.max(axis=axis)", "windows.min(axis=axis)"))


CHANGES = {
    "a parameter": (("--set", "steps.1.median.size=7"), "median: size was 5 and is 7"),
    "a mode": (("--set", "steps.1.median.mode=wrap"), "mode"),
    "what is saved": (("--set", "output.save=[ground]"), "equalize_hist"),
    "the chunks": (("--set", "output.chunks=[128, 256]"), "was [256, 256] and is [128, 256]"),
    "the shards": (("--set", "output.shards=[256, 512]"), "shards was null and is [256, 512]"),
    "the dtype": (("--set", "output.dtype=float64"), 'dtype was "<f4" and is "<f8"'),
    "the compressor": (("--set", "output.compressor=none"), "compressor"),
    "the region": (("--set", "input={path: in.zarr, region: {x: [0, 2048]}}"), "is [256, 2048]"),
    "pixels": (changed_pixels, "files was"),
    "pixels in place": (changed_times_within, "files was"),
    "the shape": (other_shape, "4000"),
    "a chunk that is gone": (missing_chunk, "files was"),
    "the function": (other_function, "function was"),
}


@pytest.fixture(scope="module")
def halfway(whole, tmp_path_factory):
    """A run that was killed in its last pass."""
    rig = whole.copy(tmp_path_factory.mktemp("halfway") / "rig")
    rig.clear()
    stopped(rig)
    return rig


# Those that are refused by the same few lines as others.
ALIKE = {"a mode", "the shards", "the compressor", "the shape", "a chunk that is gone"}


@pytest.mark.parametrize(
    "what",
    [pytest.param(one, marks=[pytest.mark.faults] * (one in ALIKE)) for one in CHANGES],
)
def test_resuming_another_run(halfway, whole, tmp_path, run_here, what):
    change, told = CHANGES[what]
    mine = halfway.copy(tmp_path / "rig")
    options = change if isinstance(change, tuple) else ()
    if not options:
        change(mine)
    before = state(mine.out)
    said = run_here(mine, "--resume", *options, expect=2)
    assert "cannot resume" in said
    assert told in said
    assert "--overwrite" in said
    assert state(mine.out) == before
    if what == "a parameter":
        run_here(mine, "--resume")
        same(mine, whole)


def test_resuming_with_another_version_of_a_filter(halfway, whole, tmp_path):
    mine = halfway.copy(tmp_path / "rig")
    script = """
    from chunkfilt import cli
    from chunkfilt.filters.filter import find_filter
    rules = find_filter("median").rules
    object.__setattr__(rules, "version", rules.version + 1)
    cli.main()
    """
    said = mine.script(script, "run", "job.yaml", "--allow-code", "--resume", expect=2)
    assert "median: version was 1 and is 2" in said
    mine.run("--resume")
    same(mine, whole)


def test_resuming_on_paths_of_other_names(halfway, whole, tmp_path):
    """What a run is known by is its input, not where that lies."""
    mine = halfway.copy(tmp_path / "rig")
    mine.folder.rename(tmp_path / "elsewhere")
    (tmp_path / "rig").symlink_to("elsewhere")
    mine.run("--resume", "--scheduler", "serial")
    assert mine.record()["sessions"][-1]["resumed"] >= 17
    same(mine, whole)
    assert os.path.realpath(mine.out) == str(tmp_path / "elsewhere" / "out.zarr")
    assert contents(mine.out)

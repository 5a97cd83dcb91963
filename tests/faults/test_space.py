"""Disks that are full, folders that cannot be written to."""

import resource
import shutil
import subprocess

import pytest

from tests.faults.rig import contents, same

# Writes half a record, and finds the disk full.
_HALF = """
import errno, os, sys
from chunkfilt import cli
from chunkfilt.runtime import ledger

real, left = ledger.PassLedger.record, [int(sys.argv.pop(1))]

class Full:
    def __init__(self, file):
        self.file = file
    def write(self, text):
        os.write(self.file.fileno(), text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    def __getattr__(self, name):
        return getattr(self.file, name)

def record(self, index, units):
    left[0] -= 1
    if not left[0] and self._out is not None:
        self._out = Full(self._out)
    real(self, index, units)

ledger.PassLedger.record = record
cli.main()
"""


class Disk:
    """A file system in memory, with a size."""

    def __init__(self, place):
        self.place = place
        place.mkdir()

    def mount(self, *options):
        """Mount it, or mount it anew with other options, such as ``size=4096k``."""
        words = [*(["remount"] if self.place.is_mount() else []), *options]
        command = ["mount", "-t", "tmpfs", "-o", ",".join(words), "none", str(self.place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")


@pytest.fixture
def disk(tmp_path):
    """A disk that is not yet mounted."""
    made = Disk(tmp_path / "disk")
    yield made
    if made.place.is_mount():
        subprocess.run(["umount", "-l", str(made.place)], check=False)


def on(disk, rig, room):
    """Return the rig on a disk that has so many KiB left."""
    disk.mount("size=64m")
    mine = rig.copy(disk.place / "rig")
    used = shutil.disk_usage(disk.place).used
    disk.mount(f"size={used // 1024 + room}k")
    return mine


def nothing_torn(rig, whole):
    """Assert that every file of pixels is one of the finished output's."""
    if not rig.out.exists():
        return 0
    ours, theirs = contents(rig.out), contents(whole.out)
    pixels = [name for name in ours if "/c/" in name]
    assert all(ours[name] == theirs[name] for name in pixels)
    return len(pixels)


@pytest.mark.parametrize(
    ("room", "options"),
    [
        (16, ("--workers", "2")),
        (1500, ("--workers", "2")),
        (7000, ("--workers", "2")),
        pytest.param(
            7000, ("--scheduler", "processes", "--workers", "2"), marks=pytest.mark.faults
        ),
        *(
            pytest.param(room, ("--workers", "3"), marks=pytest.mark.faults)
            for room in (0, 4, 8, 12, 24, 40, 300, 700, 2500, 3500, 4500, 5500, 8500)
        ),
    ],
)
def test_a_full_disk(rig, whole, disk, room, options):
    mine = on(disk, rig, room)
    for _ in range(2):  # resuming does not help as long as it is full
        said = mine.run("--resume", *options, expect=3)
        assert "No space left on device" in said
        assert "to go on:" in said
        stored = nothing_torn(mine, whole)
    assert stored == 0 or room >= 5000
    disk.mount("size=64m")
    mine.run("--resume", *options)
    same(mine, whole)


@pytest.mark.parametrize("size", [200, 30_000, 250_000])
def test_files_that_may_not_grow(rig, whole, run_here, size):
    """RLIMIT_FSIZE stands in for quotas: metadata fits, or not; pixels do not."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    said = rig.run("--workers", "2", expect=3, preexec_fn=limit)
    assert "File too large" in said
    assert "to go on:" in said
    nothing_torn(rig, whole)
    run_here(rig, "--resume")
    same(rig, whole)


@pytest.mark.parametrize("nth", [3, 19, 24])
def test_no_space_for_a_record(rig, whole, run_here, nth):
    words = ("run", "job.yaml", "--allow-code", "--scheduler", "serial")
    said = rig.script(_HALF, str(nth), *words, expect=3)
    assert "No space left on device" in said
    run_here(rig, "--resume")
    assert rig.record()["sessions"][-1]["resumed"] >= nth - 2
    same(rig, whole)


def computed(rig):
    return (rig.folder / "calls").exists()


def test_a_disk_that_may_not_be_written_to(rig, disk):
    mine = on(disk, rig, 20000)
    mine.fault(trace=True)
    disk.mount("ro")
    for options in ((), ("--resume",), ("--overwrite",)):
        said = mine.run(*options, expect=2)
        assert "Read-only file system" in said
    assert not computed(mine)
    assert not mine.out.exists()


@pytest.mark.parametrize("where", ["deep/out.zarr", "out.zarr", "out.zarr.run"])
def test_a_file_where_a_folder_belongs(rig, run_here, where):
    rig.fault(trace=True)
    file = rig.folder / where.split("/", maxsplit=1)[0]
    file.write_text("somebody's")
    path = f"{rig.folder}/{where.removesuffix('.run')}"
    for option in ("--resume", "--overwrite"):
        said = run_here(rig, "--set", f"output.path={path}", option, expect=2)
        assert str(file) in said
    assert file.read_text() == "somebody's"
    assert not computed(rig)


def test_an_output_that_may_not_be_written_to_any_more(rig, disk):
    """A finished output on a disk that is read-only now stays as it is, and verifies."""
    mine = on(disk, rig, 20000)
    mine.run()
    before = contents(mine.out)
    disk.mount("ro")
    mine.run("--resume", expect=2)
    mine.run("--overwrite", expect=2)
    assert "as they were written" in mine.chunkfilt("verify", "out.zarr")
    assert contents(mine.out) == before

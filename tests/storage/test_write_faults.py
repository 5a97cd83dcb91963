"""Writers that are killed, full disks and other things that the system refuses."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from chunkfilt.errors import RunError
from chunkfilt.grid import Blocks
from tests.outputs import LZ4, files_of, make, stored, write_all

KILLED = """
import pickle, sys
import numpy as np
from chunkfilt.grid import Region
output = pickle.loads(bytes.fromhex(sys.argv[1]))
data = np.random.default_rng(0).random((1024, 1024)).astype("float32")
while True:
    output.write(Region.whole((1024, 1024)), data)
    print("written", flush=True)
"""


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_writer_leaves_nothing_torn(tmp_path, seed):
    output = make(tmp_path, (1024, 1024), (256, 256), dtype="float32", compressor=LZ4)
    data = np.random.default_rng(0).random((1024, 1024)).astype("float32")
    command = [sys.executable, "-c", KILLED, pickle.dumps(output).hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(np.random.default_rng(seed).random() / 10)
        process.send_signal(signal.SIGKILL)
    read = stored(output)
    np.testing.assert_array_equal(read, data)
    assert all(output.check(unit) is None for unit in write_all(output, data))


FULL = """
import pickle, sys
import numpy as np
from chunkfilt.errors import RunError
from chunkfilt.grid import Region
output = pickle.loads(bytes.fromhex(sys.argv[1]))
data = np.random.default_rng(0).integers(0, 65535, (512, 1024), dtype="uint16")
try:
    for row in range(0, 512, 128):
        output.write(Region((row, 0), (row + 128, 1024)), data[row:row + 128])
except RunError as error:
    print(type(error.__cause__).__name__, error.__cause__.errno, error)
    print([str(p) for p in output.staging.rglob("*")])
"""
LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))\n{FULL}"


@pytest.mark.parametrize("shards", [None, (128, 256)])
def test_a_file_that_may_not_grow(tmp_path, shards):
    output = make(tmp_path, (512, 1024), (128, 128), shards)
    command = [sys.executable, "-c", LIMITED, pickle.dumps(output).hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if shards is None:  # 32 KiB each: there is room
        assert done.stdout == ""
        assert len(files_of(output)) == 32
        return
    said, staged = done.stdout.splitlines()
    assert said == f"OSError 27 cannot write to {output.image.path}: File too large"
    assert staged == "[]"
    assert files_of(output) == []


def may_mount(folder):
    """Return whether this process may mount a file system in a namespace of its own."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


SCRIPT = """
mount -t tmpfs -o size=600k none "$1" && cp -r "$1.made/." "$1" || exit 9
"$2" -c "$3" "$4"
cp -r "$1" "$1.found"
"""


@pytest.mark.parametrize("shards", [None, (128, 256)])
@pytest.mark.parametrize("compressor", [None, LZ4])
def test_a_full_disk(tmp_path, shards, compressor):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not may_mount(folder):
        pytest.skip("mounting is not permitted")
    output = make(folder, (512, 1024), (128, 128), shards, compressor=compressor)
    folder.rename(tmp_path / "disk.made")
    folder.mkdir()
    sent = pickle.dumps(output).hex()
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", folder, sys.executable, FULL, sent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, staged = done.stdout.splitlines()
    assert said == f"OSError 28 cannot write to {output.image.path}: No space left on device"
    assert staged == "[]"
    # Whatever is in the store is whole.
    found = tmp_path / "disk.found" / "out.zarr"
    data = np.random.default_rng(0).integers(0, 65535, (512, 1024), dtype="uint16")
    read = zarr.open_array(str(found), mode="r")
    written = 0
    for here in Blocks((512, 1024), output.image.unit):
        place = "/".join(str(a // u) for a, u in zip(here.start, output.image.unit, strict=True))
        if (found / "c" / place).exists():
            np.testing.assert_array_equal(read[here.slices], data[here.slices])
            written += 1
    assert 0 < written < len(output.units)


def test_a_store_that_is_gone(tmp_path, make_pixels):
    output = make(tmp_path, (8, 8), (4, 4))
    data = make_pixels((8, 8))
    os.rename(Path(output.image.path), tmp_path / "moved")
    with pytest.raises(RunError, match=r"cannot write to .*No such file") as caught:
        write_all(output, data)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_file_where_a_folder_belongs(tmp_path, make_pixels):
    output = make(tmp_path, (8, 8), (4, 4))
    (Path(output.image.path) / "c").write_text("words")
    with pytest.raises(RunError, match=r"cannot write to .*out.zarr: ") as caught:
        write_all(output, make_pixels((8, 8)))
    assert isinstance(caught.value.__cause__, OSError)
    assert not output.staging.exists() or not list(output.staging.iterdir())
    (Path(output.image.path) / "c").unlink()
    write_all(output, make_pixels((8, 8)))

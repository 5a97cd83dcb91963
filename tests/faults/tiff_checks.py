"""What reading a harmed TIFF must come to: the right pixels, or an error that names the file."""

import subprocess
import sys

import numpy as np
import pytest

from chunkfilt.errors import RunError, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image

__all__ = ["failing", "read", "read_with_little_memory", "refused", "run", "sound", "useless"]


def read(path, array=None, **options):
    """Open an image and return all its pixels."""
    image = open_image(path, array, **options)
    return image.read(Region.whole(image.spec.shape))


def _said(error, path):
    assert str(path) in str(error), error
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
    assert "Error" not in str(error), error


def refused(path, words="damaged TIFF", **options):
    """Assert that a file is refused when it is opened."""
    with pytest.raises(StorageError, match=words) as caught:
        open_image(path, **options)
    _said(caught.value, path)


def failing(path, words=None, **options):
    """Assert that a file opens and that its pixels cannot be read."""
    image = open_image(path, **options)
    with pytest.raises(RunError, match=words) as caught:
        image.read(Region.whole(image.spec.shape))
    _said(caught.value, path)


def sound(path, pixels, **options):
    """Assert that a file gives the right pixels or none; return whether it gave them."""
    try:
        found = read(path, **options)
    except (StorageError, RunError) as error:
        _said(error, path)
        return False
    np.testing.assert_array_equal(found, pixels)
    return True


def useless(path, **options):
    """Assert that no pixels are to be had from a file, be it refused or failing."""
    with pytest.raises((StorageError, RunError)) as caught:
        read(path, **options)
    _said(caught.value, path)


PROGRAM = """
import re, resource, sys
from chunkfilt.errors import RunError, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

def read(path):
    try:
        image = open_image(path)
        image.read(Region.whole(image.spec.shape))
    except (RunError, StorageError) as error:
        return str(error)
    return "pixels"

count = int(sys.argv[1])
assert all(read(path) == "pixels" for path in sys.argv[2 : 2 + count])
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (512 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
before = peak()
for path in sys.argv[2 + count :]:
    print(read(path))
print(peak() - before)
"""


def read_with_little_memory(good, bad, room=128):
    """Return what reading files says, in a process that takes some MiB more than for good ones."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(len(good)), *map(str, [*good, *bad])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stderr[-2000:])
    *told, grown = done.stdout.splitlines()
    assert int(grown) < room << 10, grown
    return told


RUN = """
import re, sys
from chunkfilt.cli import main
sys.argv[0] = "chunkfilt"
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def run(job, *options):
    """Carry out a job; the last word on stdout is the most memory that its process held, in KiB."""
    return subprocess.run(
        [sys.executable, "-c", RUN, "run", str(job), "--workers", "1", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

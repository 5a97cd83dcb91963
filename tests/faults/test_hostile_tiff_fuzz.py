"""TIFF files with anything changed in them: pixels, or an error of chunkfilt's own, and soon."""

import contextlib
import logging
import math
import resource
import signal
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chunkfilt as cf
from chunkfilt.errors import InputError, RunError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image, open_images
from tests.faults.tiffs import FLAVOURS, LAYOUTS, Anatomy, write

# More than the interpreter and the libraries have already, and what an image may have to be read.
ROOM, LARGE = 1 << 30, 16 << 20
HOSTILE = [0, 1, 2, 3, 7, 8, 16, 17, 255, 256, 32767, 32768, 65535, 1 << 16, (1 << 31) - 1, 1 << 31,
           (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 5, 6, 32773, 34925, 50000,
           254, 273, 279, 322, 324, 325, 330, 339, 347, 34665, 42113, 12, 13, 18]  # fmt: skip


class Told(logging.Handler):
    """What would have been printed on stderr by logging's last resort."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.words = []

    def emit(self, record):
        self.words.append(record.getMessage())


@contextlib.contextmanager
def as_in_a_program(room):
    """Log as a program does that has set up no logging, and take no more than so much memory."""
    told, root = Told(), logging.getLogger()
    handlers, last, limits = root.handlers[:], logging.lastResort, resource.RLIMIT_AS
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(limits)
    root.handlers[:], logging.lastResort = [], told
    resource.setrlimit(limits, (held + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(limits, before)
        root.handlers[:], logging.lastResort = handlers, last
    assert told.words == []


@pytest.fixture(scope="session")
def good():
    """The bytes of good files, and which of them are no pixels."""
    with tempfile.TemporaryDirectory() as folder:
        held = []
        for flavour in FLAVOURS:
            for layout in LAYOUTS:
                if layout != "imagej" or "bigtiff" not in flavour:
                    path, _ = write(Path(folder), layout, flavour)
                    held.append((path.read_bytes(), Anatomy(path).structure()))
        yield held, Path(folder) / "fuzzed.tif"


def change_byte(draw, raw, places, order):
    raw[places[draw(st.integers(0, len(places) - 1))] % len(raw)] = draw(st.integers(0, 255))


def change_number(draw, raw, places, order):
    """Set one of the numbers that matter, or one near the file's end."""
    letter = draw(st.sampled_from("HIQ"))
    ends = [len(raw) + step for step in (-8, -1, 0, 1)]
    value = draw(st.sampled_from(HOSTILE + ends)) & ((1 << 8 * struct.calcsize("=" + letter)) - 1)
    at = places[draw(st.integers(0, len(places) - 1))] & ~1
    if at + struct.calcsize("=" + letter) <= len(raw):
        struct.pack_into(order + letter, raw, at, value)


def cut(draw, raw, places, order):
    del raw[draw(st.integers(0, len(raw) - 1)) :]


def copy(draw, raw, places, order):
    """Repeat some bytes elsewhere: a tag, a directory."""
    source, to = (places[draw(st.integers(0, len(places) - 1))] for _ in range(2))
    count = draw(st.sampled_from([1, 2, 4, 8, 12, 20, 100]))
    piece = bytes(raw[source : source + count])
    raw[to : to + len(piece)] = piece


def grow(draw, raw, places, order):
    raw += draw(st.sampled_from([b"\0", b"II*\0", bytes(1000), b"\xff" * 1000]))


@st.composite
def harmed(draw, good):
    """Return a good file with some of its structure changed."""
    source, places = draw(st.sampled_from(good))
    raw, order = bytearray(source), "<" if source[:2] == b"II" else ">"
    kinds = [change_byte, change_number, change_number, copy, cut, grow]
    for _ in range(draw(st.integers(1, 4))):
        if len(raw) > 8:
            draw(st.sampled_from(kinds))(draw, raw, places, order)
    return bytes(raw)


def look(path):
    """Open whatever images a file has and read what is not too large; other errors get out."""
    try:
        names = list(open_images(path))
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert len(str(error)) < 1500  # noqa: PT017
        return
    for name in names[:5]:
        with contextlib.suppress(InputError):
            image = open_image(path, name or None)
            small = math.prod(image.spec.shape) * image.spec.dtype.itemsize < LARGE
            shape = image.spec.shape if small else [min(n, 20) for n in image.spec.shape]
            with contextlib.suppress(RunError):
                found = image.read(Region((0,) * len(shape), tuple(shape)))
                assert found.shape == tuple(shape)
            cf.mean(cf.open(path, name or None), size=3).plan()


def fuzz(good, examples):
    held, path = good

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(harmed(held))
    def check(raw):
        path.write_bytes(raw)
        # A reader that hangs is stopped, so that hypothesis can tell over what.
        signal.alarm(60)
        try:
            look(path)
        finally:
            signal.alarm(0)

    with as_in_a_program(ROOM):
        check()


@pytest.fixture
def _alarm():
    def late(*_):
        raise TimeoutError("a file took more than a minute")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_alarm")
def test_files_with_anything_changed(good, capfd):
    fuzz(good, 400)
    assert capfd.readouterr().err == ""


@pytest.mark.faults
@pytest.mark.usefixtures("_alarm")
def test_thousands_of_files_with_anything_changed(good, capfd):
    fuzz(good, 10_000)
    assert capfd.readouterr().err == ""

"""Write units: written exactly once, whole or not at all, and checked to the last byte."""

import concurrent.futures
import itertools
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from chunkfilt.grid import Blocks, Region
from chunkfilt.kernels.checksum import combine_checksums, image_checksum
from chunkfilt.storage.units import Unit
from tests.outputs import LZ4, files_of, make, stored, write_all


def staged_files(output):
    return [p for p in output.staging.rglob("*") if p.is_file() and p.name != "zarr.json"]


@st.composite
def outputs(draw):
    """Draw a shape, chunks, shards or none, and a block of whole write units."""
    ndim = draw(st.integers(1, 4))
    most = (30, 14, 7, 5)[ndim - 1]
    shape = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, min(n + 1, 6))) for n in shape)
    shards = None
    if draw(st.booleans()):
        shards = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    block = tuple(u * draw(st.integers(1, 3)) for u in shards or chunks)
    return shape, chunks, shards, block


@given(
    outputs(),
    st.sampled_from(["bool", "uint8", "int16", "float32", "float64", "complex64"]),
    st.sampled_from([None, ZstdCodec(level=1), LZ4]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=120, deadline=None)
def test_every_element_is_written_exactly_once(tmp_path_factory, drawn, dtype, compressor, random):
    shape, chunks, shards, block = drawn
    output = make(tmp_path_factory.mktemp("o"), shape, chunks, shards, dtype, compressor)
    rng = np.random.default_rng(random.randrange(2**32))
    data = rng.integers(0, 3, shape).astype(dtype)
    data[rng.random(shape) < 0.3] = 0
    data[tuple(slice(0, random.randrange(1, n + 2)) for n in shape)] = 0
    blocks = Blocks(shape, block)
    order = list(range(len(blocks)))
    random.shuffle(order)
    counted = np.zeros(shape, int)
    found = []
    for i in order:
        region = blocks[i]
        units = output.write(region, data[region.slices])
        assert [unit.index for unit in units] == output.unit_numbers(region)
        for unit in units:
            counted[output.region_of(unit.index).slices] += 1
        found += units
    assert (counted == 1).all()
    assert sorted(unit.index for unit in found) == list(range(len(output.units)))
    np.testing.assert_array_equal(stored(output), data)
    np.testing.assert_array_equal(output.image.read(Region.whole(shape)), data)
    whole = image_checksum(data, (0,) * len(shape), shape)
    assert combine_checksums(*(unit.checksum for unit in found)) == whole
    for unit in found:
        assert output.check(unit) is None
        assert Unit.parse(unit.text()) == unit
        here = output.region_of(unit.index)
        assert unit.checksum == image_checksum(data[here.slices], here.start, shape)
        assert (unit.file is None) == (not data[here.slices].any())
    assert len(files_of(output)) == sum(unit.file is not None for unit in found)
    assert not staged_files(output)
    check_damage(output, found, random)


def check_damage(output, units, random):
    """Damage one file in every way there is; `check` must say so, and of this unit alone."""
    unit = random.choice(units)
    places = (str(i) for i in np.unravel_index(unit.index, output.units.counts))
    file = Path(output.image.path).joinpath("c", *places)
    if unit.file is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        assert output.check(unit) == "should not exist"
        file.unlink()
        return
    raw = file.read_bytes()
    short, at = random.randrange(len(raw)), random.randrange(len(raw))
    file.write_bytes(raw[:short])
    assert output.check(unit) == f"is {short} bytes instead of {len(raw)}"
    file.write_bytes(raw + b"\0")
    assert output.check(unit) == f"is {len(raw) + 1} bytes instead of {len(raw)}"
    flipped = bytearray(raw)
    flipped[at] ^= 1 << random.randrange(8)
    file.write_bytes(flipped)
    assert output.check(unit) == "is not what was written"
    assert [other.index for other in units if output.check(other)] == [unit.index]
    file.unlink()
    assert output.check(unit) == "is missing"
    file.write_bytes(raw)
    assert output.check(unit) is None


@pytest.mark.parametrize("shards", [None, (16, 16)])
def test_every_flipped_byte_is_found(tmp_path, make_pixels, shards):
    output = make(tmp_path, (16, 16), (8, 16), shards, compressor=LZ4)
    unit = write_all(output, make_pixels((16, 16)))[0]
    file = Path(output.image.path) / "c" / "0" / "0"
    raw = file.read_bytes()
    for at in range(len(raw)):
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        assert output.check(unit) == "is not what was written"


def test_a_folder_of_files_that_is_a_file(tmp_path, make_pixels):
    output = make(tmp_path, (4, 4), (4, 4))
    unit = write_all(output, make_pixels((4, 4)))[0]
    folder = Path(output.image.path) / "c" / "0"
    (folder / "0").unlink()
    folder.rmdir()
    folder.write_text("words")
    assert output.check(unit) == "is missing"
    folder.unlink()
    (folder / "0").mkdir(parents=True)
    assert output.check(unit) is not None


def test_a_unit_of_fill_values_takes_away_the_file_there_was(tmp_path, make_pixels):
    output = make(tmp_path, (8, 8), (4, 4), (4, 8))
    data = make_pixels((8, 8))
    write_all(output, data)
    data[:4] = 0
    top, rest = write_all(output, data)
    assert top.file is None
    assert rest.file is not None
    assert files_of(output) == ["1/0"]
    np.testing.assert_array_equal(stored(output), data)


@pytest.mark.parametrize(
    ("value", "nodata", "has_file"),
    [(0.0, None, False), (-0.0, None, True), (np.nan, None, True), (np.nan, np.nan, False),
     (-1.0, -1.0, False), (0.0, -1.0, True), (np.inf, np.inf, False)],
)  # fmt: skip
@pytest.mark.parametrize("shards", [None, (5, 8)])
def test_fill_values_keep_their_bits(tmp_path, value, nodata, has_file, shards):
    output = make(tmp_path, (5, 7), (5, 4), shards, "float32", LZ4, nodata)
    data = np.full((5, 7), value, "float32")
    units = write_all(output, data)
    assert {unit.file is not None for unit in units} == {has_file}
    read = output.image.read(Region.whole((5, 7)))
    np.testing.assert_array_equal(read, data)
    np.testing.assert_array_equal(np.signbit(read), np.signbit(data))
    assert all(output.check(unit) is None for unit in units)


def test_an_image_without_pixels(tmp_path):
    output = make(tmp_path, (0, 5), (4, 4))
    assert write_all(output, np.zeros((0, 5), "uint16")) == ()
    assert len(output.units) == 0


def test_regions_of_whole_units_only(tmp_path):
    output = make(tmp_path, (10, 10), (2, 2), (4, 4))
    assert output.unit_numbers(Region((4, 0), (10, 8))) == [3, 4, 6, 7]
    assert output.unit_numbers(Region((8, 8), (10, 10))) == [8]
    for start, stop in [((0, 0), (2, 4)), ((2, 0), (4, 4)), ((0, 0), (9, 4)), ((8, 8), (12, 12))]:
        with pytest.raises(ValueError, match="whole write units"):
            output.write(Region(start, stop), np.ones(np.subtract(stop, start), "uint16"))
    with pytest.raises(ValueError, match="float64"):
        output.write(Region((0, 0), (4, 4)), np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        output.write(Region((0, 0), (4, 4)), np.ones((4, 3), "uint16"))
    assert not files_of(output)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1:0:-", "01:0000000000000000:-", "-1:0000000000000000:-", "1:0000000000000000:",
     "1:0000000000000000:4", "1:0000000000000000:4:0", "1:000000000000000G:-", None, 3,
     "1:0000000000000000:-\n", "1:0000000000000000:4:00000000:", "\u0661:0000000000000000:-"],
)  # fmt: skip
def test_what_records_no_unit(text):
    with pytest.raises(ValueError, match="not the record of a write unit"):
        Unit.parse(text)


@given(
    st.builds(
        Unit,
        st.integers(0, 2**60),
        st.integers(0, 2**64 - 1),
        st.none() | st.tuples(st.integers(0, 2**50), st.integers(0, 2**32 - 1)),
    )
)
def test_a_unit_as_text(unit):
    assert Unit.parse(unit.text()) == unit


def test_an_output_travels_as_paths(tmp_path, make_pixels):
    output = make(tmp_path, (64, 64), (8, 8), compressor=LZ4)
    write_all(output, make_pixels((64, 64)))
    assert len(pickle.dumps(output)) < 3000
    assert pickle.loads(pickle.dumps(output)) == output


def test_a_stage_that_was_removed_is_made_again(tmp_path, make_pixels):
    one = make(tmp_path, (8, 8), (4, 4))
    write_all(one, make_pixels((8, 8)))
    os.rename(one.image.path, tmp_path / "old")
    # Now of another dtype at the same place, in the same thread.
    two = make(tmp_path, (8, 8), (8, 8), dtype="float32")
    data = make_pixels((8, 8), "float32")
    write_all(two, data)
    np.testing.assert_array_equal(stored(two), data)


# The same region at once


def write_often(output, data, rounds):
    """Write everything again and again; return what was reported."""
    return {write_all(output, data) for _ in range(rounds)}


@pytest.mark.parametrize("shards", [None, (20, 40)])
@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_the_same_region_twice_at_once(tmp_path, make_pixels, workers, shards):
    output = make(tmp_path, (50, 70), (10, 20), shards, "float32", LZ4)
    data = make_pixels((50, 70), "float32")
    data[:10, :20] = 0
    expected = write_all(output, data)
    before = [(Path(output.image.path) / "c" / f).read_bytes() for f in files_of(output)]
    if workers == "threads":
        pool = concurrent.futures.ThreadPoolExecutor(4)
    else:
        spawn = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn)
    with pool:
        jobs = [pool.submit(write_often, output, data, 15) for _ in range(4)]
        unfinished = 0
        while not all(job.done() for job in jobs):
            unfinished += output.check(expected[-1]) is not None
        assert {units for job in jobs for units in job.result()} == {expected}
    assert unfinished == 0
    after = [(Path(output.image.path) / "c" / f).read_bytes() for f in files_of(output)]
    assert after == before
    assert all(output.check(unit) is None for unit in expected)
    assert not staged_files(output)


def test_every_writer_has_a_stage_of_its_own(tmp_path, make_pixels):
    output = make(tmp_path, (8, 8), (4, 4))
    data = make_pixels((8, 8))
    barrier = threading.Barrier(3)

    def write(_):
        barrier.wait()
        write_all(output, data)
        write_all(output, data)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    folders = list(output.staging.iterdir())
    assert len(folders) == 3
    assert all(f"-{os.getpid()}-" in folder.name for folder in folders)


def test_every_subset_of_units(tmp_path):
    output = make(tmp_path, (5, 7), (2, 3))
    for i, j in itertools.product(range(3), range(3)):
        region = Region((2 * i, 3 * j), (5, 7))
        rows = [[3 * a + b for b in range(j, 3)] for a in range(i, 3)]
        assert output.unit_numbers(region) == list(itertools.chain(*rows))

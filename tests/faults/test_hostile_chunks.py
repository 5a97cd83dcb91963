"""Chunks that are corrupt, missing or bombs: an error naming array and chunk; never pixels."""

import bz2
import gzip
import lzma
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

import chunkfilt as cf
from chunkfilt.documents import parse_yaml
from chunkfilt.errors import ConfigError, InputError, RunError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image
from tests.faults.stores import (
    LAYOUTS,
    WHOLE,
    change,
    chunk_files,
    key_of,
    refuse_to_read,
    write_layout,
)


@pytest.fixture
def store(tmp_path):
    """Write an image in the layout named: ``path, pixels = store("v3-zstd")``."""
    return lambda layout="v3-zstd": write_layout(tmp_path, layout)


def halved(raw):
    return raw[: len(raw) // 2]


HARMS = {
    "halved": halved,
    "one byte short": lambda raw: raw[:-1],
    "emptied": lambda raw: b"",
    "zeroed": lambda raw: bytes(len(raw)),
    "a byte": lambda raw: raw[:1],
    "another file": lambda raw: b"<html>503 Service Unavailable</html>",
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_corrupt_chunk_is_an_error_that_names_it(store, layout, harm):
    if harm == "zeroed" and layout.endswith("none"):
        pytest.skip("zeros are pixels where nothing is encoded")
    path, _ = store(layout)
    victim = chunk_files(path)[0]
    victim.write_bytes(HARMS[harm](victim.read_bytes()))
    refuse_to_read(path, key_of(path, victim))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_chunk_named_is_the_one_that_is_corrupt(store, layout):
    path, data = store(layout)
    files = chunk_files(path)
    victim = files[-1] if "shards" in layout else path / ("1.2" if "v2" in layout else "c/1/2")
    victim.write_bytes(halved(victim.read_bytes()))
    with pytest.raises(RunError, match=rf"chunk {key_of(path, victim)} of"):
        open_image(path).read(WHOLE)
    # What the region does not touch is read as before.
    whole = Region((0, 0), (16, 16))
    np.testing.assert_array_equal(open_image(path).read(whole), data[:16, :16])


def test_a_run_over_a_corrupt_chunk_fails_naming_it(store, tmp_path, make_job):
    path, _ = store("v3-none")
    (path / "c/2/3").write_bytes(b"12")
    job = make_job("version: 1\ninput: v3-none.zarr\nsteps: [mean]\noutput: out.zarr\n")
    done = subprocess.run(
        [sys.executable, "-m", "chunkfilt", "run", str(job), "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode not in (0, 2)
    assert f"chunk c/2/3 of {path}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_chunk_is_fill_values_or_an_error_that_names_it(store, layout):
    path, data = store(layout)
    victim = path / ("1.1" if "v2" in layout else "c/1/1")
    box = (slice(32, 40), slice(32, 50)) if "shards" in layout else (slice(16, 32),) * 2
    victim.unlink()
    data = data.copy()
    data[box] = 0
    np.testing.assert_array_equal(open_image(path).read(WHOLE), data)
    strict = open_image(path, missing="error")
    with pytest.raises(RunError, match=rf"chunk {key_of(path, victim)} of .* is missing"):
        strict.read(WHOLE)
    with pytest.raises(RunError, match="is missing"):
        cf.mean(cf.open(path, missing="error"), size=3)[:]
    near = Region((0, 0), (16, 16))
    np.testing.assert_array_equal(strict.read(near), data[:16, :16])


def test_a_missing_chunk_within_a_shard(tmp_path):
    array = zarr.create_array(
        str(tmp_path / "a"), shape=(32, 32), chunks=(8, 8), shards=(16, 16), dtype="u1"
    )
    array[:8] = 1
    array[16:] = 1
    assert open_image(tmp_path / "a").read(Region((0, 0), (32, 32))).sum() == 24 * 32
    strict = open_image(tmp_path / "a", missing="error")
    with pytest.raises(RunError, match=r"chunk c/0/0 \(its chunk 1, 0\) of .* is missing"):
        strict.read(Region((0, 0), (32, 32)))
    assert strict.read(Region((16, 0), (32, 32))).all()


def test_missing_in_a_job_and_on_the_way_back(store, make_job):
    path, _ = store()
    (path / "c/1/1").unlink()
    text = "version: 1\ninput: {path: v3-zstd.zarr, missing: error}\nsteps: [mean]\noutput: o\n"
    with pytest.raises(RunError, match=r"chunk c/1/1 .*missing"):
        cf.from_yaml(make_job(text))[:]
    written = cf.to_yaml(cf.mean(cf.open(path, missing="error")))
    assert parse_yaml(written.encode(), "written").data["input"]["missing"] == "error"
    assert "missing:" not in cf.to_yaml(cf.mean(cf.open(path)))
    with pytest.raises(ConfigError, match=r":2:29: input.missing must be one of 'fill' or 'error'"):
        cf.from_yaml(make_job(text.replace("error", "ignore")))
    with pytest.raises(InputError, match="missing must be one of fill, error"):
        cf.open(path, missing="ignore")


def to_folder(file):
    file.unlink()
    file.mkdir()


def to_nothing(file):
    file.unlink()
    file.symlink_to("nowhere")


def to_itself(file):
    file.unlink()
    file.symlink_to(file.name)


def to_pipe(file):
    file.unlink()
    os.mkfifo(file)


def to_zeros(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def to_io_error(file):
    """Reading another process's memory at 0 is an I/O error, whoever asks."""
    file.unlink()
    file.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("harm", [to_folder, to_nothing, to_itself, to_pipe, to_zeros, to_io_error])
@pytest.mark.parametrize("layout", ["v3-zstd", "v3-none", "v3-shards", "v2-gzip", "v2-lz4"])
def test_a_chunk_that_cannot_be_read_is_never_taken_for_missing(store, layout, harm):
    path, _ = store(layout)
    victim = chunk_files(path)[0]
    harm(victim)
    refuse_to_read(path, key_of(path, victim))


@pytest.mark.parametrize("below", ["c", "c/0"])
@pytest.mark.parametrize("link", [False, True])
def test_a_folder_of_chunks_that_is_none(store, below, link):
    path, _ = store()
    shutil.rmtree(path / below)
    if link:
        (path / below).symlink_to("nowhere")
    else:
        (path / below).write_text("x")
    refuse_to_read(path, "c/0/0")


def test_a_chunk_that_may_not_be_read(store, monkeypatch):
    path, _ = store()
    real = os.open

    def refuse(name, *rest, **more):
        if str(name).endswith("c/0/0"):
            raise PermissionError(13, "Permission denied", name)
        return real(name, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    refuse_to_read(path, "c/0/0", "Permission denied")


def test_a_store_that_vanishes_is_not_an_image_of_fill_values(store):
    path, _ = store()
    image = open_image(path)
    image.read(WHOLE)
    path.rename(path.with_name("elsewhere.zarr"))
    with pytest.raises(RunError, match="the store is no longer there"):
        image.read(WHOLE)
    path.mkdir()
    with pytest.raises(RunError, match="the store is no longer there"):
        image.read(WHOLE)


# Chunks that ask for far more than the array has there: 512 bytes of pixels, some 3 GB claimed.
LARGE = 3 << 30


def zstd_frame(claimed, blocks=b"\x01\0\0"):
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", claimed) + blocks


def zstd_blocks(count):
    """Return a frame that does not say how large it is: blocks of one repeated byte."""
    block = (1 << 17) << 3 | 1 << 1
    head = b"\x28\xb5\x2f\xfd\x00\x38"
    last = struct.pack("<I", block | 1)[:3] + b"\0"
    return head + (struct.pack("<I", block)[:3] + b"\0") * (count - 1) + last


def blosc_header(claimed):
    raw = numcodecs.Blosc("lz4").encode(bytes(512))
    return raw[:4] + struct.pack("<I", claimed) + raw[8:]


def in_a_stream(make, claimed):
    """Compress zeros piece by piece: what is large only once it is decoded."""
    piece = bytes(1 << 24)
    return b"".join(make.compress(piece) for _ in range(claimed >> 24)) + make.flush()


def bomb(layout):
    if layout.endswith("zstd"):
        skipped = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
        heads = (b"", zstd_frame(512), skipped)
        return [zstd_frame(1 << 62), *(h + zstd_frame(LARGE) for h in heads), zstd_blocks(16_000)]
    if layout.endswith("blosc"):
        return [blosc_header((1 << 31) - 17)]
    if layout.endswith("lz4"):
        return [struct.pack("<i", (1 << 31) - 1) + b"abcdefg"]
    if layout.endswith("bz2"):
        return [bz2.compress(bytes(1 << 28))]
    if layout.endswith("lzma"):
        return [lzma.compress(bytes(1 << 28), preset=0)]
    size = 1 << 28
    if layout.endswith("zlib"):
        return [in_a_stream(zlib.compressobj(1), size)]
    return [gzip.compress(bytes(size), 1)]


PROGRAM = """
import resource, sys
from chunkfilt.errors import RunError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image
open_image(sys.argv[1]).read(Region((32, 0), (40, 16)))
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (256 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        open_image(path).read(Region((0, 0), (40, 50)))
    except RunError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def read_with_little_memory(*paths):
    """Return what reading stores says, in a process that may take 256 MiB more."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    *told, grown = done.stdout.splitlines()
    assert int(grown) < 128 << 10
    return told


COMPRESSED = [one for one in LAYOUTS if not one.endswith("none") and "shards" not in one]


@pytest.mark.parametrize("layout", COMPRESSED)
def test_a_decompression_bomb_is_not_set_off(store, layout):
    path, _ = store(layout)
    key, bombs = "1.1" if "v2" in layout else "c/1/1", bomb(layout)
    stores = [Path(shutil.copytree(path, f"{path}-{number}")) for number in range(len(bombs))]
    for one, raw in zip(stores, bombs, strict=True):
        (one / key).write_bytes(raw)
    for one, said in zip(stores, read_with_little_memory(*stores), strict=True):
        assert f"chunk {key} of {one}" in said


def shard_index(entries):
    raw = struct.pack(f"<{2 * len(entries)}Q", *(n for entry in entries for n in entry))
    return raw + struct.pack("<I", google_crc32c.value(raw))


@pytest.mark.parametrize(
    "entry",
    [(0, 1 << 40), (1 << 63, 100), ((1 << 64) - 2, 5), (10**6, 100), ((1 << 64) - 1, 5),
     (100, (1 << 64) - 1), (0, 0), (1 << 63, 1 << 63)],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["v3-shards", "v3-shards-none"])
def test_an_index_of_a_shard_that_lies(store, layout, entry):
    path, _ = store(layout)
    victim = path / "c/0/0"
    victim.write_bytes(victim.read_bytes()[:-68] + shard_index([entry] * 4))
    refuse_to_read(path, "c/0/0")


def test_a_bomb_within_a_shard(store):
    path, _ = store("v3-shards")
    inner = zstd_frame(LARGE)
    (path / "c/0/1").write_bytes(inner + shard_index([(0, len(inner))] * 4))
    told = read_with_little_memory(path)
    assert "chunk c/0/1 of" in told[0]
    assert "in its chunk (0, 0): it claims" in told[0]


@pytest.mark.parametrize("where", ["start", "end"])
def test_shards_within_shards(tmp_path, make_pixels, where):
    data = make_pixels((32, 32))
    inner = ShardingCodec(chunk_shape=(8, 8), codecs=[BytesCodec(), ZstdCodec()])
    outer = ShardingCodec(chunk_shape=(16, 16), codecs=[inner], index_location=where)
    array = zarr.create_array(
        str(tmp_path / "a"), shape=(32, 32), chunks=(32, 32), dtype="u2", serializer=outer,
        compressors=None,
    )  # fmt: skip
    array[:] = data
    whole = Region((0, 0), (32, 32))
    np.testing.assert_array_equal(open_image(tmp_path / "a").read(whole), data)
    file = tmp_path / "a" / "c/0/0"
    raw = file.read_bytes()
    frames = raw.count(b"\x28\xb5\x2f\xfd")
    assert frames == 16
    # The size of the second innermost chunk, in the header of its frame.
    at = raw.index(b"\x28\xb5\x2f\xfd", raw.index(b"\x28\xb5\x2f\xfd") + 4)
    file.write_bytes(raw[: at + 4] + b"\xe0" + struct.pack("<Q", LARGE) + raw[at + 13 :])
    with pytest.raises(
        RunError, match=r"in its chunk \(0, 0\): in its chunk \(\d, \d\): it claims"
    ):
        open_image(tmp_path / "a").read(whole)


def test_a_chunk_larger_than_the_machine(store):
    path, _ = store()
    sizes = [1 << 24, 1 << 24]
    change(path, shape=sizes,
           chunk_grid={"name": "regular", "configuration": {"chunk_shape": sizes}})  # fmt: skip
    (path / "c/0/0").write_bytes(zstd_frame(1 << 49))
    with pytest.raises(RunError, match=r"chunk c/0/0 .*more than this machine's memory"):
        open_image(path).read(WHOLE)


def test_a_chain_of_codecs_that_gives_another_size(store):
    path, _ = store("v2-none")
    change(path, filters=[{"id": "astype", "encode_dtype": "|u1", "decode_dtype": "<u2"}])
    refuse_to_read(path, "0.0")
    for dtype in ("<u8", "|u1"):
        path, _ = store("v2-zstd")
        change(path, dtype=dtype)
        refuse_to_read(path, "0.0")
        shutil.rmtree(path)

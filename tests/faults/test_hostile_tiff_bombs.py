"""TIFF files that are small and ask for much: an error within seconds, in little memory."""

import lzma
import struct
import zlib

import imagecodecs
import numpy as np
import pytest

from tests.faults.tiff_checks import read_with_little_memory, run
from tests.faults.tiffs import (
    ASCII,
    DEFLATE,
    ENCODERS,
    JPEG,
    LZMA,
    LZW,
    PACKBITS,
    ZSTD,
    Anatomy,
    build,
    chain,
    link,
    two_tiles,
    write,
)


def again(once, times, head=b"", tail=b""):
    return head + once * times + tail


def deflate_zeros(size):
    """Return a stream of zeros, by pieces of 16 MiB that are complete in themselves."""
    make = zlib.compressobj(9)
    piece = make.compress(bytes(1 << 24)) + make.flush(zlib.Z_FULL_FLUSH)
    return again(piece[2:], size >> 24, piece[:2], b"\x03\0" + bytes(4))


def lzw_zeros(size):
    """Return codes each of which stands for one zero more than the one before, table by table.

    Eight full tables are whole bytes, and so are eight codes that clear the table.
    """
    codes, zeros = [0, *range(258, 4095), 256], 1 + sum(range(2, 3839))
    widths = np.repeat([9, 10, 11, 12], [254, 512, 1024, len(codes) - 1790])
    table = "".join(f"{code:0{width}b}" for code, width in zip(codes, widths, strict=True))
    eight = int(table * 8, 2).to_bytes(len(table), "big")
    clear = int(f"{256:09b}" * 8, 2).to_bytes(9, "big")
    return again(eight, max(size // (zeros * 8), 1), clear, b"\x80\x80")


def zstd_zeros(size, claimed=None):
    """Return a frame of blocks of one repeated byte; it may say how many bytes it has."""
    head = b"\x00\x38" if claimed is None else b"\xe0" + struct.pack("<Q", claimed)
    block = (1 << 17) << 3 | 1 << 1
    first, last = (struct.pack("<I", block | end)[:3] + b"\0" for end in (0, 1))
    return b"\x28\xb5\x2f\xfd" + head + first * ((size >> 17) - 1) + last


def jpeg_of(height, width):
    """Return a JPEG of 16 x 16 pixels that says it has more."""
    raw = bytearray(imagecodecs.jpeg_encode(np.full((16, 16), 7, "u1")))
    at = raw.index(b"\xff\xc0")
    raw[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(raw)


LARGE = 3 << 30
BOMBS = {
    "deflate": (DEFLATE, lambda: deflate_zeros(LARGE)),
    "lzw": (LZW, lambda: lzw_zeros(LARGE)),
    "packbits": (PACKBITS, lambda: b"\x81\0" * (1 << 22)),
    "lzma": (LZMA, lambda: lzma.compress(bytes(1 << 28), preset=0)),
    "zstd": (ZSTD, lambda: zstd_zeros(LARGE)),
    "zstd, told": (ZSTD, lambda: zstd_zeros(LARGE, LARGE)),
    "zstd, only told": (ZSTD, lambda: zstd_zeros(1 << 17, 1 << 62)),
    "zstd, told small": (ZSTD, lambda: zstd_zeros(LARGE, 256)),
    "zstd, after another": (ZSTD, lambda: imagecodecs.zstd_encode(bytes(256)) + zstd_zeros(LARGE)),
    "jpeg": (JPEG, lambda: jpeg_of(65500, 65500)),
    "jpeg, one row": (JPEG, lambda: jpeg_of(16, 65500)),
    "jpeg, hidden": (JPEG, lambda: b"\xff\xd8\xff\xff\xff" + jpeg_of(65500, 65500)[2:]),
}


def test_decompression_bombs_are_not_set_off(tmp_path):
    bombs, good = [], []
    for compression in ENCODERS:
        held = ENCODERS[compression](bytes([9]) * 256)
        good.append(two_tiles(tmp_path / f"{compression}.tif", compression, held))
    for name, (compression, make) in BOMBS.items():
        bombs.append(two_tiles(tmp_path / f"bomb {name}.tif", compression, make()))
    told = read_with_little_memory(good, bombs)
    for path, line in zip(bombs, told, strict=True):
        assert str(path) in line, line
        assert "memory" not in line.lower(), line


def ome(planes, more=""):
    told = 'DimensionOrder="XYCZT" Type="uint8" SizeX="1" SizeY="1" SizeC="1" SizeZ="1"'
    pixels = f'<Pixels {told} SizeT="2000">{planes}</Pixels>'
    return f"<?xml version='1.0'?><OME>{more}<Image>{pixels}</Image></OME>".encode() + b"\0"


def described(raw, once="ImageDescription"):
    return {"more": [("ImageDescription", ASCII, raw)], "once": once}


ONE = (1, 1, [b"\7"])
MANY = {
    "a text": (3000, *ONE, described(b"x" * (1 << 20) + b"\0", None)),
    "strips": (3000, 1, 100_000, [], {"rows": 1, "compression": LZW, "sizes": [(8, 1)] * 100_000}),
    "samples": (3000, 1, 1, [bytes(30_000)], {"samples": 30_000}),
    "tables": (3000, *ONE, {"more": [("JPEGTables", 7, bytes(1 << 20))]}),
    "OME planes": (2000, *ONE, described(ome('<TiffData IFD="0" PlaneCount="2000"/>' * 200_000))),
    "OME images": (2000, *ONE, described(ome("", "<Image/>" * 100_000))),
    "sizes": (20_000, 20_000, 1, [bytes(20_000)], {"vary": "ImageWidth"}),
    "XML": (1, *ONE, described(ome("", "<a/>" * 1_000_000))),
}


@pytest.mark.parametrize("what", MANY)
def test_many_pages_that_share_much_or_nothing(tmp_path, what):
    """A file of some megabytes may not become gigabytes, nor the square of its pages steps."""
    count, *image, options = MANY[what]
    chain(tmp_path / "a.tif", count, *image, **options)
    assert len(read_with_little_memory([], [tmp_path / "a.tif"], 256)) == 1


@pytest.mark.parametrize("harm", ["deflate bomb", "huge", "circle", "one large strip"])
def test_a_run_over_a_hostile_file(tmp_path, make_job, harm):
    path = tmp_path / "a.tif"
    if harm == "deflate bomb":
        two_tiles(path, DEFLATE, deflate_zeros(LARGE))
    elif harm == "one large strip":
        build(path, 1 << 15, 1 << 15, [deflate_zeros(1 << 30)], compression=DEFLATE)
    elif harm == "huge":
        build(path, 1 << 31, 1 << 31, [bytes(100)], compression=ZSTD)
    else:
        build(path, 8, 8, [bytes(64)], pages=3)
        link(path, 8)
    job = make_job("version: 1\ninput: a.tif\nsteps: [mean]\noutput: out.zarr\n")
    done = run(job, "--set", "run.memory=500MB")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert ("needs" if harm == "one large strip" else str(path)) in done.stderr
    assert int(done.stdout.split()[-1]) < 600 << 10
    assert not (tmp_path / "out.zarr").exists()


def test_resuming_over_a_file_that_was_changed(tmp_path, make_job):
    path, _ = write(tmp_path, "strips")
    job = make_job("version: 1\ninput: strips-little.tif\nsteps: [mean]\noutput: out.zarr\n")
    assert run(job).returncode == 0
    raw = bytearray(path.read_bytes())
    raw[Anatomy(path).data()[0][0]] ^= 1
    with path.open("r+b") as out:
        out.write(raw)
    done = run(job, "--resume")
    assert done.returncode == 2
    assert "cannot resume" in done.stderr
    assert "--overwrite" in done.stderr

"""TIFF files that are cut short, corrupt or bombs: an error naming the file; never pixels."""

import io

import imagecodecs
import numcodecs
import numpy as np
import pytest
from PIL import Image

import chunkfilt as cf
from chunkfilt.errors import RunError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image
from tests.faults.tiff_checks import failing, read, refused, sound, useless
from tests.faults.tiffs import (
    ASCII,
    ENCODERS,
    FLAVOURS,
    JPEG,
    LAYOUTS,
    LZMA,
    NONE,
    PACKBITS,
    ZSTD,
    Anatomy,
    build,
    patch,
    two_tiles,
    write,
)

CODED = pytest.mark.parametrize("compression", [one for one in ENCODERS if one != NONE])


def cuts(path, pixels, lengths):
    """Assert that no beginning of a file gives other pixels; return how many gave the right."""
    raw, good = path.read_bytes(), 0
    assert sound(path, pixels)
    for length in lengths:
        path.write_bytes(raw[:length])
        good += sound(path, pixels)
    path.write_bytes(raw)
    return good


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_cut_short_anywhere(tmp_path, layout):
    path, pixels = write(tmp_path, layout)
    size = path.stat().st_size
    # Text of the last page's description is no pixels, nor are the parts of its resolution.
    assert cuts(path, pixels, [*range(0, size, 29), *range(size - 5, size)]) < size / 40


@pytest.mark.parametrize(
    ("layout", "flavour"),
    [("strips-deflate", "little"), ("after", "bigtiff-big")],
)
def test_every_beginning_of_a_file(tmp_path, layout, flavour):
    path, pixels = write(tmp_path, layout, flavour)
    cuts(path, pixels, range(path.stat().st_size))


@pytest.mark.faults
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_beginning_of_every_file(tmp_path, layout, flavour):
    if layout != "imagej" or "bigtiff" not in flavour:
        path, pixels = write(tmp_path, layout, flavour)
        cuts(path, pixels, range(path.stat().st_size))


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("layout", ["strips-deflate", "tiles-lzw", "tiles-jpeg", "after"])
def test_a_file_that_is_cut_short_after_it_was_opened(tmp_path, layout, flavour):
    path, pixels = write(tmp_path, layout, flavour)
    raw = path.read_bytes()
    at, count = Anatomy(path).data()[-1]
    for read_before in (False, True):
        for length in (at + count - 1, at + 1, at, 20, 0):
            path.write_bytes(raw)
            lazy, image = cf.open(path), open_image(path)
            whole = Region.whole(image.spec.shape)
            if read_before:
                np.testing.assert_array_equal(image.read(whole), pixels)
            with path.open("r+b") as stream:
                stream.truncate(length)
            with pytest.raises(RunError, match=path.name):
                image.read(whole)
            with pytest.raises(RunError, match=path.name):
                cf.mean(lazy, size=3)[:]


@pytest.mark.parametrize("harm", ["gone", "a folder", "nothing", "a circle"])
def test_a_file_that_is_taken_away_after_it_was_opened(tmp_path, harm):
    path, pixels = write(tmp_path, "tiles-deflate")
    image = open_image(path)
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "gone":
        path.symlink_to("nowhere" if harm == "nothing" else path.name)
    with pytest.raises(RunError, match=path.name):
        image.read(Region.whole(pixels.shape))


CHECKED = {
    "strips-deflate": {},
    "tiles-deflate": {},
    "colours": {},
    "strips-lzma": {"compressionargs": {"check": 1}},
}


@pytest.mark.parametrize("layout", CHECKED)
def test_a_flipped_byte_where_there_is_a_checksum(tmp_path, layout):
    path, pixels = write(tmp_path, layout, **CHECKED[layout])
    caught = 0
    raw = path.read_bytes()
    for at, count in Anatomy(path).data():
        for place in range(at, at + count, 5):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
            caught += not sound(path, pixels)
    assert caught > 20


def test_a_flipped_byte_under_the_checksum_of_zstd(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 50, (16, 16), dtype="u1")
    stream = numcodecs.zstd.Zstd(level=1, checksum=True).encode(pixels)
    for place in range(len(stream)):
        raw = stream[:place] + bytes([stream[place] ^ 0x10]) + stream[place + 1 :]
        path = build(tmp_path / "a.tif", 16, 16, [raw], compression=ZSTD)
        assert not sound(path, pixels) or place < 18


@pytest.mark.parametrize("layout", ["tiles-lzw", "strips-packbits", "tiles-zstd", "tiles-jpeg"])
def test_a_flipped_byte_where_there_is_no_checksum(tmp_path, layout):
    """Other pixels cannot be told from these; whatever else goes wrong is an error that says so."""
    path, pixels = write(tmp_path, layout)
    raw = path.read_bytes()
    for at, count in Anatomy(path).data():
        for place in range(at, at + count, 7):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
            try:
                assert read(path).shape == pixels.shape
            except RunError as error:
                assert path.name in str(error)  # noqa: PT017


@CODED
def test_a_tile_that_decodes_to_fewer_bytes_or_more(tmp_path, compression):
    encode = ENCODERS[compression]
    path = two_tiles(tmp_path / "a.tif", compression, encode(bytes([9]) * 256))
    assert sound(path, np.repeat([[7, 9]], 16, 1).repeat(16, 0).astype("u1"))
    sizes = (240, 272, 512, 4096, 16, 128)
    for size in sizes if compression == JPEG else (*sizes, 1, 255, 257):
        two_tiles(path, compression, encode(bytes([9]) * size))
        if compression == PACKBITS and size < 240:
            refused(path)
            continue
        failing(path)
        near = open_image(path).read(Region((0, 0), (16, 16)))
        assert (near == 7).all()


@CODED
def test_a_tile_that_is_no_such_stream(tmp_path, compression):
    whole = ENCODERS[compression](np.random.default_rng(0).bytes(256))
    path = two_tiles(tmp_path / "a.tif", compression, whole)
    pixels = read(path)
    for left in (len(whole) // 2, len(whole) - 9, len(whole) - 3):
        two_tiles(path, compression, whole[:left])
        assert not sound(path, pixels) or compression == LZMA, "only xz has a tail"
    junk = (b"\0", bytes(256), b"<html>503 Service Unavailable</html>" * 9, b"\xfe" * 99, whole[9:])
    for raw in junk:
        two_tiles(path, compression, raw)
        useless(path)


def test_a_jpeg_that_is_cut_short(tmp_path):
    """Its decoder would make the rest grey."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype="u1")
    stream = imagecodecs.jpeg_encode(pixels)
    whole = imagecodecs.jpeg_decode(stream)
    path = tmp_path / "a.tif"
    for left in range(1, len(stream), 97):
        build(path, 64, 64, [stream[:left]], compression=JPEG, tile=(64, 64))
        useless(path)
    build(path, 64, 64, [stream], compression=JPEG, tile=(64, 64))
    assert sound(path, whole)


def test_a_jpeg_of_a_thousand_scans(tmp_path):
    """Each takes some 40 bytes and a walk over all pixels: a mebibyte of them takes minutes."""
    made = io.BytesIO()
    image = Image.fromarray(np.full((64, 64), 7, "u1"))
    image.save(made, "JPEG", progressive=True)
    stream = made.getvalue()
    path = tmp_path / "a.tif"
    build(path, 64, 64, [stream], compression=JPEG, tile=(64, 64))
    assert sound(path, np.full((64, 64), 7, "u1"))
    last = stream[stream.rindex(b"\xff\xc4") : -2]
    assert b"\xff\xda" in last
    many = stream[:-2] + last * 1000 + stream[-2:]
    build(path, 64, 64, [many], compression=JPEG, tile=(64, 64))
    useless(path)


def test_the_tile_that_is_named_is_the_one_that_is_corrupt(tmp_path):
    path, pixels = write(tmp_path, "pages-lzw")
    at, _ = Anatomy(path).data(1)[3]
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + b"\xff" * 20 + raw[at + 20 :])
    failing(path, "tile 3 of plane 1 of")
    np.testing.assert_array_equal(
        open_image(path).read(Region((0, 0, 0), (1, 24, 32))), pixels[:1]
    )  # fmt: skip


@CODED
def test_tiles_that_are_left_out(tmp_path, compression):
    path = two_tiles(tmp_path / "a.tif", compression, b"")
    assert sound(path, np.repeat([[7, 0]], 16, 1).repeat(16, 0).astype("u1"))
    failing(path, "missing", missing="error")
    assert (open_image(path, missing="error").read(Region((0, 0), (16, 16))) == 7).all()
    two_tiles(path, compression, b"", more=[("GdalNodata", ASCII, b"5\0")])
    assert sound(path, np.repeat([[7, 5]], 16, 1).repeat(16, 0).astype("u1"))
    for harm in ({"TileOffsets": 50}, {"TileByteCounts": 50}):
        for tag, value in harm.items():
            two_tiles(path, compression, b"")
            patch(path, tag, value, index=1)
            refused(path)

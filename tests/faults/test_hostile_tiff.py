"""TIFF files that say of themselves what no image is: refused when they are opened."""

import contextlib
import os

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.errors import ConfigError, RunError, StorageError
from chunkfilt.storage.images import open_image
from tests.faults.tiff_checks import read, refused, sound, useless
from tests.faults.tiffs import (
    FLAVOURS,
    LAYOUTS,
    LONG,
    SHORT,
    TAGS,
    Anatomy,
    build,
    chain,
    claim,
    link,
    patch,
    rename,
    write,
)

FLAVOUR = pytest.mark.parametrize("flavour", ["little", "big", "bigtiff"])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_that_are_harmed_below_are_good_ones(tmp_path, layout, flavour):
    if layout == "imagej" and "bigtiff" in flavour:
        pytest.skip("ImageJ reads no BigTIFF")
    path, pixels = write(tmp_path, layout, flavour)
    np.testing.assert_array_equal(read(path), pixels)


HUGE = (1 << 31, (1 << 32) - 1)
SIZES = {
    "ImageWidth": (0, 33, *HUGE),
    "ImageLength": (0, 40, *HUGE),
    "RowsPerStrip": (0, 1, 5),
    "TileWidth": (0, 1, 8, 17, 32, *HUGE),
    "TileLength": (0, 1, 8, 17, 32, *HUGE),
    "BitsPerSample": (0, 16, 63, 65535, *HUGE),
    "SamplesPerPixel": (0, 2, 3, 65535, *HUGE),
    "Compression": (0, 99, 65535, *HUGE),
    "PlanarConfiguration": (0, 3, 65535, *HUGE),
    "SampleFormat": (0, 9, 65535, *HUGE),
    "Predictor": (0, 4, 65535, *HUGE),
    "ImageDepth": (0, 2, 65535, *HUGE),
}
PACKING = ("Photometric", "PlanarConfiguration", "SampleFormat", "Predictor", "FillOrder",
           "ExtraSamples", "YCbCrSubSampling", "Orientation", "ColorMap", "JPEGTables",
           "NewSubfileType", "TileDepth", "SamplesPerPixel", "BitsPerSample")  # fmt: skip
# Those that good files may leave out, or say wrongly without harm to the pixels.
HARMLESS = {"PlanarConfiguration", "SampleFormat", "Predictor", "ImageDepth"}


@FLAVOUR
@pytest.mark.parametrize(("tag", "value"), [(t, v) for t, held in SIZES.items() for v in held])
def test_absurd_sizes_are_refused_at_open(tmp_path, flavour, tag, value):
    layout = "tiles" if tag.startswith("Tile") else "strips"
    path, pixels = write(tmp_path, layout, flavour)
    if tag in HARMLESS:
        rename(path, "XResolution", tag)
    patch(path, tag, value)
    if tag in HARMLESS:
        sound(path, pixels)
    elif tag == "Compression":
        refused(path, "compression")
    else:
        refused(path, None)


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength", "RowsPerStrip", "SamplesPerPixel"])
@pytest.mark.parametrize("value", [1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_sizes_that_only_a_bigtiff_can_claim(tmp_path, tag, value):
    path, pixels = write(tmp_path, "strips", "bigtiff")
    patch(path, tag, value)
    if tag == "RowsPerStrip":
        sound(path, pixels)
    else:
        refused(path)


@FLAVOUR
def test_one_strip_may_be_said_to_hold_all_rows(tmp_path, flavour):
    """2 ** 32 - 1 rows of a strip is how TIFF says that there is one."""
    path, pixels = write(tmp_path, "strips", flavour, rowsperstrip=24)
    for rows in (25, *HUGE):
        patch(path, "RowsPerStrip", rows)
        assert sound(path, pixels)
    rename(path, "RowsPerStrip", 65000)
    assert sound(path, pixels)


@FLAVOUR
@pytest.mark.parametrize("layout", ["strips", "tiles-deflate", "pages"])
def test_tags_that_claim_other_numbers_of_values(tmp_path, layout, flavour):
    counts = (0, 2, 5, 1 << 31, (1 << 32) - 1) + ("bigtiff" in flavour) * (1 << 60, (1 << 64) - 1)
    path, pixels = write(tmp_path, layout, flavour)
    raw, held = path.read_bytes(), Anatomy(path)
    kind = "Tile" if layout.startswith("tiles") else "Strip"
    needed = {"ImageWidth", "ImageLength", f"{kind}Offsets", f"{kind}ByteCounts"}
    for tag in (*needed, "BitsPerSample", "Compression", "SamplesPerPixel", "XResolution"):
        for count in counts:
            claim(path, tag, count)
            good = sound(path, pixels)
            assert not good or count < 1 << 31 or tag == "XResolution"
            assert not good or count or tag not in needed
            path.write_bytes(raw)
    assert len(held.pages) == (3 if layout == "pages" else 1)


@FLAVOUR
@pytest.mark.parametrize("tag", ["ImageWidth", "Compression", "StripOffsets", "StripByteCounts"])
def test_tags_of_a_type_that_is_none_or_no_number(tmp_path, flavour, tag):
    path, pixels = write(tmp_path, "strips-deflate", flavour)
    raw, held = path.read_bytes(), Anatomy(path)
    for kind in (0, 2, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 19, 255, 65535):
        held.raw = bytearray(raw)
        held.put(held.entry(tag).at + 2, "H", kind)
        held.save()
        sound(path, pixels)
    for needed in (0, 11, 255):
        held.raw = bytearray(raw)
        held.put(held.entry(tag).at + 2, "H", needed)
        held.save()
        useless(path)


@pytest.mark.parametrize("layout", ["tiles-jpeg", "colours", "planes", "tiles-lzw"])
@pytest.mark.parametrize("value", [0, 2, 6, 12, 256, 32773, 65535, *HUGE])
def test_absurd_tags_of_how_pixels_are_packed(tmp_path, layout, value):
    """Some mean other pixels; whatever else comes of them is an error that names the file."""
    path, pixels = write(tmp_path, layout)
    raw = path.read_bytes()
    for tag in PACKING:
        for harm in (patch, claim):
            path.write_bytes(raw)
            if TAGS[tag] not in Anatomy(path).pages[0].entries:
                rename(path, "XResolution", tag)
            harm(path, tag, value)
            with contextlib.suppress(StorageError, RunError):
                assert read(path).size <= pixels.size, tag


@FLAVOUR
def test_directories_that_claim_other_numbers_of_tags(tmp_path, flavour):
    path, pixels = write(tmp_path, "strips", flavour)
    held = Anatomy(path)
    one, letter = held.pages[0], "Q" if held.big else "H"
    for count in (0, 3, 1000, 65535) + held.big * (1 << 31, 1 << 60, (1 << 64) - 1):
        held.put(one.at, letter, count)
        held.save()
        refused(path)
    held.put(one.at, letter, len(one.entries) + 1)
    held.save()
    sound(path, pixels)


@FLAVOUR
def test_tags_that_stand_twice_or_in_another_order(tmp_path, flavour):
    path, pixels = write(tmp_path, "strips", flavour)
    raw = path.read_bytes()
    twice = {
        "XResolution": "ImageWidth",
        "YResolution": "StripOffsets",
        "ImageWidth": "ImageLength",
        "StripOffsets": "StripByteCounts",
    }
    for tag, to in twice.items():
        rename(path, tag, to)
        sound(path, pixels)
        path.write_bytes(raw)
    for tag in ("ImageWidth", "ImageLength", "StripOffsets", "StripByteCounts"):
        rename(path, tag, 65000)
        refused(path, None)
        path.write_bytes(raw)


@FLAVOUR
@pytest.mark.parametrize("layout", ["strips", "tiles-deflate", "tiles-jpeg", "strips-lzma"])
def test_strips_and_tiles_that_are_not_within_the_file(tmp_path, layout, flavour):
    path, _ = write(tmp_path, layout, flavour)
    raw, held = path.read_bytes(), Anatomy(path)
    kind, size = "Tile" if layout.startswith("tiles") else "Strip", len(raw)
    far = (size, size - 1, 1 << 31, (1 << 32) - 1) + held.big * ((1 << 63) - 1, (1 << 64) - 1)
    narrow = held.entry(f"{kind}ByteCounts").kind == SHORT
    for index in (0, len(held.data()) - 1):
        for value in far:
            patch(path, f"{kind}Offsets", value, index=index)
            refused(path)
            path.write_bytes(raw)
            if not narrow or value < 1 << 16:
                patch(path, f"{kind}ByteCounts", value, index=index)
                refused(path)
                path.write_bytes(raw)
        for what in ("Offsets", "ByteCounts"):
            patch(path, f"{kind}{what}", 0, index=index)
            refused(path)
            path.write_bytes(raw)


@FLAVOUR
@pytest.mark.parametrize("count", [0, 1, 2, 4, 300])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_fewer_or_more_strips_than_the_image_needs(tmp_path, flavour, count, tile):
    big, order = flavour == "bigtiff", ">" if flavour == "big" else "<"
    strips = [bytes([7]) * 256] * count
    path = build(
        tmp_path / "a.tif", 32, 24 if tile is None else 20, strips, rows=8, tile=tile, big=big,
        order=order,
    )  # fmt: skip
    if tile and count == 4:
        assert sound(path, np.full((20, 32), 7, "u1"))
    elif count < (4 if tile else 3):
        refused(path, None)
    else:
        sound(path, np.full((20 if tile else 24, 32), 7, "u1"))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 34925, 50000, 7])
@pytest.mark.parametrize("size", [(1 << 31) - 1, 1 << 15])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_few_bytes_that_are_said_to_be_many_pixels(tmp_path, compression, size, tiled):
    tile = (size, size) if tiled else None
    path = build(
        tmp_path / "a.tif", size, size, [b"\x78\x9c" + bytes(40)], compression=compression,
        tile=tile,
    )  # fmt: skip
    refused(path, None)


def test_a_tile_that_is_left_out_may_not_be_larger_than_sense(tmp_path):
    """A sparse tile has no bytes that its size could be compared with."""
    path = build(tmp_path / "a.tif", 64, 64, [b""], tile=(1 << 30, 1 << 30))
    sound(path, np.zeros((64, 64), "u1"))


@FLAVOUR
def test_directories_in_a_circle(tmp_path, flavour):
    path, _ = write(tmp_path, "pages-lzw", flavour)
    raw, held = path.read_bytes(), Anatomy(path)
    starts = [one.at for one in held.pages]
    for page in range(3):
        for to in starts[: page + 1]:
            link(path, to, page)
            refused(path, r"damaged TIFF.*circle")
            path.write_bytes(raw)


@FLAVOUR
def test_directories_that_lie_beyond_the_file(tmp_path, flavour):
    path, _ = write(tmp_path, "pages", flavour)
    raw, size = path.read_bytes(), path.stat().st_size
    held = Anatomy(path)
    far = (size - 1, size, size + 1, (1 << 32) - 1) + held.big * ((1 << 63), (1 << 64) - 1)
    for place in (held.first_at, held.pages[0].next_at, held.pages[2].next_at):
        for to in (*far, 1, held.first_at):
            held.put(place, held.offset, to)
            held.save()
            refused(path)
        held.raw = bytearray(raw)
    held.put(held.first_at, held.offset, 0)
    held.save()
    refused(path)


@FLAVOUR
def test_levels_that_lead_back(tmp_path, flavour):
    path, pixels = write(tmp_path, "pyramid", flavour)
    raw, held = path.read_bytes(), Anatomy(path)
    first, second = held.levels()
    whole = held.pages[0].at
    for to in (whole, second.at, len(raw), len(raw) - 3, (1 << 32) - 1):
        patch(path, "SubIFDs", to, index=0)
        refused(path)
        path.write_bytes(raw)
    for to in (whole, first.at):
        link(path, to, first)
        sound(path, pixels)
        path.write_bytes(raw)
    link(path, second.at, 0)
    refused(path)
    path.write_bytes(raw)


@pytest.mark.parametrize("tag", ["SubIFDs", "ExifIFD", 34853, 40965, 34118])
def test_a_directory_below_itself(tmp_path, tag):
    path = tmp_path / "a.tif"
    build(path, 8, 8, [bytes([7]) * 64], more=[(tag, LONG, (8,))])
    if tag == "SubIFDs":
        refused(path)
    else:
        sound(path, np.full((8, 8), 7, "u1"))


def test_many_pages(tmp_path):
    path = tmp_path / "a.tif"
    chain(path, 300, 8, 8, [bytes(range(64))])
    assert open_image(path).spec.shape == (300, 8, 8)
    assert (read(path)[299] == np.arange(64).reshape(8, 8)).all()
    held = Anatomy(path)
    for to in (held.pages[0].at, held.pages[150].at, held.pages[299].at):
        held.put(held.pages[299].next_at, held.offset, to)
        held.save()
        refused(path, "circle")


@pytest.mark.faults
def test_pages_by_the_hundred_thousand(tmp_path):
    path = tmp_path / "a.tif"
    chain(path, 100_001, 8, 8, [bytes(64)])
    refused(path, "100000|100,000|100 000")


@pytest.mark.faults
def test_pages_as_many_as_there_may_be(tmp_path):
    path = tmp_path / "a.tif"
    chain(path, 100_000, 8, 8, [bytes(64)])
    assert open_image(path).spec.shape == (100_000, 8, 8)


def test_levels_by_the_hundred_thousand(tmp_path):
    path = tmp_path / "a.tif"
    for levels in ((200,) * 100_001, tuple(range(200, 200 + 100_001))):
        build(path, 8, 8, [bytes(1 << 19)[:64]], more=[("SubIFDs", LONG, levels)])
        refused(path)
    claim(path, "SubIFDs", 1 << 31)
    refused(path)


@pytest.mark.parametrize(
    "raw",
    [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0", b"II+\0\x08\0\0\0",
     b"II+\0\x04\0\0\0" + bytes(40), b"MM\0+\0\x08\0\1" + bytes(40), b"II*\0" + b"\xff" * 400,
     b"MM\0*" + b"\xff" * 400, b"II+\0\x08\0\0\0" + b"\xff" * 400, b"II*\0" + bytes(400)],
    ids=str,
)  # fmt: skip
def test_files_that_only_begin_as_tiffs(tmp_path, raw):
    path = tmp_path / "a.tif"
    path.write_bytes(raw)
    refused(path)
    with path.open("ab") as stream:
        stream.truncate(1 << 40)
    refused(path)


@pytest.mark.parametrize("compression", [2, 3, 4, 6, 32809, 34712, 34933, 50002, 65000])
def test_compressions_that_are_not_read(tmp_path, compression):
    path = build(tmp_path / "a.tif", 16, 16, [bytes(9)], compression=compression)
    refused(path, "compression")


def test_a_job_and_the_command_line_say_the_same(tmp_path, make_job):
    path, _ = write(tmp_path, "pages")
    link(path, Anatomy(path).pages[0].at, 1)
    with pytest.raises(StorageError, match="damaged TIFF"):
        cf.open(path)
    job = make_job(f"version: 1\ninput: {path.name}\nsteps: [mean]\noutput: out.zarr\n")
    with pytest.raises(ConfigError, match=r"job.yaml:2:\d+: .*damaged TIFF"):
        cf.from_yaml(job)


def test_opening_changes_nothing(tmp_path):
    path, _ = write(tmp_path, "tiles-deflate")
    os.utime(path, ns=(5, 5))
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    read(path)
    patch(path, "ImageWidth", 0)
    os.utime(path, ns=(5, 5))
    harmed = path.read_bytes()
    refused(path, None)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (harmed, stamp)
    assert harmed != before

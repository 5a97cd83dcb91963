"""TIFF files of every kind that is read, built and broken byte by byte."""

import lzma
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

__all__ = [
    "ASCII",
    "BYTE",
    "DEFLATE",
    "ENCODERS",
    "FLAVOURS",
    "JPEG",
    "LAYOUTS",
    "LONG",
    "LONG8",
    "LZMA",
    "LZW",
    "NONE",
    "PACKBITS",
    "SHORT",
    "TAGS",
    "ZSTD",
    "Anatomy",
    "build",
    "chain",
    "claim",
    "link",
    "patch",
    "pixels_for",
    "rename",
    "two_tiles",
    "write",
]

BYTE, ASCII, SHORT, LONG, LONG8 = 1, 2, 3, 4, 16
# Letters of `struct` for the types of values, signed and real ones included.
LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii",
           11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}  # fmt: skip
TAGS = {
    "NewSubfileType": 254, "ImageWidth": 256, "ImageLength": 257, "BitsPerSample": 258,
    "Compression": 259, "Photometric": 262, "FillOrder": 266, "ImageDescription": 270,
    "StripOffsets": 273, "Orientation": 274, "SamplesPerPixel": 277, "RowsPerStrip": 278,
    "StripByteCounts": 279, "XResolution": 282, "YResolution": 283,
    "PlanarConfiguration": 284, "Predictor": 317,
    "ColorMap": 320, "TileWidth": 322, "TileLength": 323, "TileOffsets": 324,
    "TileByteCounts": 325, "SubIFDs": 330, "ExtraSamples": 338, "SampleFormat": 339,
    "JPEGTables": 347, "YCbCrSubSampling": 530, "ImageDepth": 32997, "TileDepth": 32998,
    "ExifIFD": 34665, "GdalNodata": 42113,
}  # fmt: skip
NONE, LZW, JPEG, DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 7, 8, 32773, 34925, 50000
ENCODERS = {
    NONE: bytes,
    LZW: imagecodecs.lzw_encode,
    JPEG: lambda raw: imagecodecs.jpeg_encode(np.frombuffer(raw, "u1").reshape(16, -1)),
    DEFLATE: zlib.compress,
    32946: zlib.compress,
    PACKBITS: imagecodecs.packbits_encode,
    LZMA: lzma.compress,
    ZSTD: imagecodecs.zstd_encode,
}

TILE = (16, 16)
LAYOUTS = {
    "strips": {"rowsperstrip": 8},
    "tiles": {"tile": TILE},
    "strips-deflate": {"rowsperstrip": 8, "compression": "zlib"},
    "tiles-deflate": {"tile": TILE, "compression": "zlib", "predictor": True},
    "tiles-lzw": {"tile": TILE, "compression": "lzw"},
    "strips-packbits": {"rowsperstrip": 8, "compression": "packbits"},
    "tiles-zstd": {"tile": TILE, "compression": "zstd"},
    "strips-lzma": {"rowsperstrip": 8, "compression": "lzma"},
    "tiles-jpeg": {"tile": TILE, "compression": "jpeg"},
    "pages": {"rowsperstrip": 8},
    "pages-lzw": {"tile": TILE, "compression": "lzw"},
    "colours": {"photometric": "rgb", "tile": TILE, "compression": "zlib"},
    "planes": {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 8},
    "ome": {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "imagej": {"imagej": True, "metadata": {"axes": "TYX"}},
    "shaped": {"metadata": {"axes": "TYX"}},
    "pyramid": {"tile": TILE, "compression": "zlib"},
    "after": {},
}
FLAVOURS = {
    "little": {},
    "big": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "bigtiff-big": {"bigtiff": True, "byteorder": ">"},
}
_STACKS = ("pages", "pages-lzw", "ome", "imagej", "shaped")


def pixels_for(layout):
    """Return the pixels of a layout: smooth ones for JPEG, which keeps nothing else."""
    shape = (24, 32)
    if layout in _STACKS:
        shape = (3, *shape)
    if layout in ("colours", "planes"):
        shape = (3, *shape) if layout == "planes" else (*shape, 3)
    if layout.endswith("jpeg"):
        return np.add.outer(np.arange(24), np.arange(32)).astype("uint8") * 3 + 20
    return np.random.default_rng(3).integers(1, 200, shape, dtype="uint8")


def write(folder, layout, flavour="little", **more):
    """Write a small good file; return its path and its pixels (of a pyramid, the whole ones)."""
    path, pixels = folder / f"{layout}-{flavour}.tif", pixels_for(layout)
    options = {"metadata": None, "software": False, **LAYOUTS[layout], **FLAVOURS[flavour], **more}
    if layout == "after":
        strips = [pixels[at : at + 8].tobytes() for at in range(0, 24, 8)]
        order = ">" if flavour.endswith("big") else "<"
        build(path, 32, 24, strips, rows=8, after=True, big="bigtiff" in flavour, order=order)
        return path, pixels
    options.setdefault("photometric", "minisblack")
    head = {key: options.pop(key) for key in ("byteorder", "bigtiff", "ome", "imagej")
            if key in options}  # fmt: skip
    with tifffile.TiffWriter(path, **head) as out:
        if layout == "pyramid":
            out.write(pixels, subifds=2, **options)
            for step in (2, 4):
                out.write(pixels[::step, ::step], subfiletype=1, **options)
        else:
            out.write(pixels, **options)
    if layout.endswith("jpeg"):
        pixels = tifffile.imread(path)
    return path, pixels


@dataclass(frozen=True)
class Entry:
    """A tag of a directory: where its entry and its values stand."""

    at: int
    kind: int
    count: int
    values_at: int


@dataclass(frozen=True)
class Directory:
    """An image file directory: where it and its pointer to the next one stand."""

    at: int
    entries: dict[int, Entry]
    next_at: int


class Anatomy:
    """The bytes of a TIFF file, classic or Big, of either byte order, and where what stands.

    `pages` are the directories of the chain, which must come to an end.
    """

    def __init__(self, path):
        self.path, self.raw = Path(path), bytearray(Path(path).read_bytes())
        self.order = "<" if self.raw[:2] == b"II" else ">"
        self.big = self.get(2, "H") == 43
        self.offset = "Q" if self.big else "I"
        self.first_at = 8 if self.big else 4
        self.pages, at = [], self.get(self.first_at, self.offset)
        while at:
            self.pages.append(self.directory(at))
            at = self.get(self.pages[-1].next_at, self.offset)

    def get(self, at, letter):
        return struct.unpack_from(self.order + letter, self.raw, at)[0]

    def put(self, at, letter, value):
        struct.pack_into(self.order + letter, self.raw, at, value)

    def save(self):
        self.path.write_bytes(self.raw)

    def directory(self, at):
        """Return the directory at an offset."""
        head, size = (8, 20) if self.big else (2, 12)
        entries = {}
        for number in range(self.get(at, "Q" if self.big else "H")):
            place = at + head + size * number
            kind, count = self.get(place + 2, "H"), self.get(place + 4, self.offset)
            held = place + (12 if self.big else 8)
            size_of_values = count * struct.calcsize("=" + LETTERS[kind])
            if size_of_values > (8 if self.big else 4):
                held = self.get(held, self.offset)
            entries[self.get(place, "H")] = Entry(place, kind, count, held)
        return Directory(at, entries, at + head + size * len(entries))

    def entry(self, tag, page=0):
        """Return a tag's entry; a page is a number or a `Directory`, a tag a number or a name."""
        held = self.pages[page] if isinstance(page, int) else page
        return held.entries[TAGS.get(tag, tag)]

    def values(self, tag, page=0):
        """Return all values of a tag."""
        one = self.entry(tag, page)
        letters = self.order + LETTERS[one.kind] * one.count
        return struct.unpack_from(letters, self.raw, one.values_at)

    def levels(self, page=0):
        """Return the directories that a page's SubIFDs point to."""
        return [self.directory(at) for at in self.values("SubIFDs", page)]

    def data(self, page=0):
        """Return offset and size of each strip or tile of a page."""
        held = self.pages[page] if isinstance(page, int) else page
        kind = "Tile" if TAGS["TileOffsets"] in held.entries else "Strip"
        counts = self.values(f"{kind}ByteCounts", page)
        return list(zip(self.values(f"{kind}Offsets", page), counts, strict=True))

    def structure(self):
        """Return the positions of all bytes that are no pixels: header, directories, values."""
        told = set(range(len(self.raw)))
        for page in self.pages:
            levels = self.levels(page) if TAGS["SubIFDs"] in page.entries else []
            for one in (page, *levels):
                for at, count in self.data(one):
                    told -= set(range(at, at + count))
        return sorted(told)


def patch(path, tag, value, page=0, index=None):
    """Change what a tag says: its one value, in a type that holds it, or one of several.

    A value of `bytes` replaces the first of those that stand there.
    """
    held = Anatomy(path)
    one = held.entry(tag, page)
    if isinstance(value, bytes):
        assert len(value) <= one.count * struct.calcsize("=" + LETTERS[one.kind])
        held.raw[one.values_at : one.values_at + len(value)] = value
    elif index is not None:
        letter = LETTERS[one.kind]
        held.put(one.values_at + index * struct.calcsize("=" + letter), letter, value)
    else:
        kind = SHORT if value < 1 << 16 else LONG if value < 1 << 32 else LONG8
        assert kind != LONG8 or held.big, "no classic TIFF holds so large a number"
        held.put(one.at + 2, "H", kind)
        held.put(one.at + 4, held.offset, 1)
        held.put(one.at + (12 if held.big else 8), LETTERS[kind], value)
    held.save()


def claim(path, tag, count, page=0):
    """Change how many values a tag says it has, and nothing else."""
    held = Anatomy(path)
    held.put(held.entry(tag, page).at + 4, held.offset, count)
    held.save()


def rename(path, tag, to, page=0):
    """Make a tag another one; 65000 is one that nobody knows."""
    held = Anatomy(path)
    held.put(held.entry(tag, page).at, "H", TAGS.get(to, to))
    held.save()


def link(path, to, page=-1):
    """Let a page's pointer to the next directory say another offset."""
    held = Anatomy(path)
    one = held.pages[page] if isinstance(page, int) else page
    held.put(one.next_at, held.offset, to)
    held.save()


def entry(order, big, tag, kind, values, held_at):
    """Return a directory's entry, and the bytes of its values where they stand elsewhere."""
    raw = values if isinstance(values, bytes) else struct.pack(
        order + LETTERS[kind] * len(values), *values
    )  # fmt: skip
    count = len(values)
    size = 8 if big else 4
    word = "Q" if big else "I"
    head = struct.pack(f"{order}HH{word}", TAGS.get(tag, tag), kind, count)
    if len(raw) <= size:
        return head + raw.ljust(size, b"\0"), b""
    return head + struct.pack(order + word, held_at), raw + b"\0" * (len(raw) % 2)


def build(
    path, width, length, strips, *, compression=1, bits=8, rows=None, tile=None, samples=1,
    more=(), big=False, order="<", after=False, sizes=None, pages=1,
):  # fmt: skip
    """Write a TIFF of the strips or tiles given, as they are, whatever the tags say.

    Parameters
    ----------
    path, width, length : path and int
        The file, and the size its image claims.
    strips : list of bytes
        What stands in each strip or tile; nothing (offset 0, size 0) where it is empty.
    compression, bits, rows, tile, samples
        What the tags say. Without `rows` and `tile`, the image is one strip.
    more : list of (tag, type, values)
        Further tags, or others instead of those that would be written.
    big, order, after
        BigTIFF; the byte order; whether the directories come after the pixels.
    sizes : list of (offset, size), optional
        What is said instead of where the strips are.
    pages : int
        Directories, of the same strips.
    """
    head = 16 if big else 8
    data = b"".join(strips)
    lines = _lines(width, length, compression, bits, rows, tile, samples, more)
    count = len(sizes if sizes is not None else strips)
    kind, name = (LONG8 if big else LONG), "Tile" if tile else "Strip"
    overlay = {TAGS.get(tag, tag) for tag, *_ in more}
    tables = [(f"{name}{what}", kind, (0,) * count) for what in ("Offsets", "ByteCounts")]
    lines += [line for line in tables if TAGS[line[0]] not in overlay]
    room = len(_directory(lines, 0, 0, order, big))
    start = head if not after else head + len(data) + len(data) % 2
    at, places = (head if after else head + room * pages), []
    for strip in strips:
        places.append((at, len(strip)) if strip else (0, 0))
        at += len(strip)
    for number, values in enumerate(zip(*(sizes or places), strict=True)):
        lines = [(t, k, values) if (t, k) == tables[number][:2] else (t, k, v) for t, k, v in lines]
    chain = [start + room * number for number in range(pages)] + [0]
    blocks = [_directory(lines, chain[n], chain[n + 1], order, big) for n in range(pages)]
    mark = {"<": b"II", ">": b"MM"}[order]
    first = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), start)
    padded = data + b"\0" * (len(data) % 2)
    body = [padded, *blocks] if after else [*blocks, data]
    Path(path).write_bytes(mark + first + b"".join(body))
    return Path(path)


def chain(path, count, *image, vary=None, once=None, **options):
    """Write pages of one image, whose strips, and whatever a tag points to, all pages share.

    Parameters
    ----------
    path, count : path and int
        The file, and how many pages it has.
    image, options
        As `build` takes them.
    vary : str, optional
        A tag of one number, LONG, that is 1, 2, ... on the pages.
    once : str, optional
        A tag that the first page alone has.
    """
    build(path, *image, **options)
    raw, held = path.read_bytes(), Anatomy(path)
    start, stop, first = held.pages[0].at, held.pages[0].next_at, len(raw)
    page, room = bytearray(raw[start:stop]), stop - start + 4
    at = held.entry(vary).values_at - start if vary else 0
    if once:
        struct.pack_into("<H", page, held.entry(once).at - start, 65000)
    pieces = [raw[:stop], struct.pack("<I", first if count > 1 else 0), raw[stop + 4 :]]
    for number in range(1, count):
        if vary:
            struct.pack_into("<I", page, at, number + 1)
        following = first + room * number if number < count - 1 else 0
        pieces += [bytes(page), struct.pack("<I", following)]
    path.write_bytes(b"".join(pieces))


def _lines(width, length, compression, bits, rows, tile, samples, more):
    fitting = lambda n: LONG if n < 1 << 32 else LONG8  # noqa: E731
    lines = {
        "ImageWidth": (fitting(width), (width,)),
        "ImageLength": (fitting(length), (length,)),
        "BitsPerSample": (SHORT, (bits,) * samples),
        "Compression": (SHORT, (compression,)),
        "Photometric": (SHORT, (2 if samples == 3 else 1,)),
        "SamplesPerPixel": (SHORT, (samples,)),
    }
    if tile:
        lines["TileWidth"], lines["TileLength"] = ((LONG, (n,)) for n in reversed(tile))
    else:
        lines["RowsPerStrip"] = (fitting(length), (length if rows is None else rows,))
    lines |= {tag: (kind, values) for tag, kind, values in more}
    return [(tag, *line) for tag, line in lines.items()]


def _directory(lines, at, following, order, big):
    """Return a directory's bytes: entries sorted by tag, then what they point to."""
    lines = sorted(lines, key=lambda line: TAGS.get(line[0], line[0]))
    word = "Q" if big else "I"
    held_at = at + (16 if big else 6) + len(lines) * (20 if big else 12)
    entries, beyond = b"", b""
    for line in lines:
        one, raw = entry(order, big, *line, held_at + len(beyond))
        entries, beyond = entries + one, beyond + raw
    head = struct.pack(order + ("Q" if big else "H"), len(lines))
    return head + entries + struct.pack(order + word, following) + beyond


def two_tiles(path, compression, second, **more):
    """Write an image of a good tile and another one."""
    tiles = [ENCODERS[compression](bytes([7]) * 256), second]
    return build(path, 32, 16, tiles, tile=(16, 16), compression=compression, **more)

"""What a TIFF file says of itself, looked at before anything is made of it.

A TIFF is a chain of directories, each of which tells the size of an image, how its pixels are
packed, and where in the file its strips or tiles are; smaller levels of it hang below it.  Nothing
of that need be true: directories that lead round in a circle, sizes that no image has, and strips
that lie beyond the file or could not hold their pixels are refused here.

Source: TIFF 6.0 (Adobe, 1992); BigTIFF as libtiff has it; GDAL for sparse files and nodata.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chunkfilt.errors import StorageError
from chunkfilt.storage.stored import machine_memory
from chunkfilt.words import format_bytes

__all__ = ["COMPRESSIONS", "DECODING", "Directory", "damaged", "is_tiff", "read_directories"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Bytes of a value of each type, and how NumPy reads it.
_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_TAGS = {
    254: "kind",
    256: "width",
    257: "length",
    258: "bits",
    259: "compression",
    262: "photometric",
    266: "fill_order",
    270: "description",
    273: "strip_offsets",
    277: "samples",
    278: "rows_per_strip",
    279: "strip_sizes",
    284: "planar",
    317: "predictor",
    322: "tile_width",
    323: "tile_length",
    324: "tile_offsets",
    325: "tile_sizes",
    330: "below",
    338: "extra_samples",
    339: "sample_format",
    347: "jpeg_tables",
    530: "subsampling",
    32997: "depth",
    32998: "tile_depth",
    42113: "nodata",
}
# Of these there are as many as an image has strips or tiles.
_LISTS = ("strip_offsets", "strip_sizes", "tile_offsets", "tile_sizes")
# All the others tell how pixels are packed.
_APART = (*_LISTS, "kind", "description", "below", "nodata")
DECODING = {code: name for code, name in _TAGS.items() if name not in _APART}
# Texts may be of any length.
_TEXTS = ("description", "nodata", "jpeg_tables")
# How many numbers count of tags that may have several; those of a sample each must be the same.
_EACH_SAMPLE = ("bits", "sample_format")
_SEVERAL = {"below": 100_000, "extra_samples": 64, "subsampling": 2}
_DEFAULTS = {
    "kind": 0, "bits": 1, "compression": 1, "photometric": 1, "fill_order": 1, "samples": 1,
    "planar": 1, "predictor": 1, "sample_format": 1, "depth": 1, "tile_depth": 1,
}  # fmt: skip
# What is read, and the most bytes that a byte of it may become.
COMPRESSIONS = {
    1: ("none", 1),
    5: ("lzw", 4096),
    7: ("jpeg", 2048),
    8: ("deflate", 1032),
    32773: ("packbits", 64),
    32946: ("deflate", 1032),
    34925: ("lzma", 10_000),
    50000: ("zstd", 32_768),
}
_OTHERS = {
    2: "CCITT", 3: "CCITT T.4", 4: "CCITT T.6", 6: "old-style JPEG", 33003: "JPEG 2000",
    33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip
_MOST_DIRECTORIES, _MOST_TAGS, _MOST_BITS = 100_000, 4096, 128
_MOST_SIDE, _MOST_SAMPLES, _MOST_PIXELS = (1 << 31) - 1, 1 << 16, 1 << 59
_LARGEST_NUMBER = (1 << 32) - 1
# Directories may share their values: in all, no more is read than the file has and this.
_SHARED = 64 << 20


class _UnreadError(ValueError):
    """Says of a file that is not damaged why it is not read."""


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file: its size, how its pixels are packed, and where they are.

    `tags` holds what was found, by this module's names, numbers as tuples; `offsets` and `sizes`
    are of its strips or tiles, whose extent is `cell` on a grid of `counts`, both along
    (separate samples, depth, length, width, samples side by side), as is `shape`.
    """

    place: int
    byteorder: Literal["<", ">"]
    tags: Mapping[str, Any]
    shape: tuple[int, int, int, int, int]
    cell: tuple[int, int, int, int, int]
    offsets: np.ndarray
    sizes: np.ndarray
    below: tuple[Directory, ...] = field(default=())

    def number(self, name: str) -> int:
        """Return a tag of one number; the format's default where it is not there."""
        return int(self.tags.get(name, (_DEFAULTS[name],))[0])

    @property
    def tiled(self) -> bool:
        """Whether it is stored in tiles, not in strips."""
        return "tile_width" in self.tags

    @property
    def counts(self) -> tuple[int, ...]:
        """Strips or tiles along every axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.cell, strict=True))

    @functools.cached_property
    def packing(self) -> tuple[Any, ...]:
        """What images share that are decoded alike."""
        told = ((name, held) for name, held in self.tags.items() if name not in _APART)
        return (*sorted(told), self.shape, self.cell)

    @property
    def reduced(self) -> bool:
        """Whether it is a smaller level of another image."""
        return bool(self.number("kind") & 1)

    @property
    def mask(self) -> bool:
        """Whether it is no image but tells which pixels of one are transparent."""
        return bool(self.number("kind") & 4)

    @property
    def raw(self) -> bool:
        """Whether its rows stand in the file as they are."""
        plain = all(self.number(name) == 1 for name in ("compression", "predictor", "fill_order"))
        return plain and not self.tiled and self.number("bits") in (8, 16, 32, 64, 128)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a strip or tile, before it is compressed."""
        return -(-self.cell[3] * self.cell[4] * self.number("bits") // 8)


def is_tiff(place: Path) -> bool:
    """Return whether a path is a TIFF file, by its first bytes.

    Raises
    ------
    StorageError
        If it is a file that cannot be read.
    """
    if not place.is_file():
        return False
    try:
        with place.open("rb") as stream:
            return stream.read(4) in _MAGIC
    except OSError as error:
        message = f"cannot read {place}: {error.strerror or error}"
        raise StorageError(message) from error


def damaged(place: Path, what: str) -> StorageError:
    """Return the error of a file that is not what it says."""
    return StorageError(f"{place} is a damaged TIFF file: {what}")


def read_directories(place: Path) -> list[Directory]:
    """Return the directories of a file in their order, those below others with them.

    Raises
    ------
    StorageError
        If the file is damaged, or has pixels that are packed in a way that is not read.
    """
    try:
        with place.open("rb") as stream:
            return list(_File(stream.fileno()).directories())
    except OSError as error:
        message = f"cannot read {place}: {error.strerror or error}"
        raise StorageError(message) from error
    except _UnreadError as error:
        raise StorageError(f"{place}: {error}") from None
    except ValueError as error:
        raise damaged(place, str(error)) from None


class _File:
    """A TIFF file that is open, and the directories seen so far."""

    byteorder: Literal["<", ">"]

    def __init__(self, file: int) -> None:
        self.file, self.size = file, os.fstat(file).st_size
        self.left = self.size + _SHARED
        head = self.take(0, 8, "its header")
        self.byteorder = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        self.seen: set[int] = set()
        if self.big and self.unpack("HH", head[4:8]) != (8, 0):
            raise ValueError("its header is not one of BigTIFF")

    def take(self, start: int, count: int, what: str) -> bytes:
        if start + count > self.size:
            raise ValueError(f"{what} lies beyond its {self.size} bytes: it is cut short or wrong")
        raw = os.pread(self.file, count, start)
        if len(raw) != count:
            raise ValueError(f"{what} cannot be read: the file has become shorter")
        return raw

    def unpack(self, form: str, raw: bytes) -> tuple[int, ...]:
        return struct.unpack(self.byteorder + form, raw)

    def directories(self) -> Iterator[Directory]:
        word, length = ("Q", 8) if self.big else ("I", 4)
        (at,) = self.unpack(word, self.take(8 if self.big else 4, length, "its header"))
        if not at:
            raise ValueError("it has no image")
        while at:
            tags, following = self._read(at)
            levels = [self._image(one, self._read(one)[0]) for one in tags.get("below", ()) if one]
            yield dataclasses.replace(self._image(at, tags), below=tuple(levels))
            at = following

    def _read(self, at: int) -> tuple[dict[str, Any], int]:
        """Return the tags of a directory that are known here, and where the next one is."""
        if at in self.seen:
            raise ValueError(f"its directories lead round in a circle, at {at}")
        self.seen.add(at)
        if len(self.seen) > _MOST_DIRECTORIES:
            raise ValueError(f"it has more than {_MOST_DIRECTORIES} directories")
        what = f"its directory {len(self.seen)}"
        head, word, entry = (8, "Q", 20) if self.big else (2, "H", 12)
        (count,) = self.unpack(word, self.take(at, head, what))
        if not 0 < count <= _MOST_TAGS:
            raise ValueError(f"{what} has {count} tags")
        pointer = 8 if self.big else 4
        raw = self.take(at + head, count * entry + pointer, what)
        (following,) = self.unpack("Q" if self.big else "I", raw[-pointer:])
        tags: dict[str, Any] = {}
        for i in range(count):
            one = raw[i * entry : (i + 1) * entry]
            code, kind = self.unpack("HH", one[:4])
            if code in _TAGS and _TAGS[code] not in tags:
                tags[_TAGS[code]] = self._value(_TAGS[code], kind, one[4:], what)
        return tags, following

    def _value(self, name: str, kind: int, raw: bytes, what: str) -> Any:
        """Return the value of a tag: numbers as a tuple or an array, texts as bytes."""
        form = _TYPES.get(kind)
        (count,) = self.unpack("Q" if self.big else "I", raw[: len(raw) // 2])
        if form is None or not count or count * int(form[1]) > self.size:
            raise ValueError(f"{what} has {count} values of type {kind} as its {name}")
        if name not in (*_LISTS, *_TEXTS, *_EACH_SAMPLE):
            count = min(count, _SEVERAL.get(name, 1))
        nbytes = count * int(form[1])
        held = raw[len(raw) // 2 :]
        if nbytes > len(held):
            self.left -= nbytes
            if self.left < 0:
                raise ValueError(f"{what} has {count} values as its {name}, more than it can have")
            (at,) = self.unpack("Q" if self.big else "I", held)
            held = self.take(at, nbytes, f"the {name} of {what[4:]}")
        if name in _TEXTS:
            return bytes(held[:nbytes])
        if form[0] != "u":
            raise ValueError(f"{what} has a text as its {name}")
        found = np.frombuffer(held[:nbytes], np.dtype(form).newbyteorder(self.byteorder))
        if name in (*_LISTS, *_EACH_SAMPLE):
            return found.astype(np.uint64) if name in _LISTS else found
        if name != "below" and found.max() > _LARGEST_NUMBER:
            raise ValueError(f"{what} has {found.max()} as its {name}")
        return tuple(found.tolist())

    def _image(self, at: int, tags: dict[str, Any]) -> Directory:
        """Return a directory whose tags fit each other and the file."""
        found = Directory(at, self.byteorder, tags, *_geometry(tags), *self._lists(tags))
        what = f"the image of {found.shape[3]} x {found.shape[2]} pixels at {at}"
        if not len(found.offsets) == len(found.sizes) == math.prod(found.counts):
            held = f"{len(found.offsets)} offsets and {len(found.sizes)} sizes"
            raise ValueError(f"{what} has {held} of {math.prod(found.counts)} strips or tiles")
        none = (found.offsets == 0) & (found.sizes == 0)
        size = np.uint64(self.size)
        lost = ((found.offsets == 0) | (found.sizes == 0)) & ~none
        lost |= (found.sizes > size) | (found.offsets > size - np.minimum(found.sizes, size))
        if lost.any():
            one = int(lost.argmax())
            raise ValueError(
                f"strip or tile {one} of {what}, {found.sizes[one]} bytes from "
                f"{found.offsets[one]} on, lies beyond its {self.size} bytes: it is cut short or "
                "wrong"
            )
        _check_sizes(found, none, what)
        return _joined(found)

    def _lists(self, tags: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return where the strips or tiles are and their sizes, and take them out of the tags."""
        lists = {name: tags.pop(name, None) for name in _LISTS}
        kind = "tile" if lists["tile_offsets"] is not None else "strip"
        offsets, sizes = lists[f"{kind}_offsets"], lists[f"{kind}_sizes"]
        if offsets is None or sizes is None:
            raise ValueError("it does not say where its pixels are")
        return offsets, sizes


def _geometry(tags: dict[str, Any]) -> tuple[Any, Any]:
    """Return the shape of an image and of its strips or tiles."""
    sides = {}
    for name in ("width", "length", "depth", "samples", "tile_width", "tile_length", "tile_depth"):
        default = (_DEFAULTS.get(name, 0),)
        sides[name] = int(tags.get(name, default)[0])
        asked = name in tags or name in ("width", "length")
        if asked and not 0 < sides[name] <= (_MOST_SAMPLES if name == "samples" else _MOST_SIDE):
            raise ValueError(f"its {name.replace('_', ' ')} is {sides[name]}")
    _check_packing(tags, sides["samples"])
    apart = tags.get("planar", (1,))[0] == 2 and sides["samples"] > 1
    separate, beside = (sides["samples"], 1) if apart else (1, sides["samples"])
    shape = separate, sides["depth"], sides["length"], sides["width"], beside
    if "tile_width" in tags or "tile_length" in tags:
        if not (sides["tile_width"] and sides["tile_length"]):
            raise ValueError("its tiles have no size")
        cell = 1, sides["tile_depth"], sides["tile_length"], sides["tile_width"], beside
    else:
        rows = int(tags.get("rows_per_strip", (sides["length"],))[0])
        if rows < 1:
            raise ValueError(f"its strips have {rows} rows")
        cell = 1, 1, min(rows, sides["length"]), sides["width"], beside
    if math.prod(shape) > _MOST_PIXELS or math.prod(cell) > _MOST_PIXELS:
        raise ValueError(f"it has {' x '.join(map(str, shape))} pixels")
    return shape, cell


def _check_packing(tags: dict[str, Any], samples: int) -> None:
    """Refuse pixels that are packed in a way that is not read; leave one number for all samples."""
    for name in (one for one in _EACH_SAMPLE if one in tags):
        held = tags[name][:samples]
        if (held != held[0]).any():
            raise _UnreadError(f"the {name.replace('_', ' ')} of its samples differ")
        tags[name] = (int(held[0]),)
    bits = int(tags.get("bits", (1,))[0])
    if not 0 < bits <= _MOST_BITS:
        raise ValueError(f"its pixels have {bits} bits")
    compression = int(tags.get("compression", (1,))[0])
    if compression not in COMPRESSIONS:
        name = _OTHERS.get(compression, f"number {compression}")
        read = ", ".join(dict.fromkeys(one for one, _ in COMPRESSIONS.values()))
        raise _UnreadError(f"its compression is {name}, chunkfilt reads {read}: convert it first")


def _joined(found: Directory) -> Directory:
    """Return a directory of one strip where its strips follow each other in the file as rows do."""
    separate, deep, high, _, _ = found.counts
    if not found.raw or high == 1:
        return found
    starts, sizes = (one.reshape(separate * deep, high) for one in (found.offsets, found.sizes))
    full = np.full(high, found.cell[2] * found.row_bytes, np.uint64)
    full[-1] = (found.shape[2] - (high - 1) * found.cell[2]) * found.row_bytes
    if (sizes != full).any() or (starts[:, 1:] != starts[:, :-1] + sizes[:, :-1]).any():
        return found
    return dataclasses.replace(
        found,
        cell=(1, 1, *found.shape[2:]),
        offsets=np.ascontiguousarray(starts[:, 0]),
        sizes=sizes.sum(axis=1),
    )


def _check_sizes(found: Directory, none: np.ndarray, what: str) -> None:
    """Refuse strips or tiles that cannot hold their pixels, or are too large to be decoded."""
    name, most = COMPRESSIONS[found.number("compression")]
    _, _, high, wide, _ = found.counts
    row = np.arange(len(found.sizes)) // wide % high
    rows = np.minimum(found.cell[2], found.shape[2] - row * found.cell[2])
    poor = ~none & (found.sizes.astype(float) * most < rows.astype(float) * found.row_bytes)
    if poor.any():
        one = int(poor.argmax())
        raise ValueError(
            f"strip or tile {one} of {what} has {found.sizes[one]} bytes ({name}), which cannot "
            f"hold its {format_bytes(int(rows[one]) * found.row_bytes)} of pixels"
        )
    decoded = found.row_bytes * found.cell[1] * found.cell[2]
    if (found.tiled or name != "none") and decoded > machine_memory():
        raise ValueError(
            f"a strip or tile of {what} is {format_bytes(decoded)}: more than this machine's memory"
        )

"""One directory of a TIFF file: an image, how its pixels are packed, and where they are.

Nothing of what it says need be true: sizes that no image has, strips or tiles that lie beyond the
file, could not hold their pixels, or would be too large to decode are refused here.

Source: TIFF 6.0 (Adobe, 1992); GDAL for sparse files and nodata.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from chunkfilt.storage.stored import machine_memory
from chunkfilt.words import format_bytes

__all__ = [
    "COMPRESSIONS",
    "DECODING",
    "EACH_SAMPLE",
    "LISTS",
    "MOST_DIRECTORIES",
    "TAGS",
    "Directory",
    "describe",
    "joined",
]

TAGS = {
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
LISTS = ("strip_offsets", "strip_sizes", "tile_offsets", "tile_sizes")
# All the others tell how pixels are packed.
_APART = (*LISTS, "kind", "description", "below", "nodata")
DECODING = {code: name for code, name in TAGS.items() if name not in _APART}
# Those of a sample each must be the same.
EACH_SAMPLE = ("bits", "sample_format")
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
MOST_DIRECTORIES, _MOST_BITS = 100_000, 128
_MOST_SIDE, _MOST_SAMPLES, _MOST_PIXELS = (1 << 31) - 1, 1 << 16, 1 << 59
# A compressed strip may be larger than its pixels by as much again and this.
_ROOM = 1 << 16
# Predictors belong to the other compressions: libtiff ignores them here, as TIFF 6.0 has it.
_UNPREDICTED = ("none", "packbits")


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file: its size, how its pixels are packed, and where they are.

    `tags` holds what was found, by this module's names, numbers as tuples; `offsets` and `sizes`
    are of its strips or tiles, whose extent is `cell` on a grid of `counts`, both along
    (separate samples, depth, length, width, samples side by side), as is `shape`.  `unread` says
    why its pixels cannot be decoded here, if so.
    """

    place: int
    byteorder: Literal["<", ">"]
    tags: Mapping[str, Any]
    shape: tuple[int, int, int, int, int]
    cell: tuple[int, int, int, int, int]
    offsets: np.ndarray
    sizes: np.ndarray
    unread: str | None = None
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
        given = {name: (number,) for name, number in _DEFAULTS.items()} | dict(self.tags)
        # Rows are in `cell`, whatever is written for "all of them".
        apart = {*_APART, "rows_per_strip"}
        told = ((name, held) for name, held in given.items() if name not in apart)
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


def describe(at: int, byteorder: Literal["<", ">"], tags: dict[str, Any], size: int) -> Directory:
    """Return a directory whose tags fit each other and a file of so many bytes.

    Raises
    ------
    ValueError
        If they do not.
    """
    shape, cell = _geometry(tags)
    unread = _packing(tags, shape)
    offsets, sizes = _lists(tags)
    found = Directory(at, byteorder, tags, shape, cell, offsets, sizes, unread)
    what = f"the image of {found.shape[3]} x {found.shape[2]} pixels at {at}"
    if not len(found.offsets) == len(found.sizes) == math.prod(found.counts):
        held = f"{len(found.offsets)} offsets and {len(found.sizes)} sizes"
        raise ValueError(f"{what} has {held} of {math.prod(found.counts)} strips or tiles")
    none = (found.offsets == 0) & (found.sizes == 0)
    end = np.uint64(size)
    lost = ((found.offsets == 0) | (found.sizes == 0)) & ~none
    lost |= (found.sizes > end) | (found.offsets > end - np.minimum(found.sizes, end))
    if lost.any():
        one = int(lost.argmax())
        raise ValueError(
            f"strip or tile {one} of {what}, {found.sizes[one]} bytes from "
            f"{found.offsets[one]} on, lies beyond its {size} bytes: it is cut short or "
            "wrong"
        )
    if unread is None:
        _check_sizes(found, none, what)
    return found


def _lists(tags: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the strips or tiles are and their sizes, and take them out of the tags."""
    lists = {name: tags.pop(name, None) for name in LISTS}
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


def _packing(tags: dict[str, Any], shape: Sequence[int]) -> str | None:
    """Make the tags on the packing of pixels uniform; return why they cannot be decoded, if so."""
    unread, samples = None, shape[0] * shape[4]
    for name in (one for one in EACH_SAMPLE if one in tags):
        held = tags[name][:samples]
        if (held != held[0]).any():
            unread = f"the {name.replace('_', ' ')} of its samples differ"
        tags[name] = (int(held[0]),)
    bits = int(tags.get("bits", (1,))[0])
    if not 0 < bits <= _MOST_BITS:
        raise ValueError(f"its pixels have {bits} bits")
    compression = int(tags.get("compression", (1,))[0])
    if compression not in COMPRESSIONS:
        name = _OTHERS.get(compression, f"number {compression}")
        read = ", ".join(dict.fromkeys(one for one, _ in COMPRESSIONS.values()))
        return f"its compression is {name}, chunkfilt reads {read}: convert it first"
    if COMPRESSIONS[compression][0] in _UNPREDICTED:
        tags.pop("predictor", None)
    return unread


def joined(planes: Sequence[Directory]) -> list[Directory]:
    """Return planes of one strip each, where in all of them strips follow each other as rows do."""
    found = [_joined(one) for one in planes]
    whole = [one for one in found if one is not None]
    return whole if len(whole) == len(planes) else list(planes)


def _joined(found: Directory) -> Directory | None:
    separate, deep, high, _, _ = found.counts
    if not found.raw:
        return None
    starts, sizes = (one.reshape(separate * deep, high) for one in (found.offsets, found.sizes))
    full = np.full(high, found.cell[2] * found.row_bytes, np.uint64)
    full[-1] = (found.shape[2] - (high - 1) * found.cell[2]) * found.row_bytes
    if high > 1 and (sizes != full).any():
        return None
    if (starts[:, 1:] != starts[:, :-1] + sizes[:, :-1]).any():
        return None
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
    if found.raw:
        return
    # The decoder, what it makes, and the pixels in the machine's order are there at a time.
    if decoded > machine_memory() // 4:
        raise ValueError(
            f"a strip or tile of {what} is {format_bytes(decoded)}: too much for this machine"
        )
    if (found.sizes > np.uint64(2 * decoded + _ROOM)).any():
        raise ValueError(f"a strip or tile of {what} is larger than its {decoded} bytes of pixels")

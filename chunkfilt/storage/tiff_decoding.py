"""Decoding strips and tiles of TIFF files, by tifffile and imagecodecs.

They never see the file: the decoder is made from a directory that is written anew with what was
checked, and is handed one strip or tile at a time, decompressed to just as many bytes as it has.
"""

from __future__ import annotations

import functools
import io
import logging
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt._optional import require
from chunkfilt.errors import MissingDependency, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage.tiff_directories import COMPRESSIONS, DECODING, Directory
from chunkfilt.storage.tiff_file import damaged

__all__ = ["decode", "decoded_dtype"]

_JPEG, _REVERSED, _COMPLEX_INTEGERS = 7, 2, 5
_LONG, _UNDEFINED = 4, 7
# A progressive JPEG has some ten scans; each costs as much as the picture is large.
_MOST_SCANS = 100
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_HEAD = 12
_QUIET = threading.Lock()


def decoded_dtype(first: Directory, place: Path) -> np.dtype[Any]:
    """Return the dtype of an image's pixels, in the machine's byte order.

    Raises
    ------
    StorageError
        If there is none for such pixels, or the tags do not fit each other.
    """
    kind, bits = first.number("sample_format"), first.number("bits")
    try:
        dtype = None if kind == _COMPLEX_INTEGERS else _page(_written(first)).dtype
    except MissingDependency:
        raise
    except Exception as error:  # tifffile has many kinds for tags that do not fit each other
        raise damaged(place, f"its tags do not fit each other: {error}") from error
    if dtype is None:
        message = f"{place}: pixels of {bits} bits in sample format {kind} are not read"
        raise StorageError(message)
    return np.dtype(dtype)


def decode(first: Directory, raw: bytes, index: int, part: Region) -> np.ndarray:
    """Decode part of a strip or tile."""
    if first.number("compression") == _JPEG:
        _check_jpeg(raw, first.cell[2], first.cell[3])
        # Whether JPEG's own header is there tells the meaning of its colours.
        page = _page(_written(first, raw[:_HEAD]))
    else:
        raw = _unpacked(first, raw, index)
        page = _page(_written(first))
    pixels = page.decode(raw, index, jpegtables=page.jpegtables)[0][np.newaxis][part.slices]
    if pixels.shape != part.shape:
        raise ValueError(f"it decodes to {pixels.shape} pixels instead of {part.shape}")
    return np.asarray(pixels)


def _unpacked(first: Directory, raw: bytes, index: int) -> bytes:
    """Decompress a strip or tile to just as many bytes as it has."""
    row, depth, rows = first.row_bytes, first.cell[1], first.cell[2]
    _, _, high, wide, _ = first.counts
    inside = min(rows, first.shape[2] - index // wide % high * rows)
    needed, full = depth * inside * row, depth * rows * row
    codecs = require("imagecodecs", "tiff")
    if first.number("fill_order") == _REVERSED:
        raw = codecs.bitorder_decode(raw)
    name = COMPRESSIONS[first.number("compression")][0]
    # One byte more, so that a stream that has more does not look as if it had all.
    made = raw if name == "none" else getattr(codecs, f"{name}_decode")(raw, out=full + 1)
    # Some writers fill the last strip or tile, some leave out what is beyond the image.
    if len(made) not in (needed, full) and not (name == "none" and len(made) > needed):
        raise ValueError(f"it has {len(made)} bytes of pixels instead of {needed}")
    return bytes(made[: full if first.tiled else needed])


def _check_jpeg(raw: bytes, length: int, width: int) -> None:
    """Refuse a picture that is cut short, or says it is larger than its strip or tile.

    The decoder would fill up what is missing with grey.
    """
    if not raw.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise ValueError("its JPEG is cut short")
    if raw.count(b"\xff\xda") > _MOST_SCANS:
        raise ValueError(f"its JPEG has more than {_MOST_SCANS} scans")
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker in _SOF:
            rows, columns = struct.unpack(">HH", raw[at + 5 : at + 9])
            if rows > length or columns > width:
                raise ValueError(f"its JPEG is {columns} x {rows} pixels, not {width} x {length}")
            return
        alone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 1 + (marker != 0xFF) if alone else 2 + struct.unpack(">H", raw[at + 2 : at + 4])[0]
    raise ValueError("its JPEG does not say how large it is")


@functools.lru_cache(maxsize=64)
def _page(written: bytes) -> Any:
    """Return tifffile's page of a directory."""
    require("imagecodecs", "tiff")
    tifffile = require("tifffile", "tiff")
    log = logging.getLogger("tifffile")
    with _QUIET:
        # That it finds no pixels in a directory of ours is no news to a user.
        before, log.disabled = log.disabled, True
        try:
            page = tifffile.TiffFile(io.BytesIO(written)).pages[0]
            page.decode  # noqa: B018 - made at its first use
        finally:
            log.disabled = before
    return page


def _written(first: Directory, head: bytes = b"") -> bytes:
    """Write a directory anew, as of pixels that are not compressed unless they are JPEG.

    It says what decoding needs, and has no pixels but the `head` of a strip.
    """
    jpeg = first.number("compression") == _JPEG
    tags = first.tags if jpeg else {**first.tags, "compression": (1,), "fill_order": (1,)}
    entries = {code: tags[name] for code, name in DECODING.items() if name in tags}
    offsets, sizes = (324, 325) if first.tiled else (273, 279)
    size = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries |= {offsets: (size,), sizes: (max(len(head), 1),)}
    order, table, behind = first.byteorder, b"", head.ljust(_HEAD, b"\0")
    for code, held in sorted(entries.items()):
        kind = _UNDEFINED if isinstance(held, bytes) else _LONG
        raw = held if isinstance(held, bytes) else struct.pack(f"{order}{len(held)}I", *held)
        table += struct.pack(f"{order}HHI", code, kind, len(held))
        if len(raw) > 4:
            table += struct.pack(f"{order}I", size + len(behind))
            behind += raw
        else:
            table += raw.ljust(4, b"\0")
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + table + bytes(4) + behind

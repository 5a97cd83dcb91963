"""Reading the directories of a TIFF file, before anything is made of them.

A TIFF is a chain of directories, each of which tells of an image; smaller levels of it hang below
it.  They may lead round in a circle, claim values without end, or lie beyond the file: all that is
refused here, and what they say of their images in `tiff_directories.py`.

Source: TIFF 6.0 (Adobe, 1992); BigTIFF as libtiff has it.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chunkfilt.errors import StorageError
from chunkfilt.storage.tiff_directories import (
    EACH_SAMPLE,
    LISTS,
    MOST_DIRECTORIES,
    TAGS,
    Directory,
    describe,
)

__all__ = ["damaged", "is_tiff", "read_directories", "take"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Bytes of a value of each type, and how NumPy reads it.
_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
# Texts may be of any length.
_TEXTS = ("description", "nodata", "jpeg_tables")
# How many numbers count of tags that may have several.
_SEVERAL = {"below": 100_000, "extra_samples": 64, "subsampling": 2}
_MOST_TAGS, _LARGEST_NUMBER = 4096, (1 << 32) - 1
# Directories may share their values: in all, no more is read than the file has and this.
_SHARED = 64 << 20


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


def take(file: int, start: int, size: int) -> bytes:
    """Read bytes of an open file: all that are asked for."""
    parts: list[bytes] = []
    while size:
        # The system gives 2 GiB at a time at most.
        parts.append(os.pread(file, size, start))
        if not parts[-1]:
            raise ValueError("the file has become shorter")
        start, size = start + len(parts[-1]), size - len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
        return take(self.file, start, count)

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
        if len(self.seen) > MOST_DIRECTORIES:
            raise ValueError(f"it has more than {MOST_DIRECTORIES} directories")
        what = f"its directory {len(self.seen)}"
        head, word, entry = (8, "Q", 20) if self.big else (2, "H", 12)
        (count,) = self.unpack(word, self.take(at, head, what))
        if not 0 < count <= _MOST_TAGS:
            raise ValueError(f"{what} has {count} tags")
        self._spend(count * entry, what)
        pointer = 8 if self.big else 4
        raw = self.take(at + head, count * entry + pointer, what)
        (following,) = self.unpack("Q" if self.big else "I", raw[-pointer:])
        tags: dict[str, Any] = {}
        for i in range(count):
            one = raw[i * entry : (i + 1) * entry]
            code, kind = self.unpack("HH", one[:4])
            if code in TAGS and TAGS[code] not in tags:
                tags[TAGS[code]] = self._value(TAGS[code], kind, one[4:], what)
        return tags, following

    def _spend(self, nbytes: int, what: str) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise ValueError(f"up to {what[4:]} its directories tell more than it can hold")

    def _value(self, name: str, kind: int, raw: bytes, what: str) -> Any:
        """Return the value of a tag: numbers as a tuple or an array, texts as bytes."""
        form = _TYPES.get(kind)
        (count,) = self.unpack("Q" if self.big else "I", raw[: len(raw) // 2])
        if form is None or not count or count * int(form[1]) > self.size:
            raise ValueError(f"{what} has {count} values of type {kind} as its {name}")
        if name not in (*LISTS, *_TEXTS, *EACH_SAMPLE):
            count = min(count, _SEVERAL.get(name, 1))
        nbytes = count * int(form[1])
        held = raw[len(raw) // 2 :]
        if nbytes > len(held):
            self._spend(nbytes, what)
            (at,) = self.unpack("Q" if self.big else "I", held)
            held = self.take(at, nbytes, f"the {name} of {what[4:]}")
        if name in _TEXTS:
            return bytes(held[:nbytes])
        if form[0] != "u":
            raise ValueError(f"{what} has a text as its {name}")
        found = np.frombuffer(held[:nbytes], np.dtype(form).newbyteorder(self.byteorder))
        if name in (*LISTS, *EACH_SAMPLE):
            return found.astype(np.uint64) if name in LISTS else found
        if name != "below" and found.max() > _LARGEST_NUMBER:
            raise ValueError(f"{what} has {found.max()} as its {name}")
        return tuple(found.tolist())

    def _image(self, at: int, tags: dict[str, Any]) -> Directory:
        return describe(at, self.byteorder, tags, self.size)

"""Paths of images: local ones that exist, and how they are written down."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from chunkfilt.errors import StorageError, nearest
from chunkfilt.words import brief

__all__ = ["existing_path", "local_path", "near_path", "refuse_url"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LONGEST_NAME = 255


def refuse_url(path: str | os.PathLike[str], word: str = "input") -> None:
    """Refuse a URL, also one whose slashes a `Path` has folded.

    Raises
    ------
    StorageError
        If the path is a URL.
    """
    text = os.fspath(path)
    if "://" in text or _URL.match(text):
        message = f"{word} must be a local path, got {brief(text)!r}: copy the store to a disk"
        raise StorageError(message)


def local_path(path: str | os.PathLike[str], word: str = "input") -> Path:
    """Return a path as an absolute one that the system could hold; nothing is touched.

    Raises
    ------
    StorageError
        If it is no path, a URL, or one that no file can have.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        message = f"{word} must be a path, got {brief(repr(path))}"
        raise StorageError(message) from None
    refuse_url(text, word)
    place = Path(text).absolute()
    try:
        str(place).encode()
        # A missing folder hides from the system that a name behind it is too long.
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in place.parts):
            message = f"a name has more than {_LONGEST_NAME} bytes"
            raise ValueError(message)  # noqa: TRY301 - as the system says it of other paths
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        unreadable = isinstance(error, UnicodeError) and "its name is no UTF-8"
        reason = unreadable or getattr(error, "strerror", None) or error
        message = f"{word} {brief(text)!r} cannot be a path here: {reason}"
        raise StorageError(message) from None
    return place


def existing_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as an absolute one of something that is there; raises as `local_path`."""
    place = local_path(path)
    if not place.exists():
        siblings: list[str] = []
        with contextlib.suppress(OSError):  # no folder, or one that may be entered but not listed
            siblings = [p.name for p in place.parent.iterdir()]
        message = f"no such file or folder: {os.fsdecode(path)}{nearest(place.name, siblings)}"
        raise StorageError(message)
    return place


def near_path(path: str | os.PathLike[str], folder: Path) -> str:
    """Return a path from a folder on, so that both may move together; absolute if far apart.

    >>> near_path("/data/in/a.zarr", Path("/data/out")), near_path("/mnt/a.zarr", Path("/data"))
    ('../in/a.zarr', '/mnt/a.zarr')
    """
    place, start = Path(path).absolute(), folder.absolute()
    far = place.parts[:2] != start.parts[:2]
    return str(place) if far else os.path.relpath(place, start)

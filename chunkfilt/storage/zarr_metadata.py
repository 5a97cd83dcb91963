"""What a Zarr store says of itself, looked at before zarr makes anything of it.

A store may come from anyone: sizes that no array has, codecs that make objects of bytes, and
listings that are not what is on the disk are refused here, with the name of what is wrong.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chunkfilt.errors import StorageError
from chunkfilt.words import brief, shown

__all__ = [
    "MARKS",
    "COMPRESSORS",
    "arrays_below",
    "check_metadata",
    "is_store",
    "no_store",
    "read_metadata",
]

MARKS = ("zarr.json", ".zarray", ".zgroup")
# Bytes of metadata: consolidated ones of large collections take some mebibytes.
_LARGEST = 64 << 20
# Pixels, as 64 bits count them; those of a chunk by their bytes, of which a pixel has 16 at most.
_MOST, _MOST_OF_A_CHUNK = (1 << 63) - 1, (1 << 59) - 1
_MOST_AXES, _MOST_MEMBERS = 32, 100_000
# Files that people take for images that could be opened.
_PICTURES = (".png", ".jpg", ".jpeg", ".jp2", ".h5", ".hdf5", ".npy", ".nc")
_TIFF = (".tif", ".tiff")
COMPRESSORS = ("zstd", "gzip", "blosc", "zlib", "lz4", "bz2", "lzma")
# Codecs whose output is Python objects; pickle would even run code.
_OF_OBJECTS = (
    "pickle",
    "json2",
    "msgpack2",
    "vlen-utf8",
    "vlen-bytes",
    "vlen-array",
    "categorize",
)


def is_store(place: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return place.is_dir() and any((place / mark).is_file() for mark in MARKS)


def no_store(place: Path) -> str:
    """Return why there is no image at a path: what is there instead."""
    if place.suffix.lower() in _PICTURES:
        what = f"is a {place.suffix[1:]} file: chunkfilt reads Zarr and TIFF"
        return f"{place} {what}, convert it first"
    if place.suffix.lower() in _TIFF and place.is_file():
        return f"{place} is no TIFF file: it does not begin as one does"
    if place.is_dir():
        held = sorted({one.suffix for one in itertools.islice(place.iterdir(), 100)})
        found = [suffix for suffix in held if suffix.lower() in (*_PICTURES, *_TIFF)]
        if found:
            what = f"is a folder of {', '.join(found)} files: chunkfilt reads one image at a time"
            return f"{place} {what}, name one of them or join them first"
    return f"{place} is not a Zarr store: it has none of {', '.join(MARKS)}"


def read_metadata(place: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the file that describes an array or group, and what it says.

    Raises
    ------
    StorageError
        If it cannot be read, or is no JSON object.
    """
    name = next(mark for mark in MARKS if (place / mark).is_file())
    return name, _read_json(place, name)


def check_metadata(place: Path) -> tuple[str, int]:
    """Check what a store says of itself; return ``"array"`` or ``"group"`` and Zarr's version.

    Raises
    ------
    StorageError
        If it is no metadata, or describes what no image can be.
    """
    name, held = read_metadata(place)
    attributes = held.get("attributes")
    if name != "zarr.json" and (place / ".zattrs").exists():
        attributes = _read_json(place, ".zattrs")
    if attributes is not None and not isinstance(attributes, dict):
        raise _damaged(place, f"attributes must be a mapping, got {shown(attributes)}")
    if name == "zarr.json" and held.get("node_type") not in ("array", "group"):
        raise _damaged(place, f"node_type must be array or group, got {held.get('node_type')!r}")
    if not _is_array(name, held):
        return "group", _version(name)
    chunks = held.get("chunks")
    if name == "zarr.json":
        grid = held.get("chunk_grid")
        settings = grid.get("configuration") if isinstance(grid, Mapping) else None
        chunks = settings.get("chunk_shape") if isinstance(settings, Mapping) else None
    _check_sizes(place, held.get("shape"), chunks)
    dtype = held.get("data_type" if name == "zarr.json" else "dtype")
    if isinstance(dtype, list) or (isinstance(dtype, str) and "O" in dtype):
        message = f"{place} is no image: its pixels would be objects of dtype {shown(dtype)}"
        raise StorageError(message)
    _check_codecs(place, list(_codecs(place, name, held)))
    return "array", _version(name)


def arrays_below(place: Path) -> list[str]:
    """Return the names of the arrays below a group, as they are on the disk.

    Listings that a group holds of itself are not believed.
    """
    found: list[str] = []
    count = 0
    # A folder, its name in the group, and the folders above it: links may lead round in a circle.
    stack: list[tuple[Path, str, tuple[str, ...]]] = [(place, "", (os.path.realpath(place),))]
    while stack:
        folder, prefix, above = stack.pop()
        for member in _members(folder):
            count += 1
            if count > _MOST_MEMBERS:
                message = f"{place} has more than {_MOST_MEMBERS} members: open one by its path"
                raise StorageError(message)
            real = os.path.realpath(member)
            if real in above or not is_store(member):
                continue
            name = f"{prefix}{member.name}"
            try:
                array = _is_array(*read_metadata(member))
            except StorageError:
                # It is listed, and refused with its reason by who opens it.
                array = True
            if array:
                found.append(name)
            else:
                stack.append((member, f"{name}/", (*above, real)))
    return sorted(found)


def _members(folder: Path) -> list[Path]:
    try:
        return [Path(one.path) for one in os.scandir(folder) if one.is_dir()]
    except OSError as error:
        message = f"cannot list {folder}: {error.strerror}"
        raise StorageError(message) from None


def _is_array(name: str, held: Mapping[str, Any]) -> bool:
    return name == ".zarray" or (name == "zarr.json" and held.get("node_type") == "array")


def _version(name: str) -> int:
    return 3 if name == "zarr.json" else 2


def _read_json(place: Path, name: str) -> dict[str, Any]:
    file = place / name
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except OSError as error:
        raise _damaged(place, f"cannot read {name}: {error.strerror}") from None
    if len(raw) > _LARGEST:
        raise _damaged(place, f"{name} has more than {_LARGEST} bytes")
    try:
        held = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(place, f"{name} is no JSON: {brief(str(error))}") from None
    if not isinstance(held, dict):
        raise _damaged(place, f"{name} must be a JSON object, got {shown(held)}")
    return held


def _check_sizes(place: Path, shape: Any, chunks: Any) -> None:
    for word, sizes, least in (("shape", shape, 0), ("chunk shape", chunks, 1)):
        if not isinstance(sizes, list) or len(sizes) > _MOST_AXES or len(sizes) != len(shape):
            raise _damaged(
                place,
                f"its {word} must be a list of at most {_MOST_AXES} sizes, one for each axis, "
                f"got {shown(sizes)}",
            )
        if any(type(n) is not int or not least <= n <= _MOST for n in sizes):
            raise _damaged(
                place, f"its {word} must be integers from {least} to 2**63 - 1, got {shown(sizes)}"
            )
        if math.prod(sizes) > (_MOST if sizes is shape else _MOST_OF_A_CHUNK):
            raise _damaged(place, f"its {word} {shown(sizes)} has more pixels than can be counted")


def _codecs(place: Path, name: str, held: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the codecs of an array, those within its shards after those of the shards."""
    if name == "zarr.json":
        listed, key = held.get("codecs"), "name"
    else:
        filters, compressor = held.get("filters") or [], held.get("compressor")
        last = [] if compressor is None else [compressor]
        listed, key = [*filters, *last] if isinstance(filters, list) else filters, "id"
    while listed is not None:
        if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
            raise _damaged(place, f"its codecs must be a list of mappings, got {shown(listed)}")
        within = None
        for one in listed:
            settings = one.get("configuration") if key == "name" else one
            settings = settings if isinstance(settings, Mapping) else {}
            yield {"id": str(one.get(key)).removeprefix("numcodecs."), "settings": settings}
            if one.get(key) == "sharding_indexed":
                if one is not listed[-1]:
                    raise _damaged(place, "its shards are encoded as a whole")
                sizes = settings.get("chunk_shape")
                _check_sizes(place, sizes, sizes)
                within = settings.get("codecs")
        listed = within


def _check_codecs(place: Path, codecs: Sequence[Mapping[str, Any]]) -> None:
    names = [one["id"] for one in codecs]
    for name in names:
        if name in _OF_OBJECTS:
            message = f"{place} is no image: its codec {name!r} makes objects, not pixels"
            raise StorageError(message)
    if sum(name in COMPRESSORS for name in names) > 1:
        # What the inner one makes of its bytes shows only once the outer one has decoded them.
        raise _damaged(place, f"it is compressed twice, by {', '.join(names)}")
    if any(one["id"] == "lzma" and one["settings"].get("format", 1) == 3 for one in codecs):
        raise _damaged(place, "its codec lzma has no container (format 3)")


def _damaged(place: Path, what: str) -> StorageError:
    return StorageError(f"{place} is a damaged Zarr store: {what}")

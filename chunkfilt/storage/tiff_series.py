"""Which directories of a TIFF file make up one image, and what its axes are called.

A file has one image or several, each of one or many planes, one directory a plane.  What the axes
between the planes are is written in the description: as OME-XML, in ImageJ's words, or as the
shape that tifffile has written.  It is checked against the directories: a plane that is told of and
not there is an error.

Sources: the OME-TIFF specification (docs.openmicroscopy.org), ImageJ's TiffEncoder, tifffile.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from chunkfilt.errors import StorageError
from chunkfilt.storage.stored import are_names
from chunkfilt.storage.tiff_directories import MOST_DIRECTORIES, Directory, joined
from chunkfilt.words import shown

__all__ = ["DescriptionError", "Series", "read_series"]

_MOST_AXES = 32
_OME_ORDERS = {"".join(("XY", *rest)) for rest in itertools.permutations("ZCT")}


class DescriptionError(StorageError):
    """What a file says of its planes does not fit them; they can be taken as they come."""


@dataclass(frozen=True)
class Series:
    """One image of a TIFF file.

    `leading` and `names` are the axes between its planes, in C order; `offsets` and `sizes` have
    a row for each plane, of its strips or tiles; `first` is the directory that all are like.
    """

    first: Directory
    leading: tuple[int, ...]
    names: tuple[str, ...]
    offsets: Sequence[np.ndarray]
    sizes: Sequence[np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along every axis, those of a plane last."""
        return (*self.leading, *(n for n, _ in self._plane()))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of all axes."""
        samples = "c" if "c" not in self.names else "s"
        return (*self.names, *(samples if name == "s" else name for _, name in self._plane()))

    @property
    def cell(self) -> tuple[int, ...]:
        """Pixels of a strip or tile along every axis."""
        sides = zip(self.first.shape, self.first.cell, "szyxs", strict=True)
        kept = (c for n, c, name in sides if n > 1 or name in "yx")
        return (*(1 for _ in self.leading), *kept)

    def _plane(self) -> Iterator[tuple[int, str]]:
        sides = zip(self.first.shape, "szyxs", strict=True)
        return ((n, name) for n, name in sides if n > 1 or name in "yx")


def read_series(place: Path, found: Sequence[Directory], *, plain: bool) -> dict[str, Series]:
    """Return the images of a file by their names: ``"0"``, and ``"0/1"`` for a smaller level.

    Parameters
    ----------
    place : path
        The file, for messages.
    found : sequence of Directory
        Its directories.
    plain : bool
        Take planes as they come, whatever the description says of them.

    Raises
    ------
    DescriptionError
        If the description tells of planes that are not there.
    """
    full = [one for one in found if not (one.reduced or one.mask)] or list(found)
    told = "" if plain else _description(full[0])
    try:
        if told.startswith("<") and told.rstrip().endswith("OME>"):
            images = list(_ome(told, found, place.name)) or _shaped(full, plain)
        elif told.startswith("ImageJ="):
            images = [_imagej(told, full, place)]
        else:
            images = _shaped(full, plain)
    except (ValueError, KeyError, OverflowError, ET.ParseError) as error:
        raise DescriptionError(
            f"{place} is not as its description says: {error}; with axes named in the call or job "
            "its planes are taken as they come"
        ) from None
    named: dict[str, Series] = {}
    numbers = {one.place: number for number, one in enumerate(found)}
    for number, (planes, leading, names) in enumerate(images):
        named[str(number)] = _series(planes, leading, names)
        behind = numbers.get(planes[0].place, len(found)) + 1 if len(planes) == 1 else len(found)
        for level, below in enumerate(_levels(planes, found, behind), 1):
            named[f"{number}/{level}"] = _series(below, leading, names)
    return named


def _series(planes: Sequence[Directory], leading: Sequence[int], names: Sequence[str]) -> Series:
    """Return an image without the axes of one plane."""
    planes = joined(planes)
    held = [(n, name) for n, name in zip(leading, names, strict=True) if n > 1]
    offsets, sizes = [one.offsets for one in planes], [one.sizes for one in planes]
    return Series(
        planes[0], tuple(n for n, _ in held), tuple(name for _, name in held), offsets, sizes
    )


def _levels(
    planes: Sequence[Directory], found: Sequence[Directory], behind: int
) -> Iterator[list[Directory]]:
    """Yield the smaller levels of an image: below its directories, or `behind` its only one."""
    for below in zip(*(one.below for one in planes), strict=False):
        if len({one.packing for one in below}) == 1:
            yield list(below)
    for number in range(behind, len(found)):
        one = found[number]
        if not (one.reduced or one.mask):
            return
        if not one.mask:
            yield [one]


def _description(one: Directory) -> str:
    raw: bytes = one.tags.get("description", b"")
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _alike(planes: Sequence[Directory]) -> None:
    if len({one.packing for one in planes}) != 1:
        raise ValueError("the planes of one image differ in size or packing")


Image = tuple[list[Directory], Sequence[int], Sequence[str]]


def _shaped(full: Sequence[Directory], plain: bool) -> list[Image]:
    """Return images as tifffile has written their shapes; else planes that are alike are one."""
    images: list[Image] = []
    alike: dict[Any, list[Directory]] = {}
    at = 0
    while at < len(full):
        first = full[at]
        told = {} if plain else _json(_description(first))
        count, leading, names = _told_shape(told, first, len(full) - at)
        if count:
            images.append((list(full[at : at + count]), leading, names))
            _alike(images[-1][0])
        elif first.packing in alike:
            alike[first.packing].append(first)
        else:
            alike[first.packing] = [first]
            images.append((alike[first.packing], (), ()))
        at += max(count, 1)
    return [(held, lead or (len(held),), names or ("i",)) for held, lead, names in images]


def _json(text: str) -> Mapping[str, Any]:
    try:
        held = json.loads(text) if text.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _told_shape(
    told: Mapping[str, Any], first: Directory, rest: int
) -> tuple[int, Sequence[int], Sequence[str]]:
    """Return how many planes an image has, and the axes between them; 0 if that is not told."""
    shape, axes = told.get("shape"), told.get("axes")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_AXES
        or not all(type(n) is int and n > 0 for n in shape)
    ):
        return 0, (), ()
    plane = [n for n in first.shape if n > 1]
    # Axes of one pixel are as good as none.
    last = len(shape)
    while last and math.prod(shape[last:]) < math.prod(plane):
        last -= 1
    if [n for n in shape[last:] if n > 1] != plane:
        raise ValueError(f"a shape of {shown(shape)}, planes of {plane}")
    count = math.prod(shape[:last])
    if count > rest:
        raise ValueError(f"{count} planes are told of, {rest} are there")
    names = [one.lower() for one in axes] if isinstance(axes, str) else []
    if len(names) != len(shape) or not are_names([*names[:last], "y", "x"], last + 2):
        names = ["i"] if last == 1 else [f"d{n}" for n in range(last)]
    return count, shape[:last], names[:last]


def _imagej(told: str, full: Sequence[Directory], place: Path) -> Image:
    """Return the image of a file by ImageJ: channels in slices in frames."""
    lines = (line.partition("=") for line in told.splitlines())
    held = {name.strip(): value.strip() for name, _, value in lines}
    sizes = [int(held.get(name, 1)) for name in ("frames", "slices", "channels")]
    count = int(held.get("images", 1))
    planes = list(full)
    if count > len(planes) == 1:
        # More than 4 GiB: the planes follow each other behind one directory.
        planes = _following(planes[0], count, place.stat().st_size)
    if count != len(planes):
        raise ValueError(f"{count} planes are told of, {len(planes)} are there")
    _alike(planes)
    if math.prod(sizes) != count:
        return planes, (count,), ("i",)
    return planes, sizes, ("t", "z", "c")


def _following(first: Directory, count: int, size: int) -> list[Directory]:
    """Return the planes that follow a first one without directories of their own."""
    (first,) = joined([first])
    row = first.row_bytes * first.shape[0] * first.shape[1]
    nbytes, start = row * first.shape[2], int(first.offsets[0])
    if not first.raw or len(first.offsets) != 1 or start + count * nbytes > size:
        raise ValueError(f"{count} planes are told of, 1 is there")
    if count > MOST_DIRECTORIES:
        raise ValueError(f"more than {MOST_DIRECTORIES} planes are told of")
    starts = (first.offsets + np.uint64(step * nbytes) for step in range(count))
    return [dataclasses.replace(first, offsets=start) for start in starts]


def _ome(told: str, found: Sequence[Directory], name: str) -> Iterator[Image]:
    """Yield the images that OME-XML tells of."""
    if re.search("<!(DOCTYPE|ENTITY)", told, re.IGNORECASE):
        raise ValueError("its OME-XML declares a type or entities")
    root = ET.fromstring(told)
    used: set[int] = set()
    for pixels in root.iter():
        if pixels.tag.rpartition("}")[2] == "Pixels":
            yield _ome_image(pixels, found, used, (root.get("UUID"), name))


def _ome_image(
    pixels: Any, found: Sequence[Directory], used: set[int], own: tuple[str | None, str]
) -> Image:
    order = pixels.get("DimensionOrder")
    if order not in _OME_ORDERS:
        raise ValueError(f"an OME DimensionOrder of {shown(order)}")
    sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT"}
    samples = _samples(pixels)
    if sizes["C"] % samples or any(n < 1 for n in sizes.values()):
        raise ValueError(f"OME sizes of {sizes} with {samples} samples")
    sizes["C"] //= samples
    axes = order[:1:-1]
    leading = [sizes[axis] for axis in axes]
    count = math.prod(leading)
    if count > len(found):
        raise ValueError(f"{count} planes are told of, {len(found)} are there")
    planes: list[Directory | None] = [None] * count
    for at, directory in _ome_planes(pixels, axes, leading, len(found), own):
        if not 0 <= at < count or not 0 <= directory < len(found):
            raise ValueError(f"OME plane {at} in directory {directory}")
        if planes[at] is not None or directory in used:
            raise ValueError(f"OME plane {at} or directory {directory} is told of twice")
        used.add(directory)
        planes[at] = found[directory]
    held = [one for one in planes if one is not None]
    if len(held) != count:
        raise ValueError(f"{count - len(held)} of {count} OME planes are in no directory")
    _alike(held)
    if (held[0].shape[3], held[0].shape[2]) != (
        int(pixels.get("SizeX", 0)),
        int(pixels.get("SizeY", 0)),
    ) or held[0].shape[0] * held[0].shape[4] != samples:
        raise ValueError("the planes have another size than OME-XML tells")
    return held, leading, axes.lower()


def _samples(pixels: Any) -> int:
    """Return the samples of a pixel, which OME counts among the channels."""
    channels = [one for one in pixels if one.tag.endswith("Channel")]
    held = {int(one.get("SamplesPerPixel", 1)) for one in channels} or {1}
    if len(held) > 1 or min(held) < 1:
        raise ValueError(f"channels of {sorted(held)} samples")
    return held.pop()


def _ome_planes(
    pixels: Any,
    axes: str,
    leading: Sequence[int],
    directories: int,
    own: tuple[str | None, str],
) -> Iterator[tuple[int, int]]:
    """Yield the number of each plane and of its directory, as OME's TiffData elements have it."""
    for data in pixels:
        if not data.tag.endswith("TiffData"):
            continue
        for uuid in data:
            file = uuid.get("FileName")
            if uuid.text != own[0] and (file is None or file.lower() != own[1].lower()):
                raise ValueError(f"planes are in another file, {shown(file or uuid.text)}")
        start = int(data.get("IFD", 0))
        every = max(directories - start, 0)
        count = int(data.get("PlaneCount", 1 if data.get("IFD") else every))
        at = 0
        for axis, n in zip(axes, leading, strict=True):
            at = at * n + int(data.get(f"First{axis}", 0))
        # Of those without a count the first ones are meant.
        count = count if data.get("PlaneCount") else min(count, math.prod(leading) - at)
        if not 0 <= count <= directories:
            raise ValueError(f"{count} OME planes from directory {start} on")
        yield from zip(range(at, at + count), range(start, start + count), strict=True)

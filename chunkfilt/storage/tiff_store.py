"""TIFF files as images: what is in a file, reading regions.

Strips and tiles are decoded one at a time; rows of strips that are not compressed are read straight
from the file.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from chunkfilt.errors import MissingDependency, RunError, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage.nodata import nodata_of
from chunkfilt.storage.stored import StoredImage, pick, spec_of
from chunkfilt.storage.tiff_decoding import decode, decoded_dtype
from chunkfilt.storage.tiff_directories import COMPRESSIONS, Directory
from chunkfilt.storage.tiff_file import read_directories, take
from chunkfilt.storage.tiff_series import DescriptionError, Series, read_series
from chunkfilt.storage.zarr_chunks import part_of, touched
from chunkfilt.words import format_shape

__all__ = ["TiffImage", "open_tiff", "open_tiffs"]

# Rows that are not compressed can be read from any on: what is planned with is of this size.
_RAW_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TiffImage(StoredImage):
    """One image of a TIFF file.

    `mark` is the file's size and time when it was opened: another file is never read in its place.
    `fill` is what tiles that were left out are made of; `plain` is of planes taken as they come.
    """

    packages: ClassVar[tuple[str, ...]] = ("imagecodecs", "tifffile")
    mark: tuple[int, int]
    fill: float = 0
    plain: bool = False

    @property
    def series(self) -> Series:
        """The image's planes, looked up at the first use in a process."""
        if "series" not in self._open:
            place = Path(self.path)
            try:
                held = _images(place, plain=self.plain)[self.within or "0"]
                self._check(place.stat())
            except (KeyError, OSError, StorageError) as error:
                raise self._unreadable("its directories", error) from error
            self._open["series"] = held
        found: Series = self._open["series"]
        return found

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read a region into a C-contiguous array of the image's dtype.

        Raises
        ------
        RunError
            If a strip or tile cannot be read or decoded; never pixels in its place.
        """
        if not region.size:
            return
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable("any part", error) from error
        try:
            self._check(os.fstat(file))
            series = self.series
            along = len(series.leading)
            plane_box = _full_box(series.first, region, along)
            leads = [
                range(a, b) for a, b in zip(region.start[:along], region.stop[:along], strict=True)
            ]
            for lead in itertools.product(*leads):
                number = 0
                for at, n in zip(lead, series.leading, strict=True):
                    number = number * n + at
                place = tuple(i - a for i, a in zip(lead, region.start, strict=False))
                self._read_plane(file, number, plane_box, out[place].reshape(plane_box.shape))
        finally:
            os.close(file)

    def _read_plane(self, file: int, number: int, box: Region, out: np.ndarray) -> None:
        """Read a box of one plane, along (separate samples, depth, length, width, samples)."""
        first = self.series.first
        offsets, sizes = self.series.offsets[number], self.series.sizes[number]
        for place in touched(box, first.cell):
            index = 0
            for n, many in zip(place, first.counts, strict=True):
                index = index * many + n
            part = part_of(box, first.cell, place)
            corner = [n * c for n, c in zip(place, first.cell, strict=True)]
            into = out[part.shift([o - a for o, a in zip(corner, box.start, strict=True)]).slices]
            start, size = int(offsets[index]), int(sizes[index])
            what = f"{'tile' if first.tiled else 'strip'} {index} of plane {number}"
            if not start and not size:
                if self.missing == "error":
                    raise RunError(f"{what} of {self.path} is missing")
                into[...] = self.fill
                continue
            try:
                if first.raw:
                    _read_rows(file, first, start, part, into)
                else:
                    into[...] = decode(first, take(file, start, size), index, part)
            except MissingDependency:
                raise
            except Exception as error:  # each codec has a kind of its own
                raise self._unreadable(what, error) from error

    def _check(self, about: os.stat_result) -> None:
        if (about.st_size, about.st_mtime_ns) != self.mark:
            raise RunError(f"{self.path} has been changed since it was opened")

    def _fingerprint(self, *, times: bool) -> str:
        """Return a digest of the file's size, and of where its strips or tiles are."""
        about = os.stat(self.path)
        digest = hashlib.sha256(f"{about.st_size}\0{about.st_mtime_ns if times else 0}".encode())
        digest.update(f"{self.within}\0{self.spec.shape}\0{self.series.first.packing}".encode())
        for one in (*self.series.offsets, *self.series.sizes):
            digest.update(one.tobytes())
        return f"sha256:{digest.hexdigest()[:32]}"


def open_tiff(
    place: Path,
    array: str | None,
    axes: Sequence[str] | None,
    spatial: Sequence[str] | None,
    nodata: float | None,
    missing: str,
) -> TiffImage:
    """Open one image of a TIFF file; parameters and errors as of `open_image`."""
    about, plain = place.stat(), False
    try:
        held = _images(place, plain=False)
    except DescriptionError as error:
        # With names for its axes, planes are taken as they come.
        if axes is None:
            raise
        warnings.warn(str(error), UserWarning, stacklevel=4)
        held, plain = _images(place, plain=True), True
    told = {name: format_shape(one.shape, one.axes) for name, one in held.items()}
    whole = [name for name in held if "/" not in name]
    kind = "TIFF file of several images"
    name = pick(place, kind, whole, array, told)
    within = name if len(held) > 1 else None
    image = _image(place, held[name], within, about, axes=axes, spatial=spatial, nodata=nodata)
    return replace(image, missing=missing, plain=plain, _open=image._open)


def open_tiffs(place: Path) -> dict[str, TiffImage]:
    """Open all images of a file that can be read; the name of a single one is empty."""
    about, held = place.stat(), _images(place, plain=False)
    if len(held) == 1:
        return {"": _image(place, held["0"], None, about)}
    return {
        name: _image(place, series, name, about)
        for name, series in held.items()
        if series.first.unread is None
    }


def _image(
    place: Path,
    series: Series,
    within: str | None,
    about: os.stat_result,
    *,
    axes: Sequence[str] | None = None,
    spatial: Sequence[str] | None = None,
    nodata: float | None = None,
) -> TiffImage:
    first = series.first
    if first.unread is not None:
        message = f"{place}: {first.unread}"
        raise StorageError(message)
    dtype, stored = decoded_dtype(first, place), _nodata(first)
    spec = spec_of(series.shape, dtype, (series.axes,), place, axes, spatial)
    image = TiffImage(
        path=str(place),
        spec=replace(spec, nodata=nodata_of(stored, dtype, place, nodata)),
        chunks=_chunks(series),
        within=within,
        compressor_name=COMPRESSIONS[first.number("compression")][0],
        format_name="TIFF",
        mark=(about.st_size, about.st_mtime_ns),
        fill=nodata_of(stored, dtype, place, None) or 0,
    )
    image._open["series"] = series
    return image


def _images(place: Path, *, plain: bool) -> dict[str, Series]:
    return read_series(place, read_directories(place), plain=plain)


def _full_box(first: Directory, region: Region, along: int) -> Region:
    """Return what a region takes of a plane, with the plane's axes of one pixel."""
    start, stop = iter(region.start[along:]), iter(region.stop[along:])
    kept = [n > 1 or axis in (2, 3) for axis, n in enumerate(first.shape)]
    return Region(
        tuple(next(start) if one else 0 for one in kept),
        tuple(next(stop) if one else 1 for one in kept),
    )


def _chunks(series: Series) -> tuple[int, ...]:
    """Return what is decoded at a time: a strip or tile, some rows where nothing is compressed."""
    if not series.first.raw:
        return series.cell
    rows = max(_RAW_BYTES // max(series.first.row_bytes, 1), 1)
    axis = series.axes.index("y")
    cell = list(series.cell)
    cell[axis] = min(rows, cell[axis])
    return tuple(cell)


def _nodata(first: Directory) -> float | None:
    """Return the number that GDAL's tag says stands for missing pixels."""
    raw: bytes = first.tags.get("nodata", b"")
    text = raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()
    try:
        return int(text) if re.fullmatch(r"[+-]?\d{1,20}", text) else float(text)
    except ValueError:
        return None


def _read_rows(file: int, first: Directory, start: int, part: Region, into: np.ndarray) -> None:
    """Read rows of a strip that is not compressed, some at a time."""
    row, along = first.row_bytes, (slice(None),) * 2
    dtype = into.dtype.newbyteorder(first.byteorder)
    step = max(_RAW_BYTES // row, 1)
    for at in range(part.start[2], part.stop[2], step):
        rows = min(step, part.stop[2] - at)
        held = np.frombuffer(take(file, start + at * row, rows * row), dtype)
        held = held.reshape(1, 1, rows, *first.cell[3:])[(*along, slice(None), *part.slices[3:])]
        into[(*along, slice(at - part.start[2], at - part.start[2] + rows))] = held

"""Opening stored images of any format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chunkfilt.errors import StorageError, UnfinishedWarning
from chunkfilt.storage.paths import existing_path
from chunkfilt.storage.stored import StoredImage
from chunkfilt.storage.tiff_file import is_tiff
from chunkfilt.storage.zarr_store import open_zarr, zarr_arrays, zarr_record
from chunkfilt.words import shown

__all__ = ["named", "open_image", "open_images", "root_record"]

MISSING = ("fill", "error")


def open_image(
    path: str | os.PathLike[str],
    array: str | None = None,
    *,
    axes: Sequence[str] | None = None,
    spatial: Sequence[str] | None = None,
    nodata: float | None = None,
    missing: str = "fill",
) -> StoredImage:
    """Open one image of a Zarr store or a TIFF file; no pixel is read.

    Parameters
    ----------
    path : path
        A Zarr v2 or v3 array, sharded or not, or a group, or a TIFF file.
    array : str, optional
        The array's name within a group; needed where the group has several. Of a TIFF file the
        number of the image, ``"0"``, and behind a slash that of a smaller level, ``"0/1"``.
    axes, spatial : sequence of str, optional
        Names of all axes, and which of them are spatial. Default: the names as stored, with z, y
        and x spatial; without names, all axes are spatial.
    nodata : number, optional
        The value of missing pixels. Default: the array's attribute ``nodata``, or GDAL's tag.
    missing : {"fill", "error"}
        What a chunk without a file, or a tile without a place in its file, is: pixels of the fill
        value, or an error when it is read.

    Raises
    ------
    StorageError
        If the path is missing, holds no such image, or is damaged, or no pixel of it could
        be `nodata`.
    """
    if missing not in MISSING:
        message = f"missing must be one of {', '.join(MISSING)}, got {shown(missing)}"
        raise StorageError(message)
    if not isinstance(array, str | None):
        message = f'array must be a text such as "0", got {shown(array)}'
        raise StorageError(message)
    axes, spatial = _names("axes", axes), _names("spatial", spatial)
    place = existing_path(path)
    if is_tiff(place):
        from chunkfilt.storage.tiff_store import open_tiff

        return open_tiff(place, array, axes, spatial, nodata, missing)
    return open_zarr(place, array, axes, spatial, nodata, missing)


def open_images(path: str | os.PathLike[str]) -> dict[str, StoredImage]:
    """Open all images at a path, by their names; unfinished ones without a warning.

    The name of a single one, that is not within a group, is empty.

    Raises
    ------
    StorageError
        If the path is missing, or holds what is no image.
    """
    place = existing_path(path)
    if is_tiff(place):
        from chunkfilt.storage.tiff_store import open_tiffs

        return dict(open_tiffs(place))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfinishedWarning)
        return {name: open_image(place, name or None) for name in zarr_arrays(place)}


def root_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the run that wrote a store recorded; empty for images from elsewhere."""
    place: Path = existing_path(path)
    return {} if is_tiff(place) else zarr_record(place)


def named(record: Mapping[str, Any], word: str) -> Mapping[str, Any]:
    """Return what a record has by name: checksums, tables, versions; none if it does not."""
    told = record.get(word)
    return told if isinstance(told, dict) else {}


def _names(word: str, given: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return names that were given for axes as a tuple; who knows the axes looks at each."""
    try:
        return None if given is None else tuple(given)
    except TypeError:
        message = f'{word} must be names such as "zyx", got {shown(given)}'
        raise StorageError(message) from None

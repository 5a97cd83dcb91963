"""Outputs: where they may go, how they are stored, creating and removing them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from chunkfilt.errors import StorageError, nearest
from chunkfilt.grid import ImageSpec, write_unit
from chunkfilt.storage.zarr_store import ZarrImage, is_store, name_of_compressor, pipeline

__all__ = [
    "ArrayLayout",
    "check_output_path",
    "create_output",
    "make_compressor",
    "remove_output",
    "run_folder",
    "write_attributes",
]


@dataclass(frozen=True)
class ArrayLayout:
    """How an output array is stored."""

    spec: ImageSpec
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressor: Any

    @property
    def unit(self) -> tuple[int, ...]:
        """Pixels of one file."""
        return write_unit(self.chunks, self.shards)


def make_compressor(spec: Any) -> Any:
    """Return the codec for a compressor as it stands in YAML: ``{zstd: 3}``, ``none``.

    Raises
    ------
    ValueError
        If the name or an option is unknown.
    """
    if spec == "none":
        return None
    if isinstance(spec, str):
        spec = {spec: {}}
    ((name, options),) = spec.items()
    known = {"zstd": ZstdCodec, "blosc": BloscCodec, "gzip": GzipCodec}
    if name not in known:
        message = f"compressor must be one of {', '.join(known)} or none, got {name!r}"
        raise ValueError(message + nearest(name, known))
    if isinstance(options, int):
        options = {"clevel" if name == "blosc" else "level": options}
    try:
        return known[name](**(options or {}))
    except (TypeError, ValueError) as error:
        message = f"compressor {name} does not take {options!r}: {error}"
        raise ValueError(message) from None


def run_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder beside an output that records its run."""
    place = Path(path)
    return place.with_name(place.name + ".run")


def check_output_path(
    path: str | os.PathLike[str], inputs: Sequence[str], *, overwrite: bool
) -> Path:
    """Return where an output may be written; nothing is touched.

    Raises
    ------
    StorageError
        If it exists and is not to be overwritten, is or touches an input, or its folder cannot
        be written to.
    """
    place = Path(path).absolute()
    if "://" in str(path):
        message = f"output must be a local path, got {str(path)!r}"
        raise StorageError(message)
    real = Path(os.path.realpath(place))
    for one in inputs:
        other = Path(os.path.realpath(one))
        if real == other or real in other.parents or other in real.parents:
            message = f"output {path} is, holds or lies within the input {one}: choose another path"
            raise StorageError(message)
    if os.path.lexists(place):
        if not overwrite:
            message = f"output {path} exists: set overwrite: true (--overwrite) or choose another"
            raise StorageError(message)
        if not is_store(place):
            message = f"output {path} exists and is no Zarr store: it will not be overwritten"
            raise StorageError(message)
    folder = place.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        message = f"cannot write {path}: {folder} is not a folder that you may write to"
        raise StorageError(message)
    return place


def remove_output(path: Path) -> None:
    """Remove an output and the record of its run."""
    for place in (path, run_folder(path)):
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)


def create_output(
    path: Path,
    arrays: Mapping[str, ArrayLayout],
    *,
    group: bool,
    attributes: Mapping[str, Any],
) -> dict[str, ZarrImage]:
    """Create the output's arrays, empty, with `attributes` on the store's root.

    Parameters
    ----------
    path : Path
        Where; must not exist.
    arrays : mapping
        Layout by name; with `group` false, exactly one, which becomes the store itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if group:
        zarr.create_group(str(path), zarr_format=3, attributes=dict(attributes))
    made = {}
    for name, layout in arrays.items():
        place = path / name if group else path
        with pipeline():
            array = zarr.create_array(
                str(place),
                shape=layout.spec.shape,
                dtype=layout.spec.dtype,
                chunks=layout.chunks,
                shards=layout.shards,
                compressors=layout.compressor,
                fill_value=0,
                dimension_names=list(layout.spec.axes),
                attributes=None if group else dict(attributes),
                zarr_format=3,
            )
        made[name] = ZarrImage(
            path=str(place),
            spec=layout.spec,
            chunks=layout.chunks,
            shards=layout.shards,
            compressor=layout.compressor,
            record={},
            zarr_format=3,
            compressor_name=name_of_compressor(array),
        )
    return made


def write_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Set attributes of the store's root."""
    zarr.open(str(path), mode="r+").attrs.update(dict(attributes))

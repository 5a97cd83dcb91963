"""Zarr arrays as images: what is in a store, reading regions.

Pixels go through the `zarrs` codec pipeline (Rust, several chunks at a time), which reads and
writes them about twice as fast as zarr-python's own.  Two things it cannot be trusted with: the
checksum of a chunk that is read in part (such arrays are read in whole chunks) and big-endian
complex numbers (complex numbers go through zarr-python's own).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer

from chunkfilt.errors import RunError, StorageError, UnfinishedWarning
from chunkfilt.grid import Region
from chunkfilt.storage.nodata import nodata_of
from chunkfilt.storage.stored import StoredImage, is_failure, pick, spec_of
from chunkfilt.storage.zarr_chunks import check_chunk, packing_of, part_of, round_out, touched
from chunkfilt.storage.zarr_codecs import compressor_of, name_of_compressor, reads_in_part
from chunkfilt.storage.zarr_metadata import (
    arrays_below,
    check_metadata,
    is_store,
    no_store,
)
from chunkfilt.words import brief

__all__ = [
    "ZarrImage",
    "open_zarr",
    "pipeline",
    "zarr_arrays",
    "zarr_record",
]

_LONGEST_REASON = 300
# Chunks go to the pipeline's own threads, one for each core, whatever number of calls they come
# from; so no codec need start threads for one chunk.
_PIPELINE = {
    "codec_pipeline.path": "zarrs.ZarrsCodecPipeline",
    "codec_pipeline.chunk_concurrent_minimum": os.cpu_count() or 1,
}
# zarr's configuration is shared by the threads of a process.
_CONFIG_LOCK = threading.Lock()


@contextlib.contextmanager
def pipeline() -> Iterator[None]:
    """Open or create arrays with the fast codec pipeline."""
    with _CONFIG_LOCK, warnings.catch_warnings():
        # Where zarrs lacks a codec, zarr's own pipeline takes over; that is no news to a user.
        warnings.filterwarnings("ignore", message=".*zarrs.*")
        warnings.filterwarnings("ignore", message=".*ZarrsCodecPipeline.*")
        with zarr.config.set(_PIPELINE):
            yield


@dataclass(frozen=True, kw_only=True)
class ZarrImage(StoredImage):
    """One array of a Zarr store.

    With `whole_chunks`, a chunk must be read in full for its checksum to be checked.
    """

    zarr_format: int
    whole_chunks: bool = False

    @property
    def array(self) -> Any:
        """The zarr array, opened at the first use."""
        if "array" not in self._open:
            with pipeline() if self.spec.dtype.kind != "c" else contextlib.nullcontext():
                self._open["array"] = zarr.open_array(
                    self.path, mode="r", zarr_format=self.zarr_format
                )
        return self._open["array"]

    @property
    def finished(self) -> bool:
        """Whether the run that wrote it, if it was one of ours, came to its end."""
        return bool(self.record.get("finished", True))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if not region.size:
            return
        try:
            self._check_chunks(region)
            self._decode(region, out)
        except RunError:
            raise
        except BaseException as error:
            if not is_failure(error):
                raise
            where = ", ".join(f"{a}:{b}" for a, b in zip(region.start, region.stop, strict=True))
            what = self._failing(region) or f"[{where}]"
            raise self._unreadable(what, error) from error

    def _fingerprint(self, *, times: bool) -> str:
        """Return a digest of the metadata, the names and sizes of the files."""
        digest = hashlib.sha256()
        place = Path(self.path)
        for name in ("zarr.json", ".zarray"):
            file = place / name
            if file.is_file():
                held = json.loads(file.read_bytes())
                held.pop("attributes", None)
                digest.update(json.dumps(held, sort_keys=True).encode())
        for name, entry in _files(place, ""):
            if name not in ("zarr.json", ".zattrs"):
                about = entry.stat()
                changed = about.st_mtime_ns if times else 0
                digest.update(f"{name}\0{about.st_size}\0{changed}\n".encode())
        digest.update(json.dumps(self.record.get("checksums", {}), sort_keys=True).encode())
        return f"sha256:{digest.hexdigest()[:32]}"

    def _decode(self, region: Region, out: np.ndarray) -> None:
        if self.whole_chunks:
            taken, cut = round_out(region, self.chunks, self.spec.shape)
            out[...] = self.array[taken.slices][cut]
            return
        # The buffer is ours: zarrs fills one of native bytes in C order, whatever is stored.
        self.array.get_basic_selection(region.slices, out=NDBuffer.from_numpy_array(out))

    def _check_chunks(self, region: Region) -> None:
        """Look at the chunks of a region before any is decoded; see `check_chunk`."""
        key_of = self.array.metadata.encode_chunk_key
        if "packing" not in self._open:
            self._open["packing"] = packing_of(self.array)
        packing = self._open["packing"]
        for numbers in touched(region, packing.shape):
            key = key_of(numbers)
            try:
                gone = check_chunk(f"{self.path}/{key}", packing, region, numbers)
            except (OSError, ValueError) as error:
                raise self._unreadable(f"chunk {key}", error) from error
            if gone is None and not is_store(Path(self.path)):
                message = f"cannot read chunk {key} of {self.path}: the store is no longer there"
                raise RunError(message)
            if gone != () and self.missing == "error":
                within = f" (its chunk {', '.join(map(str, gone))})" if gone else ""
                raise RunError(f"chunk {key}{within} of {self.path} is missing")

    def _failing(self, region: Region) -> str | None:
        """Return which chunk of a region cannot be read, asking for one at a time."""
        if "array" not in self._open:
            return None
        for numbers in touched(region, self.unit):
            piece = part_of(region, self.unit, numbers).shift(
                tuple(n * u for n, u in zip(numbers, self.unit, strict=True))
            )
            try:
                self._decode(piece, np.empty(piece.shape, self.spec.dtype))
            except BaseException as error:
                if not is_failure(error):
                    raise
                return f"chunk {self.array.metadata.encode_chunk_key(numbers)}"
        return None


def open_zarr(
    place: Path,
    array: str | None,
    axes: Sequence[str] | None,
    spatial: Sequence[str] | None,
    nodata: float | None,
    missing: str,
) -> ZarrImage:
    """Open one array of a Zarr store; parameters and errors as of `open_image`."""
    held = _open_any(place)
    group_record: Mapping[str, Any] = {}
    if isinstance(held, zarr.Group):
        group_record = _record(held)
        place = place / pick(place, "group", arrays_below(place), array)
        held = _open_any(place)
    elif array is not None:
        message = f"{place} is an array, not a group: leave array={array!r} out"
        raise StorageError(message)
    names = getattr(held.metadata, "dimension_names", None), held.attrs.get("_ARRAY_DIMENSIONS")
    spec = spec_of(held.shape, held.dtype, names, place, axes, spatial)
    image = ZarrImage(
        path=str(place),
        spec=replace(spec, nodata=nodata_of(held.attrs.get("nodata"), spec.dtype, place, nodata)),
        chunks=tuple(held.chunks),
        shards=None if held.shards is None else tuple(held.shards),
        compressor=compressor_of(held),
        compressor_name=name_of_compressor(held),
        format_name=f"Zarr v{held.metadata.zarr_format}",
        record=group_record or _record_above(held, place),
        zarr_format=held.metadata.zarr_format,
        whole_chunks=not reads_in_part(held),
        missing=missing,
    )
    if not image.finished:
        message = f"{place} is unfinished: the run that wrote it was interrupted"
        warnings.warn(message, UnfinishedWarning, stacklevel=4)
    return image


def zarr_arrays(place: Path) -> list[str]:
    """Return the names of the arrays of a group, or ``[""]`` for an array."""
    return arrays_below(place) if isinstance(_open_any(place), zarr.Group) else [""]


def zarr_record(place: Path) -> dict[str, Any]:
    """Return what the run that wrote a store recorded; empty for stores from elsewhere."""
    return _record(_open_any(place))


def _open_any(place: Path) -> Any:
    if not is_store(place):
        raise StorageError(no_store(place))
    kind, zarr_format = check_metadata(place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "array":
                return zarr.open_array(str(place), mode="r", zarr_format=zarr_format)
            # What a group lists of its members need not be what is there.
            return zarr.open_group(
                str(place), mode="r", zarr_format=zarr_format, use_consolidated=False
            )
    except Exception as error:
        message = f"{place} is a damaged Zarr store: {brief(str(error), _LONGEST_REASON)}"
        raise StorageError(message) from error


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files below a folder in an order of their names, whatever the system's is."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir():
            yield from _files(Path(entry.path), f"{name}/")
        else:
            yield name, entry


def _record(held: Any) -> dict[str, Any]:
    """Return a run's record from the attributes; what is no mapping is somebody else's."""
    own = held.attrs.get("chunkfilt")
    return dict(own) if isinstance(own, Mapping) else {}


def _record_above(array: Any, place: Path) -> Mapping[str, Any]:
    """Return the run's record of an array opened by its own path; a group's stands above it."""
    own = _record(array)
    return own if own or not is_store(place.parent) else _record(_open_any(place.parent))

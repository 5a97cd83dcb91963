"""Zarr arrays as images: what is in a store, reading regions.

Pixels go through the `zarrs` codec pipeline (Rust, several chunks at a time), which reads and
writes them about twice as fast as zarr-python's own.  Two things it cannot be trusted with: the
checksum of a chunk that is read in part (such arrays are read in whole chunks) and big-endian
complex numbers (complex numbers go through zarr-python's own).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer

from chunkfilt.errors import RunError, StorageError, UnfinishedWarning, nearest
from chunkfilt.grid import ImageSpec, Region, write_unit
from chunkfilt.storage.nodata import nodata_of
from chunkfilt.storage.zarr_chunks import check_chunk, packing_of, part_of, round_out, touched
from chunkfilt.storage.zarr_codecs import compressor_of, name_of_compressor, reads_in_part
from chunkfilt.storage.zarr_metadata import (
    arrays_below,
    check_metadata,
    is_store,
    no_store,
    spec_of,
)
from chunkfilt.words import brief, shown

__all__ = [
    "ZarrImage",
    "arrays_in",
    "compressor_of",
    "is_store",
    "local_path",
    "near_path",
    "name_of_compressor",
    "open_image",
    "pipeline",
    "refuse_url",
    "root_record",
]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LONGEST_NAME, _LONGEST_REASON = 255, 300
MISSING = ("fill", "error")
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


@dataclass(frozen=True)
class ZarrImage:
    """One array of a store as an image: what is known of it, and its pixels region by region.

    `record` is what the run that wrote it recorded; empty for images from elsewhere.  With
    `whole_chunks`, a chunk must be read in full for its checksum to be checked.  Travels between
    processes as its path; every process opens the array for itself.
    """

    path: str
    spec: ImageSpec
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressor: Any
    record: Mapping[str, Any]
    zarr_format: int
    compressor_name: str
    whole_chunks: bool = False
    missing: str = "fill"
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

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
    def unit(self) -> tuple[int, ...]:
        """Pixels of one file."""
        return write_unit(self.chunks, self.shards)

    @property
    def finished(self) -> bool:
        """Whether the run that wrote it, if it was one of ours, came to its end."""
        return bool(self.record.get("finished", True))

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of a region inside the image.

        Raises
        ------
        RunError
            If a chunk cannot be read or decoded; never pixels in its place.
        """
        pixels = np.empty(region.shape, self.spec.dtype)
        self.read_into(region, pixels)
        return pixels

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read a region into a C-contiguous array of the image's dtype; raises as `read` does."""
        if not region.size:
            return
        try:
            self._check_chunks(region)
            self._decode(region, out)
        except RunError:
            raise
        except BaseException as error:
            if not _is_failure(error):
                raise
            where = ", ".join(f"{a}:{b}" for a, b in zip(region.start, region.stop, strict=True))
            what = self._failing(region) or f"[{where}]"
            raise self._unreadable(what, error) from error

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
                if not _is_failure(error):
                    raise
                return f"chunk {self.array.metadata.encode_chunk_key(numbers)}"
        return None

    def _unreadable(self, what: str, error: BaseException) -> RunError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return RunError(f"cannot read {what} of {self.path}: {brief(reason, _LONGEST_REASON)}")


def open_image(
    path: str | os.PathLike[str],
    array: str | None = None,
    *,
    axes: Sequence[str] | None = None,
    spatial: Sequence[str] | None = None,
    nodata: float | None = None,
    missing: str = "fill",
) -> ZarrImage:
    """Open one array of a Zarr store; no pixel is read.

    Parameters
    ----------
    path : path
        A Zarr v2 or v3 array, sharded or not, or a group.
    array : str, optional
        The array's name within a group; needed where the group has several.
    axes, spatial : sequence of str, optional
        Names of all axes, and which of them are spatial. Default: the store's dimension names,
        with z, y and x spatial; without names, all axes are spatial.
    nodata : number, optional
        The value of missing pixels. Default: the array's attribute ``nodata``, if it has one.
    missing : {"fill", "error"}
        What a chunk without a file is: pixels of the fill value, or an error when it is read.

    Raises
    ------
    StorageError
        If the path is missing, is no Zarr store, or holds no such array, or no pixel of it could
        be `nodata`.
    """
    if missing not in MISSING:
        message = f"missing must be one of {', '.join(MISSING)}, got {shown(missing)}"
        raise StorageError(message)
    place = _store_path(path)
    held = _open_any(place)
    group_record: Mapping[str, Any] = {}
    if isinstance(held, zarr.Group):
        group_record = _record(held)
        place = _pick(place, array)
        held = _open_any(place)
    elif array is not None:
        message = f"{place} is an array, not a group: leave array={array!r} out"
        raise StorageError(message)
    spec = replace(spec_of(held, place, axes, spatial), nodata=nodata_of(held, place, nodata))
    image = ZarrImage(
        path=str(place),
        spec=spec,
        chunks=tuple(held.chunks),
        shards=None if held.shards is None else tuple(held.shards),
        compressor=compressor_of(held),
        record=group_record or _record_above(held, place),
        zarr_format=held.metadata.zarr_format,
        compressor_name=name_of_compressor(held),
        whole_chunks=not reads_in_part(held),
        missing=missing,
    )
    if not image.finished:
        message = f"{place} is unfinished: the run that wrote it was interrupted"
        warnings.warn(message, UnfinishedWarning, stacklevel=3)
    return image


def arrays_in(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the arrays of a group, or ``[""]`` for an array."""
    place = _store_path(path)
    return arrays_below(place) if isinstance(_open_any(place), zarr.Group) else [""]


def root_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the run that wrote a store recorded; empty for stores from elsewhere."""
    return _record(_open_any(_store_path(path)))


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


def near_path(path: str | os.PathLike[str], folder: Path) -> str:
    """Return a path from a folder on, so that both may move together; absolute if far apart.

    >>> near_path("/data/in/a.zarr", Path("/data/out")), near_path("/mnt/a.zarr", Path("/data"))
    ('../in/a.zarr', '/mnt/a.zarr')
    """
    place, start = Path(path).absolute(), folder.absolute()
    far = place.parts[:2] != start.parts[:2]
    return str(place) if far else os.path.relpath(place, start)


def _store_path(path: str | os.PathLike[str]) -> Path:
    place = local_path(path)
    if not place.exists():
        siblings = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        message = f"no such file or folder: {os.fsdecode(path)}{nearest(place.name, siblings)}"
        raise StorageError(message)
    return place


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


def _record(held: Any) -> dict[str, Any]:
    """Return a run's record from the attributes; what is no mapping is somebody else's."""
    own = held.attrs.get("chunkfilt")
    return dict(own) if isinstance(own, Mapping) else {}


def _record_above(array: Any, place: Path) -> Mapping[str, Any]:
    """Return the run's record of an array opened by its own path; a group's stands above it."""
    own = _record(array)
    return own if own or not is_store(place.parent) else _record(_open_any(place.parent))


def _pick(place: Path, array: str | None) -> Path:
    names = arrays_below(place)
    listed = ", ".join(names) or "none"
    if array is None and len(names) == 1:
        array = names[0]
    if array is None:
        message = f"{place} is a group: name one of its arrays with array= ({listed})"
        raise StorageError(message)
    if array not in names:
        message = f"{place} has no array {array!r}{nearest(array, names)}; it has {listed}"
        raise StorageError(message)
    return place / array


def _is_failure(error: BaseException) -> bool:
    """Return whether an exception is a failure: a panic of the codecs' library is one, too."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"

"""Zarr arrays as images: what is in a store, reading regions, creating outputs.

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
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from chunkfilt.errors import RunError, StorageError, UnfinishedWarning, nearest
from chunkfilt.grid import ImageSpec, Region, write_unit
from chunkfilt.storage.nodata import nodata_of
from chunkfilt.words import brief

__all__ = [
    "ZarrImage",
    "arrays_in",
    "compressor_of",
    "local_path",
    "open_image",
    "pipeline",
    "refuse_url",
    "root_record",
]

SPATIAL_NAMES = ("z", "y", "x")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Codecs that check nothing, or all that they decode: a chunk may be read in part.
_UNCHECKED = {
    "zstd",
    "gzip",
    "blosc",
    "zlib",
    "lz4",
    "bz2",
    "lzma",
    "shuffle",
    "delta",
    "transpose",
}
_LONGEST_NAME = 255
_MARKS = ("zarr.json", ".zarray", ".zgroup")
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
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @property
    def array(self) -> Any:
        """The zarr array, opened at the first use."""
        if "array" not in self._open:
            with pipeline() if self.spec.dtype.kind != "c" else contextlib.nullcontext():
                self._open["array"] = zarr.open_array(self.path, mode="r")
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
        try:
            if self.whole_chunks:
                taken, cut = _round_out(region, self.chunks, self.spec.shape)
                out[...] = self.array[taken.slices][cut]
                return
            # The buffer is ours: zarrs fills one of native bytes in C order, whatever is stored.
            self.array.get_basic_selection(region.slices, out=NDBuffer.from_numpy_array(out))
        except Exception as error:
            where = ", ".join(f"{a}:{b}" for a, b in zip(region.start, region.stop, strict=True))
            message = f"cannot read [{where}] of {self.path}: {error}"
            raise RunError(message) from error

    def write(self, region: Region, data: np.ndarray) -> None:
        """Write whole write units of an output array."""
        if "writable" not in self._open:
            with pipeline():
                self._open["writable"] = zarr.open_array(self.path, mode="r+")
        try:
            self._open["writable"][region.slices] = data
        except OSError as error:
            message = f"cannot write to {self.path}: {error}"
            raise RunError(message) from error


def open_image(
    path: str | os.PathLike[str],
    array: str | None = None,
    *,
    axes: Sequence[str] | None = None,
    spatial: Sequence[str] | None = None,
    nodata: float | None = None,
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

    Raises
    ------
    StorageError
        If the path is missing, is no Zarr store, or holds no such array, or no pixel of it could
        be `nodata`.
    """
    place = _store_path(path)
    held = _open_any(place)
    group_record: Mapping[str, Any] = {}
    if isinstance(held, zarr.Group):
        group_record = _record(held)
        held, place = _pick(held, place, array)
    elif array is not None:
        message = f"{place} is an array, not a group: leave array={array!r} out"
        raise StorageError(message)
    spec = replace(_spec(held, place, axes, spatial), nodata=nodata_of(held, place, nodata))
    image = ZarrImage(
        path=str(place),
        spec=spec,
        chunks=tuple(held.chunks),
        shards=None if held.shards is None else tuple(held.shards),
        compressor=compressor_of(held),
        record=group_record or _record_above(held, place),
        zarr_format=held.metadata.zarr_format,
        compressor_name=name_of_compressor(held),
        whole_chunks=not _reads_in_part(held),
    )
    if not image.finished:
        message = f"{place} is unfinished: the run that wrote it was interrupted"
        warnings.warn(message, UnfinishedWarning, stacklevel=3)
    return image


def arrays_in(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the arrays of a group, or ``[""]`` for an array."""
    held = _open_any(_store_path(path))
    return _names(held) if isinstance(held, zarr.Group) else [""]


def compressor_of(array: Any) -> Any:
    """Return the array's compressor as one that suits any dtype of a Zarr v3 array.

    ``None`` for none, ``"auto"`` (zarr's default) where it has no such form.
    """
    if not array.compressors:
        return None
    config = _codec_config(array.compressors[0])
    name = config["id"]
    if name == "zstd":
        return ZstdCodec(level=config["level"], checksum=False)
    if name == "gzip":
        return GzipCodec(level=config["level"])
    if name == "blosc":
        shuffle = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}.get(
            config["shuffle"], config["shuffle"]
        )
        shuffle = "shuffle" if shuffle == -1 else shuffle
        return BloscCodec(cname=config["cname"], clevel=config["clevel"], shuffle=shuffle)
    return "auto"


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
        # A missing folder hides from the system that a name behind it is too long.
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in place.parts):
            message = f"a name has more than {_LONGEST_NAME} bytes"
            raise ValueError(message)  # noqa: TRY301 - as the system says it of other paths
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{word} {brief(text)!r} cannot be a path here: {reason}"
        raise StorageError(message) from None
    return place


def _store_path(path: str | os.PathLike[str]) -> Path:
    place = local_path(path)
    if not place.exists():
        siblings = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        message = f"no such file or folder: {os.fsdecode(path)}{nearest(place.name, siblings)}"
        raise StorageError(message)
    return place


def is_store(place: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return place.is_dir() and any((place / mark).is_file() for mark in _MARKS)


def _open_any(place: Path) -> Any:
    if not is_store(place):
        message = f"{place} is not a Zarr store: it has none of {', '.join(_MARKS)}"
        raise StorageError(message)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return zarr.open(str(place), mode="r")
    except Exception as error:
        message = f"{place} is a damaged Zarr store: {error}"
        raise StorageError(message) from error


def _names(group: Any) -> list[str]:
    with warnings.catch_warnings():
        # Plain folders may stand in a group: a run's tables, say.
        warnings.filterwarnings("ignore", "Object at .* is not recognized", UserWarning)
        members = group.members(max_depth=None)
    return sorted(name for name, member in members if isinstance(member, zarr.Array))


def _record(held: Any) -> dict[str, Any]:
    """Return a run's record from the attributes; what is no mapping is somebody else's."""
    own = held.attrs.get("chunkfilt")
    return dict(own) if isinstance(own, Mapping) else {}


def _record_above(array: Any, place: Path) -> Mapping[str, Any]:
    """Return the run's record of an array opened by its own path; a group's stands above it."""
    own = _record(array)
    return own if own or not is_store(place.parent) else _record(_open_any(place.parent))


def _pick(group: Any, place: Path, array: str | None) -> tuple[Any, Path]:
    names = _names(group)
    listed = ", ".join(names) or "none"
    if array is None and len(names) == 1:
        array = names[0]
    if array is None:
        message = f"{place} is a group: name one of its arrays with array= ({listed})"
        raise StorageError(message)
    if array not in names:
        message = f"{place} has no array {array!r}{nearest(array, names)}; it has {listed}"
        raise StorageError(message)
    return group[array], place / array


def _spec(
    array: Any, place: Path, axes: Sequence[str] | None, spatial: Sequence[str] | None
) -> ImageSpec:
    ndim = array.ndim
    if axes is not None and not _are_names(list(axes), ndim):
        message = f"{place} has {ndim} axes: axes must be {ndim} different names, got {list(axes)}"
        raise StorageError(message)
    stored = (
        None if axes is None else list(axes),
        getattr(array.metadata, "dimension_names", None),
        array.attrs.get("_ARRAY_DIMENSIONS"),
    )
    named = next((names for names in stored if _are_names(names, ndim)), None)
    if ndim == 0 or array.dtype.kind not in "biufc":
        message = (
            f"{place} is no image: it has {ndim} axes of dtype {array.dtype}, "
            "images have at least one axis and numbers as pixels"
        )
        raise StorageError(message)
    defaults = (*(f"d{i}" for i in range(ndim - 3)), *SPATIAL_NAMES[max(3 - ndim, 0) :])
    names = defaults if named is None else tuple(named)
    wanted = tuple(spatial) if spatial is not None else SPATIAL_NAMES
    unknown = [name for name in wanted if name not in names]
    if spatial is not None and unknown:
        message = (
            f"{place} has no axis {unknown[0]!r}{nearest(unknown[0], names)}; "
            f"its axes are {', '.join(names)}"
        )
        raise StorageError(message)
    along = tuple(i for i, name in enumerate(names) if name in wanted)
    if not along or (named is None and spatial is None):
        along = tuple(range(ndim))
    return ImageSpec(tuple(array.shape), np.dtype(array.dtype), names, along)


def _are_names(names: Any, ndim: int) -> bool:
    """Return whether this is a list with a name of its own for every axis."""
    listed = isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)
    return listed and len(names) == len(set(names)) == ndim


def _reads_in_part(array: Any) -> bool:
    """Return whether no codec has a checksum that is only checked where a chunk is read whole."""
    codecs = (*array.filters, *array.compressors)
    names = (str(_codec_config(codec)["id"]).removeprefix("numcodecs.") for codec in codecs)
    return all(name in _UNCHECKED for name in names)


def _round_out(
    region: Region, grid: Sequence[int], shape: Sequence[int]
) -> tuple[Region, tuple[slice, ...]]:
    """Return the region of whole cells of `grid` that holds a region, and its place in there."""
    start = tuple(a // g * g for a, g in zip(region.start, grid, strict=True))
    stop = tuple(min(-(-b // g) * g, n) for b, g, n in zip(region.stop, grid, shape, strict=True))
    return Region(start, stop), region.shift(tuple(-a for a in start)).slices


def _codec_config(codec: Any) -> dict[str, Any]:
    """Return a v2 or v3 compressor as one flat mapping with its ``id``."""
    if hasattr(codec, "get_config"):
        return dict(codec.get_config())
    described = codec.to_dict()
    return {"id": described["name"], **described.get("configuration", {})}


def name_of_compressor(array: Any) -> str:
    """Return an array's compressor in words: ``zstd level 3``."""
    if not array.compressors:
        return "none"
    config = _codec_config(array.compressors[0])
    level = config.get("clevel", config.get("level"))
    inner = f" {config['cname']}" if "cname" in config else ""
    return f"{config['id']}{inner}" + ("" if level is None else f" level {level}")

"""Outputs: where they may go, how they are stored, creating and removing them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from chunkfilt.errors import StorageError, nearest
from chunkfilt.grid import ImageSpec, write_unit
from chunkfilt.storage.nodata import nodata_text
from chunkfilt.storage.paths import local_path
from chunkfilt.storage.units import OutputArray
from chunkfilt.storage.zarr_codecs import name_of_compressor
from chunkfilt.storage.zarr_metadata import is_store
from chunkfilt.storage.zarr_store import ZarrImage, pipeline
from chunkfilt.words import brief

__all__ = [
    "ArrayLayout",
    "OutputArray",
    "check_output_path",
    "create_output",
    "make_compressor",
    "open_output",
    "remove_output",
    "run_folder",
    "suitable_compressor",
    "write_attributes",
]


# By name: the codec, what it calls its level, and the levels there are.
_CODECS: dict[Any, tuple[Any, str, tuple[int, int]]] = {
    "zstd": (ZstdCodec, "level", (-131072, 22)),
    "blosc": (BloscCodec, "clevel", (0, 9)),
    "gzip": (GzipCodec, "level", (0, 9)),
}
# What a run keeps beside its output; half written files end in ``.partial``, and what workers are
# shown to be sure of the folder begins with a dot.
_RUN_FILES = re.compile(
    r"(run\.json|job\.yaml|ledger(-\d+)?\.jsonl|values-.*\.npz)(\.partial)?"
    r"|lock(\.held)?|staging|intermediate|removed-.*|\.chunkfilt-[0-9a-f-]+"
)
# What of an array's metadata says how it is stored, in words.
_METADATA = {
    "zarr_format": "Zarr format",
    "shape": "shape",
    "data_type": "dtype",
    "chunk_grid": "chunks or shards",
    "chunk_key_encoding": "names of chunks",
    "codecs": "codecs",
    "fill_value": "fill value",
    "dimension_names": "axes",
    "storage_transformers": "storage transformers",
}
# Letters that must be left in a path for what stands within an output and its run's folder.
_ROOM = 100


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
    if isinstance(spec, str) and spec == "none":
        return None
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        message = f"must be none or one of {', '.join(_CODECS)}, such as {{zstd: 3}}"
        raise ValueError(f"{message}, got {brief(repr(spec))}")
    ((name, options),) = spec.items()
    if name not in _CODECS:
        message = f"must be one of {', '.join(_CODECS)} or none, got {brief(repr(name))}"
        raise ValueError(message + nearest(str(name), _CODECS))
    make, level, (low, high) = _CODECS[name]
    options = {} if options is None else options
    options = dict(options) if isinstance(options, Mapping) else {level: options}
    given = options.get(level, low)
    if not isinstance(given, int) or isinstance(given, bool) or not low <= given <= high:
        message = f"{name} takes a {level} from {low} to {high}, got {brief(repr(given))}"
        raise ValueError(message)
    try:
        codec = make(**options)
        # Some options are only looked at when there is something to compress.
        zarr.create_array({}, shape=(64,), dtype="u2", compressors=codec)[:] = np.arange(64)
    except Exception as error:
        message = f"{name} does not take {brief(repr(options))}: {error}"
        raise ValueError(message) from None
    return codec


def suitable_compressor(held: Any, dtype: np.dtype) -> Any:
    """Return the input's compressor, or one that suits floats where the input's does not.

    The bytes of floats hardly repeat; compressors that do not shuffle them first are slow on them
    and gain little.
    """
    plain = isinstance(held, ZstdCodec | GzipCodec) or (isinstance(held, str) and held == "auto")
    if dtype.kind == "f" and plain:
        return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
    return held


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
        If it exists and is not to be overwritten; if it, or the folder beside it that records its
        run, is somebody else's, or is or touches an input; or if it cannot be written there.
    """
    place = local_path(path, "output")
    beside = run_folder(place)
    local_path(beside / ("x" * _ROOM), "output")
    for mine in (place, beside):
        real = Path(os.path.realpath(mine))
        for one in inputs:
            other = Path(os.path.realpath(one))
            if real == other or real in other.parents or other in real.parents:
                message = f"output {mine} is, holds or lies within the input {one}"
                raise StorageError(f"{message}: choose another path")
    if os.path.lexists(place):
        if not overwrite:
            message = f"output {place} exists: set overwrite: true (--overwrite) or choose another"
            raise StorageError(message)
        if not is_store(place):
            message = f"output {place} exists and is no Zarr store: it will not be overwritten"
            raise StorageError(message)
    if os.path.lexists(beside) and not _is_run_folder(beside):
        message = (
            f"{beside}, where the run would be recorded, exists and records no run: "
            "it will not be overwritten; move it, or choose another output"
        )
        raise StorageError(message)
    folder = place.parent
    while not folder.exists():
        folder = folder.parent
    for needed in (folder, beside, place):
        # A link is replaced, not what it leads to.
        if needed == folder or (needed.exists() and not needed.is_symlink()):
            _try_writing(needed, place)
    return place


def _try_writing(folder: Path, place: Path) -> None:
    """Refuse a folder that nothing can be written to; permissions alone do not tell."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".chunkfilt-"):
            pass
    except OSError as error:
        message = f"cannot write {place}: {folder} is not a folder that you may write to"
        raise StorageError(f"{message}: {error.strerror}") from error


def _is_run_folder(place: Path) -> bool:
    """Return whether a run made this folder: its record says so, or it holds nothing else."""
    try:
        if place.is_symlink():  # what is staged there could not be renamed into the store
            return False
        held = {part.name for part in place.iterdir()}
        if "run.json" not in held:
            return all(_RUN_FILES.fullmatch(name) for name in held)
        record = json.loads((place / "run.json").read_bytes())
        return "chunkfilt" in record["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_output(path: Path) -> None:
    """Remove an output and what its run kept, but for the lock, which whoever removes it holds.

    `check_output_path` has looked at both.
    """
    beside = run_folder(path)
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        # Out of sight in one step: half removed, it would look like a finished output.
        beside.mkdir(exist_ok=True)
        path.rename(Path(tempfile.mkdtemp(prefix="removed-", dir=beside)) / "store")
    if beside.exists():
        for part in beside.iterdir():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            elif part.name not in ("lock", "lock.held"):
                part.unlink()


def create_output(
    path: Path,
    arrays: Mapping[str, ArrayLayout],
    *,
    group: bool,
    attributes: Mapping[str, Any],
    staging: Path,
) -> dict[str, OutputArray]:
    """Create the output's arrays, empty, with `attributes` on the store's root.

    Parameters
    ----------
    path : Path
        Where; must not exist.
    arrays : mapping
        Layout by name; with `group` false, exactly one, which becomes the store itself.
    staging : Path
        A folder on the same file system, outside the store, for what is being written.
    """
    # Made aside, so that it is there with all its arrays or not at all.
    staging.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=staging))
    root = folder / "store"
    if group:
        zarr.create_group(str(root), zarr_format=3, attributes=dict(attributes))
    made = {}
    for name, layout in arrays.items():
        own: dict[str, Any] = {} if group else dict(attributes)
        if layout.spec.nodata is not None:
            own["nodata"] = nodata_text(layout.spec.nodata)
        array = _create_array(str(root / name if group else root), layout, own)
        made[name] = _output_array(path / name if group else path, layout, array, staging)
    path.parent.mkdir(parents=True, exist_ok=True)
    root.rename(path)
    folder.rmdir()
    return made


def open_output(
    path: Path, arrays: Mapping[str, ArrayLayout], *, group: bool, staging: Path
) -> dict[str, OutputArray]:
    """Return the arrays of an output that exists, to go on writing them.

    Parameters are those of `create_output`.

    Raises
    ------
    StorageError
        If an array is missing, or is not stored as `create_output` would store it.
    """
    if group:
        _metadata(path, "group")
    found = {}
    for name, layout in arrays.items():
        place = path / name if group else path
        stored = _metadata(place, "array")
        array = _create_array({}, layout, {})
        wanted = json.loads(json.dumps(array.metadata.to_dict()))
        for key, word in _METADATA.items():
            if stored.get(key) != wanted.get(key):
                held, new = (json.dumps(one.get(key)) for one in (stored, wanted))
                message = f"{place} has other {word}: {brief(held)}, not {brief(new)}"
                raise StorageError(message)
        found[name] = _output_array(place, layout, array, staging)
    return found


def _create_array(store: Any, layout: ArrayLayout, attributes: Mapping[str, Any]) -> Any:
    with pipeline():
        return zarr.create_array(
            store,
            shape=layout.spec.shape,
            dtype=layout.spec.dtype,
            chunks=layout.chunks,
            shards=layout.shards,
            compressors=layout.compressor,
            # A chunk of nothing but missing pixels needs no file.
            fill_value=0 if layout.spec.nodata is None else layout.spec.nodata,
            dimension_names=list(layout.spec.axes),
            attributes=dict(attributes),
            zarr_format=3,
        )


def _output_array(place: Path, layout: ArrayLayout, array: Any, staging: Path) -> OutputArray:
    image = ZarrImage(
        path=str(place),
        spec=layout.spec,
        chunks=layout.chunks,
        shards=layout.shards,
        compressor=layout.compressor,
        compressor_name=name_of_compressor(array),
        format_name="Zarr v3",
        zarr_format=3,
    )
    # By the array's path, whatever letters are in its name; without what a killed run left there.
    own = staging / hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(own)
    own.mkdir(parents=True)
    return OutputArray(image, own)


def _metadata(place: Path, kind: str) -> dict[str, Any]:
    """Return what stands in the ``zarr.json`` of an array or group."""
    try:
        held = json.loads((place / "zarr.json").read_bytes())
        if held["node_type"] == kind:
            return dict(held)
        what = f"is a Zarr {held['node_type']}"
    except (FileNotFoundError, NotADirectoryError):
        what = "is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"is damaged: {error}"
    message = f"{place} {what}, where the output has its {kind}"
    raise StorageError(message)


def write_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Set attributes of the store's root."""
    zarr.open(str(path), mode="r+").attrs.update(dict(attributes))

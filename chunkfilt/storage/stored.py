"""What all stored images have in common, whatever format holds them."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chunkfilt.errors import RunError, StorageError, nearest
from chunkfilt.grid import ImageSpec, Region, write_unit
from chunkfilt.words import brief

__all__ = ["StoredImage", "are_names", "is_failure", "machine_memory", "pick", "spec_of"]

SPATIAL_NAMES = ("z", "y", "x")
_LONGEST_REASON, _MOST_NAMES = 300, 20


@dataclass(frozen=True, kw_only=True)
class StoredImage(ABC):
    """One image of a store or file: what is known of it, and its pixels region by region.

    `within` names it among several in one file, where its path does not.  `chunks` are what is
    decoded at a time.  `record` is what the run that wrote it recorded; empty for images from
    elsewhere.  Travels between processes as its path; every process opens the file for itself.
    """

    # Packages beyond chunkfilt's own that decode it.
    packages: ClassVar[tuple[str, ...]] = ()

    path: str
    spec: ImageSpec
    chunks: tuple[int, ...]
    within: str | None = None
    shards: tuple[int, ...] | None = None
    compressor: Any = "auto"
    compressor_name: str = "none"
    format_name: str
    record: Mapping[str, Any] = field(default_factory=dict)
    missing: str = "fill"
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @property
    def unit(self) -> tuple[int, ...]:
        """Pixels of one file."""
        return write_unit(self.chunks, self.shards)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of a region inside the image; raises as `read_into` does."""
        pixels = np.empty(region.shape, self.spec.dtype)
        self.read_into(region, pixels)
        return pixels

    @abstractmethod
    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read a region into a C-contiguous array of the image's dtype.

        Raises
        ------
        RunError
            If a part cannot be read or decoded; never pixels in its place.
        """

    def fingerprint(self, *, times: bool = False) -> str:
        """Return a digest of what tells that the stored image is the same, without its pixels.

        Parameters
        ----------
        times : bool, default False
            Also when each file was last changed: pixels may change and the sizes stay.

        Raises
        ------
        StorageError
            If it is no longer there.
        """
        try:
            return self._fingerprint(times=times)
        except OSError as error:
            message = f"cannot read {self.path}: {error.strerror or error}"
            raise StorageError(message) from error

    @abstractmethod
    def _fingerprint(self, *, times: bool) -> str: ...

    def _unreadable(self, what: str, error: BaseException) -> RunError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return RunError(f"cannot read {what} of {self.path}: {brief(reason, _LONGEST_REASON)}")


def spec_of(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    stored_names: Sequence[Any],
    place: Path,
    axes: Sequence[str] | None,
    spatial: Sequence[str] | None,
) -> ImageSpec:
    """Return the shape, dtype and axes of what is stored as an image.

    Parameters
    ----------
    shape, dtype : sequence of int, dtype
        As stored.
    stored_names : sequence
        What may name the axes, best first; what is no list of names is passed over.
    place : path
        Where it is stored, for messages.
    axes, spatial : sequence of str, optional
        Names that were asked for.

    Raises
    ------
    StorageError
        If it is no image, or does not have the axes asked for.
    """
    ndim = len(shape)
    if axes is not None and not are_names(list(axes), ndim):
        message = f"{place} has {ndim} axes: axes must be {ndim} different names, got {list(axes)}"
        raise StorageError(message)
    listed = (None if axes is None else list(axes), *stored_names)
    named = next((names for names in listed if are_names(names, ndim)), None)
    if ndim == 0 or dtype.kind not in "biufc":
        message = (
            f"{place} is no image: it has {ndim} axes of dtype {dtype}, "
            "images have at least one axis and numbers as pixels"
        )
        raise StorageError(message)
    defaults = (*(f"d{i}" for i in range(ndim - 3)), *SPATIAL_NAMES[max(3 - ndim, 0) :])
    names = defaults if named is None else tuple(named)
    wanted = tuple(spatial) if spatial is not None else SPATIAL_NAMES
    unknown = [name for name in wanted if name not in names]
    if spatial is not None and unknown:
        message = (
            f"{place} has no axis {unknown[0]!r}{nearest(str(unknown[0]), names)}; "
            f"its axes are {', '.join(names)}"
        )
        raise StorageError(message)
    along = tuple(i for i, name in enumerate(names) if name in wanted)
    if not along or (named is None and spatial is None):
        along = tuple(range(ndim))
    return ImageSpec(tuple(shape), np.dtype(dtype), names, along)


def pick(
    place: Path,
    kind: str,
    names: Sequence[str],
    array: str | None,
    told: Mapping[str, str] | None = None,
) -> str:
    """Return which image of a place is meant; `told` has more to say of all there are.

    Those of `names` may be meant where none was named; `told` may have others beside.

    Raises
    ------
    StorageError
        If there is none of that name, or there are several and none was named.
    """
    more = told or {}
    if array is None and len(names) == 1:
        return names[0]
    if array is None:
        listed = _listed(names, more)
        message = f"{place} is a {kind}: name one of its arrays with array= ({listed})"
        raise StorageError(message)
    held = list(dict.fromkeys([*more, *names]))
    if array not in held:
        message = f"{place} has no array {brief(repr(array))}{nearest(array, held)}; it has "
        raise StorageError(message + _listed(held, more))
    return array


def _listed(names: Sequence[str], told: Mapping[str, str]) -> str:
    listed = ", ".join(f"{n} ({told[n]})" if n in told else n for n in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{listed or 'none'}{more}"


def are_names(names: Any, ndim: int) -> bool:
    """Return whether this is a list with a name of its own for every axis."""
    listed = isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)
    return listed and len(names) == len(set(names)) == ndim


def is_failure(error: BaseException) -> bool:
    """Return whether an exception is a failure: a panic of the codecs' library is one, too."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@functools.cache
def machine_memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

"""Is an output what its run has written, and are two images the same?  Out of core."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.errors import InputError, StorageError
from chunkfilt.grid import Blocks, Region
from chunkfilt.kernels.checksum import combine_checksums, format_checksum, image_checksum
from chunkfilt.runtime.executors import Failed, Threads
from chunkfilt.runtime.ledger import last_records, looked_at
from chunkfilt.runtime.machine import available_cores
from chunkfilt.runtime.tables import check_table
from chunkfilt.storage.images import named, open_images, root_record
from chunkfilt.storage.paths import local_path
from chunkfilt.storage.stored import StoredImage
from chunkfilt.storage.units import OutputArray
from chunkfilt.storage.zarr_output import run_folder
from chunkfilt.storage.zarr_store import ZarrImage

__all__ = ["Difference", "Verified", "compare", "verify"]

# Pixels that are compared at a time.
_PIXELS = 1 << 22
# What the ledger calls images that are kept between passes, in the run's folder.
_KEPT = re.compile(r"keep \d+-\d+")


@dataclass(frozen=True)
class Verified:
    """What was found of an output: the files looked at, and what is wrong, in words.

    `units` counts write units and tables.
    """

    path: Path
    units: int
    problems: tuple[str, ...]
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """How far two images of one shape are apart; equal where no pixel differs.

    NaN is equal to NaN; integers are compared with floats as float64. `largest` is the largest
    difference (infinite between NaN and a number), `first` the place of the first differing pixel
    of the first block that has one, `worst` that of the largest.
    """

    pixels: int
    different: int
    largest: float
    first: tuple[int, ...] | None
    worst: tuple[int, ...] | None

    def __str__(self) -> str:
        if not self.different:
            return f"equal, {self.pixels} pixels"
        part = f"{self.different} of {self.pixels} pixels differ"
        most = f"by {self.largest:g} at most, at {list(self.worst or ())}"
        return f"{part}, first at {list(self.first or ())}, {most}"

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as plain data, for JSON."""
        largest = self.largest if math.isfinite(self.largest) else "Infinity"
        return {**asdict(self), "equal": not self.different, "largest": largest}


def verify(path: str | os.PathLike[str]) -> Verified:
    """Look whether every write unit and table of an output is present and as it was recorded.

    Parameters
    ----------
    path : path
        An output of chunkfilt. Without its run's folder beside it the pixels are read and their
        checksum is compared with that in the attributes.

    Raises
    ------
    StorageError
        If it is no output of chunkfilt.
    """
    place = local_path(path)
    record, folder = root_record(place), run_folder(place)
    if not isinstance(record.get("versions"), dict):
        message = f"{place} was not written by chunkfilt: there is nothing to compare it with"
        raise StorageError(message)
    images = open_images(place)
    names = _written(record, folder) or list(images)
    gone = [f"{place / name} is missing" for name in names if name not in images]
    images = {name: images[name] for name in names if name in images}
    if not any(folder.glob("ledger-[0-9]*.jsonl")) and images:
        units, sums, problems = _by_pixels(images)
    else:
        stores = {
            name: OutputArray(image, folder / "staging")
            for name, image in images.items()
            if isinstance(image, ZarrImage)
        }
        units, sums, problems = _by_records(folder, stores)
    tables = named(record, "tables")
    hurt = ((name, check_table(place, name, held)) for name, held in tables.items())
    problems += [f"{place}/tables/{name}.csv {wrong}" for name, wrong in hurt if wrong is not None]
    return Verified(
        place,
        units + len(tables),
        (*_finished(record), *gone, *problems, *_other_sums(record, sums)),
        {name: format_checksum(total) for name, total in sums.items()},
    )


def compare(first: StoredImage, second: StoredImage) -> Difference:
    """Compare two stored images pixel by pixel, block by block.

    Raises
    ------
    InputError
        If their shapes differ.
    """
    a, b = first.spec, second.spec
    if a.shape != b.shape:
        message = f"shapes differ: {first.path} is {a.shape}, {second.path} is {b.shape}"
        raise InputError(message)
    blocks = _blocks(first)
    different, largest = 0, 0.0
    # The first differing pixel is that of the first block, in whatever order they end.
    ahead: tuple[int, tuple[int, ...] | None] = (len(blocks), None)
    worst: tuple[int, tuple[int, ...] | None] = (len(blocks), None)
    for index, (count, most, one, other) in _each(blocks, lambda box: _apart(first, second, box)):
        different += count
        if count and index < ahead[0]:
            ahead = index, _shifted(one, blocks[index])
        if count and (most, -index) > (largest, -worst[0]):
            largest, worst = most, (index, _shifted(other, blocks[index]))
    return Difference(a.size, different, largest, ahead[1], worst[1])


def _each(blocks: Blocks, task: Callable[[Region], Any]) -> Iterator[tuple[int, Any]]:
    """Yield what a task gives for each block, on all cores."""
    pool = Threads(available_cores())
    try:
        for index, found in pool.execute(lambda i: task(blocks[i]), iter(range(len(blocks)))):
            if isinstance(found, Failed):
                raise found.error
            yield index, found
    finally:
        pool.close()


def _apart(first: StoredImage, second: StoredImage, box: Region) -> tuple[int, float, Any, Any]:
    """Return how many pixels of a box differ, by how much at most, and where."""
    a, b = first.read(box), second.read(box)
    both = np.ones(a.shape, bool)
    unequal = a != b
    if "f" in a.dtype.kind + b.dtype.kind or "c" in a.dtype.kind + b.dtype.kind:
        both = ~(np.isnan(a) & np.isnan(b))
        unequal &= both
    count = int(np.count_nonzero(unequal))
    if not count:
        return 0, 0.0, None, None
    by = np.zeros(a.shape, np.float64)
    by[unequal] = _distance(a[unequal], b[unequal])
    by[unequal & np.isnan(by)] = np.inf
    one = np.unravel_index(int(np.argmax(unequal)), a.shape)
    worst = np.unravel_index(int(np.argmax(by)), a.shape)
    return count, float(by[worst]), one, worst


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``|a - b|`` as float64."""
    if a.dtype.kind in "biu" and b.dtype.kind in "biu":
        # Modulo 2^64; only an uint64 and a negative int64 can be farther apart than that.
        apart = a.astype("u8") - b.astype("u8")
        apart = np.where(a > b, apart, 0 - apart)
        rough = np.abs(a.astype("f8") - b.astype("f8"))
        beyond = (rough >= 2.0**64) & (apart < 2**63)
        return apart.astype("f8") + np.where(beyond, 2.0**64, 0)
    with np.errstate(all="ignore"):
        wide = np.result_type(a, b, np.float64)
        return np.abs(a.astype(wide) - b.astype(wide))


def _shifted(index: Any, box: Region) -> tuple[int, ...]:
    return tuple(int(i) + start for i, start in zip(index, box.start, strict=True))


def _blocks(image: StoredImage) -> Blocks:
    """Return blocks of whole chunks of about some million pixels."""
    block = [min(c, max(n, 1)) for c, n in zip(image.unit, image.spec.shape, strict=True)]
    for axis in reversed(range(len(block))):
        times = max(_PIXELS // max(math.prod(block), 1), 1)
        block[axis] *= min(times, -(-image.spec.shape[axis] // block[axis]) or 1)
    return Blocks(image.spec.shape, tuple(block))


def _written(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Return which images a run has written, or was writing when it was stopped."""
    if record.get("finished"):
        return list(named(record, "checksums"))
    units = next((units for _, _, units in last_records(folder)), {})
    return [name for name in units if not _KEPT.fullmatch(name)]


def _finished(record: Mapping[str, Any]) -> Iterator[str]:
    if not record.get("finished"):
        yield "the run was stopped before its end"


def _other_sums(record: Mapping[str, Any], sums: Mapping[str, int]) -> Iterator[str]:
    """Yield which images have another checksum than the attributes say."""
    told = named(record, "checksums")
    for name, total in sums.items():
        found = format_checksum(total)
        if record.get("finished") and told.get(name) != found:
            yield f"{name or 'the image'}: its checksum is {found}, {told.get(name)} was written"


def _by_records(
    folder: Path, stores: Mapping[str, OutputArray]
) -> tuple[int, dict[str, int], list[str]]:
    """Look at the files; return how many units there are, checksums, and what is wrong."""
    seen = {name: bytearray(len(one.units)) for name, one in stores.items()}
    sums, found = dict.fromkeys(stores, 0), []
    records = (
        (line, index, {name: units[name] for name in stores if name in units})
        for line, index, units in last_records(folder)
    )
    for (_, _, units), wrong in looked_at(records, stores):
        for name, held in units.items():
            # Each unit counts once, and none that there cannot be.
            own = [one for one in held if seen[name][one.index : one.index + 1] == b"\0"]
            for unit in own:
                seen[name][unit.index] = 1
            sums[name] = combine_checksums(sums[name], *(unit.checksum for unit in own))
            here = (one for one in wrong if one[0] == name and one[1] in own)
            found += [(name, unit.index, what) for _, unit, what in here]
    # In the order of the files, whatever order their blocks ended in.
    problems = [f"{stores[name].name_of(index)} {what}" for name, index, what in sorted(found)]
    for name, marks in seen.items():
        missing = marks.count(0)
        if missing:
            first = stores[name].name_of(marks.index(0))
            more = f" and {missing - 1} more" if missing > 1 else ""
            problems.append(f"{first}{more}: no record that it was written")
    return sum(map(len, seen.values())), sums, problems


def _by_pixels(images: Mapping[str, StoredImage]) -> tuple[int, dict[str, int], list[str]]:
    """Read the pixels of an output whose records are gone; return what `_by_records` does."""
    sums, units = {}, 0
    for name, image in images.items():

        def total(box: Region, image: StoredImage = image) -> int:
            return image_checksum(image.read(box), box.start, image.spec.shape)

        sums[name] = combine_checksums(*(found for _, found in _each(_blocks(image), total)))
        units += len(Blocks(image.spec.shape, image.unit))
    return units, sums, []

"""The ledger: which blocks are done, and what every write unit of theirs holds.

One file of JSON lines for each pass, beside the output, written by the coordinating process alone.
A record is appended when a block is safely stored; what is done is what stands here, not what files
there are. What a pass has found of whole-image values stands in a file of arrays.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np

from chunkfilt.engine.costing import Pass
from chunkfilt.errors import RunError
from chunkfilt.grid import Region
from chunkfilt.kernels.checksum import combine_checksums
from chunkfilt.storage.units import Unit
from chunkfilt.storage.zarr_store import ZarrImage

__all__ = ["PassLedger", "last_records", "looked_at"]

Units = Mapping[str, Sequence[Unit]]
# A line as it stands, its block, and the units of each image.
Record = tuple[str, int, Units]
# Image, unit, and what is wrong with its file.
Problem = tuple[str, Unit, str]
# Records whose files are looked at together, and how often values are written down: seconds, and
# how many times longer than the writing takes.
_AT_ONCE, _EVERY, _RARELY = 256, 0.5, 20.0
# Every record ends with the CRC-32C of what stands before it.
_SUM = ', "crc": "'


class Checked(Protocol):
    """A stored image whose units can be looked at."""

    @property
    def image(self) -> ZarrImage:
        """What is stored."""
        ...

    def unit_numbers(self, region: Region) -> list[int]:
        """Return the numbers of a region's write units."""
        ...

    def check(self, unit: Unit) -> str | None:
        """Return what is wrong with a unit's file, or None."""
        ...


def looked_at(
    records: Iterator[Record], stores: Mapping[str, Checked]
) -> Iterator[tuple[Record, list[Problem]]]:
    """Yield records with what is wrong with their files, which are read on all cores."""

    def problems(record: Record) -> list[Problem]:
        found = []
        for name, held in record[2].items():
            checked = ((name, unit, stores[name].check(unit)) for unit in held)
            found += [(name, unit, wrong) for name, unit, wrong in checked if wrong is not None]
        return found

    known = (record for record in records if record[2].keys() == stores.keys())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for together in _batches(known, _AT_ONCE):
            yield from zip(together, pool.map(problems, together), strict=True)


def last_records(folder: Path) -> Iterator[Record]:
    """Yield the records of the last pass of a run, whatever it was."""
    files = {int(one.stem.partition("-")[2]): one for one in folder.glob("ledger-[0-9]*.jsonl")}
    if files:
        yield from _records(files[max(files)])


class PassLedger:
    """What is recorded of one pass in a run's folder; what its files no longer bear out is dropped.

    Attributes
    ----------
    done : bytearray
        1 for each block that was done when the records were opened.
    sums : dict
        The checksum of each image, over those.
    state : dict or None
        What is recorded of values; its `upcoming` is the first block that is not in it.
    """

    def __init__(
        self, folder: Path, number: int, step: Pass, stores: Mapping[str, Checked]
    ) -> None:
        self._file = folder / f"ledger-{number}.jsonl"
        self._values = folder / f"values-{number}.npz"
        self._head = {
            "pass": number,
            "computes": list(step.names),
            "shape": list(step.grid.shape),
            "block": list(step.grid.block),
        }
        self._stores, self._grid, self._count = stores, step.grid, len(step.grid)
        self._out: Any = None
        self._written, self._took = time.monotonic(), 0.0
        self.done = bytearray(self._count)
        self.sums = dict.fromkeys(stores, 0)
        self.state = self._load_values(len(step.values)) if step.values else None
        if not stores:
            self.done[: self.upcoming] = b"\1" * self.upcoming
            return
        within = self.upcoming if step.values else self._count
        temporary = self._file.with_name(self._file.name + ".partial")
        # Only what is borne out is kept: a file that was cut short ends within a line.
        with temporary.open("w", encoding="utf-8") as out:
            print(json.dumps(self._head), file=out)
            for line, index, units in self._borne_out():
                if index < within and not self.done[index]:
                    self.done[index] = 1
                    for name, held in units.items():
                        own = [unit.checksum for unit in held]
                        self.sums[name] = combine_checksums(self.sums[name], *own)
                    out.write(line)
        temporary.replace(self._file)

    @property
    def upcoming(self) -> int:
        """The first block whose part is not in the recorded values."""
        return 0 if self.state is None else int(self.state["upcoming"])

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return 0 not in self.done

    def record(self, index: int, units: Units) -> None:
        """Write down that a block is stored."""
        if not self._stores:
            return
        if self._out is None:
            self._out = self._file.open("a", encoding="utf-8")
        texts = {name: [unit.text() for unit in held] for name, held in units.items()}
        text = json.dumps({"block": index, "units": texts})
        self._out.write(f'{text[:-1]}{_SUM}{_sum(text)}"}}\n')
        self._out.flush()

    def save_values(self, state: Callable[[], dict[str, Any]], now: bool = False) -> None:
        """Write down what is found of values so far, unless that was done a moment ago."""
        since = time.monotonic()
        if not now and since - self._written < max(_EVERY, _RARELY * self._took):
            return
        arrays: list[np.ndarray] = []
        try:
            held = _encode({"head": self._head, **state()}, arrays)
        except TypeError:
            return  # A user's own kind of partial: its pass begins anew.
        text = np.frombuffer(json.dumps(held).encode(), np.uint8)
        temporary = self._values.with_name(self._values.name + ".partial")
        with temporary.open("wb") as out:
            np.savez(out, text, *arrays, allow_pickle=False)
        temporary.replace(self._values)
        self._written = time.monotonic()
        self._took = self._written - since

    def close(self) -> None:
        """Put the records on the disk."""
        if self._out is not None:
            os.fsync(self._out.fileno())
            self._out.close()
            self._out = None

    def _borne_out(self) -> Iterator[Record]:
        """Yield the records whose files are as they were written."""
        held = (one for one in _records(self._file, self._head) if self._whole(one))
        yield from (record for record, wrong in looked_at(held, self._stores) if not wrong)

    def _whole(self, record: Record) -> bool:
        """Return whether a record names all units of its block, and no others."""
        _, index, units = record
        if not 0 <= index < self._count or units.keys() != self._stores.keys():
            return False
        for name, store in self._stores.items():
            region = store.image.spec.from_grid(self._grid[index])
            if sorted(unit.index for unit in units[name]) != sorted(store.unit_numbers(region)):
                return False
        return True

    def _load_values(self, count: int) -> dict[str, Any] | None:
        """Return what is recorded of so many values; None where that cannot be gone on with."""
        try:
            with self._values.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = [stored[f"arr_{i}"] for i in range(len(stored.files))]
            state = _decode(json.loads(arrays[0].tobytes()), arrays[1:])
            rows = [rows for table in state["tables"] for rows, _ in table]
            whole = len(state["tables"]) == count and all(isinstance(one, list) for one in rows)
            whole &= state["head"] == self._head and 0 <= state["upcoming"] <= self._count
        except Exception:  # Whatever is wrong with the file: the values are found anew.
            return None
        return state if whole else None


def _records(file: Path, head: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """Yield the whole records of a file, which must be those of a certain pass."""
    try:
        lines = file.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with lines:
        first = _parsed(next(lines, ""))
        if head is not None and first != head:
            return
        for line in lines:
            found = _parsed(line) if _is_whole(line) else None
            try:
                index, texts = int(found["block"]), found["units"]  # type: ignore[index]
                units = {n: [Unit.parse(one) for one in held] for n, held in texts.items()}
            except (TypeError, KeyError, ValueError, AttributeError):
                continue
            yield line, index, units


def _is_whole(line: str) -> bool:
    """Return whether a record stands as it was written down, to the last letter."""
    text, mark, rest = line.rpartition(_SUM)
    return bool(mark) and rest == f'{_sum(text + "}")}"}}\n'


def _sum(text: str) -> str:
    return f"{google_crc32c.value(text.encode()):08x}"


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    held: list[Any] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a table, or plain data with tables in it, as JSON; its arrays go into a list.

    Raises
    ------
    TypeError
        If it holds anything but numbers, texts, arrays, tuples, lists and dicts: what is only
        like one of these would come back as something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_encode(one, arrays) for one in value]
    if kind is dict and all(type(key) is str for key in value):
        return {"map": {key: _encode(one, arrays) for key, one in value.items()}}
    if kind is tuple or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        named = None if kind is tuple else f"{kind.__module__}:{kind.__qualname__}"
        return {"tuple": [_encode(one, arrays) for one in value], "type": named}
    if kind is not np.ndarray and not isinstance(value, np.generic):
        raise TypeError(kind.__name__)
    array = np.asarray(value)
    if array.dtype == object:
        parts = [_encode(one, arrays) for one in array.ravel()]
        return {"objects": parts, "shape": list(array.shape)}
    if array.dtype.hasobject:
        raise TypeError(str(array.dtype))
    arrays.append(array)
    return {"array" if kind is np.ndarray else "scalar": len(arrays) - 1}


def _decode(held: Any, arrays: Sequence[np.ndarray]) -> Any:
    if isinstance(held, list):
        return [_decode(one, arrays) for one in held]
    if not isinstance(held, dict):
        return held
    if "map" in held:
        return {key: _decode(one, arrays) for key, one in held["map"].items()}
    if "tuple" in held:
        parts = [_decode(one, arrays) for one in held["tuple"]]
        return tuple(parts) if held["type"] is None else _named(held["type"])(*parts)
    if "objects" in held:
        out = np.empty(len(held["objects"]), dtype=object)
        out[:] = [_decode(one, arrays) for one in held["objects"]]
        return out.reshape(held["shape"])
    return arrays[held["scalar"]][()] if "scalar" in held else arrays[held["array"]]


def _named(name: str) -> Callable[..., Any]:
    """Return a named tuple's class; nothing is imported for the sake of a file."""
    module, _, word = name.partition(":")
    found = getattr(sys.modules.get(module), word, None)
    if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields"):
        return found
    message = f"no named tuple {name!r} is loaded"
    raise RunError(message)

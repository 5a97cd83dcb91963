"""Whole-image values as plain documents (attributes, JSON) and as CSV tables."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from chunkfilt.engine.graph import ImageNode, Value
from chunkfilt.engine.values import lay_rows

__all__ = ["check_table", "has_sums", "recorded_values", "value_document"]

# Letters of a value that still goes into the attributes; bytes that are read at a time.
_SMALL_JSON, _PIECE = 1 << 16, 1 << 18


def value_document(value: Any) -> Any:
    """Return a value as JSON has it: named tuples as mappings, arrays as lists, NaN as null."""
    if hasattr(value, "_asdict"):
        return {name: value_document(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: value_document(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [value_document(part) for part in value]
    if isinstance(value, np.ndarray):
        return value_document(value.tolist())
    if isinstance(value, np.generic):
        return value_document(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def recorded_values(
    outputs: Mapping[str, ImageNode | Value],
    found: Mapping[Value, Any],
    place: Path | None = None,
    staging: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Return values as they are recorded: the small ones themselves, and the sums of tables.

    Parameters
    ----------
    outputs : mapping
        Nodes by name; images are passed over.
    found : mapping
        The values' tables.
    place, staging : Path, optional
        The output, beside whose arrays tables are stored, and a folder of this session's alone on
        the same file system. Without them nothing is stored.
    """
    small: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for name, node in outputs.items():
        if isinstance(node, Value):
            written = value_document(lay_rows(found[node], node.table_shape))
            if len(json.dumps(written)) <= _SMALL_JSON:
                small[name] = written
            elif place is None or staging is None:
                tables[name] = _write(_Summed(None), name, found[node])
            else:
                tables[name] = _store(place, staging, name, found[node])
    return {word: held for word, held in (("values", small), ("tables", tables)) if held}


def has_sums(record: Any) -> bool:
    """Return whether a table's record says what it holds; that of older runs names its file."""
    return isinstance(record, Mapping) and {"bytes", "crc32c"} <= record.keys()


def check_table(place: Path, name: str, record: Any) -> str | None:
    """Return what is wrong with a stored table, or None; `record` is its own."""
    if not has_sums(record):
        return f"has no sums on record: `chunkfilt verify {place} --repair` adds them"
    try:
        with (place / _file(name)).open("rb") as stream:
            held = _Summed(None)
            while piece := stream.read(_PIECE):
                held.take(piece)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if held.size != record["bytes"]:
        return f"is {held.size} bytes instead of {record['bytes']}"
    return None if held.sums(name) == record else "is not what was written"


class _Summed:
    """Takes bytes, counts and sums them, and hands them on where there is a file."""

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream, self.size, self._crc = stream, 0, 0

    def take(self, piece: bytes) -> None:
        """Take some bytes."""
        self.size += len(piece)
        self._crc = google_crc32c.extend(self._crc, piece)
        if self._stream is not None:
            self._stream.write(piece)

    def write(self, text: str) -> None:
        """Take a row, as `csv.writer` gives it."""
        self.take(text.encode())

    def sums(self, name: str) -> dict[str, Any]:
        """Return what is recorded of a table that consists of what was taken."""
        return {"file": _file(name), "bytes": self.size, "crc32c": f"{self._crc:08x}"}


def _file(name: str) -> str:
    return f"tables/{name}.csv"


def _store(place: Path, staging: Path, name: str, table: Any) -> dict[str, Any]:
    """Write a table aside and rename it into its place: it appears whole, or not at all."""
    for folder in (staging, place / "tables"):
        folder.mkdir(parents=True, exist_ok=True)
    temporary = staging / "table.csv"
    with temporary.open("wb") as stream:
        sums = _write(_Summed(stream), name, table)
    temporary.replace(place / _file(name))
    return sums


def _write(out: _Summed, name: str, table: Any) -> dict[str, Any]:
    """Write a value's table as CSV; return its sums.

    For every row of the table (batch index, in C order) its arrays' entries one below the other,
    in C order; shorter columns end early. The column ``row`` is left out where there is one row.
    A number is written with the fewest digits that give it back.
    """
    parts = table._asdict() if hasattr(table, "_asdict") else {name: table}
    rows = len(next(iter(parts.values())))
    writer = csv.writer(out)
    writer.writerow([*(["row"] if rows > 1 else []), *parts])
    for row in range(rows):
        columns = [np.ravel(np.asarray(part[row])).tolist() for part in parts.values()]
        for entries in itertools.zip_longest(*columns, fillvalue=""):
            writer.writerow([*([row] if rows > 1 else []), *entries])
    return out.sums(name)

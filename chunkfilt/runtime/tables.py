"""Whole-image values as plain documents (attributes, JSON) and as CSV tables."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["value_document", "write_table"]


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


def write_table(place: Path, name: str, table: Any) -> str:
    """Write a value's table as ``tables/NAME.csv``; return the path within `place`.

    For every row of the table (batch index, in C order) its arrays' entries one below the other,
    in C order; shorter columns end early. The column ``row`` is left out where there is one row.
    """
    parts = table._asdict() if hasattr(table, "_asdict") else {name: table}
    rows = len(next(iter(parts.values())))
    folder = place / "tables"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(["row"] if rows > 1 else []), *parts])
        for row in range(rows):
            columns = [np.ravel(np.asarray(part[row])).tolist() for part in parts.values()]
            for entries in itertools.zip_longest(*columns, fillvalue=""):
                writer.writerow([*([row] if rows > 1 else []), *entries])
    return f"tables/{name}.csv"

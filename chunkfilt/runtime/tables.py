"""Whole-image values as plain documents (attributes, JSON) and as CSV tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["value_document", "write_table"]


def value_document(value: Any) -> Any:
    """Return a value as JSON has it: named tuples as mappings, arrays as lists, NaN as null."""
    if hasattr(value, "_asdict"):
        return {name: value_document(part) for name, part in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [value_document(part) for part in value]
    if isinstance(value, np.ndarray):
        return value_document(value.tolist())
    if isinstance(value, np.generic):
        return value_document(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def write_table(place: Path, name: str, value: Any) -> str:
    """Write a value's arrays as columns of ``tables/NAME.csv``; return the path within `place`.

    Rows are the arrays' entries in C order; shorter columns end early.
    """
    parts = value._asdict() if hasattr(value, "_asdict") else {name: value}
    columns = {key: np.asarray(part).ravel() for key, part in parts.items()}
    folder = place / "tables"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        longest = max(len(column) for column in columns.values())
        for row in range(longest):
            writer.writerow(
                [column[row].item() if row < len(column) else "" for column in columns.values()]
            )
    return f"tables/{name}.csv"

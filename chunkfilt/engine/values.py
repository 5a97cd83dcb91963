"""Tables of whole-image values: arrays, or (named) tuples of arrays, one row per batch index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunkfilt.grid import Runs

__all__ = [
    "combine_rows",
    "join_rows",
    "lay_rows",
    "map_table",
    "row_count",
    "row_numbers",
    "take_rows",
]


def map_table(function: Callable[..., Any], *tables: Any) -> Any:
    """Apply a function to the arrays of tables of the same make."""
    first = tables[0]
    if isinstance(first, tuple):
        parts = [map_table(function, *together) for together in zip(*tables, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return function(*tables)


def take_rows(table: Any, rows: np.ndarray) -> Any:
    """Return the given rows of a table."""
    return map_table(lambda array: np.asarray(array)[rows], table)


def join_rows(tables: Sequence[Any]) -> Any:
    """Return tables one below the other."""
    return map_table(lambda *arrays: np.concatenate(arrays), *tables)


def lay_rows(table: Any, shape: Sequence[int]) -> Any:
    """Return a table with its rows laid out along the batch axes; one row alone as it is."""

    def lay(array: np.ndarray) -> Any:
        laid = np.asarray(array).reshape((*shape, *np.shape(array)[1:]))
        return laid if shape else laid[()]

    return map_table(lay, table)


def row_count(table: Any) -> int:
    """Return the number of rows of a table."""
    while isinstance(table, tuple):
        table = table[0]
    return len(table)


def combine_rows(table: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Return the rows of a partial combined into one, in order."""
    rows = [take_rows(table, np.array([i])) for i in range(row_count(table))]
    combined = rows[0]
    for row in rows[1:]:
        combined = combine(combined, row)
    return combined


def row_numbers(runs: Sequence[Runs], batch_shape: Sequence[int]) -> np.ndarray:
    """Return the flat batch indices that runs of the batch axes stand for.

    >>> row_numbers([((1, 3),), ((0, 1),)], (4, 2))
    array([2, 4])
    """
    if not batch_shape:
        return np.zeros(1, dtype=np.intp)
    axes = [np.concatenate([np.arange(a, b) for a, b in along] or [np.arange(0)]) for along in runs]
    flat = np.ravel_multi_index(np.ix_(*axes), tuple(batch_shape))
    return np.asarray(flat, dtype=np.intp).ravel()

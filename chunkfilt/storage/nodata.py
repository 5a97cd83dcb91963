"""The value of missing pixels, as arrays have it among their attributes."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.errors import StorageError
from chunkfilt.words import shown

__all__ = ["nodata_of", "nodata_text"]

_NUMBERS = ("nan", "infinity", "-infinity")


def nodata_text(value: float) -> float | str:
    """Return a nodata value as it stands in JSON, which has no NaN and no infinities."""
    return value if math.isfinite(value) else str(float(value)).replace("inf", "Infinity")


def nodata_of(stored: Any, dtype: np.dtype[Any], place: Path, given: float | None) -> float | None:
    """Return the value of missing pixels, as given or, where it can be one, as stored.

    Raises
    ------
    StorageError
        If no pixel can have the value given.
    """
    if given is None:
        words = isinstance(stored, str) and stored.lower() in _NUMBERS
        return _as_pixel(float(stored) if words else stored, dtype)
    found = _as_pixel(given.item() if isinstance(given, np.generic) else given, dtype)
    if found is None:
        can = f"pixels of {place} can have ({dtype})"
        message = f"nodata must be a value that {can}, got {shown(given)}"
        raise StorageError(message)
    return found


def _as_pixel(value: Any, dtype: np.dtype[Any]) -> float | None:
    """Return a number as a pixel can have it; None for others, and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    with contextlib.suppress(OverflowError, ValueError):  # beyond all floats, or no integer
        if dtype.kind == "f":
            return float(value)
        whole = int(value)
        if whole == value and dtype.kind in "iu":
            return whole if np.iinfo(dtype).min <= whole <= np.iinfo(dtype).max else None
    return None

"""The value of missing pixels, as arrays have it among their attributes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.errors import StorageError

__all__ = ["nodata_of", "nodata_text"]

_NUMBERS = ("nan", "infinity", "-infinity")


def nodata_text(value: float) -> float | str:
    """Return a nodata value as it stands in JSON, which has no NaN and no infinities."""
    return value if math.isfinite(value) else str(float(value)).replace("inf", "Infinity")


def nodata_of(stored: Any, dtype: np.dtype[Any], place: Path, given: float | None) -> float | None:
    """Return the value of missing pixels, as given or, where it can be one, as stored."""
    held: Any = stored if given is None else given
    if isinstance(held, str) and given is None and held.lower() in _NUMBERS:
        held = float(held)
    if held is None or isinstance(held, bool) or not isinstance(held, (int, float)):
        return None
    if dtype.kind == "f":
        return float(held)
    whole = math.isfinite(held) and held == int(held) and dtype.kind in "iu"
    if whole and np.iinfo(dtype).min <= int(held) <= np.iinfo(dtype).max:
        return int(held)
    if given is None:
        return None
    message = f"nodata must be a value that pixels of {place} can have ({dtype}), got {given!r}"
    raise StorageError(message)

"""What the filters with a window share: its shape, its halo, and the cheaper of two ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.grid import Halo, window_halo

__all__ = [
    "runs_of",
    "settle_cells",
    "settle_window",
    "listed_reach",
    "window_cells",
    "window_cost",
    "window_reach",
    "window_shape",
]

_DEFAULT_SIZE = 3
_MOST_CELLS = 1 << 24


def window_shape(p: SimpleNamespace) -> tuple[int, ...]:
    """Return the window per spatial axis: the footprint's shape, the size, or 3."""
    if p.footprint is not None:
        return tuple(p.footprint.shape)
    return (_DEFAULT_SIZE,) * p.ndim if p.size is None else tuple(p.size)


def window_reach(p: SimpleNamespace) -> Halo:
    """Return the halo of a window with its origin, after checking that the two go together."""
    if p.footprint is not None and p.size is not None:
        message = "takes size or footprint, got both: leave one out"
        raise ValueError(message)
    shape = window_shape(p)
    for n, origin in zip(shape, p.origin, strict=True):
        if not -(n // 2) <= origin <= (n - 1) // 2:
            message = (
                f"origin must be within {-(n // 2)} and {(n - 1) // 2} for a window of {n} "
                f"pixels, got {origin}"
            )
            raise ValueError(message)
    return window_halo(shape, p.origin)


def listed_reach(p: SimpleNamespace) -> Halo:
    """Return the halo of a window whose pixels are listed one by one, after checking them."""
    shape = window_shape(p)
    if math.prod(shape) > _MOST_CELLS:
        message = f"a window of {' x '.join(map(str, shape))} pixels has more than 2**24"
        raise ValueError(message)
    return window_reach(p)


def window_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: a box costs the same at any size, a footprint its pixels."""
    cells = prepared["cells"]
    return 1.5 if cells is None else 1.5 + 0.03 * int(cells.sum())


def settle_window(p: SimpleNamespace) -> dict[str, Any]:
    """Settle size or footprint once; a footprint without holes is a box, which is faster."""
    full = p.footprint is None or bool(p.footprint.all())
    return {"window": window_shape(p), "cells": None if full else p.footprint}


def window_cells(p: SimpleNamespace) -> np.ndarray | tuple[int, ...]:
    """Return the pixels of the window that count, or the size of a box, which has no holes."""
    full = p.footprint is None or p.footprint.all()
    return window_shape(p) if full else p.footprint


def settle_cells(p: SimpleNamespace) -> dict[str, Any]:
    """Settle once what `window_cells` returns."""
    return {"cells": window_cells(p)}


def runs_of(cells: np.ndarray) -> int:
    """Return the number of runs of pixels along the rows of a footprint."""
    return int(cells[..., 0].sum()) + int((cells[..., 1:] & ~cells[..., :-1]).sum())

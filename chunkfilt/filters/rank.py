"""Pixels by their rank in a window: median, percentile, rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import Footprint, Origin, WindowSize
from chunkfilt.filters.window import listed_reach, runs_of, settle_cells, window_cells
from chunkfilt.kernels.extremes import Window
from chunkfilt.kernels.rank import (
    median_rank,
    percentile_rank,
    rank_filter,
    rank_memory,
    signed_rank,
)
from chunkfilt.kernels.valid import valid_memory, valid_rank

__all__ = ["median", "percentile", "rank"]

Percentile = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Rank = Annotated[int, Field(ge=-(1 << 40), le=1 << 40)]

_STRAIGHT = 49  # pixels of the largest box whose network is compiled for itself


def _whole(cells: Window) -> np.ndarray:
    return np.ones(cells, bool) if isinstance(cells, tuple) else cells


def _rank_of(p: SimpleNamespace) -> Callable[[Any], Any]:
    """Return the rule that gives the rank to take among n pixels."""
    if hasattr(p, "percentile"):
        return lambda n: percentile_rank(n, p.percentile)
    return (lambda n: signed_rank(n, p.rank)) if hasattr(p, "rank") else median_rank


def _rank_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of a network's rows or of a tile's sets, and of the sets of valid pixels."""
    cells = _whole(window_cells(p))
    rank = _rank_of(p)(int(cells.sum()))
    plain = rank_memory(core[1:], cells, rank, dtype)
    return cells.size + plain + valid_memory(core, cells, dtype.itemsize, ranks=True)


def _rank_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per float32: networks grow with the window, sets with its rows."""
    cells = prepared["cells"]
    if isinstance(cells, tuple):
        n, rows = math.prod(cells), math.prod(cells[:-1])
    else:
        n, rows = int(cells.sum()), runs_of(cells)
    if isinstance(cells, tuple) and n <= _STRAIGHT:
        return 0.045 * n
    return min(0.05 * n**1.3, 16 if rows == 1 else 39 + 0.45 * rows + n / 170)


def _check_rank(p: SimpleNamespace, dtypes: Sequence[np.dtype]) -> None:
    cells = window_cells(p)
    n = math.prod(cells) if isinstance(cells, tuple) else int(cells.sum())
    if not -n <= p.rank < n:
        message = f"rank must be within {-n} and {n - 1} for a window of {n} pixels, got {p.rank}"
        raise ValueError(message)


def _select(
    block: np.ndarray,
    cells: Window,
    rank_of: Callable[[Any], Any],
    valid: np.ndarray | None,
    missing: Any,
) -> np.ndarray:
    """Take a rank among the pixels of the window, or among those of them that count."""
    footprint = _whole(cells)
    n = int(footprint.sum())
    if valid is None:
        return rank_filter(block, footprint, rank_of(n))
    return valid_rank(block, footprint, rank_of(np.arange(n + 1)), valid, missing)


@image_filter(
    halo=listed_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_rank_memory,
    cost=_rank_cost,
    selection=True,
    omits=True,
)
def median(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Take the median of the pixels in a window.

    The pixel of rank ``n//2`` (from 0) among the n pixels of the window, as
    ``scipy.ndimage.median_filter`` takes it; a NaN in the window gives NaN. Where pixels are left
    out, n is the number of those that count.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.median(np.array([5, 3, 6, 9]), size=3)
    array([5, 5, 6, 9])
    """
    return _select(block, cells, median_rank, valid, missing)


@image_filter(
    halo=listed_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_rank_memory,
    cost=_rank_cost,
    selection=True,
    omits=True,
)
def percentile(
    block: np.ndarray,
    *,
    percentile: Percentile,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Take a percentile of the pixels in a window.

    The pixel of rank ``int(n * percentile / 100)`` (from 0) among the n pixels of the window, the
    last for 100, as ``scipy.ndimage.percentile_filter`` takes it, without interpolation; a NaN in
    the window gives NaN. Where pixels are left out, n is the number of those that count.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    percentile : float
        In per cent, 0 to 100; a negative one, from -100, counts from the top: -20 is 80.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.percentile(np.array([5, 3, 6, 9]), percentile=70, size=3)
    array([5, 6, 9, 9])
    """
    return _select(block, cells, lambda n: percentile_rank(n, percentile), valid, missing)


@image_filter(
    halo=listed_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_rank_memory,
    cost=_rank_cost,
    check=_check_rank,
    selection=True,
    omits=True,
)
def rank(
    block: np.ndarray,
    *,
    rank: Rank,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Take the pixel of a given rank in a window.

    The pixel that comes after `rank` others when those of the window are sorted, as
    ``scipy.ndimage.rank_filter`` takes it; a NaN in the window gives NaN. Where pixels are left
    out, the rank is among those that count, and where there are too few, the last or first.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    rank : int
        From 0, below the number n of pixels in the window; a negative one, from ``-n``, counts
        from the top: -1 is the largest pixel.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.rank(np.array([5, 3, 6, 9]), rank=1, size=3)
    array([5, 5, 6, 9])
    """
    return _select(block, cells, lambda n: signed_rank(n, rank), valid, missing)

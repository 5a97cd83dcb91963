"""Extremes of the pixels in a window: minimum, maximum, range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import Footprint, Origin, WindowSize
from chunkfilt.filters.window import runs_of, settle_cells, window_cells, window_reach
from chunkfilt.kernels.extremes import extreme_filter, extreme_memory, range_filter
from chunkfilt.kernels.valid import valid_extreme, valid_memory, valid_range

__all__ = ["maximum", "minimum", "range"]


def _extreme_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of the ring of rows, and of a band where pixels are left out."""
    plain = extreme_memory(core[1:], window_cells(p), dtype.itemsize)
    return plain + valid_memory(core, window_cells(p), dtype.itemsize, ranks=False)


def _range_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return what an extreme takes, and the other of the two."""
    return _extreme_memory(p, core, dtype) + math.prod(core) * dtype.itemsize


def _extreme_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: a box costs the same at any size, a footprint its runs."""
    cells = prepared["cells"]
    return 0.6 if isinstance(cells, tuple) else 0.5 + 0.05 * runs_of(cells)


@image_filter(
    halo=window_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_extreme_memory,
    cost=_extreme_cost,
    selection=True,
    omits=True,
)
def minimum(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Take the smallest pixel in a window.

    Reference: ``scipy.ndimage.minimum_filter``; a NaN in the window gives NaN.

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
    >>> cf.minimum(np.array([5, 3, 6, 9]), size=3)
    array([3, 3, 3, 6])
    """
    if valid is not None:
        return valid_extreme(block, cells, False, valid, missing)
    return extreme_filter(block, cells, False)


@image_filter(
    halo=window_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_extreme_memory,
    cost=_extreme_cost,
    selection=True,
    omits=True,
)
def maximum(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Take the largest pixel in a window.

    Reference: ``scipy.ndimage.maximum_filter``; a NaN in the window gives NaN.

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
    >>> cf.maximum(np.array([5, 3, 6, 9]), size=3)
    array([5, 6, 9, 9])
    """
    if valid is not None:
        return valid_extreme(block, cells, True, valid, missing)
    return extreme_filter(block, cells, True)


@image_filter(
    halo=window_reach,
    dtype=same,
    prepare=settle_cells,
    memory=_range_memory,
    cost=_extreme_cost,
    selection=True,
    omits=True,
)
def range(  # noqa: A001 - the field's name for it
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    cells,
    valid,
    missing,
) -> np.ndarray:
    """Compute the range of the pixels in a window: the largest less the smallest.

    ``maximum - minimum``; where a signed integer cannot hold it, the largest of its dtype; bool
    gives xor. A NaN in the window gives NaN.

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
    >>> cf.range(np.array([5, 3, 6, 9]), size=3)
    array([2, 3, 6, 3])
    """
    if valid is not None:
        return valid_range(block, cells, valid, missing)
    return range_filter(block, cells)

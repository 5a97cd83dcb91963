"""Sums, means, variances and weighted means of the pixels of a window that count.

Where all pixels of a window count, the result is that of the kernels for whole windows, to the
same bits. Hence these take over where nothing is missing: a block is worked through in tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chunkfilt.kernels import _rows, box, taps
from chunkfilt.kernels._common import core_shape, real_dtype
from chunkfilt.kernels._runs import run_one
from chunkfilt.kernels._runs_valid import run_two_valid
from chunkfilt.kernels._spread_valid import run_spread_valid
from chunkfilt.kernels._sums_valid import MEAN, SCALED, STD, SUM, VARIANCE, Wanted, run_valid
from chunkfilt.kernels._tiles import in_tiles, seen_by, tile_sides
from chunkfilt.kernels.separable import separable

__all__ = [
    "measure_memory",
    "smooth_memory",
    "valid_mean",
    "valid_separable",
    "valid_sum",
    "valid_variance",
]

_TILE = 1 << 18  # pixels of a tile
_LARGE = 1 << 20  # the same where no images of sums are made
_SMOOTH = 1 << 19  # the same for weighted means: their loops take longer to set up
_ROW, _LONG = 1024, 4096  # pixels of a tile's rows, and of those of a large one
_ROWS = 3_000_000  # bytes of rows in the making, roughly


def valid_sum(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    cells: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Sum the valid pixels of each window.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    size : tuple of int
        The window's length along each spatial axis.
    cells : ndarray of bool, optional
        The pixels of the window that belong to it; default all.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`. Integers: the exact sum as float64; floats: summed in float64,
        result dtype float32 for float16 and float32, else float64. NaN where no pixel is valid.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> valid_sum(np.array([[1, 2, 3, 4]]), np.array([[True, False, False, True]]), (2,))
    array([[ 1., nan,  4.]])
    """
    dtype = real_dtype(block.dtype) if block.dtype.kind == "f" else np.dtype(np.float64)

    def whole(part: NDArray[Any]) -> NDArray[Any]:
        return box.box_sum(part, size) if cells is None else taps.footprint_sum(part, cells)

    def partly(part: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
        work = _rows.sum_dtypes(part.dtype, math.prod(size))
        if cells is None and len(work) == 1:
            return run_valid(part, kept, size, (work[0], dtype), Wanted(SUM))
        total, count = _total(part, kept, size, cells), _count(kept, size, cells)
        return np.where(count > 0, total, np.nan)

    sides = _sides(core_shape(block, size), size, block.dtype, cells is None)
    return in_tiles(block, valid, size, dtype, sides, whole, partly)


def valid_mean(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    cells: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Average the valid pixels of each window: their sum, divided once by their number.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    size : tuple of int
        The window's length along each spatial axis.
    cells : ndarray of bool, optional
        The pixels of the window that belong to it; default all.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64; the
        sum is exact for integers and in float64 for floats. NaN where no pixel is valid.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> valid_mean(np.array([[1, 2, 3, 4]]), np.array([[True, False, True, True]]), (3,))
    array([[2. , 3.5]])
    """
    dtype, every = real_dtype(block.dtype), math.prod(size)

    def whole(part: NDArray[Any]) -> NDArray[Any]:
        return box.box_mean(part, size) if cells is None else taps.footprint_mean(part, cells)

    def partly(part: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
        work = _rows.sum_dtypes(part.dtype, every)
        if cells is None and len(work) == 1:
            # As whole windows do it. Quotients of integers are then the same as products.
            scaled = part.dtype.kind == "f" and dtype == np.float32
            wanted = Wanted(SCALED if scaled and _rows.may_scale(dtype, every) else MEAN)
            return run_valid(part, kept, size, (work[0], dtype), wanted)
        return _divided(_total(part, kept, size, cells), _count(kept, size, cells))

    sides = _sides(core_shape(block, size), size, block.dtype, cells is None)
    return in_tiles(block, valid, size, dtype, sides, whole, partly)


def valid_variance(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    cells: NDArray[np.bool_] | None = None,
    ddof: int = 0,
    sqrt: bool = False,
) -> NDArray[Any]:
    """Compute the variance of the valid pixels of each window: `sum((x - mean)**2) / (n - ddof)`.

    Exact integer sums, or merged means and squared deviations, as in `box.box_variance`.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    size : tuple of int
        The window's length along each spatial axis.
    cells : ndarray of bool, optional
        The pixels of the window that belong to it; default all.
    ddof : int
        Subtracted from the number of valid pixels; NaN where nothing is left.
    sqrt : bool
        Give the standard deviation.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64. NaN
        where a valid pixel of the window is NaN or infinite.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> valid_variance(np.array([[1, 2, 3, 9]]), np.array([[True, True, True, False]]), (3,))
    array([[0.66666667, 0.25      ]])
    """
    dtype = real_dtype(block.dtype)
    every = math.prod(size) if cells is None else int(cells.sum())
    kind, *work = _rows.variance_dtypes(block.dtype, every)

    def whole(part: NDArray[Any]) -> NDArray[Any]:
        if cells is None:
            return box.box_variance(part, size, ddof, sqrt)
        return taps.footprint_variance(part, cells, ddof, sqrt)

    def partly(part: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
        if cells is None and kind == _rows.SQUARES:
            wanted = Wanted(STD if sqrt else VARIANCE, ddof)
            return run_valid(part, kept, size, (*work, dtype), wanted)
        if cells is None:
            return run_spread_valid(part, kept, size, dtype, ddof, sqrt)
        if kind == _rows.SQUARES:
            return _exact_variance(part, kept, cells, ddof, sqrt)
        return run_two_valid(part, kept, cells, dtype, ddof, sqrt)

    sides = _sides(core_shape(block, size), size, block.dtype, cells is None)
    return in_tiles(block, valid, size, dtype, sides, whole, partly)


def valid_separable(
    block: NDArray[Any], valid: NDArray[np.bool_], term: Sequence[ArrayLike]
) -> NDArray[Any]:
    """Average the valid pixels with weights: `sum(w * x) / sum(w) * (sum of all weights)`.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    term : sequence of array_like
        One 1-D weight array per spatial axis, none negative; the kernel is their outer product.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64. NaN
        where no pixel with a weight above 2.2e-16 is valid.

    Raises
    ------
    ValueError
        If the weights do not fit the block.

    Examples
    --------
    >>> block, valid = np.array([[4.0, 8.0, np.nan]]), np.array([[True, True, False]])
    >>> valid_separable(block, valid, ([0.25, 0.5, 0.25],)).round(3)
    array([[6.667]])
    """
    size, dtype = tuple(len(np.asarray(weights)) for weights in term), real_dtype(block.dtype)
    # What the weights of a whole window come to, summed as they are everywhere: a quotient of
    # exactly 1 where nothing is missing.
    every = separable(np.ones((1, *size), np.bool_), (term,), np.float64).item()

    def whole(part: NDArray[Any]) -> NDArray[Any]:
        return separable(part, (term,))

    def partly(part: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
        total = separable(_filled(part, kept), (term,), np.float64)
        weight = separable(kept, (term,), np.float64)
        weight /= every
        return _divided(total, weight)

    sides = tile_sides(core_shape(block, size), size, _SMOOTH, _ROW)
    return in_tiles(block, valid, size, dtype, sides, whole, partly)


def measure_memory(
    core: tuple[int, ...], size: tuple[int, ...], dtype: np.dtype[Any], box: bool
) -> int:
    """Return the bytes that sums, means and variances take at most, beside block and result.

    Parameters
    ----------
    core : tuple of int
        Shape of the result, `(batch, *core)`.
    size : tuple of int
        The window's length along each spatial axis.
    dtype : dtype
        Of the block.
    box : bool
        All pixels of the window belong to it.

    Returns
    -------
    int
        Bytes of what is computed for a tile, and of rows in the making.

    Examples
    --------
    >>> measure_memory((1, 9, 9), (3, 3), np.dtype("uint8"), True)
    3000890
    """
    sides = _sides(core, size, dtype, box)
    seen = seen_by(sides, size)
    if not _at_once(dtype, box):
        return _ROWS + 64 * seen
    return _ROWS + 8 * math.prod(sides) + (dtype.itemsize + 1) * seen


def smooth_memory(core: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Return the bytes that weighted means take at most, beside block and result.

    Parameters
    ----------
    core : tuple of int
        Shape of the result, `(batch, *core)`.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    int
        Bytes of what is computed for a tile, and of rows in the making.

    Examples
    --------
    >>> smooth_memory((1, 9, 9), (3, 3))
    3002904
    """
    return _ROWS + 24 * seen_by(tile_sides(core, size, _SMOOTH, _ROW), size)


def _at_once(dtype: np.dtype[Any], box: bool) -> bool:
    """Whether a result is computed in one go, without an image of sums."""
    return box and len(_rows.sum_dtypes(dtype, 1)) == 1


def _sides(
    core: tuple[int, ...], size: tuple[int, ...], dtype: np.dtype[Any], box: bool
) -> tuple[int, ...]:
    once = _at_once(dtype, box)
    return tile_sides(core, size, _LARGE if once else _TILE, _LONG if once else _ROW)


def _filled(block: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Return a block with 0 in place of what does not count."""
    # Floats by their bits, times 0 or 1: NaN times 0 is NaN, and choosing takes far longer.
    kind = block.dtype.str.replace("f", "i")
    filled = np.empty(block.shape, block.dtype)
    np.multiply(block.view(kind), valid, out=filled.view(kind), casting="same_kind")
    return filled


def _total(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    cells: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    """Sum the pixels that count, in float64 or exactly."""
    filled = _filled(block, valid)
    if cells is None:
        return box.box_sum(filled, size)
    work = _rows.sum_dtypes(block.dtype, int(cells.sum()))
    if len(work) > 1:
        return taps.footprint_sum(filled, cells)
    return run_one(filled, cells, (work[0], np.float64), 1.0)


def _count(
    valid: NDArray[np.bool_], size: tuple[int, ...], cells: NDArray[np.bool_] | None
) -> NDArray[Any]:
    return box.box_sum(valid, size) if cells is None else taps.footprint_sum(valid, cells)


def _divided(total: NDArray[Any], count: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        return np.divide(total, count, out=total)


def _exact_variance(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    cells: NDArray[np.bool_],
    ddof: int,
    sqrt: bool,
) -> NDArray[Any]:
    """Return variances under a footprint from exact sums, which variance_dtypes says fit."""
    filled = _filled(block, valid).astype(np.int32)
    # Squares of 16-bit integers as unsigned ones: 65535**2 is too large for int32.
    squares = (filled * filled).view(np.uint32)
    sums = [taps.footprint_sum(one, cells).astype(np.int64) for one in (filled, squares, valid)]
    one, two, count = sums
    left = count * np.maximum(count - ddof, 0)
    variance = _divided((count * two - one * one).astype(np.float64), left)
    return np.sqrt(variance, out=variance) if sqrt else variance

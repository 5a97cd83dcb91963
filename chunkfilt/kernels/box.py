"""Sums, means, variances and extremes over boxes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._boxes import run_halves
from chunkfilt.kernels._common import core_shape, real_dtype
from chunkfilt.kernels._peaks import run_peak
from chunkfilt.kernels._spread import run_spread
from chunkfilt.kernels._squares import run_squares
from chunkfilt.kernels._sums import run_sum

__all__ = ["box_max", "box_mean", "box_min", "box_sum", "box_variance"]


def _sum(block: NDArray[Any], size: tuple[int, ...], divisor: int, result: Any) -> NDArray[Any]:
    work = _rows.sum_dtypes(block.dtype, math.prod(size))
    if len(work) == 1:
        return run_sum(block, size, (work[0], result), divisor)
    return run_halves(block, size, result, float(divisor))


def box_sum(block: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Sum the pixels of each window.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`. Integers: the exact sum as float64; floats: summed in float64,
        result dtype float32 for float16 and float32, else float64.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> box_sum(np.array([[1, 2, 3, 4]]), (3,))
    array([[6., 9.]])
    """
    real = block.dtype.kind == "f"
    return _sum(block, size, 1, real_dtype(block.dtype) if real else np.float64)


def box_mean(block: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Average the pixels of each window: `sum / n`, rounded once for integers.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64; the
        sum is exact for integers and in float64 for floats.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> box_mean(np.array([[1, 2, 3, 4]]), (3,))
    array([[2., 3.]])
    """
    return _sum(block, size, math.prod(size), real_dtype(block.dtype))


def box_variance(
    block: NDArray[Any], size: tuple[int, ...], ddof: int = 0, sqrt: bool = False
) -> NDArray[Any]:
    """Compute the variance of each window: `sum((x - mean)**2) / (n - ddof)`.

    Integers up to 16 bits give `(n * S2 - S1**2) / (n * (n - ddof))` of exact integer sums, where
    these fit 64 bits (windows to 215 x 215 at 16 bits). All else merges means and squared
    deviations of ever larger parts in float64, which is never negative and does not cancel.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.
    ddof : int
        Subtracted from the count; NaN where nothing is left.
    sqrt : bool
        Give the standard deviation.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64. NaN
        where the window holds a NaN or an infinity.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> box_variance(np.array([[1, 2, 3, 5]], np.uint8), (3,))
    array([[0.6666667, 1.5555556]], dtype=float32)
    """
    result, n = real_dtype(block.dtype), math.prod(size)
    if n - ddof <= 0:
        return np.full(core_shape(block, size), np.nan, result)
    kind, work, work2 = _rows.variance_dtypes(block.dtype, n)
    if kind == _rows.SQUARES:
        return run_squares(block, size, (work, work2, result), float(n * (n - ddof)), sqrt)
    return run_spread(block, size, result, float(n - ddof), sqrt)


def box_max(block: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Take the largest pixel of each window.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype. NaN where the window holds a NaN.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> box_max(np.array([[1, 3, 2, 0]]), (2,))
    array([[3, 3, 2]])
    """
    return run_peak(block, size, False).astype(block.dtype, copy=False)


def box_min(block: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Take the smallest pixel of each window.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype. NaN where the window holds a NaN.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> box_min(np.array([[1, 3, 2, 0]]), (2,))
    array([[1, 2, 0]])
    """
    return run_peak(block, size, True).astype(block.dtype, copy=False)

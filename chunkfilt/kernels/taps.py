"""Footprints of any shape, and dense kernels: sums, variances, correlation."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from chunkfilt.kernels import _rows, _sweep
from chunkfilt.kernels._common import core_shape, real_dtype
from chunkfilt.kernels._runs import run_one, run_two

__all__ = [
    "correlate",
    "footprint_mean",
    "footprint_sum",
    "footprint_variance",
]


def _checked(footprint: NDArray[Any]) -> NDArray[np.bool_]:
    cells = np.ascontiguousarray(footprint, dtype=np.bool_)
    if not cells.any():
        raise ValueError("a footprint without a single pixel")
    return cells


def _sum(
    block: NDArray[Any], cells: NDArray[np.bool_], divisor: float, result: Any
) -> NDArray[Any]:
    work = _rows.sum_dtypes(block.dtype, int(cells.sum()))
    if len(work) == 1:
        return run_one(block, cells, (work[0], result), divisor)
    return run_two(block, cells, (work[0], work[1], result), _rows.HALVES, divisor)


def footprint_sum(block: NDArray[Any], footprint: NDArray[Any]) -> NDArray[Any]:
    """Sum the pixels under a footprint.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    footprint : ndarray of bool
        One to three spatial axes, as the block.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`. Integers: the exact sum as float64; floats: summed in float64,
        result dtype float32 for float16 and float32, else float64.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> footprint_sum(np.array([[1, 2, 3, 4]]), np.array([1, 0, 1]))
    array([[4., 6.]])
    """
    real = block.dtype.kind == "f"
    return _sum(block, _checked(footprint), 1.0, real_dtype(block.dtype) if real else np.float64)


def footprint_mean(block: NDArray[Any], footprint: NDArray[Any]) -> NDArray[Any]:
    """Average the pixels under a footprint: `sum / n`, divided once.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    footprint : ndarray of bool
        One to three spatial axes, as the block.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64; the
        sum is exact for integers and in float64 for floats.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> footprint_mean(np.array([[1, 2, 3, 4]]), np.array([1, 0, 1]))
    array([[2., 3.]])
    """
    cells = _checked(footprint)
    return _sum(block, cells, float(cells.sum()), real_dtype(block.dtype))


def footprint_variance(
    block: NDArray[Any], footprint: NDArray[Any], ddof: int = 0, sqrt: bool = False
) -> NDArray[Any]:
    """Compute the variance under a footprint: `sum((x - mean)**2) / (n - ddof)`.

    Exact integers and merged deviations as in `box.box_variance`.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    footprint : ndarray of bool
        One to three spatial axes, as the block.
    ddof : int
        Subtracted from the count; NaN where nothing is left.
    sqrt : bool
        Give the standard deviation.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64. NaN
        where the footprint holds a NaN or an infinity.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> footprint_variance(np.array([[1.0, 2.0, 3.0, 6.0]]), np.array([1, 0, 1]))
    array([[1., 4.]])
    """
    cells, result = _checked(footprint), real_dtype(block.dtype)
    n = int(cells.sum())
    if n - ddof <= 0:
        return np.full(core_shape(block, cells.shape), np.nan, result)
    kind, work, work2 = _rows.variance_dtypes(block.dtype, n)
    divisor = n - ddof if kind == _rows.MOMENTS else n * (n - ddof)
    return run_two(block, cells, (work, work2, result), kind, float(divisor), sqrt)


def correlate(
    block: NDArray[Any], weights: ArrayLike, out_dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Correlate with dense weights: `sum over j of weights[j] * block[p + j]`, not flipped.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    weights : array_like
        One to three spatial axes, as the block. Those up to 2.2e-16 in size are skipped, with any
        NaN under them.
    out_dtype : dtype, optional
        Of the result; float32 for inputs up to 16 bits and float32, else float64.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`; summed in float64 in raster order, cast once.

    Raises
    ------
    ValueError
        If the weights do not fit the block.

    Examples
    --------
    >>> correlate(np.array([[1.0, 2.0, 4.0]]), [1.0, -1.0])
    array([[-1., -2.]])
    """
    kernel = np.asarray(weights, np.float64)
    dtype = np.dtype(out_dtype) if out_dtype is not None else real_dtype(block.dtype)
    return _sweep.run(block, kernel.shape, [_sweep.Plan((), kernel)], dtype)

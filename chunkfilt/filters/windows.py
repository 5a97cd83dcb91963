"""Statistics in a window: mean, sum, variance, std, minimum, maximum, median."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, real_like, same
from chunkfilt.filters.params import Ddof, Footprint, Origin, WindowSize
from chunkfilt.grid import Halo, window_halo
from chunkfilt.kernels import box, rank, taps

__all__ = ["maximum", "mean", "median", "minimum", "std", "sum", "variance"]

_DEFAULT_SIZE = 3


def window_shape(p: SimpleNamespace) -> tuple[int, ...]:
    """Return the window per spatial axis: the footprint's shape, the size, or 3."""
    if p.footprint is not None:
        return tuple(p.footprint.shape)
    return (_DEFAULT_SIZE,) * p.ndim if p.size is None else tuple(p.size)


def _halo(p: SimpleNamespace) -> Halo:
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


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: a box costs the same at any size, a footprint its pixels."""
    mask = prepared["mask"]
    return 1.5 if mask is None else 1.5 + 0.03 * int(mask.sum())


def _window(p: SimpleNamespace) -> dict[str, Any]:
    """Settle size or footprint once; a footprint without holes is a box, which is faster."""
    full = p.footprint is None or bool(p.footprint.all())
    return {"window": window_shape(p), "mask": None if full else p.footprint}


def _sum_dtype(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return real_like(p, dtypes) if dtypes[0].kind == "f" else np.dtype(np.float64)


@image_filter(halo=_halo, prepare=_window, cost=_cost, version=2)
def mean(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    mask,
) -> np.ndarray:
    """Compute the mean of the pixels in a window.

    ``sum(x) / n`` over the n pixels of the window, the sum exact for integers and in float64
    for floats. Reference: the window sum of ``scipy.ndimage`` on float64, divided once.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``; a positive one looks
        further back.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.mean(np.array([0, 3, 6, 9], dtype="uint8"), size=3)
    array([1., 3., 6., 8.], dtype=float32)
    """
    if mask is None:
        return box.box_mean(block, window)
    return taps.footprint_mean(block, mask)


@image_filter(halo=_halo, prepare=_window, dtype=_sum_dtype, cost=_cost, version=2)
def sum(  # noqa: A001 - the field's name for it
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    mask,
) -> np.ndarray:
    """Compute the sum of the pixels in a window.

    Exact for integers; float64 for floats. Reference: ``scipy.ndimage.convolve`` with ones, on
    float64.

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
        Same shape; float64 for bool and integers; float32 for float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.sum(np.array([1, 2, 3, 4]), size=3)
    array([ 4.,  6.,  9., 11.])
    """
    if mask is None:
        return box.box_sum(block, window)
    return taps.footprint_sum(block, mask)


@image_filter(halo=_halo, prepare=_window, cost=_cost, version=2)
def variance(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    ddof: Ddof = 0,
    origin: Origin = 0,
    window,
    mask,
) -> np.ndarray:
    """Compute the variance of the pixels in a window.

    ``sum((x - mean)**2) / (n - ddof)``: for integers up to 16 bit from exact integer sums, for
    others by merging means and squared deviations, so that it is never negative and a large
    offset costs no digits. Reference: the same in float64, in two passes.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    ddof : int, default 0
        Delta degrees of freedom, ``>= 0``; with no pixel more than `ddof` the result is NaN.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape, in squared units of the image; float32 for bool, 8- and 16-bit integers,
        float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.variance(np.array([0, 3, 6, 9], dtype="uint8"), size=3)
    array([2., 6., 6., 2.], dtype=float32)
    """
    if mask is None:
        return box.box_variance(block, window, ddof)
    return taps.footprint_variance(block, mask, ddof)


@image_filter(halo=_halo, prepare=_window, cost=_cost, version=2)
def std(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    ddof: Ddof = 0,
    origin: Origin = 0,
    window,
    mask,
) -> np.ndarray:
    """Compute the standard deviation of the pixels in a window.

    The square root of `variance`, taken in float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    ddof : int, default 0
        Delta degrees of freedom, ``>= 0``; with no pixel more than `ddof` the result is NaN.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape, in units of the image; float32 for bool, 8- and 16-bit integers, float16 and
        float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.std(np.array([1, 1, 5, 5], dtype="uint8"), size=2)
    array([0., 0., 2., 0.], dtype=float32)
    """
    if mask is None:
        return box.box_variance(block, window, ddof, sqrt=True)
    return taps.footprint_variance(block, mask, ddof, sqrt=True)


@image_filter(halo=_halo, prepare=_window, dtype=same, selection=True, cost=_cost)
def minimum(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    mask,
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
    return box.box_min(block, window) if mask is None else taps.footprint_min(block, mask)


@image_filter(halo=_halo, prepare=_window, dtype=same, selection=True, cost=_cost)
def maximum(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    mask,
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
    return box.box_max(block, window) if mask is None else taps.footprint_max(block, mask)


def _median_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: networks grow with the window, the sliding way does not."""
    mask = prepared["mask"]
    n = math.prod(prepared["window"]) if mask is None else int(mask.sum())
    return min(1.0 + 0.05 * n**1.3, 70.0)


@image_filter(halo=_halo, prepare=_window, dtype=same, selection=True, cost=_median_cost)
def median(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    mask,
) -> np.ndarray:
    """Take the median of the pixels in a window.

    The pixel of rank ``n//2`` (from 0) among the n pixels of the window, as
    ``scipy.ndimage.median_filter`` takes it; a NaN in the window gives NaN.

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
    footprint = np.ones(window, dtype=bool) if mask is None else mask
    return rank.rank_filter(block, footprint, rank.median_rank(int(footprint.sum())))

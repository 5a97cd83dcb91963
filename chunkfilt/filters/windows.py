"""Measures of a window: mean, sum, variance, std."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, real_like
from chunkfilt.filters.params import Ddof, Footprint, Origin, WindowSize
from chunkfilt.filters.window import settle_window, window_cost, window_reach, window_shape
from chunkfilt.kernels import box, taps, valid_sums

__all__ = ["mean", "std", "sum", "variance"]


def _sum_dtype(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return real_like(p, dtypes) if dtypes[0].kind == "f" else np.dtype(np.float64)


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: more where pixels may be left out, as measured."""
    return window_cost(p, prepared) * (2.5 if p.nan_policy == "omit" else 1.0)


def _memory(p: SimpleNamespace, core_shape: tuple[int, ...], dtype: np.dtype) -> int:
    return valid_sums.measure_memory(core_shape, window_shape(p), dtype, p.footprint is None)


@image_filter(
    halo=window_reach,
    prepare=settle_window,
    cost=_cost,
    memory=_memory,
    omits=True,
    version=2,
)
def mean(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    cells,
    valid,
) -> np.ndarray:
    """Compute the mean of the pixels in a window.

    ``sum(x) / n`` over the n pixels of the window that count, the sum exact for integers and in
    float64 for floats. Reference: the window sum of ``scipy.ndimage`` on float64, divided once.

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
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64. NaN
        where no pixel of the window counts.

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
    if valid is not None:
        return valid_sums.valid_mean(block, valid, window, cells)
    if cells is None:
        return box.box_mean(block, window)
    return taps.footprint_mean(block, cells)


@image_filter(
    halo=window_reach,
    prepare=settle_window,
    dtype=_sum_dtype,
    cost=_cost,
    memory=_memory,
    omits=True,
    version=2,
)
def sum(  # noqa: A001 - the field's name for it
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    window,
    cells,
    valid,
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
        NaN where no pixel of the window counts.

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
    if valid is not None:
        return valid_sums.valid_sum(block, valid, window, cells)
    if cells is None:
        return box.box_sum(block, window)
    return taps.footprint_sum(block, cells)


@image_filter(
    halo=window_reach,
    prepare=settle_window,
    cost=_cost,
    memory=_memory,
    omits=True,
    version=2,
)
def variance(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    ddof: Ddof = 0,
    origin: Origin = 0,
    window,
    cells,
    valid,
) -> np.ndarray:
    """Compute the variance of the pixels in a window.

    ``sum((x - mean)**2) / (n - ddof)`` over the n pixels that count: for integers up to 16 bit
    from exact integer sums, for others by merging means and squared deviations, so that it is
    never negative and a large offset costs no digits. Reference: the same in float64, in two
    passes.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    ddof : int, default 0
        Delta degrees of freedom, ``>= 0``; where no more than `ddof` pixels count, NaN.
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
    if valid is not None:
        return valid_sums.valid_variance(block, valid, window, cells, ddof)
    if cells is None:
        return box.box_variance(block, window, ddof)
    return taps.footprint_variance(block, cells, ddof)


@image_filter(
    halo=window_reach,
    prepare=settle_window,
    cost=_cost,
    memory=_memory,
    omits=True,
    version=2,
)
def std(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    ddof: Ddof = 0,
    origin: Origin = 0,
    window,
    cells,
    valid,
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
        Delta degrees of freedom, ``>= 0``; where no more than `ddof` pixels count, NaN.
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
    if valid is not None:
        return valid_sums.valid_variance(block, valid, window, cells, ddof, sqrt=True)
    if cells is None:
        return box.box_variance(block, window, ddof, sqrt=True)
    return taps.footprint_variance(block, cells, ddof, sqrt=True)

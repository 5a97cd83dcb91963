"""Slopes and bends from neighbouring pixels: edges, Laplacian, gradient, Hessian."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.params import PerAxis
from chunkfilt.grid import Halo
from chunkfilt.kernels import differences, separable, stepwise

__all__ = ["gradient", "hessian", "laplace", "prewitt", "scharr", "sobel"]

_SLOPE = np.array([-1.0, 0.0, 1.0])
_SCHARR = np.array([3.0, 10.0, 3.0]) / 16
Spacing = Annotated[float, Field(gt=0, allow_inf_nan=False), PerAxis()]


def _near(p: SimpleNamespace) -> Halo:
    return ((1, 1),) * p.ndim


def _axis(p: SimpleNamespace) -> int:
    if not -p.ndim <= p.axis < p.ndim:
        message = (
            f"axis must be {-p.ndim} to {p.ndim - 1}, counted among the image's {p.ndim} spatial "
            f"ax{'e' if p.ndim > 1 else 'i'}s, got {p.axis}"
        )
        raise ValueError(message)
    return int(p.axis) % p.ndim


def _slope_halo(p: SimpleNamespace) -> Halo:
    if p.axis is not None:
        _axis(p)
    return _near(p)


def _dense(passes: stepwise.Passes) -> separable.Plan:
    """Return the plan of passes over so few pixels that each is weighted by itself."""
    lines = [weights for _, weights in sorted(passes, key=lambda one: one[0])]
    return separable.Plan((), np.asarray(functools.reduce(np.multiply.outer, lines)))


def fringe_of(
    p: SimpleNamespace, steps: tuple[tuple[stepwise.Passes, ...], ...]
) -> stepwise.Fringe | None:
    """Return the passes where their number shows: scipy's take a constant edge one by one."""
    seen = p.mode == "constant" and p.cval != 0 and bool(np.isfinite(p.cval))
    return stepwise.Fringe(p.cval, steps) if seen else None


def fringe_memory(p: SimpleNamespace, core: tuple[int, ...]) -> int:
    """Return the bytes that adding the passes' edges takes."""
    return 32 * int(np.prod(core)) if p.mode == "constant" and p.cval else 0


def _one_slope(p: SimpleNamespace, smooth: np.ndarray) -> dict[str, Any]:
    axis = _axis(p)
    others = [(other, smooth) for other in range(p.ndim) if other != axis]
    passes = ((axis, _SLOPE), *others)
    return {"plans": [_dense(passes)], "fringe": fringe_of(p, ((passes,),))}


def _sobel(p: SimpleNamespace) -> dict[str, Any]:
    return _one_slope(p, np.array([1.0, 2.0, 1.0]))


def _prewitt(p: SimpleNamespace) -> dict[str, Any]:
    return _one_slope(p, np.ones(3))


def _scharr(p: SimpleNamespace) -> dict[str, Any]:
    axes = range(p.ndim) if p.axis is None else [_axis(p)]
    scale = 1.0 / np.sqrt(len(axes))
    return {
        "plans": [
            _dense(tuple((a, _SLOPE * scale if a == axis else _SCHARR) for a in range(p.ndim)))
            for axis in axes
        ]
    }


def _laplace(p: SimpleNamespace) -> dict[str, Any]:
    cross = np.zeros((3,) * p.ndim)
    for axis in range(p.ndim):
        ends: list[Any] = [1] * p.ndim
        ends[axis] = [0, 2]
        cross[tuple(ends)] = 1.0
    cross[(1,) * p.ndim] = -2.0 * p.ndim
    return {"plans": [separable.Plan((), cross)]}


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel, as measured."""
    weights = [np.count_nonzero(plan.dense) for plan in prepared["plans"]]
    cost: float = 0.4 + 0.045 * sum(weights) + 0.4 * (len(weights) > 1)
    return cost if prepared.get("fringe") is None else cost + 3.0


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return fringe_memory(p, core)


@image_filter(halo=_slope_halo, prepare=_sobel, memory=_memory, cost=_cost)
def sobel(block: np.ndarray, *, axis: int = -1, plans, fringe, origin_px, shape_px) -> np.ndarray:
    """Find edges across an axis with the Sobel weights.

    Weights ``-1, 0, 1`` along the axis, ``1, 2, 1`` along all others, unscaled, with the sign of
    the slope. Reference: ``scipy.ndimage.sobel`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    axis : int, default -1
        The axis whose slope is taken, counted among the spatial axes.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If there is no such axis.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.sobel(np.array([[0, 0, 5, 5.0]] * 3))
    array([[ 0., 20., 20.,  0.],
           [ 0., 20., 20.,  0.],
           [ 0., 20., 20.,  0.]])
    """
    return stepwise.correlate(block, plans, fringe, origin_px, shape_px)


@image_filter(halo=_slope_halo, prepare=_prewitt, memory=_memory, cost=_cost)
def prewitt(block: np.ndarray, *, axis: int = -1, plans, fringe, origin_px, shape_px) -> np.ndarray:
    """Find edges across an axis with the Prewitt weights.

    Weights ``-1, 0, 1`` along the axis, ``1, 1, 1`` along all others, unscaled, with the sign of
    the slope. Reference: ``scipy.ndimage.prewitt`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    axis : int, default -1
        The axis whose slope is taken, counted among the spatial axes.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If there is no such axis.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.prewitt(np.array([[0, 0, 5, 5.0]] * 2))
    array([[ 0., 15., 15.,  0.],
           [ 0., 15., 15.,  0.]])
    """
    return stepwise.correlate(block, plans, fringe, origin_px, shape_px)


@image_filter(halo=_slope_halo, prepare=_scharr, cost=_cost)
def scharr(block: np.ndarray, *, axis: int | None = None, plans) -> np.ndarray:
    """Find edges with the Scharr weights: how steep they are, or the slope along an axis.

    Weights ``-1, 0, 1`` along the axis, ``3, 10, 3`` over 16 along all others; for all axes the
    root of the mean of the squares. Reference: ``skimage.filters.scharr`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    axis : int, optional
        The axis whose slope is taken, with its sign, counted among the spatial axes; default the
        magnitude over all of them.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If there is no such axis.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.scharr(np.array([[0, 0, 5, 5.0]] * 2), axis=1)
    array([[0., 5., 5., 0.],
           [0., 5., 5., 0.]])
    """
    return separable.magnitude(block, plans)


@image_filter(halo=_near, prepare=_laplace, cost=_cost)
def laplace(block: np.ndarray, *, plans) -> np.ndarray:
    """Sum the second differences along all axes.

    ``x[p - 1] - 2 x[p] + x[p + 1]`` for each axis. Reference: ``scipy.ndimage.laplace`` on
    float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If the parameters do not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.laplace(np.array([0, 0, 1, 0, 0.0]))
    array([ 0.,  1., -2.,  1.,  0.])
    """
    return separable.magnitude(block, plans)


def _need_two(p: SimpleNamespace, dtypes: Sequence[np.dtype]) -> None:
    if 1 in p.shape_px:
        message = (
            f"takes the difference of neighbours, so every spatial axis needs 2 pixels, got "
            f"{' x '.join(map(str, p.shape_px))}: leave the axis of 1 pixel out with axes="
        )
        raise ValueError(message)


def _far(p: SimpleNamespace) -> Halo:
    return ((2, 2),) * p.ndim


def _no_edge(p: SimpleNamespace) -> tuple[str, float]:
    # What lies beyond the edge is never looked at.
    return "nearest", 0.0


def _slopes(p: SimpleNamespace) -> tuple[tuple[str, int], ...]:
    return (("component", p.ndim),)


def _pairs(p: SimpleNamespace) -> tuple[tuple[str, int], ...]:
    return (("component", len(list(itertools.combinations_with_replacement(range(p.ndim), 2)))),)


def _cost_of_slopes(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    return 0.2 + 0.5 * p.ndim


def _cost_of_pairs(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    return 0.2 + 0.3 * p.ndim * (p.ndim + 1)


@image_filter(halo=_near, leading=_slopes, check=_need_two, edge=_no_edge, cost=_cost_of_slopes)
def gradient(block: np.ndarray, *, spacing: Spacing = 1.0, origin_px, shape_px) -> np.ndarray:
    """Compute the slope along every axis.

    ``(x[p + 1] - x[p - 1]) / (2 spacing)``; at the image's edge the difference with the one
    neighbour, over the spacing. Reference: ``numpy.gradient`` (``edge_order=1``) on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, at least two pixels along each spatial axis.
    spacing : float or sequence of float, default 1.0
        Distance between pixels, ``> 0``, for all spatial axes or for each.

    Returns
    -------
    image
        An axis ``component`` in front of the spatial axes, with one slope for each of them, in
        order; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a spacing is out of range, or an axis has one pixel only.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.gradient(np.array([0.0, 1.0, 4.0, 9.0]))
    array([[1., 2., 4., 5.]])
    """
    steps: Any = spacing
    return differences.gradient(block, steps, origin_px, shape_px)


@image_filter(halo=_far, leading=_pairs, check=_need_two, edge=_no_edge, cost=_cost_of_pairs)
def hessian(block: np.ndarray, *, spacing: Spacing = 1.0, origin_px, shape_px) -> np.ndarray:
    """Compute the slopes of the slopes, for every pair of axes.

    The `gradient` of each component of the `gradient`, one-sided at the image's edge. Reference:
    ``numpy.gradient`` of ``numpy.gradient`` (``edge_order=1``) on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, at least two pixels along each spatial axis.
    spacing : float or sequence of float, default 1.0
        Distance between pixels, ``> 0``, for all spatial axes or for each.

    Returns
    -------
    image
        An axis ``component`` in front of the spatial axes, with the upper triangle of the matrix
        row by row: yy, yx, xx for axes y and x; float32 for bool, 8- and 16-bit integers, float16
        and float32, else float64.

    Raises
    ------
    ParameterError
        If a spacing is out of range, or an axis has one pixel only.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.hessian(np.array([0.0, 1.0, 4.0, 9.0, 16.0, 25.0]))
    array([[1. , 1.5, 2. , 2. , 1.5, 1. ]])
    """
    steps: Any = spacing
    return differences.hessian(block, steps, origin_px, shape_px)

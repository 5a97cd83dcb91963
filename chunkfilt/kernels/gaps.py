"""Filling missing pixels from the valid ones around them: the nearest, or a weighted mean.

Only missing pixels, and the rows around them, cost more than a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import as4d, core_shape, pad3
from chunkfilt.kernels._gap_means import STRETCH, run_means
from chunkfilt.kernels._gap_nearest import run_nearest

__all__ = ["fill_nearest", "fill_weighted", "gaps_memory"]

_CLOSE = 24  # places next to a missing pixel that are looked at one by one


def _reach(distance: float) -> tuple[int, int]:
    """Return the pixels along an axis within a distance, and the largest square of one."""
    whole = math.floor(distance)
    square = max(math.floor(distance * distance) - 1, 0)
    while math.sqrt(square + 1) <= distance:
        square += 1
    return whole, square


def _rows_within(ndim: int, reach: int, limit: int) -> NDArray[np.int64]:
    """Return the rows around a pixel in raster order: dz, dy, squared distance, half-width."""
    along = np.arange(-reach, reach + 1)
    zs, ys = (along if ndim > axes else np.zeros(1, np.int64) for axes in (2, 1))
    z, y = (part.reshape(-1) for part in np.meshgrid(zs, ys, indexing="ij"))
    square = z * z + y * y
    z, y, square = (part[square <= limit] for part in (z, y, square))
    # Exact: the root of an integer below 2**52 is not rounded up to a whole number.
    half = np.sqrt(limit - square).astype(np.int64)
    return np.column_stack([z, y, square, half]).astype(np.int64)


def _places_within(ndim: int, reach: int, limit: int) -> NDArray[np.int64]:
    """Return the places next to a pixel, `(dz, dy, dx)`, nearest first."""
    side = min(reach, _CLOSE // 2 if ndim == 1 else 3)
    around = np.arange(-side, side + 1)
    grid = np.meshgrid(*pad3((around,) * ndim, np.zeros(1, np.int64)), indexing="ij")
    places = np.column_stack([part.reshape(-1) for part in grid])
    square = (places**2).sum(axis=1)
    order = np.lexsort((*places.T, square))
    # Of places further away than the sides some are left out.
    farthest = limit if side == reach else side * side
    return places[order[square[order] <= farthest]][1:]


def _inside(
    valid: NDArray[np.bool_], inside: Sequence[tuple[int, int]], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return which pixels count, as `as4d` lays a block out; none beyond the image."""
    image = (slice(None), *(slice(a, b) for a, b in inside))
    if valid[image].size < valid.size:
        kept = np.zeros(valid.shape, np.bool_)
        kept[image] = valid[image]
        valid = kept
    found = np.ascontiguousarray(valid).reshape(shape).view()
    found.flags.writeable = False
    return found


def fill_nearest(
    block: NDArray[Any],
    distance: float,
    valid: NDArray[np.bool_],
    inside: Sequence[tuple[int, int]],
    missing: Any,
) -> NDArray[Any]:
    """Give missing pixels the value of the nearest valid one.

    Of several at the same distance the one with the smallest index along the last axis is taken,
    then along the axis before: what ``scipy.ndimage.distance_transform_edt`` picks.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by `floor(distance)` pixels; any real dtype.
    distance : float
        The farthest pixel to take, above 0.
    valid : ndarray of bool
        The block's shape: the pixels that are not missing.
    inside : sequence of (int, int)
        Along each spatial axis the pixels of the block, from and to, that the image has.
    missing : scalar
        What stays missing becomes this.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype.

    Raises
    ------
    ValueError
        If the block is smaller than its halo.

    Examples
    --------
    >>> block = np.array([[0, 5, 0, 0, 7, 0]])
    >>> fill_nearest(block, 1, block > 0, [(0, 6)], -1)
    array([[5, 5, 7, 7]])
    """
    reach, limit = _reach(distance)
    view, kept, out, halo = _settle(block, valid, inside, reach)
    axes = block.ndim - 1
    places, rows = _places_within(axes, reach, limit), _rows_within(axes, reach, limit)
    rows = rows[np.argsort(rows[:, 2], kind="stable")]
    if (2 * rows[:, 3] + 1).sum() == len(places[:_CLOSE]) + 1:
        rows = rows[:0]  # no places but those next to the pixel
    steps = np.array([view.shape[2] * view.shape[3], view.shape[3], 1])
    close = places[:_CLOSE] @ steps
    if out.size:
        near, known = _tables(view)
        gone = view.dtype.type(missing)
        run_nearest(view, kept, out, close, rows, near, known, halo, reach, limit, gone)
    return _shaped(out, block)


def fill_weighted(
    block: NDArray[Any],
    distance: float,
    power: float,
    valid: NDArray[np.bool_],
    inside: Sequence[tuple[int, int]],
    missing: Any,
) -> NDArray[Any]:
    """Give missing pixels the mean of the valid ones around, weighted by distance to a power.

    ``sum(v / d**power) / sum(1 / d**power)`` in float64, in raster order; the mean where `power`
    is 0. Integers are rounded half to even.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by `floor(distance)` pixels; any real dtype.
    distance : float
        The farthest pixel to take, above 0.
    power : float
        0 or more.
    valid : ndarray of bool
        The block's shape: the pixels that are not missing.
    inside : sequence of (int, int)
        Along each spatial axis the pixels of the block, from and to, that the image has.
    missing : scalar
        What stays missing becomes this.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype.

    Raises
    ------
    ValueError
        If the block is smaller than its halo, or the weights are too small for float64.

    Examples
    --------
    >>> block = np.array([[4.0, 0.0, 0.0, 7.0, 0.0]])
    >>> fill_weighted(block, 2, 1, block > 0, [(0, 5)], np.nan)
    array([[6.]])
    """
    reach, limit = _reach(distance)
    view, kept, out, halo = _settle(block, valid, inside, reach)
    rows = _rows_within(block.ndim - 1, reach, limit)
    weights = _weights(rows, power)
    if not weights.min() > np.finfo(np.float64).tiny:
        raise ValueError(f"a power of {power} leaves no weight to pixels at {distance}")
    if out.size:
        (ahead, known), sums = _tables(view), np.empty((2, STRETCH))
        real = view.dtype.kind == "f"
        ends = (0, 0) if real else (np.iinfo(view.dtype).min, np.iinfo(view.dtype).max)
        lowest, highest, gone = (view.dtype.type(end) for end in (*ends, missing))
        run_means(
            view, kept, out, rows, weights, ahead, known, sums, halo, gone, lowest, highest,
            real,
        )  # fmt: skip
    return _shaped(out, block)


def gaps_memory(core: tuple[int, ...], distance: float) -> int:
    """Return the bytes that these take at most beside their result.

    >>> gaps_memory((1, 100, 100), 2.5)
    54080
    """
    reach = math.floor(distance)
    grown = math.prod(max(n, 1) + 2 * reach for n in core[1:])
    return 4 * grown + core[0] * grown


def _settle(
    block: NDArray[Any], valid: NDArray[np.bool_], inside: Sequence[tuple[int, int]], reach: int
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any], tuple[int, int, int]]:
    """Return the block and what counts of it as `(batch, z, y, x)`, the result, and the halo."""
    view, axes = as4d(block), block.ndim - 1
    shape = core_shape(block, (2 * reach + 1,) * axes)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), view.dtype)
    return view, _inside(valid, inside, view.shape), out, pad3((reach,) * axes, 0)


def _weights(rows: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """Return the weights of all places, row after row."""
    along = np.concatenate([np.arange(-half, half + 1) for half in rows[:, 3]])
    far = np.sqrt(np.repeat(rows[:, 2], 2 * rows[:, 3] + 1) + along**2)
    weights: NDArray[np.float64] = np.maximum(far, 1.0) ** -power
    return weights


def _tables(view: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return what the rows of one batch index are to know, and which of them do."""
    lines = view.shape[1] * view.shape[2]
    # Memory is taken only where it is written.
    return np.empty((lines, view.shape[3]), np.int32), np.zeros(lines, np.bool_)


def _shaped(out: NDArray[Any], block: NDArray[Any]) -> NDArray[Any]:
    """Return a result in the block's dtype and number of axes."""
    shape = (len(out), *out.shape[5 - block.ndim :])
    return out.reshape(shape).astype(block.dtype, copy=False)

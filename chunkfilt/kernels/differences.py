"""Differences of neighbours: first and second derivatives, one-sided at the image's edge.

A slope is the difference of the pixels before and after, or of the pixel itself and its one
neighbour where the image ends; a bend is the slope of slopes. Both are rows' arithmetic; the few
columns near the image's edge are made one by one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import as4d, core_shape, jit, pad3, real_dtype
from chunkfilt.kernels._weigh import borrow

__all__ = ["gradient", "hessian"]


@jit
def _span(p, edge, step):
    """Return the pixels whose difference is the slope at pixel p, and what it is multiplied by."""
    low, high = max(p - 1, edge[0]), min(p + 1, edge[1])
    return low, high, 1.0 / ((high - low) * step)


@jit
def _middle(edge, near, width):
    """Return the range of columns that are further than `near` from the image's edge."""
    start = min(max(edge[0] + near, 0), width)
    return start, max(min(edge[1] + 1 - near, width), start)


@jit
def _slopes(line, high, low, factor):
    for i in range(line.size):
        line[i] = (np.float64(high[i]) - np.float64(low[i])) * factor


@jit
def _bends(line, ahead, behind, factors):
    """Store the difference of two slopes, each given by the rows it is the difference of."""
    a, b = ahead
    c, d = behind
    first, second, both = factors
    for i in range(line.size):
        one = (np.float64(a[i]) - np.float64(b[i])) * first
        two = (np.float64(c[i]) - np.float64(d[i])) * second
        line[i] = (one - two) * both


@jit
def _slopes_along(line, row, edge, step, halo):
    """Store the slopes along a row of the block."""
    _slopes(line, row[halo + 1 :], row[halo - 1 :], 1.0 / (2.0 * step))
    start, stop = _middle(edge, 1, line.size)
    for i in range(line.size - (stop - start)):
        x = i if i < start else i - start + stop
        low, high, factor = _span(x, edge, step)
        line[x] = (np.float64(row[high + halo]) - np.float64(row[low + halo])) * factor


@jit
def _bends_along(line, row, edge, step):
    """Store the bends along a row of the block."""
    factor = 1.0 / (2.0 * step)
    _bends(line, (row[4:], row[2:]), (row[2:], row), (factor, factor, factor))
    start, stop = _middle(edge, 2, line.size)
    for i in range(line.size - (stop - start)):
        x = i if i < start else i - start + stop
        low, high, both = _span(x, edge, step)
        b, a, first = _span(high, edge, step)
        d, c, second = _span(low, edge, step)
        one = (np.float64(row[a + 2]) - np.float64(row[b + 2])) * first
        two = (np.float64(row[c + 2]) - np.float64(row[d + 2])) * second
        line[x] = (one - two) * both


@jit
def _mixed_along(line, high, low, factor, edge, step):
    """Store the slopes, along a row, of the slopes from one row of the block to another."""
    factors = (factor, factor, 1.0 / (2.0 * step))
    _bends(line, (high[3:], low[3:]), (high[1:], low[1:]), factors)
    start, stop = _middle(edge, 1, line.size)
    for i in range(line.size - (stop - start)):
        x = i if i < start else i - start + stop
        d, a, both = _span(x, edge, step)
        one = (np.float64(high[a + 2]) - np.float64(low[a + 2])) * factor
        two = (np.float64(high[d + 2]) - np.float64(low[d + 2])) * factor
        line[x] = (one - two) * both


@jit
def _gradient(view, out, halo, edges, steps):
    view, out, edges, steps = borrow((view, out, edges, steps))
    batch, parts, nz, ny, _ = out.shape
    hz, hy = halo
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                if parts == 3:
                    low, high, factor = _span(z, edges[0], steps[0])
                    above, below = view[b, high + hz, y + hy, 1:], view[b, low + hz, y + hy, 1:]
                    _slopes(out[b, 0, z, y], above, below, factor)
                if parts >= 2:
                    low, high, factor = _span(y, edges[1], steps[1])
                    above, below = view[b, z + hz, high + hy, 1:], view[b, z + hz, low + hy, 1:]
                    _slopes(out[b, parts - 2, z, y], above, below, factor)
                row = view[b, z + hz, y + hy]
                _slopes_along(out[b, parts - 1, z, y], row, edges[2], steps[2], 1)


@jit
def _hessian(view, out, halo, edges, steps):
    view, out, edges, steps = borrow((view, out, edges, steps))
    batch, parts, nz, ny, _ = out.shape
    hz, hy = halo
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                if parts == 6:
                    _deep(view, out, (b, z, y), halo, edges, steps)
                if parts >= 3:
                    _flat(view, out, (b, z, y), halo, edges, steps)
                row = view[b, z + hz, y + hy]
                _bends_along(out[b, parts - 1, z, y], row, edges[2], steps[2])


@jit
def _deep(view, out, at, halo, edges, steps):
    """Store the bends of a row along z, and along z and another axis."""
    # Only a slice of the last axis alone is known to be contiguous, as it must be to vectorise.
    b, z, y = at
    hz, hy = halo
    low, high, both = _span(z, edges[0], steps[0])
    c, a, first = _span(high, edges[0], steps[0])
    e, d, second = _span(low, edges[0], steps[0])
    ahead = (view[b, a + hz, y + hy, 2:], view[b, c + hz, y + hy, 2:])
    behind = (view[b, d + hz, y + hy, 2:], view[b, e + hz, y + hy, 2:])
    _bends(out[b, 0, z, y], ahead, behind, (first, second, both))
    back, front, slope = _span(y, edges[1], steps[1])
    ahead = (view[b, high + hz, front + hy, 2:], view[b, low + hz, front + hy, 2:])
    behind = (view[b, high + hz, back + hy, 2:], view[b, low + hz, back + hy, 2:])
    _bends(out[b, 1, z, y], ahead, behind, (both, both, slope))
    above, below = view[b, high + hz, y + hy], view[b, low + hz, y + hy]
    _mixed_along(out[b, 2, z, y], above, below, both, edges[2], steps[2])


@jit
def _flat(view, out, at, halo, edges, steps):
    """Store the bends of a row along y, and along y and x."""
    b, z, y = at
    (hz, hy), part = halo, out.shape[1] - 3
    low, high, both = _span(y, edges[1], steps[1])
    c, a, first = _span(high, edges[1], steps[1])
    e, d, second = _span(low, edges[1], steps[1])
    ahead = (view[b, z + hz, a + hy, 2:], view[b, z + hz, c + hy, 2:])
    behind = (view[b, z + hz, d + hy, 2:], view[b, z + hz, e + hy, 2:])
    _bends(out[b, part, z, y], ahead, behind, (first, second, both))
    above, below = view[b, z + hz, high + hy], view[b, z + hz, low + hy]
    _mixed_along(out[b, part + 1, z, y], above, below, both, edges[2], steps[2])


def _run(
    kernel: Any,
    parts: int,
    halo: int,
    block: NDArray[Any],
    spacing: Sequence[float],
    place: tuple[Sequence[int], Sequence[int]],
) -> NDArray[Any]:
    ndim = block.ndim - 1
    batch, *core = core_shape(block, (2 * halo + 1,) * ndim)
    out = np.empty((batch, parts, *pad3(tuple(core), 1)), real_dtype(block.dtype))
    if out.size:
        ends = tuple((-start, n - 1 - start) for start, n in zip(*place, strict=True))
        edges = np.array(pad3(ends, (0, 0)), np.int64)
        reach = pad3((halo,) * ndim, 0)[:2]
        kernel(as4d(block), out, reach, edges, np.array(pad3(tuple(spacing), 1.0)))
    return out.reshape(batch, parts, *core)


def gradient(
    block: NDArray[Any], spacing: Sequence[float], start: Sequence[int], shape: Sequence[int]
) -> NDArray[Any]:
    """Compute the slopes along all axes.

    `(x[p + 1] - x[p - 1]) / (2 * spacing)`; where the image begins or ends the difference with the
    one neighbour, over the spacing.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by one pixel on all sides, of which those beyond the
        image's edge do not count; any real dtype.
    spacing : sequence of float
        The distance between pixels along each axis.
    start : sequence of int
        The core's first pixel in the image.
    shape : sequence of int
        The image's pixels along each axis, at least 2.

    Returns
    -------
    ndarray
        Shape `(batch, axes, *core)`, float32 for inputs up to 16 bits and float32, else float64.

    Raises
    ------
    ValueError
        If the block has other than one to three spatial axes, or is too small.

    Examples
    --------
    >>> gradient(np.array([[0.0, 1.0, 4.0, 9.0, 0.0]]), [1.0], [0], [3])
    array([[[3., 4., 5.]]])
    """
    return _run(_gradient, block.ndim - 1, 1, block, spacing, (start, shape))


def hessian(
    block: NDArray[Any], spacing: Sequence[float], start: Sequence[int], shape: Sequence[int]
) -> NDArray[Any]:
    """Compute the slopes of slopes along all pairs of axes.

    Those of the image's `gradient`, first axis first: for axes z, y, x the pairs zz, zy, zx, yy,
    yx and xx.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by two pixels on all sides, of which those beyond the
        image's edge do not count; any real dtype.
    spacing : sequence of float
        The distance between pixels along each axis.
    start : sequence of int
        The core's first pixel in the image.
    shape : sequence of int
        The image's pixels along each axis, at least 2.

    Returns
    -------
    ndarray
        Shape `(batch, pairs, *core)`, float32 for inputs up to 16 bits and float32, else float64.

    Raises
    ------
    ValueError
        If the block has other than one to three spatial axes, or is too small.

    Examples
    --------
    >>> hessian(np.array([[0.0, 0, 1, 4, 9, 16, 0, 0]]), [1.0], [0], [4])
    array([[[1. , 1.5, 1.5, 1. ]]])
    """
    ndim = block.ndim - 1
    return _run(_hessian, ndim * (ndim + 1) // 2, 2, block, spacing, (start, shape))

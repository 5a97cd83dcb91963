"""Variances, extremes and wide sums over boxes: the compiled loops, which hardly slow with the box.

A window of w pixels is joined from windows of 1, 2, 4 ... pixels: each level is two windows of the
level below, and the window is the levels of its binary digits (for extremes, which may overlap:
twice the largest level). That costs about `2 * log2(w)` operations per pixel and axis, every one
along a contiguous row, and uses the window's own pixels only, always in the same order. So a
result does not depend on where the block starts, and a NaN stays within its windows.

Rows stream through a ring of the last levels of each column strip, which stays in the cache; there
is no temporary of the size of the block.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3

__all__ = ["run_one", "run_two"]

_CACHE = 400_000  # bytes of ring that should stay in a core's own cache
_STRIP = 2048  # columns of a strip at most: its row buffers stay in the first cache


class _Axis(NamedTuple):
    """How the window of one axis is joined: ring rows of each level, levels of the window."""

    window: int
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    level: NDArray[np.int64]
    offset: NDArray[np.int64]


def _axis(window: int, overlap: bool) -> _Axis:
    levels = window.bit_length()
    # Level k is made from rows 2**(k-1) apart, and waits at most as long for its place in the sum.
    size = np.array([2**k + 1 for k in range(levels)])
    level, offset = np.array(_rows.parts_of(window, overlap)).T.copy()
    return _Axis(window, np.cumsum(size) - size, size, level, offset)


def _layout(
    core: tuple[int, ...], axes: tuple[_Axis, _Axis, _Axis], ring_bytes: int, pixel_bytes: int
) -> tuple[int, int]:
    """Choose rows and columns of a tile: of the speed only, never of the result."""
    z, y, x = axes
    rows = int(y.size.sum())
    strip = min(max(_CACHE // (rows * ring_bytes), 256, 2 * x.window), _STRIP + x.window)
    count = -(-core[3] // strip)
    tile_x = -(-core[3] // count)
    if z.window == 1:
        return core[2], tile_x
    # Planes are read once per plane of the window: a tile's planes should stay in the cache.
    height = _CACHE * 2 // ((tile_x + x.window) * pixel_bytes * z.window)
    return min(core[2], max(height, 2 * y.window, 16)), tile_x


@jit
def _along_row(rows, axis, nx, op):
    """Windows along rows[0], into the last of the rows."""
    result = rows[rows.shape[0] - 1, :nx]
    top = axis.size.size
    for k in range(1, top):
        n, half = nx + axis.window - (1 << k), 1 << (k - 1)
        _rows.join(rows[k, :n], rows[k - 1, :n], rows[k - 1, half : half + n], op)
    level, offset = axis.level, axis.offset
    first = rows[level[0], offset[0] : offset[0] + nx]
    if level.size == 1:
        return first
    _rows.join(result, first, rows[level[1], offset[1] : offset[1] + nx], op)
    for p in range(2, level.size):
        _rows.fold(result, rows[level[p], offset[p] : offset[p] + nx], op)
    return result


@jit
def _next_row(ring, axis, row, t, width, op):
    """Levels that row t of the strip, at level 0, completes; the window that ends there."""
    start, size = axis.start, axis.size
    for k in range(1, size.size):
        top, half = t - (1 << k) + 1, 1 << (k - 1)
        if top < 0:
            return False
        a = ring[start[k - 1] + top % size[k - 1], :width]
        b = ring[start[k - 1] + (top + half) % size[k - 1], :width]
        _rows.join(ring[start[k] + top % size[k], :width], a, b, op)
    top = t - axis.window + 1
    if top < 0:
        return False
    for p in range(axis.level.size):
        k = axis.level[p]
        part = ring[start[k] + (top + axis.offset[p]) % size[k], :width]
        if p == 0:
            _rows.copy(row, part)
        else:
            _rows.fold(row, part, op)
    return True


@jit
def _one(view, out, depth, axis_y, axis_x, ring, rows, tile_y, tile_x, op):
    """Extremes; cells with one number."""
    batch, nz, height, length = out.shape
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        width = nx + axis_x.window - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                steps = min(tile_y, height - y0) + axis_y.window - 1
                for z in range(nz):
                    for t in range(steps):
                        cell = ring[t % axis_y.size[0], :width]
                        _rows.copy(cell, view[b, z, y0 + t, x0 : x0 + width])
                        for d in range(1, depth):
                            _rows.fold(cell, view[b, z + d, y0 + t, x0 : x0 + width], op)
                        if not _next_row(ring, axis_y, rows[0, :width], t, width, op):
                            continue
                        result = _along_row(rows, axis_x, nx, op)
                        target = out[b, z, y0 + t - axis_y.window + 1, x0 : x0 + nx]
                        _rows.copy(target, result)


def run_one(block: NDArray[Any], size: tuple[int, ...], dtype: Any, op: int) -> NDArray[Any]:
    """Compute extremes, in a dtype."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), dtype)
    if out.size:
        axes = (_axis(window[0], True), _axis(window[1], True), _axis(window[2], True))
        tile_y, tile_x = _layout(out.shape, axes, out.itemsize, view.itemsize)
        width = tile_x + window[2] - 1
        ring = np.empty((int(axes[1].size.sum()), width), dtype)
        rows = np.empty((axes[2].size.size + 1, width), dtype)
        _one(view, out, window[0], axes[1], axes[2], ring, rows, tile_y, tile_x, op)
    return out.reshape(shape)


@jit
def _along_row_pair(rows, rows2, axis, nx, unit, kind):
    last, top = rows.shape[0] - 1, axis.size.size
    for k in range(1, top):
        n, h = nx + axis.window - (1 << k), 1 << (k - 1)
        a, a2, b, b2 = (
            rows[k - 1, :n],
            rows2[k - 1, :n],
            rows[k - 1, h : h + n],
            rows2[k - 1, h : h + n],
        )
        _rows.join_pair(rows[k, :n], rows2[k, :n], a, a2, b, b2, unit * h, unit * h, kind)
    k, o = axis.level[0], axis.offset[0]
    result, result2 = rows[k, o : o + nx], rows2[k, o : o + nx]
    for p in range(1, axis.level.size):
        na = unit * axis.offset[p]
        k, o = axis.level[p], axis.offset[p]
        b, b2, nb = rows[k, o : o + nx], rows2[k, o : o + nx], unit * (1 << k)
        if p == 1:
            a, a2 = result, result2
            result, result2 = rows[last, :nx], rows2[last, :nx]
            _rows.join_pair(result, result2, a, a2, b, b2, na, nb, kind)
        else:
            _rows.fold_pair(result, result2, b, b2, na, nb, kind)
    return result, result2


@jit
def _next_row_pair(ring, ring2, axis, row, row2, t, unit, kind):
    start, size, width = axis.start, axis.size, row.size
    for k in range(1, size.size):
        top, h = t - (1 << k) + 1, 1 << (k - 1)
        if top < 0:
            return False
        i, j = start[k - 1] + top % size[k - 1], start[k - 1] + (top + h) % size[k - 1]
        o = start[k] + top % size[k]
        a, a2, b, b2 = ring[i, :width], ring2[i, :width], ring[j, :width], ring2[j, :width]
        _rows.join_pair(ring[o, :width], ring2[o, :width], a, a2, b, b2, unit * h, unit * h, kind)
    top = t - axis.window + 1
    if top < 0:
        return False
    for p in range(axis.level.size):
        k, na = axis.level[p], unit * axis.offset[p]
        i = start[k] + (top + axis.offset[p]) % size[k]
        if p == 0:
            _rows.copy(row, ring[i, :width])
            _rows.copy(row2, ring2[i, :width])
        else:
            _rows.fold_pair(row, row2, ring[i, :width], ring2[i, :width], na, unit * (1 << k), kind)
    return True


@jit
def _two(view, out, depth, axis_y, axis_x, work, tile_y, tile_x, kind, mask, divisor, root):
    """Cells with two numbers: halves of 64-bit sums, sums of squares, or mean and deviation."""
    ring, ring2, rows, rows2 = work
    batch, nz, height, length = out.shape
    unit = depth * axis_y.window
    count = unit * axis_x.window
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        width = nx + axis_x.window - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                steps = min(tile_y, height - y0) + axis_y.window - 1
                for z in range(nz):
                    for t in range(steps):
                        cell = t % axis_y.size[0]
                        for d in range(depth):
                            pixels = view[b, z + d, y0 + t, x0 : x0 + width]
                            _rows.load_pair(
                                ring[cell, :width], ring2[cell, :width], pixels, d, mask, kind
                            )
                        row, row2 = rows[0, :width], rows2[0, :width]
                        if not _next_row_pair(ring, ring2, axis_y, row, row2, t, depth, kind):
                            continue
                        a, a2 = _along_row_pair(rows, rows2, axis_x, nx, unit, kind)
                        target = out[b, z, y0 + t - axis_y.window + 1, x0 : x0 + nx]
                        _rows.store_pair(target, a, a2, count, divisor, root, kind)


def run_two(
    block: NDArray[Any],
    size: tuple[int, ...],
    dtypes: tuple[Any, Any, Any],
    kind: int,
    divisor: float,
    root: bool = False,
) -> NDArray[Any]:
    """Compute sums of 64-bit integers, or variances; dtypes of the pair and the result."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    work, work2, result = dtypes
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (_axis(window[0], False), _axis(window[1], False), _axis(window[2], False))
        pair = np.dtype(work).itemsize + np.dtype(work2).itemsize
        tile_y, tile_x = _layout(out.shape, axes, pair, view.itemsize)
        width = tile_x + window[2] - 1
        ring, rows = (int(axes[1].size.sum()), width), (axes[2].size.size + 1, width)
        buffers = (
            np.empty(ring, work), np.empty(ring, work2), np.empty(rows, work), np.empty(rows, work2)
        )  # fmt: skip
        mask = 0xFFFFFFFF if view.dtype.kind == "u" else -1
        _two(
            view, out, window[0], axes[1], axes[2], buffers,
            tile_y, tile_x, kind, mask, divisor, root,
        )  # fmt: skip
    return out.reshape(shape)

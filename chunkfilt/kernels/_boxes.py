"""Sums of 64-bit integers over boxes, in two halves: the compiled loops.

A window of w pixels is joined from windows of 1, 2, 4 ... pixels: each level is two windows of the
level below, and the window is the levels of its binary digits. That costs about `2 * log2(w)`
operations per pixel and axis, every one along a contiguous row.

Rows stream through a ring of the last levels of each column strip, which stays in the cache; there
is no temporary of the size of the block.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3

__all__ = ["run_halves"]

_CACHE = 400_000  # bytes of ring that should stay in a core's own cache
_STRIP = 2048  # columns of a strip at most: its row buffers stay in the first cache


class _Axis(NamedTuple):
    """How the window of one axis is joined: ring rows of each level, levels of the window."""

    window: int
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    level: NDArray[np.int64]
    offset: NDArray[np.int64]


def _axis(window: int) -> _Axis:
    levels = window.bit_length()
    # Level k is made from rows 2**(k-1) apart, and waits at most as long for its place in the sum.
    size = np.array([2**k + 1 for k in range(levels)])
    level, offset = np.array(_rows.parts_of(window)).T.copy()
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
def _along_row(rows, axis, nx):
    """Sum windows along the first of the rows."""
    last = rows[rows.shape[0] - 1, :nx]
    for k in range(1, axis.size.size):
        n, half = nx + axis.window - (1 << k), 1 << (k - 1)
        _rows.join(rows[k, :n], rows[k - 1, :n], rows[k - 1, half : half + n])
    for p in range(axis.level.size):
        k, o = axis.level[p], axis.offset[p]
        if p == 0:
            _rows.copy(last, rows[k, o : o + nx])
        else:
            _rows.fold(last, rows[k, o : o + nx])
    return last


@jit
def _next_row(ring, axis, row, t):
    """Sum levels that row t of the strip, at level 0, completes; and the window that ends there."""
    start, size, width = axis.start, axis.size, row.size
    for k in range(1, size.size):
        top, half = t - (1 << k) + 1, 1 << (k - 1)
        if top < 0:
            return
        a = ring[start[k - 1] + top % size[k - 1], :width]
        b = ring[start[k - 1] + (top + half) % size[k - 1], :width]
        _rows.join(ring[start[k] + top % size[k], :width], a, b)
    top = t - axis.window + 1
    for p in range(axis.level.size if top >= 0 else 0):
        k = axis.level[p]
        part = ring[start[k] + (top + axis.offset[p]) % size[k], :width]
        if p == 0:
            _rows.copy(row, part)
        else:
            _rows.fold(row, part)


@jit
def _halves(view, out, depth, axis_y, axis_x, work, tile_y, tile_x, mask, divisor):
    ring, ring2, rows, rows2 = work
    batch, nz, height, length = out.shape
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        width = nx + axis_x.window - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + axis_y.window - 1):
                        cell, y = t % axis_y.size[0], y0 + t - axis_y.window + 1
                        high, low = ring[cell, :width], ring2[cell, :width]
                        for d in range(depth):
                            pixels = view[b, z + d, y0 + t, x0 : x0 + width]
                            _rows.load_pair(high, low, pixels, d, mask, _rows.HALVES)
                        _next_row(ring, axis_y, rows[0, :width], t)
                        _next_row(ring2, axis_y, rows2[0, :width], t)
                        if y >= y0:
                            high, low = _along_row(rows, axis_x, nx), _along_row(rows2, axis_x, nx)
                            target = out[b, z, y, x0 : x0 + nx]
                            _rows.store_pair(target, high, low, 1, divisor, False, _rows.HALVES)


def run_halves(
    block: NDArray[Any], size: tuple[int, ...], result: Any, divisor: float
) -> NDArray[Any]:
    """Compute sums of 64-bit integers, divided; the dtype of the result."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (_axis(window[0]), _axis(window[1]), _axis(window[2]))
        tile_y, tile_x = _layout(out.shape, axes, 16, view.itemsize)
        width = tile_x + window[2] - 1
        ring, rows = (2, int(axes[1].size.sum()), width), (2, axes[2].size.size + 1, width)
        work = (*np.empty(ring, np.int64), *np.empty(rows, np.int64))
        mask = 0xFFFFFFFF if view.dtype.kind == "u" else -1
        _halves(view, out, window[0], axes[1], axes[2], work, tile_y, tile_x, mask, divisor)
    return out.reshape(shape)

"""Sums and variances under footprints of any shape: the compiled loops.

A footprint is taken apart into runs along the rows, each run into parts of 1, 2, 4 ... pixels. Each
row of the block is turned once into windows of these lengths; an output row is then one pass over
a few rows per run instead of one per pixel. Only pixels under the footprint are touched, always in
the same order, so that a result does not depend on where the block starts, and a NaN stays within
its footprints.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3

__all__ = ["run_one", "run_two"]

_CACHE = 400_000  # bytes of row windows that should stay in a core's own cache


def _taps(footprint: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows `(z, y, level, x)`, in raster order: the parts of every run of the footprint."""
    cells = footprint.reshape(pad3(footprint.shape, 1))
    taps = []
    for z, y in np.ndindex(cells.shape[:2]):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells[z, y], [0]])))
        for first, last in edges.reshape(-1, 2).tolist():
            taps += [(z, y, k, first + o) for k, o in _rows.parts_of(last - first)]
    return np.array(taps, np.int64).reshape(-1, 4)


def _layout(
    core: tuple[int, ...], window: tuple[int, int, int], cells: int, pixel: int
) -> tuple[int, int]:
    """Choose rows and columns of a tile: of the speed only, never of the result."""
    depth, height, length = window
    strip = min(max(_CACHE // cells, 128, 2 * length), 2048 + length)
    tile_x = -(-core[3] // -(-core[3] // strip))
    if depth == 1:
        return core[2], tile_x
    rows = 2 * _CACHE // ((tile_x + length) * pixel * depth)
    return min(core[2], max(rows, 2 * height, 16)), tile_x


@jit
def _rows_of(buffer, taps, p, top, nx):
    """The part that tap p adds to an output row whose window starts at row `top` of the strip."""
    slot = (top + taps[p, 1]) % buffer.shape[1]
    return buffer[taps[p, 0], slot, taps[p, 2], taps[p, 3] : taps[p, 3] + nx]


@jit
def _one(view, out, taps, buffer, total, tile_y, tile_x, count):
    """Sums under a footprint; cells with one number."""
    batch, nz, height, length = out.shape
    depth, wy, levels, _ = buffer.shape
    wx = view.shape[3] - length + 1
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        width = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        for d in range(depth):
                            rows = buffer[d, t % wy]
                            _rows.copy(rows[0, :width], view[b, z + d, y0 + t, x0 : x0 + width])
                            for k in range(1, levels):
                                n, h = width - (1 << k) + 1, 1 << (k - 1)
                                _rows.join(rows[k, :n], rows[k - 1, :n], rows[k - 1, h : h + n])
                        top = t - wy + 1
                        if top >= 0:
                            target = out[b, z, y0 + top, x0 : x0 + nx]
                            _collect(buffer, taps, top, total[:nx])
                            _rows.divide(target, total[:nx], count)


@jit
def _collect(buffer, taps, top, total):
    nx = total.size
    _rows.copy(total, _rows_of(buffer, taps, 0, top, nx))
    p = 1
    while p + 4 <= taps.shape[0]:
        a, b = _rows_of(buffer, taps, p, top, nx), _rows_of(buffer, taps, p + 1, top, nx)
        c, d = _rows_of(buffer, taps, p + 2, top, nx), _rows_of(buffer, taps, p + 3, top, nx)
        _rows.fold4(total, a, b, c, d)
        p += 4
    while p < taps.shape[0]:
        _rows.fold(total, _rows_of(buffer, taps, p, top, nx))
        p += 1


@jit
def _two(view, out, taps, buffer, buffer2, totals, tile_y, tile_x, kind, mask, divisor, root):
    """The same for cells with two numbers: see `_rows`."""
    batch, nz, height, length = out.shape
    depth, wy, levels, _ = buffer.shape
    wx = view.shape[3] - length + 1
    total, total2 = totals
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        width = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        for d in range(depth):
                            rows, rows2 = buffer[d, t % wy], buffer2[d, t % wy]
                            pixels = view[b, z + d, y0 + t, x0 : x0 + width]
                            _rows.load_pair(
                                rows[0, :width], rows2[0, :width], pixels, 0, mask, kind
                            )
                            for k in range(1, levels):
                                _level_pair(rows, rows2, width, k, kind)
                        top = t - wy + 1
                        if top >= 0:
                            a, a2 = total[:nx], total2[:nx]
                            count = _collect_pair(buffer, buffer2, taps, top, a, a2, kind)
                            target = out[b, z, y0 + top, x0 : x0 + nx]
                            _rows.store_pair(target, a, a2, count, divisor, root, kind)


@jit
def _level_pair(rows, rows2, width, k, kind):
    n, h = width - (1 << k) + 1, 1 << (k - 1)
    a, b, a2, b2 = (
        rows[k - 1, :n],
        rows[k - 1, h : h + n],
        rows2[k - 1, :n],
        rows2[k - 1, h : h + n],
    )
    _rows.join_pair(rows[k, :n], rows2[k, :n], a, a2, b, b2, h, h, kind)


@jit
def _collect_pair(buffer, buffer2, taps, top, total, total2, kind):
    count = 0
    if kind != 2:
        _collect(buffer, taps, top, total)
        _collect(buffer2, taps, top, total2)
    for p in range(taps.shape[0]):
        if kind == 2:
            nx = total.size
            a, a2 = _rows_of(buffer, taps, p, top, nx), _rows_of(buffer2, taps, p, top, nx)
            if p == 0:
                _rows.copy(total, a)
                _rows.copy(total2, a2)
            else:
                _rows.fold_pair(total, total2, a, a2, count, 1 << taps[p, 2], kind)
        count += 1 << taps[p, 2]
    return count


def run_one(
    block: NDArray[Any],
    footprint: NDArray[np.bool_],
    dtypes: tuple[Any, Any],
    count: float,
) -> NDArray[Any]:
    """Compute sums divided by `count`; dtypes of work and result."""
    shape = core_shape(block, footprint.shape)
    view, window = as4d(block), pad3(footprint.shape, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), dtypes[1])
    if out.size:
        taps = _taps(footprint)
        levels = int(taps[:, 2].max()) + 1
        cells = window[0] * window[1] * levels * np.dtype(dtypes[0]).itemsize
        tile_y, tile_x = _layout(out.shape, window, cells, view.itemsize)
        width = tile_x + window[2] - 1
        buffer = np.empty((window[0], window[1], levels, width), dtypes[0])
        total = np.empty(tile_x, dtypes[0])
        _one(view, out, taps, buffer, total, tile_y, tile_x, count)
    return out.reshape(shape)


def run_two(
    block: NDArray[Any],
    footprint: NDArray[np.bool_],
    dtypes: tuple[Any, Any, Any],
    kind: int,
    divisor: float,
    root: bool = False,
) -> NDArray[Any]:
    """Compute sums of 64-bit integers, or variances; dtypes of the pair and the result."""
    shape = core_shape(block, footprint.shape)
    view, window = as4d(block), pad3(footprint.shape, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), dtypes[2])
    if out.size:
        taps = _taps(footprint)
        levels = int(taps[:, 2].max()) + 1
        pair = sum(np.dtype(dtype).itemsize for dtype in dtypes[:2])
        tile_y, tile_x = _layout(
            out.shape, window, window[0] * window[1] * levels * pair, view.itemsize
        )
        cells = (window[0], window[1], levels, tile_x + window[2] - 1)
        buffer, buffer2 = np.empty(cells, dtypes[0]), np.empty(cells, dtypes[1])
        totals = (np.empty(tile_x, dtypes[0]), np.empty(tile_x, dtypes[1]))
        mask = 0xFFFFFFFF if view.dtype.kind == "u" else -1
        _two(view, out, taps, buffer, buffer2, totals, tile_y, tile_x, kind, mask, divisor, root)
    return out.reshape(shape)

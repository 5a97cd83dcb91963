"""Sums over boxes: the compiled loops, along columns first and then along rows.

A window of w pixels is joined from windows of a few pixels, and these from fewer still: each level
is three to five neighbours of the level below, and what is left over is added singly. The order
depends on w alone, so that a sum of floats does not depend on where the block starts, and a NaN
stays within its windows. Columns of integers, whose sums are exact in any order, take the pixel
that enters and give back the one that leaves.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3

__all__ = ["aligned", "axis_of", "layout", "run_sum"]

_CACHE = 400_000  # bytes of planes that should stay in a core's own cache
_RING = 3_000_000  # bytes of a ring at most: it is read and written in order
_STRIP = 40_000  # bytes of a strip's sums of columns: they should stay in the first cache
_PIECE = 1024  # columns of a few rows that are summed along both axes in turn
_FEW = 7  # windows up to this length have no levels


class _Axis(NamedTuple):
    """How the window of one axis is joined. Arrays of numbers: loops unpack no tuples of arrays."""

    window: int
    levels: NDArray[np.int64]  # count of windows of the level below, pixels, first row, rows
    parts: NDArray[np.int64]  # level, offset


def axis_of(window: int, few: int = _FEW) -> _Axis:
    """Return how a window is joined, three to five parts a level, at most `few` in the end."""
    count, span, left, end = [1], [1], window, window
    parts: list[tuple[int, int]] = []
    while left > few:
        best = min((5, 4, 3), key=lambda n: n + left // n + 2 * (left % n))
        for _ in range(left % best):  # what is left over, from the window's end
            end -= span[-1]
            parts.insert(0, (len(span) - 1, end))
        left //= best
        count.append(best)
        span.append(span[-1] * best)
    parts = [(len(span) - 1, k * span[-1]) for k in range(left)] + parts
    # A row of the ring waits for its place in the next level, or in the window.
    size = [0] * len(span)
    for k in range(1, len(span)):
        first = min((offset for level, offset in parts if level == k), default=window - span[k])
        above = span[k + 1] if k + 1 < len(span) else span[k]
        size[k] = max(window - first, above) - span[k] + 1
    levels = np.stack([count, span, np.cumsum(size) - size, size], axis=1)
    return _Axis(window, levels, np.array(parts))


def layout(
    core: tuple[int, ...],
    axes: tuple[_Axis, _Axis, _Axis],
    ring_rows: int,
    itemsize: int,
    pixel_bytes: int,
) -> tuple[int, int]:
    """Choose rows and columns of a tile: of the speed only, never of the result."""
    z, y, x = axes
    strip = min(_STRIP // itemsize, _RING // (itemsize * max(ring_rows, 1)))
    strip = max(strip, 256, 2 * x.window)
    tile_x = -(-core[3] // -(-core[3] // strip))
    if z.window == 1:
        return core[2], tile_x
    # Planes are read once per plane of the window: a tile's planes should stay in the cache.
    height = _CACHE * 2 // ((tile_x + x.window) * pixel_bytes * z.window)
    return min(core[2], max(height, 2 * y.window, 16)), tile_x


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array that begins on a cache line: stores across two lines cost twice."""
    raw = np.empty(size * dtype.itemsize + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size * dtype.itemsize].view(dtype)


@jit
def _pixel_rows(at, origin, count, steps):
    """List indices, into the flat block, of `count` rows from an origin; return how many."""
    depth, plane, pitch = steps
    if depth == 1:
        for p in range(count):
            at[p] = origin + p * pitch
    else:
        for p in range(count * depth):
            at[p] = origin + (p % depth) * plane + p // depth * pitch
    return count * depth


@jit
def _slide(column, flat, origin, t, window, steps):
    """Take row t into sums of columns, and give back the row that leaves them."""
    depth, plane, pitch = steps
    for d in range(depth):
        row = origin + d * plane + t * pitch
        if t < window:
            _rows.enter(column, flat, row)
        else:
            _rows.slide(column, flat, row, row - window * pitch)


@jit
def _column(column, flat, ring, at, origin, t, levels, parts, window, steps, width):
    """Join columns from the levels of rows that row t completes, and from single rows."""
    pitch = steps[2]
    for k in range(1, levels.shape[0]):
        count, span, start, size = levels[k, 0], levels[k, 1], levels[k, 2], levels[k, 3]
        top = t - span + 1
        if top < 0:
            return
        cell = (start + top % size) * width
        target = ring[cell : cell + column.size]
        if k == 1:
            _rows.total(target, flat, at, _pixel_rows(at, origin + top * pitch, count, steps))
            continue
        span, start, size = levels[k - 1, 1], levels[k - 1, 2], levels[k - 1, 3]
        for j in range(count):
            at[j] = (start + (top + j * span) % size) * width
        _rows.total(target, ring, at, count)
    top, p = t - window + 1, 0
    if top < 0:
        return
    while p < parts.shape[0] and parts[p, 0] > 0:
        start, size = levels[parts[p, 0], 2], levels[parts[p, 0], 3]
        at[p] = (start + (top + parts[p, 1]) % size) * width
        p += 1
    if p > 0:
        _rows.total(column, ring, at, p)
    if p < parts.shape[0]:
        first = origin + (top + parts[p, 1]) * pitch
        pixels = _pixel_rows(at, first, parts.shape[0] - p, steps)
        if p > 0:
            _rows.add(column, flat, at, 0, pixels)
        else:
            _rows.total(column, flat, at, pixels)


@jit
def _along_row(target, rows, start, at, width, levels, parts, window, scale, count):
    """Join windows along a row that starts within some rows, and store them."""
    nx, some = target.size, parts.shape[0]
    for k in range(1, levels.shape[0]):
        for j in range(levels[k, 0]):
            at[j] = ((k - 1) * width if k > 1 else start) + j * levels[k - 1, 1]
        n = nx + window - levels[k, 1]
        _rows.total(rows[k * width : k * width + n], rows, at, levels[k, 0])
    for p in range(some):
        at[p] = (parts[p, 0] * width if parts[p, 0] else start) + parts[p, 1]
    if count > 0 or some > _rows.AT_ONCE:
        first = levels.shape[0] * width
        last = rows[first : first + nx]
        _rows.total(last, rows, at, some)
        if count > 0:
            _rows.divide(target, last, count)
            return
        at[0], some = first, 1
    _rows.scaled(target, rows, at, some, scale)


@jit
def _sums(
    flat, shape, out, window, levels_y, parts_y, levels_x, parts_x, ring, rows, at, width,
    tile_y, tile_x, scale, count,
):  # fmt: skip
    """Sums of every window, times a scale, or divided by a count if that is not 0."""
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps = (depth, sy * sx, sx)
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    column = rows[: nx + wx - 1]
                    for i in range(column.size):
                        column[i] = 0
                    origin = ((b * sz + z) * sy + y0) * sx + x0
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        y = y0 + t - wy + 1
                        _rows.fetch(flat, origin + (t + 1) * sx, nx + wx - 1)
                        if ring is None:  # settled when compiled: integers
                            _slide(column, flat, origin, t, wy, steps)
                        else:
                            _column(
                                column, flat, ring, at, origin, t, levels_y, parts_y, wy, steps,
                                width,
                            )  # fmt: skip
                        if y >= y0:
                            target = out[b, z, y, x0 : x0 + nx]
                            _along_row(
                                target, rows, 0, at, width, levels_x, parts_x, wx, scale, count
                            )


@jit
def _pairs(flat, shape, out, window, levels, parts, rows, at, width, tile, scale, count):
    """Sums under windows of three or five rows, for two rows of the result together."""
    batch, nz, height, length = out.shape
    _, wy, wx = window
    _, sz, sy, sx = shape
    other = (levels.shape[0] + 1) * width
    for b in range(batch):
        for z in range(nz):
            for y in range(0, height, 2):
                for x in range(0, length, tile):
                    nx = min(tile, length - x)
                    n = nx + wx - 1
                    for p in range(wy + 3):
                        at[p] = ((b * sz + z) * sy + y + p) * sx + x
                    _rows.fetch(flat, at[wy + 1], n)
                    _rows.fetch(flat, at[wy + 2], n)
                    if y + 1 < height:
                        _rows.total_two(rows[:n], rows[other : other + n], flat, at, wy)
                    else:
                        _rows.total(rows[:n], flat, at, wy)
                    for o in range(min(2, height - y)):
                        target = out[b, z, y + o, x : x + nx]
                        _along_row(
                            target, rows, o * other, at, width, levels, parts, wx, scale, count
                        )


def run_sum(
    block: NDArray[Any], size: tuple[int, ...], dtypes: tuple[Any, Any], count: int
) -> NDArray[Any]:
    """Compute sums divided by `count`; dtypes of work and result."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    work, result = np.dtype(dtypes[0]), np.dtype(dtypes[1])
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (axis_of(window[0]), axis_of(window[1]), axis_of(window[2]))
        exact = work.kind == "i"
        pairs = not exact and window[0] == 1 and window[1] in (3, 5)
        ring_rows = 0 if exact else int(axes[1].levels[:, 3].sum())
        tile_y, tile_x = layout(out.shape, axes, ring_rows, work.itemsize, view.itemsize)
        if pairs:
            tile_x = min(tile_x, max(_PIECE, 2 * window[2]))
        width = -(-(tile_x + window[2] - 1) // 16) * 16
        rows = aligned((len(axes[2].levels) + 2) * width, work)
        divide = 0.0 if _rows.may_scale(result, count) else float(count)
        at = np.empty(max(window[0] * window[1], window[2], 8), np.int64)
        if pairs:
            _pairs(
                view.reshape(-1), view.shape, out, window, *axes[2][1:], rows, at,
                width, tile_x, 1.0 / count, divide,
            )  # fmt: skip
        else:
            ring = None if exact else aligned(ring_rows * width, work)
            _sums(
                view.reshape(-1), view.shape, out, window, *axes[1][1:], *axes[2][1:], ring, rows,
                at, width, tile_y, tile_x, 1.0 / count, divide,
            )  # fmt: skip
    return out.reshape(shape)

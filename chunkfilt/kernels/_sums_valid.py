"""Sums over boxes of the pixels that count, and how many these are: the compiled loops.

As `_sums` and `_squares` sum all pixels of a window, to the same bits where all count. Integers are
exact in any order: columns take the row that enters and give back the one that leaves. Rows of
floats are copied with 0 in place of what does not count, into a ring from which columns are joined;
it holds every row twice, so that the rows of a window always follow each other.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._squares import _windows
from chunkfilt.kernels._sums import _column, _slide, aligned, axis_of, layout

__all__ = ["MEAN", "SCALED", "STD", "SUM", "VARIANCE", "Wanted", "run_valid"]

SUM, MEAN, SCALED, VARIANCE, STD = 0, 1, 2, 3, 4
_STRIP = 1024  # columns of a strip of floats: the rings of two rows each should stay in the cache


class Wanted(NamedTuple):
    """What to make of the sums: one of the above (`SCALED`: times ``1 / n``), and for variances."""

    measure: int
    ddof: int = 0


@jit
def _enter(sums, flat, valid, at, square):
    """Add the pixels of a row that count, or their squares, to sums of columns."""
    a, kind = np.uint64(at), sums.dtype.type
    for k in range(sums.size):
        i = np.uint64(k)
        v = kind(flat[a + i]) if valid[a + i] else kind(0)
        sums[k] += v * v if square else v


@jit
def _pass_on(sums, flat, valid, enters, leaves, square):
    """Add the pixels of a row that count, or their squares, less those of another."""
    a, b, kind = np.uint64(enters), np.uint64(leaves), sums.dtype.type
    for k in range(sums.size):
        i = np.uint64(k)
        v = kind(flat[a + i]) if valid[a + i] else kind(0)
        w = kind(flat[b + i]) if valid[b + i] else kind(0)
        sums[k] += v * v - w * w if square else v - w


@jit
def _move(sums, flat, valid, origin, t, window, steps, square):
    """Take row t of every plane into sums of columns, and give back the row that leaves them."""
    depth, plane, pitch = steps
    for d in range(depth):
        row = origin + d * plane + t * pitch
        if t < window:
            _enter(sums, flat, valid, row, square)
        else:
            _pass_on(sums, flat, valid, row, row - window * pitch, square)


@jit
def _copy_valid(clean, once, again, n, flat, valid, at):
    """Copy a row to two places, with 0 in place of pixels that do not count."""
    a, b, c = np.uint64(at), np.uint64(once), np.uint64(again)
    for k in range(n):
        i = np.uint64(k)
        v = np.float64(flat[a + i]) if valid[a + i] else 0.0
        clean[b + i] = v
        clean[c + i] = v


@jit
def _join_rows(sums, clean, ring, flat, valid, at, origin, t, levels, parts, window, steps, width):
    """Take row t of every plane into the ring, and join columns from it."""
    depth, plane, pitch = steps
    for d in range(depth):
        cell = (2 * d * window + t % window) * width
        row = origin + d * plane + t * pitch
        _copy_valid(clean, cell, cell + window * width, sums.size, flat, valid, row)
    # From here row r lies at r times the width, for the window's rows.
    first = ((t + 1) % window - (t - window + 1)) * width
    within = (depth, 2 * window * width, width)
    _column(sums, clean, ring, at, first, t, levels, parts, window, within, width)


@jit
def _store(target, sums, counts, measure):
    """Store sums, or means; NaN where there is no pixel."""
    if measure == 0:
        for k in range(target.size):
            target[k] = sums[k] if counts[k] else np.nan
    elif measure == 1:
        for k in range(target.size):
            target[k] = np.float64(sums[k]) / np.float64(counts[k])
    else:
        for k in range(target.size):
            target[k] = np.float64(sums[k]) * (1.0 / np.float64(counts[k]))


@jit
def _store_variance(target, sums, squares, counts, ddof, root):
    """Store variances, or deviations; NaN where too few pixels are left."""
    for k in range(target.size):
        n, s = np.int64(counts[k]), np.int64(sums[k])
        left = np.float64(n * max(n - ddof, 0))
        v = np.float64(n * np.int64(squares[k]) - s * s) / left
        target[k] = np.sqrt(v) if root else v


@jit
def _sums(
    flat, valid, shape, out, window, levels_y, parts_y, levels_x, parts_x, clean, ring, exact, rows,
    rows2, counts, at, width, tile_y, tile_x, measure, ddof,
):  # fmt: skip
    """Sums, means or variances of the pixels of every window that count."""
    # What is None is not compiled: `clean` of integers, `exact` of floats, `rows2` of no variance.
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps = (depth, sy * sx, sx)
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        for bz in range(batch * nz):
            b, z = bz // nz, bz % nz
            for y0 in range(0, height, tile_y):
                rows[:n] = 0
                counts[:n] = 0
                if rows2 is not None:
                    rows2[:n] = 0
                origin = ((b * sz + z) * sy + y0) * sx + x0
                for t in range(min(tile_y, height - y0) + wy - 1):
                    y = y0 + t - wy + 1
                    _rows.fetch(flat, origin + (t + 1) * sx, n)
                    _slide(counts[:n], valid, origin, t, wy, steps)
                    if clean is not None:
                        _join_rows(
                            rows[:n], clean, ring, flat, valid, at, origin, t, levels_y, parts_y,
                            wy, steps, width,
                        )  # fmt: skip
                    if exact is not None:
                        _move(rows[:n], flat, valid, origin, t, wy, steps, False)
                    if rows2 is not None:
                        _move(rows2[:n], flat, valid, origin, t, wy, steps, True)
                    if y < y0:
                        continue
                    target = out[b, z, y, x0 : x0 + nx]
                    total = _windows(rows, at, width, levels_x, parts_x, wx, nx)
                    many = _windows(counts, at, width, levels_x, parts_x, wx, nx)
                    if rows2 is not None:
                        two = _windows(rows2, at, width, levels_x, parts_x, wx, nx)
                        _store_variance(target, total, two, many, ddof, measure == 4)
                    else:
                        _store(target, total, many, measure)


def run_valid(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    dtypes: tuple[Any, ...],
    wanted: Wanted,
) -> NDArray[Any]:
    """Compute sums, means or variances; dtypes of work (for variances: both) and of the result."""
    shape = core_shape(block, size)
    view, kept, window = as4d(block), as4d(valid), pad3(size, 1)
    work, result = np.dtype(dtypes[0]), np.dtype(dtypes[-1])
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (axis_of(window[0]), axis_of(window[1]), axis_of(window[2]))
        ring_rows = int(axes[1].levels[:, 3].sum()) if work.kind == "f" else 0
        tile_y, tile_x = layout(
            out.shape, axes, ring_rows, sum(np.dtype(one).itemsize for one in dtypes[:-1]) + 4,
            view.itemsize + 1,
        )  # fmt: skip
        if work.kind == "f":
            tile_x = min(tile_x, max(_STRIP, 2 * window[2]))
        width = -(-(tile_x + window[2] - 1) // 16) * 16
        length = (len(axes[2].levels) + 1) * width
        clean = ring = rows2 = None
        if work.kind == "f":
            clean = aligned(2 * window[0] * window[1] * width, work)
            ring = aligned(ring_rows * width, work)
        if len(dtypes) > 2:
            rows2 = aligned(length, np.dtype(dtypes[1]))
        _sums(
            view.reshape(-1), kept.reshape(-1), view.shape, out, window, *axes[1][1:], *axes[2][1:],
            clean, ring, None if work.kind == "f" else True, aligned(length, work), rows2,
            aligned(length, np.dtype(np.int32)),
            np.empty(max(window[0] * window[1], window[2], 8), np.int64), width, tile_y, tile_x,
            wanted.measure, wanted.ddof,
        )  # fmt: skip
    return out.reshape(shape)

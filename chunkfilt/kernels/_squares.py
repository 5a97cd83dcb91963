"""Variances of small integers over boxes: exact sums of pixels and of squares, as the window moves.

Sums along columns take the row that enters and give back the one that leaves; along rows they are
joined as `_sums` joins its own. Integers are exact in any order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._sums import aligned, axis_of, layout

__all__ = ["run_squares"]


@jit
def _enter(out, out2, flat, at):
    """Add a row, and its squares, to two others."""
    a, kind, kind2 = np.uint64(at), out.dtype.type, out2.dtype.type
    for k in range(out.size):
        v = np.int32(flat[a + np.uint64(k)])
        out[k] += kind(v)
        out2[k] += kind2(np.int64(v) * np.int64(v))


@jit
def _slide(out, out2, flat, enters, leaves):
    """Add a row, and its squares, to two others, less a row that leaves."""
    a, b, kind, kind2 = np.uint64(enters), np.uint64(leaves), out.dtype.type, out2.dtype.type
    for k in range(out.size):
        i = np.uint64(k)
        p, q = np.int32(flat[a + i]), np.int32(flat[b + i])
        d = np.int32(p - q)
        out[k] += kind(d)
        out2[k] += kind2(np.int64(d) * np.int64(np.int32(p + q)))


@jit
def _move(column, column2, flat, origin, t, window, steps):
    """Take row t of every plane into sums of columns, and give back the row that leaves them."""
    depth, plane, pitch = steps
    for d in range(depth):
        row = origin + d * plane + t * pitch
        if t < window:
            _enter(column, column2, flat, row)
        else:
            _slide(column, column2, flat, row, row - window * pitch)


@jit
def _variances(target, a, a2, count, divisor, root):
    """Store variances, or deviations, of windows with these sums."""
    for k in range(target.size):
        s = np.int64(a[k])
        v = np.float64(np.int64(count) * np.int64(a2[k]) - s * s) / divisor
        target[k] = np.sqrt(v) if root else v


@jit
def _windows(rows, at, width, levels, parts, window, nx):
    """Join windows along the row that starts some rows, into the last of them."""
    for k in range(1, levels.shape[0]):
        for j in range(levels[k, 0]):
            at[j] = (k - 1) * width + j * levels[k - 1, 1]
        n = nx + window - levels[k, 1]
        _rows.total(rows[k * width : k * width + n], rows, at, levels[k, 0])
    if parts.shape[0] == 1:
        return rows[:nx]
    for p in range(parts.shape[0]):
        at[p] = parts[p, 0] * width + parts[p, 1]
    last = levels.shape[0] * width
    _rows.total(rows[last : last + nx], rows, at, parts.shape[0])
    return rows[last : last + nx]


@jit
def _squares(
    flat, shape, out, window, levels, parts, rows, rows2, at, width, tile_y, tile_x, divisor, root
):
    """Variances of every window."""
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps, count = (depth, sy * sx, sx), depth * wy * wx
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        column, column2 = rows[: nx + wx - 1], rows2[: nx + wx - 1]
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    column[:] = 0
                    column2[:] = 0
                    origin = ((b * sz + z) * sy + y0) * sx + x0
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        y = y0 + t - wy + 1
                        _rows.fetch(flat, origin + (t + 1) * sx, nx + wx - 1)
                        _move(column, column2, flat, origin, t, wy, steps)
                        if y >= y0:
                            a = _windows(rows, at, width, levels, parts, wx, nx)
                            a2 = _windows(rows2, at, width, levels, parts, wx, nx)
                            target = out[b, z, y, x0 : x0 + nx]
                            _variances(target, a, a2, count, divisor, root)


def run_squares(
    block: NDArray[Any],
    size: tuple[int, ...],
    dtypes: tuple[Any, Any, Any],
    divisor: float,
    root: bool,
) -> NDArray[Any]:
    """Compute variances of integers up to 16 bits; dtypes of both sums and of the result."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    work, work2, result = (np.dtype(one) for one in dtypes)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (axis_of(window[0]), axis_of(window[1]), axis_of(window[2]))
        pair = work.itemsize + work2.itemsize
        tile_y, tile_x = layout(out.shape, axes, 0, pair, view.itemsize)
        width = -(-(tile_x + window[2] - 1) // 16) * 16
        length = (len(axes[2].levels) + 1) * width
        _squares(
            view.reshape(-1), view.shape, out, window, *axes[2][1:], aligned(length, work),
            aligned(length, work2), np.empty(max(window[2], 8), np.int64), width, tile_y, tile_x,
            divisor, root,
        )  # fmt: skip
    return out.reshape(shape)

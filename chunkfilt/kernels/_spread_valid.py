"""Variances over boxes of the pixels that count: numbers, means and squared deviations, joined.

Windows are joined as in `_spread`, from the same parts in the same order and by the same formulas,
to the same bits where all pixels count. A part without a pixel has a mean of 0; what it differs by
is left out and not weighted by 0, for its square may be infinite.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._sums import aligned, axis_of, layout

__all__ = ["run_spread_valid", "store"]

_MOST = 5  # parts that one loop joins
_STRIP = 1000  # columns of a strip


@jit
def _gather(cells, place, size, flat, valid, at, n):
    """Take means, squared deviations and numbers of one to five rows of pixels."""
    kind, means, spreads, counts = np.float64, cells[0], cells[1], cells[2]
    a, b, c = np.uint64(at[0]), np.uint64(at[min(1, n - 1)]), np.uint64(at[min(2, n - 1)])
    d, e, o = np.uint64(at[min(3, n - 1)]), np.uint64(at[n - 1]), np.uint64(place)
    has_b, has_c, has_d, has_e = np.uint8(n > 1), np.uint8(n > 2), np.uint8(n > 3), np.uint8(n > 4)
    for k in range(size):
        i = np.uint64(k)
        u, v, w = valid[a + i], valid[b + i] & has_b, valid[c + i] & has_c
        x, y = valid[d + i] & has_d, valid[e + i] & has_e
        p, q, r = kind(flat[a + i]), kind(flat[b + i]), kind(flat[c + i])
        s, t = kind(flat[d + i]), kind(flat[e + i])
        first = t if y else 0.0
        first = s if x else first
        first = r if w else first
        first = q if v else first
        first = p if u else first
        q, r = q - first if v else 0.0, r - first if w else 0.0
        s, t = s - first if x else 0.0, t - first if y else 0.0
        count = kind(u + v + w + x + y)
        m = ((q + r) + (s + t)) * (1.0 / max(count, 1.0))
        p, q, r = m if u else 0.0, q - m if v else 0.0, r - m if w else 0.0
        s, t = s - m if x else 0.0, t - m if y else 0.0
        means[o + i] = first + m
        spreads[o + i] = (p * p + q * q) + (r * r + s * s) + t * t
        counts[o + i] = count


@jit
def _join_two(cells, place, size, at):
    """Join two rows of means, squared deviations and numbers."""
    means, spreads, counts = cells[0], cells[1], cells[2]
    a, b, o = np.uint64(at[0]), np.uint64(at[1]), np.uint64(place)
    for k in range(size):
        i = np.uint64(k)
        u, v, q = counts[a + i], counts[b + i], means[b + i]
        first = means[a + i] if u > 0 else q
        p = q - first if v > 0 else 0.0
        share = v / max(u + v, 1.0)
        spreads[o + i] = (spreads[a + i] + spreads[b + i]) + p * p * (u * share)
        means[o + i] = first + p * share
        counts[o + i] = u + v


@jit
def _join_five(cells, place, size, at):
    """Join five rows of means, squared deviations and numbers."""
    means, spreads, counts = cells[0], cells[1], cells[2]
    a, b, c = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    d, e, o = np.uint64(at[3]), np.uint64(at[4]), np.uint64(place)
    for k in range(size):
        i = np.uint64(k)
        u, v, w, x, y = counts[a + i], counts[b + i], counts[c + i], counts[d + i], counts[e + i]
        q, r, s, t = means[b + i], means[c + i], means[d + i], means[e + i]
        first = s if x > 0 else t
        first = r if w > 0 else first
        first = q if v > 0 else first
        first = means[a + i] if u > 0 else first
        q, r, s, t = q - first, r - first, s - first, t - first
        count = u + v + w + x + y
        every = max(count, 1.0)
        m = (q * (v / every) + r * (w / every)) + (s * (x / every) + t * (y / every))
        p, q, r = m if u > 0 else 0.0, q - m if v > 0 else 0.0, r - m if w > 0 else 0.0
        s, t = s - m if x > 0 else 0.0, t - m if y > 0 else 0.0
        j = (p * p * u + q * q * v) + (r * r * w + s * s * x) + t * t * y
        h = (spreads[a + i] + spreads[b + i]) + (spreads[c + i] + spreads[d + i])
        spreads[o + i] = (h + spreads[e + i]) + j
        means[o + i] = first + m
        counts[o + i] = count


@jit
def _join(cells, place, size, at, n):
    """Join one to five rows; the first row of all, without a pixel, stands for those not there."""
    if n == 1:
        a = at[0]
        for k in range(cells.shape[0]):
            _rows.copy(cells[k, place : place + size], cells[k, a : a + size])
    elif n == 2:
        _join_two(cells, place, size, at)
    else:
        at[n:_MOST] = 0
        _join_five(cells, place, size, at)


@jit
def _join_all(cells, place, size, at, n, spare):
    """Join rows, a few at a time, by way of two spare ones."""
    first, most = 0, min(n, _MOST)  # a literal would be compiled apart
    while n - first > _MOST:
        _join(cells, spare, size, at[first:], most)
        first += _MOST - 1
        at[first] = spare
        spare += size if first // (_MOST - 1) % 2 else -size
    _join(cells, place, size, at[first:], n - first)


@jit
def _planes(cells, place, size, flat, valid, at, origin, steps, spare):
    """Join the pixels of every plane in one row."""
    depth, plane, _ = steps
    parts = (depth + _MOST - 1) // _MOST
    for p in range(parts):
        n, cell = min(_MOST, depth - p * _MOST), spare + (2 + p) * size
        for d in range(n):
            at[p + d] = origin + (p * _MOST + d) * plane
        _gather(cells, cell, size, flat, valid, at[p:], n)
        at[p] = cell
    _join_all(cells, place, size, at, parts, spare)


@jit
def _level(cells, flat, valid, at, origin, t, k, levels, steps, width, size):
    """Join the rows of level k that row t completes."""
    count, span, start = levels[k, 0], levels[k, 1], levels[k, 2]
    top = t - span + 1
    place = (start + top % levels[k, 3]) * width
    if k == 1 and steps[0] == 1:
        for j in range(count):
            at[j] = origin + (top + j) * steps[2]
        _gather(cells, place, size, flat, valid, at, count)
        return
    span, start, rows = levels[k - 1, 1], levels[k - 1, 2], levels[k - 1, 3]
    for j in range(count):
        at[j] = (start + (top + j * span) % rows) * width
    _join(cells, place, size, at, count)


@jit
def _column(cells, place, size, flat, valid, at, origin, t, levels, parts, steps, width, spare):
    """Join columns from the levels of rows that row t completes, and from single rows."""
    depth, _, pitch = steps
    window = levels[0, 3]
    if depth > 1:
        cell = (levels[0, 2] + t % window) * width
        _planes(cells, cell, size, flat, valid, at, origin + t * pitch, steps, spare)
    for k in range(1, levels.shape[0]):
        if t < levels[k, 1] - 1:
            return
        _level(cells, flat, valid, at, origin, t, k, levels, steps, width, size)
    top, p, n = t - window + 1, 0, parts.shape[0]
    if top < 0:
        return
    while p < n and (parts[p, 0] > 0 or depth > 1):
        start, rows = levels[parts[p, 0], 2], levels[parts[p, 0], 3]
        at[p] = (start + (top + parts[p, 1]) % rows) * width
        p += 1
    if p < n:  # single rows of pixels, the last of the parts
        for j in range(p, n):
            at[j] = origin + (top + parts[j, 1]) * pitch
        if p == 0:
            _gather(cells, place, size, flat, valid, at, n)
            return
        cell = spare + 2 * width
        _gather(cells, cell, size, flat, valid, at[p:], n - p)
        at[p] = cell
        p += 1
    _join_all(cells, place, size, at, p, spare)


@jit
def store(target, cells, place, ddof, root):
    """Store variances, or deviations; NaN where too few pixels are left."""
    means, spreads, counts = cells[0], cells[1], cells[2]
    for k in range(target.size):
        i = np.uint64(place + k)
        # The mean is infinite or NaN when a pixel is: so is then the variance.
        total = spreads[i] + (means[i] - means[i])
        v = total / (counts[i] - ddof) if counts[i] > ddof else np.nan
        target[k] = np.sqrt(v) if root else v


@jit
def _along_row(target, cells, first, at, width, levels, parts, window, ddof, root):
    """Join windows along the row that begins some rows, and store their variances."""
    nx, top = target.size, levels.shape[0]
    for k in range(1, top):
        for j in range(levels[k, 0]):
            at[j] = first + (k - 1) * width + j * levels[k - 1, 1]
        _join(cells, first + k * width, nx + window - levels[k, 1], at, levels[k, 0])
    for p in range(parts.shape[0]):
        at[p] = first + parts[p, 0] * width + parts[p, 1]
    last = first + top * width
    _join_all(cells, last, nx, at, parts.shape[0], last + width)
    store(target, cells, last, ddof, root)


@jit
def _spread(
    flat, valid, shape, out, window, levels_y, parts_y, levels_x, parts_x, cells, at, width, spare,
    first, tile_y, tile_x, ddof, root,
):  # fmt: skip
    """Variances of the pixels of every window that count."""
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
                origin = ((b * sz + z) * sy + y0) * sx + x0
                for t in range(min(tile_y, height - y0) + wy - 1):
                    y = y0 + t - wy + 1
                    _rows.fetch(flat, origin + (t + 1) * sx, n)
                    _column(
                        cells, first, n, flat, valid, at, origin, t, levels_y, parts_y, steps,
                        width, spare,
                    )  # fmt: skip
                    if y >= y0:
                        _along_row(
                            out[b, z, y, x0 : x0 + nx], cells, first, at, width, levels_x, parts_x,
                            wx, ddof, root,
                        )  # fmt: skip


def run_spread_valid(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    result: Any,
    ddof: int,
    root: bool,
) -> NDArray[Any]:
    """Compute variances in float64; the dtype of the result."""
    shape = core_shape(block, size)
    view, kept, window = as4d(block), as4d(valid), pad3(size, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        y, x = axis_of(window[1], _MOST), axis_of(window[2], _MOST)
        depths = axis_of(window[0], _MOST)
        # The first row of all holds no pixel; rows of joined planes come next, then the levels.
        base = 1 + (window[1] if window[0] > 1 else 0)
        y.levels[:, 2] += base
        y.levels[0, 2:] = 1, window[1]
        spare = base + int(y.levels[1:, 3].sum())
        first = spare + 4 + window[0] // _MOST
        tile_y, tile_x = layout(out.shape, (depths, y, x), spare, 24, view.itemsize + 1)
        tile_x = min(tile_x, max(_STRIP, 2 * window[2]))
        width = -(-(tile_x + window[2] - 1) // 16) * 16
        rows = first + len(x.levels) + 3
        cells = aligned(3 * rows * width, np.dtype(np.float64)).reshape(3, rows * width)
        cells[:, :width] = 0
        _spread(
            view.reshape(-1), kept.reshape(-1), view.shape, out, window, *y[1:], *x[1:], cells,
            np.empty(max(*window, 8) + _MOST, np.int64), width, spare * width, first * width,
            tile_y, tile_x, float(ddof), root,
        )  # fmt: skip
    return out.reshape(shape)

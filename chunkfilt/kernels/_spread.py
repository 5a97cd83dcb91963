"""Variances over boxes, of floats and wide integers: means and squared deviations, joined.

A window of w pixels is joined from windows of a few pixels, and these from fewer still, up to five
at once. Parts are measured from the first of them: a large offset costs no digits, and equal
pixels have a variance of exactly 0. The order depends on w alone, so that a result does not depend
on where the block starts, and a NaN stays within its windows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._sums import aligned, axis_of, layout

__all__ = ["run_spread"]

_MOST = 5  # parts that one loop joins
_STRIP = 1400  # columns of a strip


@jit
def _gather(out, out2, flat, at, n):
    """Take means and squared deviations of one to five rows of pixels."""
    kind, share = np.float64, 1.0 / n
    a, b, c = np.uint64(at[0]), np.uint64(at[min(1, n - 1)]), np.uint64(at[min(2, n - 1)])
    d, e = np.uint64(at[min(3, n - 1)]), np.uint64(at[n - 1])
    if n == 1:
        for k in range(out.size):
            out[k] = flat[a + np.uint64(k)]
            out2[k] = 0
    elif n == 2:
        for k in range(out.size):
            i = np.uint64(k)
            first = kind(flat[a + i])
            p = (kind(flat[b + i]) - first) * 0.5
            out[k] = first + p
            out2[k] = p * p * 2.0
    elif n == 3:
        for k in range(out.size):
            i = np.uint64(k)
            first = kind(flat[a + i])
            p, q = kind(flat[b + i]) - first, kind(flat[c + i]) - first
            m = (p + q) * share
            p, q = p - m, q - m
            out[k] = first + m
            out2[k] = m * m + p * p + q * q
    elif n == 4:
        for k in range(out.size):
            i = np.uint64(k)
            first = kind(flat[a + i])
            p, q = kind(flat[b + i]) - first, kind(flat[c + i]) - first
            r = kind(flat[d + i]) - first
            m = (p + q + r) * 0.25
            p, q, r = p - m, q - m, r - m
            out[k] = first + m
            out2[k] = (m * m + p * p) + (q * q + r * r)
    else:
        for k in range(out.size):
            i = np.uint64(k)
            first = kind(flat[a + i])
            p, q = kind(flat[b + i]) - first, kind(flat[c + i]) - first
            r, s = kind(flat[d + i]) - first, kind(flat[e + i]) - first
            m = ((p + q) + (r + s)) * share
            p, q, r, s = p - m, q - m, r - m, s - m
            out[k] = first + m
            out2[k] = (m * m + p * p) + (q * q + r * r) + s * s


@jit
def _join_few(out, out2, flat, flat2, at, counts, n):
    """Join two or three rows of means and squared deviations of so many pixels each."""
    a, b, c = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[n - 1])
    u, v, w = counts[0], counts[1], counts[n - 1]
    if n == 2:
        share, weight = v / (u + v), u * (v / (u + v))
        for k in range(out.size):
            i = np.uint64(k)
            first = flat[a + i]
            p = flat[b + i] - first
            out[k] = first + p * share
            out2[k] = (flat2[a + i] + flat2[b + i]) + p * p * weight
        return
    share, share2 = v / (u + v + w), w / (u + v + w)
    for k in range(out.size):
        i = np.uint64(k)
        first = flat[a + i]
        p, q = flat[b + i] - first, flat[c + i] - first
        m = p * share + q * share2
        p, q = p - m, q - m
        out[k] = first + m
        s = flat2[a + i] + flat2[b + i] + flat2[c + i]
        out2[k] = s + (m * m * u + p * p * v + q * q * w)


@jit
def _join_more(out, out2, flat, flat2, at, counts, n):
    """Join four or five rows of means and squared deviations of so many pixels each."""
    a, b, c = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    d, e = np.uint64(at[3]), np.uint64(at[n - 1])
    u, v, w, x, y = counts[0], counts[1], counts[2], counts[3], counts[n - 1]
    every = u + v + w + x + (y if n == _MOST else 0.0)
    v1, w1, x1, y1 = v / every, w / every, x / every, y / every
    if n == 4:
        for k in range(out.size):
            i = np.uint64(k)
            first = flat[a + i]
            p, q, r = flat[b + i] - first, flat[c + i] - first, flat[d + i] - first
            m = p * v1 + q * w1 + r * x1
            p, q, r = p - m, q - m, r - m
            out[k] = first + m
            s = (flat2[a + i] + flat2[b + i]) + (flat2[c + i] + flat2[d + i])
            out2[k] = s + ((m * m * u + p * p * v) + (q * q * w + r * r * x))
        return
    for k in range(out.size):
        i = np.uint64(k)
        first = flat[a + i]
        p, q = flat[b + i] - first, flat[c + i] - first
        r, s = flat[d + i] - first, flat[e + i] - first
        m = (p * v1 + q * w1) + (r * x1 + s * y1)
        p, q, r, s = p - m, q - m, r - m, s - m
        out[k] = first + m
        t = (m * m * u + p * p * v) + (q * q * w + r * r * x) + s * s * y
        s = (flat2[a + i] + flat2[b + i]) + (flat2[c + i] + flat2[d + i]) + flat2[e + i]
        out2[k] = s + t


@jit
def _join(out, out2, flat, flat2, at, counts, n):
    """Join two to five rows of means and squared deviations."""
    if n <= 3:
        _join_few(out, out2, flat, flat2, at, counts, n)
    else:
        _join_more(out, out2, flat, flat2, at, counts, n)


@jit
def _join_all(out, out2, flat, flat2, at, counts, n, spare):
    """Join rows of means and squared deviations, a few at a time, by way of two spare rows."""
    first, size, most = 0, out.size, min(n, _MOST)  # a literal would be compiled apart
    if n == 1:
        a = at[0]
        _rows.copy(out, flat[a : a + size])
        _rows.copy(out2, flat2[a : a + size])
        return
    while n - first > _MOST:
        _join(
            flat[spare : spare + size], flat2[spare : spare + size], flat, flat2,
            at[first:], counts[first:], most,
        )  # fmt: skip
        every = 0.0
        for p in range(first, first + _MOST):
            every += counts[p]
        first += _MOST - 1
        at[first], counts[first] = spare, every
        spare += size if first // (_MOST - 1) % 2 else -size
    _join(out, out2, flat, flat2, at[first:], counts[first:], n - first)


@jit
def _planes(out, out2, flat, ring, ring2, at, counts, origin, steps, spare):
    """Join the pixels of every plane in one row."""
    depth, plane, _ = steps
    parts, size = (depth + _MOST - 1) // _MOST, out.size
    for p in range(parts):
        n, cell = min(_MOST, depth - p * _MOST), spare + (2 + p) * size
        for d in range(n):
            at[p + d] = origin + (p * _MOST + d) * plane
        _gather(ring[cell : cell + size], ring2[cell : cell + size], flat, at[p:], n)
        at[p], counts[p] = cell, n
    _join_all(out, out2, ring, ring2, at, counts, parts, spare)


@jit
def _column(out, out2, flat, ring, ring2, at, counts, origin, t, levels, parts, steps, spare):
    """Join columns from the levels of rows that row t completes, and from single rows."""
    depth, _, pitch = steps
    width, window = out.size, levels[0, 3]
    if depth > 1:
        cell = t % window * width
        _planes(
            ring[cell : cell + width], ring2[cell : cell + width], flat, ring, ring2, at, counts,
            origin + t * pitch, steps, spare,
        )  # fmt: skip
    for k in range(1, levels.shape[0]):
        count, span, cell = levels[k, 0], levels[k, 1], levels[k, 2]
        top = t - span + 1
        if top < 0:
            return
        cell = (cell + top % levels[k, 3]) * width
        target, target2 = ring[cell : cell + width], ring2[cell : cell + width]
        span, start, size = levels[k - 1, 1], levels[k - 1, 2], levels[k - 1, 3]
        if k == 1 and depth == 1:
            for j in range(count):
                at[j] = origin + (top + j) * pitch
            _gather(target, target2, flat, at, count)
        else:
            for j in range(count):
                at[j], counts[j] = (start + (top + j * span) % size) * width, span * depth
            _join(target, target2, ring, ring2, at, counts, count)
    top, p, n = t - window + 1, 0, parts.shape[0]
    if top < 0:
        return
    while p < n and (parts[p, 0] > 0 or depth > 1):
        k = parts[p, 0]
        span, start, size = levels[k, 1], levels[k, 2], levels[k, 3]
        at[p], counts[p] = (start + (top + parts[p, 1]) % size) * width, span * depth
        p += 1
    if p < n:  # single rows of pixels, the last of the parts
        cell = spare + 2 * width
        for j in range(p, n):
            at[j] = origin + (top + parts[j, 1]) * pitch
        if p == 0:
            _gather(out, out2, flat, at, n)
            return
        _gather(ring[cell : cell + width], ring2[cell : cell + width], flat, at[p:], n - p)
        at[p], counts[p] = cell, n - p
        p += 1
    _join_all(out, out2, ring, ring2, at, counts, p, spare)


@jit
def _along_row(target, rows, rows2, at, counts, width, levels, parts, window, unit, divisor, root):
    """Join windows along the row that starts some rows, and store their variances."""
    nx, top = target.size, levels.shape[0]
    for k in range(1, top):
        for j in range(levels[k, 0]):
            at[j] = (k - 1) * width + j * levels[k - 1, 1]
            counts[j] = levels[k - 1, 1] * unit
        a, b = k * width, k * width + nx + window - levels[k, 1]
        _join(rows[a:b], rows2[a:b], rows, rows2, at, counts, levels[k, 0])
    for p in range(parts.shape[0]):
        at[p] = parts[p, 0] * width + parts[p, 1]
        counts[p] = levels[parts[p, 0], 1] * unit
    a = top * width
    mean, total = rows[a : a + nx], rows2[a : a + nx]
    _join_all(mean, total, rows, rows2, at, counts, parts.shape[0], a + width)
    for k in range(nx):
        # The mean is infinite or NaN when a pixel is: so is then the variance.
        v = (total[k] + (mean[k] - mean[k])) / divisor
        target[k] = np.sqrt(v) if root else v


@jit
def _spread(
    flat, shape, out, window, levels_y, parts_y, levels_x, parts_x, ring, ring2, rows, rows2,
    at, counts, width, spare, tile_y, tile_x, divisor, root,
):  # fmt: skip
    """Variances of every window."""
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps = (depth, sy * sx, sx)
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    origin = ((b * sz + z) * sy + y0) * sx + x0
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        y = y0 + t - wy + 1
                        _rows.fetch(flat, origin + (t + 1) * sx, n)
                        _column(
                            rows[:n], rows2[:n], flat, ring, ring2, at, counts, origin, t,
                            levels_y, parts_y, steps, spare,
                        )  # fmt: skip
                        if y >= y0:
                            _along_row(
                                out[b, z, y, x0 : x0 + nx], rows, rows2, at, counts, width,
                                levels_x, parts_x, wx, depth * wy, divisor, root,
                            )  # fmt: skip


def run_spread(
    block: NDArray[Any], size: tuple[int, ...], result: Any, divisor: float, root: bool
) -> NDArray[Any]:
    """Compute variances in float64; the dtype of the result."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    work = np.dtype(np.float64)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        axes = (axis_of(window[0], _MOST), axis_of(window[1], _MOST), axis_of(window[2], _MOST))
        levels_y, parts_y = axes[1][1:]
        base = window[1] if window[0] > 1 else 0  # rows of planes, joined
        levels_y[:, 2] += base
        levels_y[0, 2:] = 0, window[1]
        ring_rows = base + int(levels_y[1:, 3].sum())
        tile_y, tile_x = layout(out.shape, axes, ring_rows, 2 * work.itemsize, view.itemsize)
        tile_x = min(tile_x, max(_STRIP, 2 * window[2]))
        width = -(-(tile_x + window[2] - 1) // 16) * 16
        places = max(window[0], window[1], window[2], 8)
        ring_size = (ring_rows + 4 + window[0] // _MOST) * width
        rows_size = (len(axes[2].levels) + 3) * width
        _spread(
            view.reshape(-1), view.shape, out, window, levels_y, parts_y, *axes[2][1:],
            aligned(ring_size, work), aligned(ring_size, work), aligned(rows_size, work),
            aligned(rows_size, work), np.empty(places, np.int64), np.empty(places), width,
            ring_rows * width, tile_y, tile_x, divisor, root,
        )  # fmt: skip
    return out.reshape(shape)

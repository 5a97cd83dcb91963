"""Extremes over boxes: the compiled loops, on integers in the order of the pixels.

A window of w pixels is joined from up to five windows of about w / 5 pixels, which may overlap, and
these from smaller ones in the same way; along columns first and then along rows. The least pixel
is the greatest of keys turned round; a NaN has the greatest key either way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._keys import FLOAT, UNSIGNED, key_rule
from chunkfilt.kernels._sums import aligned

__all__ = ["peak_memory", "run_peak"]

_MOST = 5  # parts that one loop joins
_STRIP = 16384  # bytes of a row of a strip


def _levels(window: int) -> NDArray[np.int64]:
    """List windows from one pixel on: length, first row of a ring, rows, parts and their places."""
    spans = [window]
    while spans[0] > 1:
        spans.insert(0, -(-spans[0] // _MOST))
    # A row of the ring waits for its place in the next level.
    rows = [above - span + 1 for span, above in zip(spans, [*spans[1:], window], strict=True)]
    table = [[1, 0, rows[0], 0, *[0] * _MOST]]
    for k, span in enumerate(spans[1:], 1):
        below = spans[k - 1]
        begins = [min(p * below, span - below) for p in range(_MOST)]
        table.append([span, sum(rows[:k]), rows[k], -(-span // below), *begins])
    return np.array(table)


@jit
def _keys(row, bits, kind, consts, flip):
    """Turn pixels into keys."""
    sign, most, above, below = consts[0], consts[1], consts[2], consts[3]
    zero = sign ^ sign
    if kind == FLOAT:
        for i in range(row.size):
            v = bits[i]
            key = v ^ (most if v < zero else zero)
            row[i] = most if key > above or key < below else key ^ flip
    else:
        turn = flip ^ (sign if kind == UNSIGNED else zero)
        for i in range(row.size):
            row[i] = bits[i] ^ turn


@jit
def _pixels(target, row, kind, consts, flip):
    """Turn keys into pixels."""
    sign, most, nan = consts[0], consts[1], consts[4]
    zero = sign ^ sign
    if kind == FLOAT:
        for i in range(row.size):
            key = row[i] ^ flip
            v = key ^ (most if key < zero else zero)
            target[i] = nan if row[i] == most else v
    else:
        turn = flip ^ (sign if kind == UNSIGNED else zero)
        for i in range(row.size):
            target[i] = row[i] ^ turn


@jit
def _greatest(out, flat, at, n):
    """Take the greatest of one to five rows."""
    a, b, c = np.uint64(at[0]), np.uint64(at[min(1, n - 1)]), np.uint64(at[min(2, n - 1)])
    d, e = np.uint64(at[min(3, n - 1)]), np.uint64(at[n - 1])
    if n <= 3:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = max(flat[a + i], flat[b + i], flat[c + i])
    else:
        for k in range(out.size):
            i = np.uint64(k)
            v = max(flat[a + i], flat[b + i], flat[c + i])
            out[k] = max(v, flat[d + i], flat[e + i])


@jit
def _fold(out, row):
    for k in range(out.size):
        out[k] = max(out[k], row[k])


@jit
def _column(ring, rows, at, t, levels, width, n):
    """Join levels of rows that row t completes; tell whether the window is one of them."""
    for k in range(1, levels.shape[0]):
        start, size, top = levels[k - 1, 1], levels[k - 1, 2], t - levels[k, 0] + 1
        if top < 0:
            return False
        for p in range(levels[k, 3]):
            at[p] = (start + (top + levels[k, 4 + p]) % size) * width
        cell = (levels[k, 1] + top % levels[k, 2]) * width
        if k == levels.shape[0] - 1:
            _greatest(rows[:n], ring, at, levels[k, 3])
        else:
            _greatest(ring[cell : cell + n], ring, at, levels[k, 3])
    return True


@jit
def _peaks(flat, view, out, depth, levels_y, levels_x, ring, rows, at, width, tile_y, tile_x, key):
    """Greatest keys of every window, as pixels."""
    kind, consts, flip = key
    batch, nz, height, length = out.shape
    wy, wx = levels_y[levels_y.shape[0] - 1, 0], levels_x[levels_x.shape[0] - 1, 0]
    _, sz, sy, sx = view.shape
    top = levels_x.shape[0]
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        _rows.fetch(flat, (((b * sz + z) * sy) + y0 + t + 1) * sx + x0, n)
                        cell = t % levels_y[0, 2] * width
                        first = rows[:n] if wy == 1 else ring[cell : cell + n]
                        _keys(first, view[b, z, y0 + t, x0 : x0 + n], kind, consts, flip)
                        for d in range(1, depth):
                            other = rows[top * width : top * width + n]
                            _keys(other, view[b, z + d, y0 + t, x0 : x0 + n], kind, consts, flip)
                            _fold(first, other)
                        if not _column(ring, rows, at, t, levels_y, width, n):
                            continue
                        for k in range(1, top):
                            for p in range(levels_x[k, 3]):
                                at[p] = (k - 1) * width + levels_x[k, 4 + p]
                            m = k * width + n - levels_x[k, 0] + 1
                            _greatest(rows[k * width : m], rows, at, levels_x[k, 3])
                        last = rows[(top - 1) * width : (top - 1) * width + nx]
                        _pixels(out[b, z, y0 + t - wy + 1, x0 : x0 + nx], last, kind, consts, flip)


def _layout(
    core: tuple[int, ...], window: tuple[int, ...], itemsize: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Return levels along y and x, columns of a tile, and the pitch of its rows."""
    levels_y, levels_x = _levels(window[1]), _levels(window[2])
    strip = min(max(_STRIP // itemsize, 2 * window[2]), core[3])
    tile_x = -(-core[3] // -(-core[3] // strip))
    return levels_y, levels_x, tile_x, -(-(tile_x + window[2] - 1) // 64) * 64


def peak_memory(core: tuple[int, ...], window: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes that `run_peak` works in, for a core and a window `(z, y, x)`."""
    levels_y, levels_x, _, width = _layout((1, *core[:2], max(core[2], 1)), window, itemsize)
    return (int(levels_y[:, 2].sum()) + len(levels_x) + 2) * width * itemsize


def run_peak(block: NDArray[Any], size: tuple[int, ...], least: bool) -> NDArray[Any]:
    """Compute the greatest or the least pixel of each window."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    kind, consts = key_rule(view.dtype)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), consts.dtype)
    if out.size:
        levels_y, levels_x, tile_x, width = _layout(out.shape, window, out.itemsize)
        # Planes are read once per plane of the window: a tile's planes should stay in the cache.
        tile_y = max(800_000 // (width * out.itemsize * window[0]), 2 * window[1], 16)
        tile_y = min(tile_y, out.shape[2]) if window[0] > 1 else out.shape[2]
        bits, flip = view.view(consts.dtype), consts.dtype.type(-1 if least else 0)
        _peaks(
            bits.reshape(-1), bits, out, window[0], levels_y, levels_x,
            aligned(int(levels_y[:, 2].sum()) * width, consts.dtype),
            aligned((len(levels_x) + 1) * width, consts.dtype), np.empty(_MOST, np.int64),
            width, tile_y, tile_x, (kind, consts, flip),
        )  # fmt: skip
    return out.reshape(shape).view(view.dtype)

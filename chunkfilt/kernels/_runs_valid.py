"""Variances under footprints of the pixels that count: the compiled loops.

Runs of pixels are joined as in `_runs`, from the same parts in the same order and by the same
formulas, to the same bits where all pixels count. A cell of a part holds the mean, the squared
deviations and the number of its pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._runs import _layout, _taps
from chunkfilt.kernels._spread_valid import store

__all__ = ["run_two_valid"]


@jit
def _load(cells, place, size, flat, valid, at):
    """Take a row of pixels as means of one pixel each, or of none."""
    means, spreads, counts = cells[0], cells[1], cells[2]
    a, o = np.uint64(at), np.uint64(place)
    for k in range(size):
        i = np.uint64(k)
        means[o + i] = np.float64(flat[a + i]) if valid[a + i] else 0.0
        spreads[o + i] = 0.0
        counts[o + i] = np.float64(valid[a + i])


@jit
def _join(cells, place, size, left, right):
    """Join two rows of means, squared deviations and numbers into a third."""
    means, spreads, counts = cells[0], cells[1], cells[2]
    a, b, o = np.uint64(left), np.uint64(right), np.uint64(place)
    for k in range(size):
        i = np.uint64(k)
        u, v, q = counts[a + i], counts[b + i], means[b + i]
        first = means[a + i] if u > 0 else q
        # Left out, not weighted by 0: the square may be infinite.
        d = q - first if v > 0 else 0.0
        every = max(u + v, 1.0)
        spreads[o + i] = (spreads[a + i] + spreads[b + i]) + d * d * (u * v / every)
        means[o + i] = first + d * (v / every)
        counts[o + i] = u + v


@jit
def _collect(cells, taps, top, total, size, shape, width):
    """Join the parts of a footprint whose window starts at row `top`; return where they are."""
    _, wy, levels = shape
    for p in range(taps.shape[0]):
        row = (taps[p, 0] * wy + (top + taps[p, 1]) % wy) * levels + taps[p, 2]
        part = row * width + taps[p, 3]
        if p == 0:
            for k in range(cells.shape[0]):
                _rows.copy(cells[k, total : total + size], cells[k, part : part + size])
            continue
        # To and fro between two rows: updates in place do not vectorise.
        place = total + width if p % 2 else total - width
        _join(cells, place, size, total, part)
        total = place
    return total


@jit
def _footprints(
    flat, valid, shape, out, taps, cells, rows, length_x, width, tile_y, tile_x, ddof, root
):
    """Variances of the pixels under every footprint that count."""
    batch, nz, height, length = out.shape
    depth, wy, levels = rows
    _, sz, sy, sx = shape
    last = depth * wy * levels * width
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + length_x - 1
        for bz in range(batch * nz):
            b, z = bz // nz, bz % nz
            for y0 in range(0, height, tile_y):
                for t in range(min(tile_y, height - y0) + wy - 1):
                    for d in range(depth):
                        at = (d * wy + t % wy) * levels * width
                        pixels = ((b * sz + z + d) * sy + y0 + t) * sx + x0
                        _load(cells, at, n, flat, valid, pixels)
                        for k in range(1, levels):
                            half, at = 1 << (k - 1), at + width
                            size = n - (1 << k) + 1
                            _join(cells, at, size, at - width, at - width + half)
                    top = t - wy + 1
                    if top >= 0:
                        total = _collect(cells, taps, top, last, nx, rows, width)
                        store(out[b, z, y0 + top, x0 : x0 + nx], cells, total, ddof, root)


def run_two_valid(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    footprint: NDArray[np.bool_],
    result: Any,
    ddof: int,
    root: bool,
) -> NDArray[Any]:
    """Compute variances in float64; the dtype of the result."""
    shape = core_shape(block, footprint.shape)
    view, kept, window = as4d(block), as4d(valid), pad3(footprint.shape, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), result)
    if out.size:
        taps = _taps(footprint)
        rows = (window[0], window[1], int(taps[:, 2].max()) + 1)
        tile_y, tile_x = _layout(out.shape, window, 24 * int(np.prod(rows)), view.itemsize + 1)
        width = tile_x + window[2] - 1
        cells = np.empty((3, (int(np.prod(rows)) + 2) * width))
        _footprints(
            view.reshape(-1), kept.reshape(-1), view.shape, out, taps, cells, rows, window[2],
            width, tile_y, tile_x, float(ddof), root,
        )  # fmt: skip
    return out.reshape(shape)

"""Extremes over boxes: the compiled loops, on integers in the order of the pixels.

Rows come in segments as tall as the window. A window is what is left of one segment and what has
been seen of the next; both are kept row by row, so that a pixel costs three comparisons at any
height. Along the row windows of 2, 4, 8 ... pixels are joined, and two of those overlap. The least
pixel is the greatest of keys turned round; a NaN has the greatest key either way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._extremes_lanes import VECTOR, advance, fold, neighbours
from chunkfilt.kernels._keys import FLOAT, UNSIGNED, key_rule
from chunkfilt.kernels._sums import aligned

__all__ = ["peak_memory", "run_peak"]

_CACHE = 600_000  # bytes of the ring that should stay in a core's own cache
_STRIP = 16384  # bytes of a row of a strip
_ROWS = 3  # rows besides the ring: of columns, of what was seen, of neighbours


@jit
def _keys(rows, to, flat, at, n, kind, consts, flip):
    """Turn pixels into keys."""
    to, at = np.uint64(to), np.uint64(at)
    sign, most, above, below = consts[0], consts[1], consts[2], consts[3]
    zero = sign ^ sign
    if kind == FLOAT:
        for i in range(np.uint64(n)):
            v = flat[at + i]
            key = v ^ (most if v < zero else zero)
            rows[to + i] = most if key > above or key < below else key ^ flip
    else:
        turn = flip ^ (sign if kind == UNSIGNED else zero)
        for i in range(np.uint64(n)):
            rows[to + i] = flat[at + i] ^ turn


@jit
def _pixels(out, to, rows, one, two, n, kind, consts, flip):
    """Turn the greater keys of two rows into pixels."""
    to, one, two = np.uint64(to), np.uint64(one), np.uint64(two)
    sign, most, nan = consts[0], consts[1], consts[4]
    zero = sign ^ sign
    if kind == FLOAT:
        for i in range(np.uint64(n)):
            found = max(rows[one + i], rows[two + i])
            key = found ^ flip
            v = key ^ (most if key < zero else zero)
            out[to + i] = nan if found == most else v
    else:
        turn = flip ^ (sign if kind == UNSIGNED else zero)
        for i in range(np.uint64(n)):
            out[to + i] = max(rows[one + i], rows[two + i]) ^ turn


@jit
def _column(rows, t, wy, width):
    """Join row t of a strip, which stands in the ring, to the windows that hold it."""
    to, seen = wy * width, (wy + 1) * width
    row, count = t % wy, width // (VECTOR // rows.itemsize)
    one = row * width
    before = one if row == 0 else seen
    left = one + width if t >= wy and row < wy - 1 else one
    advance(rows, before, one, seen, left, to, count)
    if row == wy - 1:
        for y in range(wy - 2, 0, -1):
            fold(rows, y * width, (y + 1) * width, count)


@jit
def _along(rows, source, spare, nx, wx):
    """Take extremes along a row; return where two rows begin, to be joined for the windows."""
    lanes = VECTOR // rows.itemsize
    levels, span = 0, 1
    while 2 * span <= min(wx, lanes):
        levels, span = levels + 1, 2 * span
    if levels > 0:
        neighbours(rows, source, spare, (nx + wx - 2) // lanes + 1, levels)
        source = spare
    while 2 * span <= wx:
        fold(rows, source, source + span, (nx + wx - 2 * span - 1) // lanes + 1)
        span *= 2
    return source, source + wx - span


@jit
def _peaks(flat, shape, out, core, window, rows, width, tile_y, tile_x, key):
    """Greatest keys of every window, as pixels."""
    kind, consts, flip = key
    _, sz, sy, sx = shape
    batch, nz, height, length = core
    depth, wy, wx = window
    spare = wy * width
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        at, row = ((b * sz + z) * sy + y0 + t) * sx + x0, t % wy * width
                        _rows.fetch(flat, at + sx, n)
                        _keys(rows, row, flat, at, n, kind, consts, flip)
                        for d in range(1, depth):
                            _keys(rows, spare, flat, at + d * sy * sx, n, kind, consts, flip)
                            fold(rows, row, spare, width // (VECTOR // rows.itemsize))
                        if wy > 1:
                            _column(rows, t, wy, width)
                            row = spare
                        if t < wy - 1:
                            continue
                        one, two = _along(rows, row, spare + 2 * width, nx, wx)
                        to = ((b * nz + z) * height + y0 + t - wy + 1) * length + x0
                        _pixels(out, to, rows, one, two, nx, kind, consts, flip)


def _layout(core: tuple[int, ...], window: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return columns of a tile, and the pitch of its rows."""
    strip = max(min(_STRIP, _CACHE // window[1]) // itemsize, 2 * window[2])
    tile_x = -(-core[3] // -(-core[3] // strip))
    # Vectors may begin on the row's last pixel; whole ones leave no remainder to loop over.
    return tile_x, -(-(tile_x + window[2]) // 64) * 64


def peak_memory(core: tuple[int, ...], window: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes that `run_peak` works in, for a core and a window `(z, y, x)`."""
    _, width = _layout((1, *core[:2], max(core[2], 1)), window, itemsize)
    return (window[1] + _ROWS) * width * itemsize


def run_peak(block: NDArray[Any], size: tuple[int, ...], least: bool) -> NDArray[Any]:
    """Compute the greatest or the least pixel of each window."""
    shape = core_shape(block, size)
    view, window = as4d(block), pad3(size, 1)
    kind, consts = key_rule(view.dtype)
    core = (shape[0], *pad3(shape[1:], 1))
    out = np.empty(shape, consts.dtype)
    if out.size:
        tile_x, width = _layout(core, window, out.itemsize)
        # Planes are read once per plane of the window: a tile's planes should stay in the cache.
        tile_y = max(800_000 // (width * out.itemsize * window[0]), 2 * window[1], 16)
        tile_y = min(tile_y, core[2]) if window[0] > 1 else core[2]
        flip = consts.dtype.type(-1 if least else 0)
        _peaks(
            view.view(consts.dtype).reshape(-1), view.shape, out.reshape(-1), core, window,
            aligned((window[1] + _ROWS) * width, consts.dtype), width, tile_y, tile_x,
            (kind, consts, flip),
        )  # fmt: skip
    return out.view(view.dtype)

"""Erosion by structures that are not flat: the least of the pixels less the structure's heights.

Unsigned integers are lowered in their own width and stop at 0 and at their greatest value; the
least of values that stop is the least value, stopped, so nothing wider is needed.  Signed ones are
turned into unsigned ones before, and a dilation is an erosion of pixels turned upside down.  Floats
are lowered as they are; there is no NaN among them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import core_shape, jit, pad3

__all__ = ["least_float", "least_integer"]

_CACHE = 32768  # bytes of a window's rows that a strip should keep in the first cache
_AT_ONCE = 4  # taps that one loop takes


def least_integer(
    block: NDArray[Any], cells: NDArray[np.bool_], heights: list[int], bars: NDArray[Any] | None
) -> NDArray[Any]:
    """Take the least of unsigned pixels less heights; those under a bar (all ones) do not count.

    Heights stand in the order of the structure's pixels; negative ones raise.
    """
    shape = core_shape(block, cells.shape)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), block.dtype)
    if out.size:
        most = int(np.iinfo(block.dtype).max)
        places = _places(block.shape, cells)
        down = [k for k, h in enumerate(heights) if h >= 0]
        up = [k for k, h in enumerate(heights) if h < 0]
        order = [*down, *down[-1:] * (-len(down) % _AT_ONCE), *up, *up[-1:] * (-len(up) % _AT_ONCE)]
        amounts = np.array([min(abs(heights[k]), most) for k in order], block.dtype)
        downs = -(-len(down) // _AT_ONCE) * _AT_ONCE
        barred = np.empty(0, block.dtype) if bars is None else bars.reshape(-1)
        _integers(
            block.reshape(-1), barred, out, pad3(block.shape[1:], 1), places[order], amounts,
            downs, _strip(cells, block.itemsize),
        )  # fmt: skip
    return out.reshape(shape)


def least_float(
    block: NDArray[Any], cells: NDArray[np.bool_], heights: NDArray[Any]
) -> NDArray[Any]:
    """Take the least of float pixels less heights, in the block's dtype; there is no NaN."""
    shape = core_shape(block, cells.shape)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), block.dtype)
    if out.size:
        places = _places(block.shape, cells)
        order = [*range(len(places)), *[len(places) - 1] * (-len(places) % _AT_ONCE)]
        amounts = heights.astype(block.dtype)[order]
        sizes, strip = pad3(block.shape[1:], 1), _strip(cells, block.itemsize)
        _floats(block.reshape(-1), out, sizes, places[order], amounts, strip)
    return out.reshape(shape)


def _places(shape: tuple[int, ...], cells: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return how far each pixel of the structure lies behind its first place, in pixels."""
    _, y, x = pad3(shape[1:], 1)
    at = np.argwhere(cells.reshape(pad3(cells.shape, 1)))
    return ((at[:, 0] * y + at[:, 1]) * x + at[:, 2]).astype(np.uint64)


def _strip(cells: NDArray[np.bool_], itemsize: int) -> int:
    rows = int(np.prod(cells.shape[:-1], dtype=np.int64))
    return max(_CACHE // (rows * itemsize), 256)


@jit
def _down(out, flat, at, heights):
    """Take the least of four moves of a line less heights, with what is held; stop at 0."""
    kind = out.dtype.type
    a, b, c, d = at[0], at[1], at[2], at[3]
    p, q, r, s = heights[0], heights[1], heights[2], heights[3]
    for k in range(out.size):
        i = np.uint64(k)
        v = min(kind(max(flat[a + i], p) - p), kind(max(flat[b + i], q) - q))
        w = min(kind(max(flat[c + i], r) - r), kind(max(flat[d + i], s) - s))
        out[k] = min(out[k], v, w)


@jit
def _up(out, flat, at, heights, most):
    """Take the least of four moves of a line plus heights, with what is held; stop at the most."""
    kind = out.dtype.type
    a, b, c, d = at[0], at[1], at[2], at[3]
    p, q, r, s = heights[0], heights[1], heights[2], heights[3]
    e, f, g, h = kind(most - p), kind(most - q), kind(most - r), kind(most - s)
    for k in range(out.size):
        i = np.uint64(k)
        v = min(kind(min(flat[a + i], e) + p), kind(min(flat[b + i], f) + q))
        w = min(kind(min(flat[c + i], g) + r), kind(min(flat[d + i], h) + s))
        out[k] = min(out[k], v, w)


@jit
def _masked(out, flat, bars, at, height, up, most):
    """Take the least of one move of a line with what is held, where no bar (all ones) stands."""
    kind = out.dtype.type
    end = kind(most - height)
    if up:
        for k in range(out.size):
            i = at + np.uint64(k)
            out[k] = min(out[k], kind(min(flat[i], end) + height) | bars[i])
    else:
        for k in range(out.size):
            i = at + np.uint64(k)
            out[k] = min(out[k], kind(max(flat[i], height) - height) | bars[i])


@jit
def _integers(flat, bars, out, sizes, at, heights, downs, strip):
    sz, sy, sx = sizes
    batch, nz, ny, nx = out.shape
    most = out.dtype.type(-1)
    for x0 in range(0, nx, strip):
        n = min(strip, nx - x0)
        for b in range(batch):
            for z in range(nz):
                for y in range(ny):
                    row = out[b, z, y, x0 : x0 + n]
                    row[:] = most
                    place = np.uint64(((b * sz + z) * sy + y) * sx + x0)
                    if bars.size > 0:
                        for t in range(at.size):
                            _masked(row, flat, bars, at[t] + place, heights[t], t >= downs, most)
                        continue
                    for t in range(0, at.size, _AT_ONCE):
                        four, high = at[t : t + _AT_ONCE] + place, heights[t : t + _AT_ONCE]
                        if t < downs:
                            _down(row, flat, four, high)
                        else:
                            _up(row, flat, four, high, most)


@jit
def _floats(flat, out, sizes, at, heights, strip):
    sz, sy, sx = sizes
    batch, nz, ny, nx = out.shape
    for x0 in range(0, nx, strip):
        n = min(strip, nx - x0)
        for bz in range(batch * nz):
            b, z = bz // nz, bz % nz
            for y in range(ny):
                row = out[b, z, y, x0 : x0 + n]
                row[:] = np.inf
                place = np.uint64(((b * sz + z) * sy + y) * sx + x0)
                for t in range(0, at.size, _AT_ONCE):
                    _sink(row, flat, at[t : t + _AT_ONCE] + place, heights[t : t + _AT_ONCE])


@jit
def _sink(out, flat, at, heights):
    """Take the least of four moves of a line less heights, with what is held."""
    a, b, c, d = at[0], at[1], at[2], at[3]
    p, q, r, s = heights[0], heights[1], heights[2], heights[3]
    for k in range(out.size):
        i = np.uint64(k)
        v = _least(flat[a + i] - p, flat[b + i] - q)
        w = _least(flat[c + i] - r, flat[d + i] - s)
        out[k] = _least(_least(v, w), out[k])


@jit
def _least(v, w):
    return v if v < w else w

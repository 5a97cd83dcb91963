"""Extremes under structures that are not flat: of the pixels raised or lowered, each by its height.

Unsigned integers are moved in their own width and stop at 0 and at their greatest value; the
extreme of values that stop is the extreme value, stopped, so nothing wider is needed.  Signed ones
are turned into unsigned ones before.  Floats are moved as they are; there is no NaN among them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._uneven_tile import AT_ONCE, VECTOR, tile

__all__ = ["least_counted", "uneven_extreme"]

_CACHE = 32768  # bytes of a window's rows that a strip should keep in the first cache


def uneven_extreme(
    block: NDArray[Any], cells: NDArray[np.bool_], moves: NDArray[Any] | list[int], largest: bool
) -> NDArray[Any] | None:
    """Take the least or the greatest of pixels, each with a number added to it, its move.

    Of unsigned integers, moved by integers, or of float32 or float64.  The moves stand in the order
    of the structure's pixels.  None if a pixel is NaN.
    """
    view, shape = as4d(block), core_shape(block, cells.shape)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), view.dtype)
    if out.size == 0:
        return out.reshape(shape)
    amounts, ways = _amounts(moves, view.dtype)
    order = np.argsort(ways, kind="stable")
    bounds = (0, *np.cumsum(np.bincount(ways, minlength=3)).tolist())
    clean = _run(
        view.reshape(-1), view.shape, out.reshape(-1), out.shape,
        _places(view.shape, cells)[order], amounts[order], bounds,
        _strip(cells, view.itemsize), largest,
    )  # fmt: skip
    return out.reshape(shape) if clean else None


def _amounts(
    moves: NDArray[Any] | list[int], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return by how much pixels are moved, and which way: 0 not at all, 1 up, 2 down."""
    if dtype.kind == "f":
        amounts = np.asarray(moves, dtype)
        return amounts, (amounts != 0).astype(np.int64)  # up by what may be negative
    most = int(np.iinfo(dtype).max)
    ways = [(move > 0) + 2 * (move < 0) for move in moves]
    return np.array([min(abs(move), most) for move in moves], dtype), np.array(ways, np.int64)


def _places(shape: tuple[int, ...], cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how far each pixel of the structure lies behind its first place, in pixels."""
    _, _, y, x = shape
    at = np.argwhere(cells.reshape(pad3(cells.shape, 1)))
    return (at[:, 0] * y + at[:, 1]) * x + at[:, 2]


def _strip(cells: NDArray[np.bool_], itemsize: int) -> int:
    rows = int(np.prod(cells.shape[:-1], dtype=np.int64))
    return max(_CACHE // (rows * itemsize), 256)


@jit
def _run(flat, shape, out, core, places, amounts, bounds, strip, largest):
    """Fill the result; return False, early, if a pixel is NaN."""
    _, sz, sy, sx = shape
    batch, nz, ny, nx = core
    seen = 0
    for x0 in range(0, nx, strip):
        n = min(strip, nx - x0)
        for b in range(batch):
            for z in range(nz):
                for y in range(ny):
                    # What is needed for the first time now; integers hold no NaN.
                    end = ((b * sz + z + sz - nz) * sy + y + sy - ny + 1) * sx
                    if end > seen:
                        if _has_nan(flat, seen, end):
                            return False
                        seen = end
                    at = ((b * sz + z) * sy + y) * sx + x0
                    to = ((b * nz + z) * ny + y) * nx + x0
                    _row(out, to, flat, at, n, places, amounts, bounds, largest)
    return True


@jit
def _has_nan(flat, start, end):
    """Look for NaN, the only number that is not itself."""
    found = False
    for i in range(np.uint64(start), np.uint64(end)):
        found |= flat[i] != flat[i]
    return found


@jit
def _row(out, to, flat, at, n, places, amounts, bounds, largest):
    """Take the extremes of a row, the last ones again rather than in a loop of their own."""
    lanes = VECTOR // flat.itemsize
    if n >= AT_ONCE * lanes:
        for x in range(0, n, AT_ONCE * lanes):
            k = min(x, n - AT_ONCE * lanes)
            if largest:
                tile(AT_ONCE, 1, out, to + k, flat, at + k, places, amounts, bounds)
            else:
                tile(AT_ONCE, 0, out, to + k, flat, at + k, places, amounts, bounds)
    elif n >= lanes:
        for x in range(0, n, lanes):
            k = min(x, n - lanes)
            if largest:
                tile(1, 1, out, to + k, flat, at + k, places, amounts, bounds)
            else:
                tile(1, 0, out, to + k, flat, at + k, places, amounts, bounds)
    else:
        for k in range(n):
            if largest:
                tile(0, 1, out, to + k, flat, at + k, places, amounts, bounds)
            else:
                tile(0, 0, out, to + k, flat, at + k, places, amounts, bounds)


def least_counted(
    block: NDArray[Any], cells: NDArray[np.bool_], moves: list[int], bars: NDArray[Any]
) -> NDArray[Any]:
    """Take the least of moved unsigned pixels; those under a bar (all ones) do not count."""
    view, shape = as4d(block), core_shape(block, cells.shape)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), view.dtype)
    amounts, ways = _amounts(moves, view.dtype)
    _counted(
        view.reshape(-1), as4d(bars).reshape(-1), view.shape, out,
        _places(view.shape, cells), amounts, ways == 1, _strip(cells, view.itemsize),
    )  # fmt: skip
    return out.reshape(shape)


@jit
def _counted(flat, bars, shape, out, places, amounts, up, strip):
    _, sz, sy, sx = shape
    batch, nz, ny, nx = out.shape
    for x0 in range(0, nx, strip):
        n = min(strip, nx - x0)
        for b in range(batch):
            for z in range(nz):
                for y in range(ny):
                    row = out[b, z, y, x0 : x0 + n]
                    row[:] = out.dtype.type(-1)
                    at = ((b * sz + z) * sy + y) * sx + x0
                    for t in range(places.size):
                        _masked(row, flat, bars, np.uint64(at + places[t]), amounts[t], up[t])


@jit
def _masked(out, flat, bars, at, amount, up):
    """Take the least of one move of a line with what is held, where no bar (all ones) stands."""
    kind = out.dtype.type
    end = kind(kind(-1) - amount)
    if up:
        for k in range(out.size):
            i = at + np.uint64(k)
            out[k] = min(out[k], kind(min(flat[i], end) + amount) | bars[i])
    else:
        for k in range(out.size):
            i = at + np.uint64(k)
            out[k] = min(out[k], kind(max(flat[i], amount) - amount) | bars[i])

"""Extremes under footprints of any shape: the least or the greatest pixel.

A footprint is taken apart into runs along its rows. Extremes of 2, 4, 8 ... pixels are computed
once for each row of the image, and a run is covered by such spans, which may overlap; so a pixel
costs one or two steps for each run of the footprint, however long. All on integers in the order
of the pixels: the least is the greatest of keys turned round, NaN has the greatest key either way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import box
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._keys import FLOAT, UNSIGNED, key_rule
from chunkfilt.kernels._peaks import peak_memory
from chunkfilt.kernels._slide import runs
from chunkfilt.kernels._sums import aligned

__all__ = ["difference", "extreme_filter", "extreme_memory", "range_filter", "window_of"]

Window = NDArray[np.bool_] | tuple[int, ...]  # a footprint, or the size of a box

_CACHE = 600_000  # bytes of the ring that should stay in a core's own cache
_AT_ONCE = 8  # rows that one loop joins
_WIDE = 4096  # pixels of a strip: more rows than a page table holds would be slow to reach


def extreme_filter(block: NDArray[Any], footprint: Window, largest: bool) -> NDArray[Any]:
    """Take the least or the greatest pixel under a footprint.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Extended by the halo; one to three spatial axes; bool, integers or floats to 64 bits.
    footprint : ndarray of bool, or tuple of int
        One axis per spatial axis; any shape, holes included; or the size of a box.
    largest : bool
        Take the greatest pixel, not the least.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        The dtype of the block. NaN where the footprint holds a NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> extreme_filter(np.array([[1, 3, 2, 0]]), np.array([True, False, True]), True)
    array([[2, 3]])
    """
    shape = core_shape(block, window_of(footprint))
    if isinstance(footprint, tuple) or footprint.all():
        return (box.box_max if largest else box.box_min)(block, window_of(footprint))
    cells = np.ascontiguousarray(footprint, np.bool_)
    if not cells.any():
        raise ValueError("footprint holds no pixel")
    dtype = block.dtype.newbyteorder("=")
    out = np.empty(shape, dtype)
    if out.size:
        kind, consts = key_rule(dtype)
        view = as4d(np.ascontiguousarray(block, dtype).view(consts.dtype))
        core = (shape[0], *pad3(shape[1:], 1))
        table, levels, slots = _parts(cells)
        window = pad3(cells.shape, 1)
        tile_y, tile_x, width = _layout(core, window, slots, dtype.itemsize)
        flip = consts.dtype.type(0 if largest else -1)
        ring = aligned(window[0] * window[1] * slots * width + 3 * width, consts.dtype)
        _extremes(
            view, out.view(consts.dtype).reshape(core), table, levels, ring,
            np.zeros(len(table) + _AT_ONCE, np.int64), (*window, slots, width), tile_y, tile_x,
            (kind, consts, flip),
        )  # fmt: skip
    return out


def range_filter(block: NDArray[Any], footprint: Window) -> NDArray[Any]:
    """Subtract the least from the greatest pixel under a footprint.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Extended by the halo; one to three spatial axes; bool, integers or floats to 64 bits.
    footprint : ndarray of bool, or tuple of int
        One axis per spatial axis; any shape, holes included; or the size of a box.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        As `difference` gives it. NaN where the footprint holds a NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> range_filter(np.array([[1, 3, 2, 0]]), (2,))
    array([[2, 1, 2]])
    """
    return difference(
        extreme_filter(block, footprint, True), extreme_filter(block, footprint, False)
    )


def difference(high: NDArray[Any], low: NDArray[Any]) -> NDArray[Any]:
    """Subtract an image from one that is nowhere less, within their dtype.

    Parameters
    ----------
    high, low : ndarray
        Of one dtype. The memory of `high` is used for the result.

    Returns
    -------
    ndarray
        ``high - low``; what a signed integer cannot hold is its greatest value, bool gives xor.

    Examples
    --------
    >>> difference(np.array([100, 5], np.int8), np.array([-100, 2], np.int8))
    array([127,   3], dtype=int8)
    """
    if high.dtype.kind == "b":
        return np.logical_xor(high, low, out=high)
    if high.dtype.kind == "i":
        # Bits wrap round, so the difference of the bits is right as an unsigned number.
        bits = f"u{high.dtype.itemsize}"
        apart = np.subtract(high.view(bits), low.view(bits), out=high.view(bits))
        return np.minimum(apart, apart.dtype.type(np.iinfo(high.dtype).max), out=apart).view(
            high.dtype
        )
    with np.errstate(all="ignore"):  # infinities leave NaN, and the largest floats infinity
        return np.subtract(high, low, out=high)


def extreme_memory(core: tuple[int, ...], footprint: Window, itemsize: int) -> int:
    """Return the bytes that `extreme_filter` works in.

    Parameters
    ----------
    core : tuple of int
        The result's shape, without its batch.
    footprint : ndarray of bool, or tuple of int
        As `extreme_filter` takes it.
    itemsize : int
        Bytes of a pixel.

    Returns
    -------
    int

    Examples
    --------
    >>> extreme_memory((4096, 4096), np.eye(31, dtype=bool), 4)
    582400
    """
    window = pad3(window_of(footprint), 1)
    if isinstance(footprint, tuple) or footprint.all():
        return peak_memory(pad3(core, 1), window, itemsize)
    _, _, slots = _parts(footprint)
    *_, width = _layout((1, 1, 1, max(core[-1], 1)), window, slots, itemsize)
    return (window[0] * window[1] * slots + 4) * width * itemsize


def window_of(footprint: Window) -> tuple[int, ...]:
    """Return the size of the box around a footprint.

    >>> window_of(np.eye(3, dtype=bool)), window_of((5, 7))
    ((3, 3), (5, 7))
    """
    return footprint if isinstance(footprint, tuple) else footprint.shape


def _parts(
    footprint: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Cover a footprint with spans: their table (z, y, slot, x), slots by level, their number.

    A span of level k has 2**k pixels. Levels that no part uses have no slot in the ring (-1).
    """
    stretches = runs(footprint.reshape(pad3(footprint.shape, 1)))
    lengths = stretches[:, 3] - stretches[:, 2] + 1
    most = int(lengths.max()).bit_length()
    # A level takes about two steps, one to load and one to store; a part takes one.
    price = [2 * k + int((-(-lengths >> k)).sum()) for k in range(most)]
    parts = []
    for z, y, first, last in stretches.tolist():
        length = last - first + 1
        level = min(length.bit_length() - 1, int(np.argmin(price)))
        span = 1 << level
        starts = {min(at, length - span) for at in range(0, length, span)}
        parts += [(z, y, level, first + at) for at in sorted(starts)]
    table = np.array(parts, np.int64)
    used = np.unique(table[:, 2])
    levels = np.full(int(used.max()) + 1, -1, np.int64)
    levels[used] = np.arange(len(used))
    table[:, 2] = levels[table[:, 2]]
    return table, levels, len(used)


def _layout(
    core: tuple[int, ...], window: tuple[int, int, int], slots: int, itemsize: int
) -> tuple[int, int, int]:
    """Choose rows and columns of a tile, and the ring's pitch: of the speed only."""
    rows, length = window[0] * window[1] * slots * itemsize, core[3]
    strip = min(max(_CACHE // rows - window[2], 128, window[2]), _WIDE)
    tile_x = -(-length // -(-length // strip))
    width = -(-(tile_x + window[2]) // 64) * 64
    if window[0] == 1:
        return core[2], tile_x, width
    # Planes are read once per plane of the window: a tile's planes should stay in the cache.
    tall = _CACHE // (width * itemsize * window[0])
    return min(core[2], max(tall, 2 * window[1], 16)), tile_x, width


@jit
def _load(row, bits, kind, consts, flip):
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
def _store(target, row, kind, consts, flip):
    """Turn keys into pixels."""
    sign, most, nan = consts[0], consts[1], consts[4]
    zero = sign ^ sign
    if kind == FLOAT:
        for i in range(target.size):
            key = row[i] ^ flip
            v = key ^ (most if key < zero else zero)
            target[i] = nan if row[i] == most else v
    else:
        turn = flip ^ (sign if kind == UNSIGNED else zero)
        for i in range(target.size):
            target[i] = row[i] ^ turn


@jit
def _pair(flat, to, one, two, n):
    """Join two rows of a flat array into a third."""
    to, one, two = np.uint64(to), np.uint64(one), np.uint64(two)
    for i in range(np.uint64(n)):
        flat[to + i] = max(flat[one + i], flat[two + i])


@jit
def _join(out, flat, at, count):
    """Join the rows of a flat array that begin at the first `count` indices."""
    # Indices past the last repeat it: what is joined twice does not change.
    a, b, c = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    d, e = np.uint64(at[3]), np.uint64(at[4])
    if count <= 3:
        for i in range(np.uint64(out.size)):
            out[i] = max(flat[a + i], flat[b + i], flat[c + i])
    else:
        for i in range(np.uint64(out.size)):
            v = max(flat[a + i], flat[b + i], flat[c + i])
            out[i] = max(v, flat[d + i], flat[e + i])
    p = 5
    while p < count:
        a, b, c = np.uint64(at[p]), np.uint64(at[p + 1]), np.uint64(at[p + 2])
        d = np.uint64(at[p + 3])
        if p + 4 < count:
            _fold(out, flat, (a, b, c, d), at[p + 4 : p + 8])
        else:
            for i in range(np.uint64(out.size)):
                v = max(flat[a + i], flat[b + i], flat[c + i])
                out[i] = max(out[i], v, flat[d + i])
        p += 8


@jit
def _fold(out, flat, first, more):
    """Join eight rows to another."""
    a, b, c, d = first
    e, f, g, h = np.uint64(more[0]), np.uint64(more[1]), np.uint64(more[2]), np.uint64(more[3])
    for i in range(np.uint64(out.size)):
        v = max(flat[a + i], flat[b + i], flat[c + i], flat[d + i])
        w = max(flat[e + i], flat[f + i], flat[g + i], flat[h + i])
        out[i] = max(out[i], v, w)


@jit
def _enter(ring, levels, spare, at, n, width):
    """Compute the levels of a row that stands in the first of three spare rows."""
    # `at` is the row's place in the ring; levels that no part uses stay in the spare rows.
    source = spare
    if levels[0] >= 0:
        source = at + levels[0] * width
    for k in range(1, levels.size):
        half = 1 << (k - 1)
        target = at + levels[k] * width if levels[k] >= 0 else spare + (1 + k % 2) * width
        _pair(ring, target, source, source + half, n - 2 * half + 1)
        source = target


@jit
def _extremes(view, out, table, levels, ring, at, sizes, tile_y, tile_x, key):
    """Greatest keys under a footprint, as pixels."""
    depth, wy, wx, slots, width = sizes
    kind, consts, flip = key
    batch, nz, height, length = out.shape
    pitch, count = slots * width, table.shape[0]
    spare, total = depth * wy * pitch, np.empty(tile_x, ring.dtype)
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        for d in range(depth):
                            place = (d * wy + t % wy) * pitch
                            first = place + levels[0] * width if levels[0] >= 0 else spare
                            row = view[b, z + d, y0 + t, x0 : x0 + n]
                            _load(ring[first : first + n], row, kind, consts, flip)
                            _enter(ring, levels, spare, place, n, width)
                        top = t - wy + 1
                        if top < 0:
                            continue
                        for p in range(count):
                            slot = table[p, 0] * wy + (top + table[p, 1]) % wy
                            at[p] = slot * pitch + table[p, 2] * width + table[p, 3]
                        for p in range(count, at.size):
                            at[p] = at[count - 1]
                        _join(total[:nx], ring, at, count)
                        _store(out[b, z, y0 + top, x0 : x0 + nx], total[:nx], kind, consts, flip)

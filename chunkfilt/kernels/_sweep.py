"""Weighted sums of a window: separable terms, dense taps, or up to three as a magnitude.

Rows stream through a ring, as in `box`: each row of the block is weighted along z and then along x,
once per term, and stays in the ring until the last output row that needs it is made. Output rows
are made ROWS at a time, so that each row of the ring is loaded once for all of them. Additions are
in float64 in the order of the weights, so that a result does not depend on where the block starts.

Dense taps alone go without a ring, straight from the block (`_near`).

Separable terms multiply a NaN or an infinity by weights that cancel only in their sum. Where that
matters, such pixels count as 0 in the sweep, and the windows that hold one are then summed tap by
tap from the dense weights: these windows whatever the block, so that the block still has no say.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._near import near
from chunkfilt.kernels._weigh import ROWS, WHOLE, borrow, weigh, weigh_along, weigh_down

__all__ = ["CACHE", "Plan", "Term", "run"]

Term = tuple[NDArray[np.float64], ...]
CACHE = 900_000  # bytes of ring that should stay in a core's own cache
_STRIP = 256  # columns that are summed at a time: their sums stay in the first cache
_AHEAD = 2  # rows from the one being loaded to the one asked for from memory


class Plan(NamedTuple):
    """How to correlate with a kernel.

    Attributes
    ----------
    terms : tuple of Term
        Separable terms whose sum is the kernel, each one array per spatial axis; empty where the
        dense taps are cheaper.
    dense : ndarray of float64 or None
        The kernel itself; None lets NaN and infinities go where the terms carry them.
    """

    terms: tuple[Term, ...]
    dense: NDArray[np.float64] | None

    @property
    def window(self) -> tuple[int, ...]:
        """The kernel's length along each axis."""
        if self.dense is not None:
            return self.dense.shape
        return tuple(weights.size for weights in self.terms[0])


class _Weights(NamedTuple):
    """Weights of all terms along one axis: those that count, in order, come first.

    `end` says for each where the run of places that follow each other ends.
    """

    place: NDArray[np.int64]
    value: NDArray[np.float64]
    used: NDArray[np.int64]
    end: NDArray[np.int64]


class _Taps(NamedTuple):
    """Dense weights of all parts, in raster order; those of part p from `bound[p]`."""

    z: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    value: NDArray[np.float64]
    bound: NDArray[np.int64]


class _Buffers(NamedTuple):
    """Rows of float64: one per plane and their sum, rings of terms, ring of pixels, results.

    `rows` says for each term where the rows of its ring begin, twice around; `steps` counts.
    """

    planes: NDArray[np.float64]
    ring: NDArray[np.float64]
    raw: NDArray[np.float64]
    totals: NDArray[np.float64]
    rows: NDArray[np.int64]
    steps: NDArray[np.int64]


def _weights(terms: list[Term], axis: int, length: int) -> _Weights:
    place, end = np.zeros((2, len(terms), length), np.int64)
    value, count = np.zeros((len(terms), length)), np.zeros(len(terms), np.int64)
    for i, term in enumerate(terms):
        used = np.flatnonzero(~(np.abs(term[axis]) <= _rows.EPSILON))
        count[i] = used.size
        place[i, : used.size], value[i, : used.size] = used, term[axis][used]
        stops = np.append(np.flatnonzero(np.diff(used) > 1) + 1, used.size)
        end[i, : used.size] = stops[np.searchsorted(stops, np.arange(used.size), "right")]
    return _Weights(place, value, count, end)


def _taps(parts: list[Plan]) -> _Taps:
    places, values, bound = [np.zeros((3, 0), np.int64)], [np.zeros(0)], [0]
    for part in parts:
        if part.dense is not None:
            dense = part.dense.reshape(pad3(part.dense.shape, 1))
            used = np.nonzero(~(np.abs(dense) <= _rows.EPSILON))
            places.append(np.array(used, np.int64))
            values.append(dense[used])
        bound.append(sum(value.size for value in values))
    z, y, x = (np.ascontiguousarray(place) for place in np.concatenate(places, axis=1))
    return _Taps(z, y, x, np.concatenate(values), np.array(bound, np.int64))


@jit
def _whole(length):
    return (length + WHOLE - 1) // WHOLE * WHOLE


@jit
def _load(row, pixels, clean):
    if clean:
        for i in range(row.size):
            v = np.float64(pixels[i])
            row[i] = v if v - v == 0.0 else 0.0
    else:
        for i in range(row.size):
            row[i] = pixels[i]


@jit
def _across(row, flat, steps, wx, i):
    """Weight a loaded row along x."""
    p, n, fresh = 0, wx.used[i], True
    while p < n or fresh:
        q = wx.end[i, p]
        weigh_along(row, flat[wx.place[i, p] :], steps, wx.value[i, p:q], fresh)
        p, fresh = q, False


@jit
def _enter(buffers, weights, t, nx, at):
    """Weight the loaded planes of input row t along z and x, into the ring of each term."""
    wz, wy, wx = weights
    planes, period = buffers.planes, wy.place.shape[1] + ROWS - 1
    depth, stride = planes.shape[0] - 1, planes.shape[1]
    flat = planes.reshape(-1)
    for i in range(wx.used.size):
        source, n = 0, wz.used[i]
        if depth > 1 or n == 0 or wz.value[i, 0] != 1.0:
            source = depth * stride
            for p in range(n):
                at[p] = wz.place[i, p] * stride
            weigh(planes[depth], flat, at, wz.value[i, :n], True)
        row = buffers.ring[i * period + t % period, :nx]
        _across(row, flat[source:], buffers.steps, wx, i)


@jit
def _leave_terms(total, buffers, weights, terms, top, x0, shape):
    """Sum the terms of one part for some output rows."""
    wy = weights[1]
    period = wy.place.shape[1] + ROWS - 1
    flat = buffers.ring.reshape(-1)[x0:]
    fresh, (rows, width) = True, shape
    for i in range(terms[0], terms[1]):
        p, n = 0, wy.used[i]
        while p < n or fresh:
            q = wy.end[i, p]
            at, value = buffers.rows[i, (top + wy.place[i, p]) % period :], wy.value[i, p:q]
            if value.size >= ROWS and rows > 2:
                weigh_down(total, width, flat, at, value, fresh)
            else:
                for j in range(rows):
                    weigh(total[j, :width], flat, at[j:], value, fresh)
            p, fresh = q, False


@jit
def _leave_dense(total, buffers, weights, taps, part, top, x0, shape, at):
    """Sum the dense taps of one part for some output rows."""
    period = weights[1].place.shape[1] + ROWS - 1
    first, last = taps.bound[part], taps.bound[part + 1]
    flat, stride = buffers.raw.reshape(-1), buffers.raw.shape[1]
    rows, width = shape
    for j in range(rows):
        for p in range(first, last):
            row = taps.z[p] * period + (top + j + taps.y[p]) % period
            at[p - first] = row * stride + taps.x[p] + x0
        weigh(total[j, :width], flat, at, taps.value[first:last], True)


@jit
def _leave(buffers, weights, taps, bounds, top, x0, shape, at):
    """Sum a strip of the output rows whose windows start at input row `top` and below."""
    shape = (shape[0], _whole(shape[1]))
    for p in range(bounds.size - 1):
        terms, total = bounds[p : p + 2], buffers.totals[p]
        if terms[0] == terms[1]:
            _leave_dense(total, buffers, weights, taps, p, top, x0, shape, at)
        else:
            _leave_terms(total, buffers, weights, terms, top, x0, shape)


@jit
def _load_planes(view, place, columns, buffers, t, clean):
    """Load the planes of input row t."""
    # Only a slice of the last axis alone is known to be contiguous, as it must be to vectorise.
    b, z, y = place
    first, width = columns
    depth = buffers.planes.shape[0] - 1
    for d in range(depth):
        plane = buffers.planes[d, :width]
        if buffers.raw.size:
            period = buffers.raw.shape[0] // depth
            plane = buffers.raw[d * period + t % period, :width]
        _load(plane, view[b, z + d, y + t, first : first + width], clean)
        if y + t + _AHEAD < view.shape[2]:
            _rows.fetch(view[b, z + d, y + t + _AHEAD], first, width)
        if buffers.raw.size and buffers.ring.size:
            _rows.copy(buffers.planes[d, :width], plane)


@jit
def _sweep(view, out, weights, taps, bounds, buffers, tile, clean, at):
    view, out, bounds, at = borrow((view, out, bounds, at))
    weights, taps, buffers = borrow(weights), borrow(taps), borrow(buffers)
    batch, nz, height, length = out.shape
    window_y, halo_x = weights[1].place.shape[1], weights[2].place.shape[1] - 1
    for x0 in range(0, length, tile[1]):
        nx = min(tile[1], length - x0)
        for b in range(batch):
            for y0 in range(0, height, tile[0]):
                for z in range(nz):
                    stop = min(tile[0], height - y0)
                    for top in range(0, stop, ROWS):
                        rows = min(ROWS, stop - top)
                        known = top + window_y - 1 if top else 0
                        for t in range(known, top + rows + window_y - 1):
                            _load_planes(view, (b, z, y0), (x0, nx + halo_x), buffers, t, clean)
                            _enter(buffers, weights, t, _whole(nx), at)
                        for x in range(0, nx, _STRIP):
                            shape = (rows, min(_STRIP, nx - x))
                            _leave(buffers, weights, taps, bounds, top, x, shape, at)
                            for j in range(rows):
                                first = x0 + x
                                target = out[b, z, y0 + top + j, first : first + shape[1]]
                                _store(target, buffers.totals, j)


@jit
def _store(target, totals, j):
    first = totals[0, j, : target.size]
    last = totals[totals.shape[0] - 1, j, : target.size]
    if totals.shape[0] == 1:
        for i in range(target.size):
            target[i] = first[i]
    elif totals.shape[0] == 2:
        for i in range(target.size):
            target[i] = np.sqrt(first[i] * first[i] + last[i] * last[i])
    else:
        middle = totals[1, j, : target.size]
        for i in range(target.size):
            total = first[i] * first[i] + middle[i] * middle[i]
            target[i] = np.sqrt(total + last[i] * last[i])


@jit
def _wild(view):
    """Whether any pixel is NaN or infinite."""
    batch, nz, height, _ = view.shape
    for b in range(batch):
        for z in range(nz):
            for y in range(height):
                row = view[b, z, y]
                wild = 0
                for i in range(row.size):
                    wild += 0 if row[i] - row[i] == 0 else 1
                if wild:
                    return True
    return False


@jit
def _tap_by_tap(view, at, taps, part):
    b, z, y, x = at
    total = 0.0
    for p in range(taps.bound[part], taps.bound[part + 1]):
        total += taps.value[p] * view[b, z + taps.z[p], y + taps.y[p], x + taps.x[p]]
        if np.isnan(total):
            break
    return total


@jit
def _count(counts, view, b, z, depth, y, sign):
    for d in range(depth):
        row = view[b, z + d, y]
        for i in range(row.size):
            counts[i] += 0 if row[i] - row[i] == 0 else sign


@jit
def _repair(view, out, window, taps):
    """Sum the windows that hold a NaN or an infinity from the dense weights."""
    batch, nz, height, length = out.shape
    depth, window_y, window_x = window
    parts = taps.bound.size - 1
    counts = np.zeros(view.shape[3], np.int64)
    for b in range(batch):
        for z in range(nz):
            counts[:] = 0
            for y in range(window_y - 1):
                _count(counts, view, b, z, depth, y, 1)
            for y in range(height):
                _count(counts, view, b, z, depth, y + window_y - 1, 1)
                inside = counts[: window_x - 1].sum()
                for x in range(length):
                    inside += counts[x + window_x - 1]
                    if inside:
                        total = _tap_by_tap(view, (b, z, y, x), taps, 0)
                        if parts > 1:
                            total *= total
                            for part in range(1, parts):
                                other = _tap_by_tap(view, (b, z, y, x), taps, part)
                                total += other * other
                            total = np.sqrt(total)
                        out[b, z, y, x] = total
                    inside -= counts[x]
                _count(counts, view, b, z, depth, y, -1)


def _layout(
    core: tuple[int, ...], window: tuple[int, int, int], rows: int, pixel: int
) -> tuple[int, int]:
    """Choose rows and columns of a tile: of the speed only, never of the result."""
    depth, height, length = window
    strip = min(max(CACHE // (8 * rows), 256), 2048)
    tile_x = -(-core[3] // -(-core[3] // strip))
    if depth == 1:
        return core[2], tile_x
    tile_y = 2 * CACHE // ((tile_x + length) * pixel * depth)
    return min(core[2], max(tile_y, 2 * height, 16)), tile_x


def run(
    block: NDArray[Any], window: tuple[int, ...], parts: list[Plan], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Correlate with one kernel, or with two or three for the root of the sum of their squares."""
    shape = core_shape(block, window)
    view, sizes = as4d(block), pad3(window, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), dtype)
    if not out.size:
        return out.reshape(shape)
    taps = _taps(parts)
    if not any(part.terms for part in parts):
        near(view, out, taps)
        return out.reshape(shape)
    one = np.ones(1)
    terms: list[Term] = [pad3(term, one) for part in parts for term in part.terms]
    bounds = np.cumsum([0] + [len(part.terms) for part in parts])
    weights = tuple(_weights(terms, axis, sizes[axis]) for axis in range(3))
    period = sizes[1] + ROWS - 1
    raw = sizes[0] * period if not all(part.terms for part in parts) else 0
    tile = _layout(out.shape, sizes, len(terms) * period + raw, view.itemsize)
    # A whole number of vectors is computed, over pixels that may not be there.
    width = _whole(tile[1]) + _whole(sizes[2] - 1)
    # Rows a power of two of bytes apart would compete for the same places in the cache.
    stride = _whole(tile[1]) + 24
    starts = np.arange(len(terms) * period).reshape(len(terms), period) * stride
    buffers = _Buffers(
        np.zeros((sizes[0] + 1, width)),
        np.zeros((len(terms) * period, stride)),
        np.zeros((raw, width)),
        np.zeros((len(parts), ROWS, _STRIP)),
        np.concatenate([starts, starts], axis=1),
        np.arange(WHOLE),
    )
    guarded = bool(terms) and view.dtype.kind == "f" and all(p.dense is not None for p in parts)
    clean = guarded and _wild(view)
    at = np.empty(max(*sizes, taps.value.size) + ROWS, np.int64)
    _sweep(view, out, weights, taps, bounds, buffers, tile, clean, at)
    if clean:
        _repair(view, out, sizes, taps)
    return out.reshape(shape)

"""Local equalisation: how many pixels under a footprint are not brighter than the pixel itself.

Small footprints are counted pixel by pixel of the footprint, many columns of a row at once. Large
ones slide a histogram along each row: pixels enter and leave at the ends of the footprint's runs.
Counts are exact integers, so that both give the same bits, in strips of any width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chunkfilt.kernels._common import as4d, core_shape, jit, pad3
from chunkfilt.kernels._slide import runs
from chunkfilt.kernels.taps import footprint_sum

__all__ = ["equalize_memory", "local_equalize", "pixel_cost"]

_AT_ONCE = 8  # places that one loop counts
_BINS, _COARSE = 256, 8  # levels of a coarse bin, and their bits
_CACHE = 40_000  # bytes of the rows under a footprint that should stay in the first cache
_BAND = 1 << 18  # pixels of a band, where some are left out

# Measured, in picoseconds per pixel: a place by the bytes of a pixel; the two ends of a run in a
# histogram, and reading it off, by its levels (fine bins only, or coarse ones too).
_PLACE = {1: 9.0, 2: 15.0, 4: 29.0}
_ENDS, _READ = {1: 700.0, 2: 1500.0}, {1: 20_000.0, 2: 28_000.0}
_REST = 0.7  # nanoseconds for a pixel's quotient


def _choose(mask: NDArray[np.bool_], itemsize: int) -> tuple[bool, float]:
    """Return whether to count rather than slide, and the nanoseconds that a pixel then takes."""
    levels = min(itemsize, 2)
    counted = float(_PLACE[itemsize] * np.count_nonzero(mask))
    slid = _READ[levels] + _ENDS[levels] * len(runs(mask))
    return counted <= slid, _REST + min(counted, slid) / 1000


def pixel_cost(footprint: NDArray[Any], itemsize: int) -> float:
    """Return roughly how many nanoseconds a pixel takes on one core.

    >>> pixel_cost(np.ones((3, 3), bool), 1) < pixel_cost(np.ones((99, 99), bool), 1)
    True
    """
    mask = np.asarray(footprint, bool)
    return _choose(mask.reshape(pad3(mask.shape, 1)), itemsize)[1]


@jit
def _count(counts, flat, levels, at, first):
    """Count at which of eight places, given from a first one, pixels are not above levels."""
    kind = counts.dtype.type
    a, b = np.uint64(at[0] + first), np.uint64(at[1] + first)
    c, d = np.uint64(at[2] + first), np.uint64(at[3] + first)
    e, f = np.uint64(at[4] + first), np.uint64(at[5] + first)
    g, h = np.uint64(at[6] + first), np.uint64(at[7] + first)
    for k in range(counts.size):
        i = np.uint64(k)
        own = levels[k]
        s = kind(flat[a + i] <= own) + kind(flat[b + i] <= own)
        t = kind(flat[c + i] <= own) + kind(flat[d + i] <= own)
        u = kind(flat[e + i] <= own) + kind(flat[f + i] <= own)
        v = kind(flat[g + i] <= own) + kind(flat[h + i] <= own)
        counts[k] += kind(kind(s + t) + kind(u + v))


@jit
def _count_row(total, counts, flat, levels, at, extra, first, most):
    """Count at all places for a row of windows; the last `extra` of them only fill up eight."""
    counts[:] = 0
    for k in range(total.size):
        total[k] = -extra if flat[first + at[at.size - 1] + k] <= levels[k] else 0
    for start in range(0, at.size, most):
        for j in range(start, min(start + most, at.size), _AT_ONCE):
            _count(counts, flat, levels, at[j:], first)
        for k in range(total.size):
            total[k] += counts[k]
            counts[k] = 0


@jit
def _mark(fine, coarse, level, step):
    """Add to the bins of a level."""
    fine[np.uint64(level)] += step
    if coarse.size > 0:
        coarse[np.uint64(level) >> np.uint64(_COARSE)] += step


@jit
def _mark_window(fine, coarse, flat, enter, leave, first, step):
    """Add to the bins of all pixels of a window."""
    for j in range(enter.size):
        for k in range(leave[j] + 1, enter[j] + 1):
            _mark(fine, coarse, flat[first + k], step)


@jit
def _read_off(fine, coarse, level):
    """Return how many pixels in the histogram are not above a level."""
    # Loops of a fixed length take less than half the time of loops that end at the level.
    first = level >> _COARSE << _COARSE if coarse.size > 0 else 0
    bins = fine[first : first + _BINS]
    last, total = level - first, 0
    for k in range(_BINS):
        total += bins[k] if k <= last else 0
    if coarse.size > 0:
        last = level >> _COARSE
        for k in range(_BINS):
            total += coarse[k] if k < last else 0
    return total


@jit
def _slide_row(total, fine, coarse, flat, levels, enter, leave, first):
    """Slide a histogram along a row of windows; leave it empty."""
    _mark_window(fine, coarse, flat, enter, leave, first, 1)
    total[0] = _read_off(fine, coarse, np.int64(levels[0]))
    for k in range(1, total.size):
        at = first + k
        for j in range(np.uint64(enter.size)):
            _mark(fine, coarse, flat[np.uint64(enter[j] + at)], 1)
            _mark(fine, coarse, flat[np.uint64(leave[j] + at)], -1)
        total[k] = _read_off(fine, coarse, np.int64(levels[k]))
    _mark_window(fine, coarse, flat, enter, leave, first + total.size - 1, -1)


@jit
def _ends(inside, at, window):
    """Return the part of a window starting at `at` that the image has, from and to."""
    a = min(max(inside[0] - at, 0), window)
    return a, max(min(inside[1] - at, window), a)


@jit
def _pixels(pixels, below, inside, z, y, x0):
    """Count the footprint's pixels inside the image for a row of windows that starts at `x0`.

    `below` holds the number of the footprint's pixels before each place along all axes.
    """
    nx, width = pixels.size, below.shape[2] - 1
    z0, z1 = _ends(inside[0], z, below.shape[0] - 1)
    y0, y1 = _ends(inside[1], y, below.shape[1] - 1)
    # From `lo` to `hi` the whole width of the window lies within the image.
    lo = min(max(inside[2, 0] - x0, 0), nx)
    hi = max(min(inside[2, 1] - x0 - width + 1, nx), lo)
    for first, last in ((0, lo + 1), (hi, nx)):
        for k in range(first, min(last, nx)):
            a, b = _ends(inside[2], x0 + k, width)
            upper = below[z1, y1, b] - below[z1, y0, b] - below[z1, y1, a] + below[z1, y0, a]
            lower = below[z0, y1, b] - below[z0, y0, b] - below[z0, y1, a] + below[z0, y0, a]
            pixels[k] = upper - lower
    if lo < hi:
        pixels[lo:hi] = pixels[lo]


@jit
def _finish(out, total, pixels, scale):
    """Store `floor(scale * total / pixels)`, 0 for a window without pixels."""
    kind = out.dtype.type
    for k in range(out.size):
        # A quotient that is not whole is 1 / pixels or more from a whole number, far beyond what
        # it is rounded by.
        share = np.float64(scale * np.int64(total[k])) / np.float64(max(pixels[k], 1))
        out[k] = kind(np.int64(share))


@jit
def _equalize(
    flat, own, shape, out, at, leave, extra, below, inside, population, scales, rows, counts, fine,
    coarse, strip, most,
):  # fmt: skip
    """Equalise row by row of a strip, by counting where `most` is above 0, else by sliding."""
    batch, nz, ny, length = out.shape
    plane, pitch = shape[2] * shape[3], shape[3]
    depth, height, width = below.shape[0] - 1, below.shape[1] - 1, below.shape[2] - 1
    middle = depth // 2 * plane + height // 2 * pitch + width // 2
    every = below[depth, height, width]
    for x0 in range(0, length, strip):
        nx = min(strip, length - x0)
        total, pixels = rows[0, :nx], rows[1, :nx]
        for b in range(batch):
            for z in range(nz):
                for y in range(ny):
                    first = (b * shape[1] + z) * plane + y * pitch + x0
                    levels = own[first + middle : first + middle + nx]
                    if most > 0:
                        _count_row(total, counts[:nx], flat, levels, at, extra, first, most)
                    else:
                        _slide_row(total, fine, coarse, flat, levels, at, leave, first)
                    if population.shape[3] > 0:
                        for k in range(nx):
                            pixels[k] = np.int64(population[b, z, y, x0 + k])
                    else:
                        _pixels(pixels, below, inside, z, y, x0)
                        for k in range(nx):
                            total[k] -= every - pixels[k]  # those beyond the image
                    _finish(out[b, z, y, x0 : x0 + nx], total, pixels, scales[b])


def local_equalize(
    block: NDArray[Any],
    footprint: NDArray[Any],
    scale: ArrayLike,
    inside: Sequence[tuple[int, int]],
    valid: NDArray[np.bool_] | None = None,
    missing: Any = 0,
) -> NDArray[Any]:
    """Give each pixel its share of the range, by how many pixels under a footprint are not above.

    ``floor(scale * count(window <= centre) / count(window))`` with the pixels of the image only.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo, with zeros beyond the image; uint8 or
        uint16.
    footprint : ndarray of bool
        One to three spatial axes, as the block, centred at `n // 2`.
    scale : array_like of int
        The largest value to give, for each row of the batch (or one).
    inside : sequence of (int, int)
        Along each spatial axis the pixels of the block, from and to, that the image has.
    valid : ndarray of bool, optional
        The block's shape; the pixels that count.
    missing : scalar
        What a pixel becomes with none that counts under its footprint.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.
    TypeError
        If the dtype is not uint8 or uint16.

    Examples
    --------
    >>> block = np.array([[7, 1, 5, 2]], np.uint8)
    >>> local_equalize(block, np.ones(3, bool), 255, [(0, 4)])
    array([[ 85, 255]], dtype=uint8)
    """
    return _local_equalize(block, footprint, scale, inside, valid, missing, None)


def equalize_memory(core: tuple[int, ...], window: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes that `local_equalize` takes at most beside its result.

    >>> equalize_memory((1, 512, 512), (3, 3), 1) < 6_000_000
    True
    """
    grown = [max(n, 1) + w - 1 for n, w in zip(core[1:], window, strict=True)]
    rows = min(_band(grown) + window[0] - 1, grown[0])
    # Which pixels count, how many under a footprint, and all of them twice as wide integers.
    banded = rows * math.prod(grown[1:]) * (1 + 2 * itemsize + 16)
    return banded + 4 * (1 << 8 * itemsize) + 32 * math.prod(window) + 32 * grown[-1]


def _band(grown: Sequence[int]) -> int:
    """Return how many rows (or planes) are worked through at a time where pixels are left out."""
    return max(_BAND // max(math.prod(grown[1:]), 1), 1)


def _local_equalize(
    block: NDArray[Any],
    footprint: NDArray[Any],
    scale: ArrayLike,
    inside: Sequence[tuple[int, int]],
    valid: NDArray[np.bool_] | None = None,
    missing: Any = 0,
    counting: bool | None = None,
) -> NDArray[Any]:
    """Equalise by counting, by sliding, or as `_choose` says."""
    if block.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"local_equalize takes uint8 and uint16, not {block.dtype}")
    if not np.any(footprint):
        raise ValueError("a footprint without a single pixel")
    shape = core_shape(block, np.shape(footprint))
    mask = np.asarray(footprint, bool).reshape(pad3(np.shape(footprint), 1))
    out = np.empty(shape, block.dtype)
    scales = np.array(np.broadcast_to(scale, len(out)), np.int64)
    if valid is None:
        box = np.array([(0, 1)] * (4 - block.ndim) + [tuple(ends) for ends in inside], np.int64)
        _run((as4d(block), as4d(block)), out, mask, box, np.empty((1, 1, 1, 0)), scales, counting)
        return out
    kept = np.zeros(block.shape, np.bool_)
    image = (slice(None), *(slice(a, b) for a, b in inside))
    kept[image] = valid[image]
    rows = _band(block.shape[1:])
    for b, start in itertools.product(range(len(out)), range(0, shape[1], rows)):
        band = slice(start, start + rows)
        part = slice(start, start + rows + np.shape(footprint)[0] - 1)
        target, row = out[b : b + 1, band], slice(b, b + 1)
        _leave_out(block[row, part], kept[row, part], target, mask, scales[row], missing, counting)
    return out


def _leave_out(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    out: NDArray[Any],
    mask: NDArray[np.bool_],
    scales: NDArray[np.int64],
    missing: Any,
    counting: bool | None,
) -> None:
    """Equalise a part of a block, of which only some pixels count."""
    population = footprint_sum(as4d(valid), mask)
    own = as4d(block.astype(np.int32))
    # A level above all others: such pixels are never counted.
    codes = as4d(np.where(valid, block, np.int32(1 << 8 * block.itemsize)))
    _run((codes, own), out, mask, np.zeros((3, 2), np.int64), population, scales, counting)
    out[population.reshape(out.shape) == 0] = missing


def _run(
    views: tuple[NDArray[Any], NDArray[Any]],
    out: NDArray[Any],
    mask: NDArray[np.bool_],
    inside: NDArray[np.int64],
    population: NDArray[np.float64],
    scales: NDArray[np.int64],
    counting: bool | None,
) -> None:
    """Lay out the strips and the counters, and run the compiled loop.

    `views` are the block's pixels as they are counted, and as they are at the centre.
    """
    view, own = views
    out = out.reshape((len(out), *pad3(out.shape[1:], 1)))
    if not out.size:
        return
    if counting is None:
        counting = _choose(mask, view.itemsize)[0]
    steps = np.array([view.shape[2] * view.shape[3], view.shape[3], 1])
    extra, leave = -int(np.count_nonzero(mask)) % _AT_ONCE, np.empty(0, np.int64)
    if counting:
        at = np.argwhere(mask) @ steps
        at = np.append(at, np.repeat(at[-1:], extra))
    else:
        lines = runs(mask)
        leave = lines[:, :3] @ steps - 1
        at = leave + lines[:, 3] - lines[:, 2] + 1
    below = np.pad(mask.astype(np.int64), [(1, 0)] * 3).cumsum(0).cumsum(1).cumsum(2)
    strip = min(out.shape[3], max(_CACHE // (len(mask) * mask.shape[1] * view.itemsize), 512))
    kind = np.dtype(np.int32) if view.itemsize == 4 else view.dtype
    most = min(int(np.iinfo(kind).max), 1 << 20) // _AT_ONCE * _AT_ONCE
    levels = 1 << 8 * out.itemsize
    _equalize(
        view.reshape(-1), own.reshape(-1), view.shape, out, at, leave, extra, below, inside,
        population, scales, np.empty((2, strip), np.int32),
        np.empty(strip, kind), np.zeros(levels + _BINS, np.int32),
        np.zeros(_BINS + 1 if levels > _BINS else 0, np.int32), strip, most if counting else 0,
    )  # fmt: skip

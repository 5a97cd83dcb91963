"""Counts, extremes, look-up tables and exact selection by digits, over whole blocks.

Pixels are counted per batch index. Where a ``mask`` is taken, pixels at which it is False do not
count. Counts of disjoint blocks add up to the counts of their union.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from chunkfilt.kernels._common import as4d, jit
from chunkfilt.kernels._keys import (
    FLOAT,
    UNSIGNED,
    bit_rows,
    digit_counts,
    flip_bits,
    key_to_value,
    mask_rows,
    value_to_key,
)

__all__ = [
    "Extremes",
    "count_bins",
    "count_levels",
    "digit_counts",
    "extremes",
    "interpolate",
    "key_to_value",
    "lookup",
    "value_to_key",
]

_PIECE = 1 << 20
_MANY = 1 << 31  # pixels that a count of 32 bits can hold
_FEW = 1024  # pixels whose bins are found at a time


@dataclass(frozen=True)
class Extremes:
    """Least and greatest finite pixel of each batch index, in the dtype of the block.

    Where nothing was counted they are the greatest and the least value of the dtype, so that
    ``minimum`` and ``maximum`` of several parts give the extremes of the whole.
    """

    minimum: NDArray
    maximum: NDArray
    count: NDArray[np.int64]
    nonfinite: NDArray[np.int64]


def count_levels(
    block: NDArray[Any], lo: int, hi: int, mask: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Count each integer from ``lo`` to ``hi`` inclusive; other values are ignored.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        bool or integers.
    lo, hi : int
        Within the range of the dtype.
    mask : ndarray of bool, optional
        The shape of the block.

    Returns
    -------
    ndarray of int64, shape (batch, hi - lo + 1)

    Raises
    ------
    TypeError
        If the block does not hold integers.
    ValueError
        If the levels are not in the dtype, or the mask has another shape.

    Examples
    --------
    >>> count_levels(np.array([[0, 2, 2, 7]], np.uint8), 0, 2)
    array([[1, 0, 2]])
    """
    data, keep = _flat(block, mask)
    start = _first_level(block.dtype, lo, hi)
    out = np.zeros((block.shape[0], hi - lo + 1), np.int64)
    _count_levels(data, keep, start, out)
    return out


def count_bins(
    block: NDArray[Any], lo: ArrayLike, hi: ArrayLike, nbins: int, mask: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Count uniform bins exactly as ``numpy.histogram(float64 values, nbins, (lo, hi))`` does.

    ``i = int((x - lo) / (hi - lo) * nbins)``, then moved by one where x is not between the edges
    ``numpy.linspace(lo, hi, nbins + 1)`` of that bin; the last bin includes ``hi``. Where
    ``lo == hi`` the range is widened by 0.5 on each side. Values outside, and NaN, are ignored.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Any real dtype; each pixel is converted to float64.
    lo, hi : array_like of float, shape (batch,)
        Range for each batch index; a scalar serves all.
    nbins : int
        At least 1.
    mask : ndarray of bool, optional
        The shape of the block.

    Returns
    -------
    ndarray of int64, shape (batch, nbins)

    Raises
    ------
    ValueError
        If a range is not finite, is reversed or is too narrow for so many bins.

    Examples
    --------
    >>> count_bins(np.array([[0.0, 0.5, 1.0]]), 0, 1, 2)
    array([[1, 2]])
    """
    batch = block.shape[0]
    if nbins < 1:
        raise ValueError(f"nbins must be at least 1, not {nbins}")
    edges, width = _uniform_edges(lo, hi, nbins, batch)
    out = np.zeros((batch, nbins), np.int64)
    if block.dtype.kind in "biu" and block.itemsize <= 2:
        least, most = _levels_of(block.dtype)
        least, most = max(least, math.ceil(edges.min())), min(most, math.floor(edges.max()))
        if least <= most:
            _bin_levels(count_levels(block, least, most, mask), least, edges, width, out)
        return out
    data, keep = _flat(block, mask)
    _count_bins(data, keep, edges, width, _doubt(edges, width), out)
    return out


def _doubt(edges: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how near an edge, in bins, a scaled pixel must be for rounding to matter."""
    largest = np.maximum(np.abs(edges[:, 0]), np.abs(edges[:, -1]))
    # Several times what the edges and a scaled pixel may be wrong by; everything near underflow.
    doubt = (edges.shape[1] - 1) * np.finfo(np.float64).eps * (8 + 4 * largest / width)
    return np.where(width < 1e-290, 1.0, doubt)


def _uniform_edges(
    lo: ArrayLike, hi: ArrayLike, nbins: int, batch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the edges (batch, nbins + 1) and widths (batch,) that numpy.histogram uses."""
    first = np.array(np.broadcast_to(np.asarray(lo, np.float64), (batch,)))
    last = np.array(np.broadcast_to(np.asarray(hi, np.float64), (batch,)))
    if not (np.isfinite(first).all() and np.isfinite(last).all() and (first <= last).all()):
        raise ValueError("ranges must be finite, the lower end first")
    same = first == last
    first[same] -= 0.5
    last[same] += 0.5
    edges: NDArray[np.float64] = np.ascontiguousarray(np.linspace(first, last, nbins + 1, axis=1))
    if not np.isfinite(last - first).all() or (edges[:, 1:] <= edges[:, :-1]).any():
        raise ValueError(f"a range is too narrow or too wide for {nbins} bins")
    return edges, last - first


def extremes(block: NDArray[Any], mask: NDArray[Any] | None = None) -> Extremes:
    """Find the least and the greatest finite value of each batch index.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        bool, integers or floats to 64 bits.
    mask : ndarray of bool, optional
        The shape of the block.

    Returns
    -------
    Extremes
        ``minimum`` and ``maximum`` of the dtype of the block, the ``count`` of finite pixels they
        are taken over, the count of ``nonfinite`` ones; each of shape (batch,).

    Examples
    --------
    >>> found = extremes(np.array([[3.0, np.nan, -1.0]]))
    >>> float(found.minimum[0]), float(found.maximum[0]), int(found.nonfinite[0])
    (-1.0, 3.0, 1)
    """
    bits, kind, consts = bit_rows(block)
    batch = block.shape[0]
    keys = np.empty((batch, 2), consts.dtype)
    counts = np.zeros((batch, 2), np.int64)
    _extremes(bits, mask_rows(block, mask), kind, consts, keys, counts)
    values = np.ascontiguousarray(flip_bits(keys, kind, consts)).view(np.int8)
    values = values.view(block.dtype.newbyteorder("="))
    values[counts[:, 0] == 0] = _greatest_and_least(values.dtype)
    return Extremes(
        values[:, 0].copy(), values[:, 1].copy(), counts[:, 0].copy(), counts[:, 1].copy()
    )


def lookup(block: NDArray[Any], table: NDArray[Any], lo: int = 0) -> NDArray[Any]:
    """Replace integers by the entries of a table: ``out[b, p] = table[b, block[b, p] - lo]``.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        bool or integers; values beyond the table take its first or last entry.
    table : ndarray, shape (batch, levels)
        Of any real dtype.
    lo : int
        The value of the first entry, within the range of the dtype.

    Returns
    -------
    ndarray
        The shape of the block, the dtype of the table.

    Raises
    ------
    TypeError
        If the block does not hold integers.
    ValueError
        If the table is empty or has another number of batch indices.

    Examples
    --------
    >>> lookup(np.array([[0, 1, 9]], np.uint8), np.array([[0.5, 2.5]]))
    array([[0.5, 2.5, 2.5]])
    """
    if table.ndim != 2 or table.shape[0] != block.shape[0] or table.shape[1] == 0:
        raise ValueError(f"table of shape {table.shape} for {block.shape[0]} batch indices")
    data, _ = _flat(block, None)
    start = _first_level(block.dtype, lo, lo)
    out = np.empty(data.shape, table.dtype)
    if out.size:
        first = np.array([lo], data.dtype)
        _lookup(data, np.ascontiguousarray(table), first, start, out)
    return out.reshape(block.shape)


def interpolate(
    block: NDArray[Any], centres: NDArray[Any], cdf: NDArray[Any], out_dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """Interpolate linearly between uniform bin centres, as ``numpy.interp(x, centres, cdf)``.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Any real dtype, converted to float64.
    centres : ndarray of float64, shape (batch, nbins)
        Increasing and uniformly spaced up to rounding.
    cdf : ndarray of float64, shape (batch, nbins)
        The value at each centre; beyond the first and the last their values hold.
    out_dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray
        The shape of the block; NaN stays NaN.

    Raises
    ------
    ValueError
        If the two tables differ in shape or do not fit the block.

    Examples
    --------
    >>> interpolate(np.array([[0.0, 1.5, 9.0]]), np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]]))
    array([[0. , 0.5, 1. ]])
    """
    x, y = (np.ascontiguousarray(table, np.float64) for table in (centres, cdf))
    if x.shape != y.shape or x.ndim != 2 or x.shape[0] != block.shape[0] or x.shape[1] == 0:
        raise ValueError(f"tables of shape {x.shape} and {y.shape} for {block.shape[0]} indices")
    data, _ = _flat(block, None)
    out = np.empty(data.shape, out_dtype)
    slopes = np.zeros_like(x)
    slopes[:, :-1] = np.diff(y, axis=1) / np.diff(x, axis=1)
    _interpolate(data, x, y, slopes, out)
    return out.reshape(block.shape)


def _greatest_and_least(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return what leaves every minimum and every maximum as it is."""
    if dtype.kind == "f":
        return np.inf, -np.inf
    return (1, 0) if dtype.kind == "b" else (np.iinfo(dtype).max, np.iinfo(dtype).min)


def _flat(block: NDArray[Any], mask: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pixels and mask as rows, one per batch index."""
    return as4d(block).reshape(block.shape[0], -1), mask_rows(block, mask)


def _levels_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the greatest value of bool or integers."""
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _first_level(dtype: np.dtype[Any], lo: int, hi: int) -> np.uint64:
    """Return the first level modulo 2**64, once levels are known to fit the dtype."""
    if dtype.kind not in "biu":
        raise TypeError(f"levels are integers, the block holds {dtype}")
    low, high = _levels_of(dtype)
    if not low <= lo <= hi <= high:
        raise ValueError(f"levels {lo} ... {hi} are not within {low} ... {high} of {dtype}")
    return np.uint64(int(lo) % (1 << 64))


@jit
def _count_levels(data, keep, lo, out):
    # Equal neighbours would wait for each other's store: four tables in turn, where they are
    # small enough to stay in cache. Counts of 32 bits take half of it.
    levels = out.shape[1]
    tables = 4 if levels <= 4096 else 2
    counts = np.zeros(tables * levels, np.uint32)
    turn, most, n = np.uint64(tables - 1), np.uint64(levels - 1), np.uint64(data.shape[1])
    masked, many = keep.shape[1] > 0, np.uint64(_MANY)
    for b in range(data.shape[0]):
        for start in range(np.uint64(0), n, many):
            counts[:] = 0
            for i in range(start, min(start + many, n)):
                level = np.uint64(data[b, i]) - lo
                if level <= most and not (masked and keep[b, i] == 0):
                    counts[(i & turn) * np.uint64(levels) + level] += np.uint32(1)
            for t in range(tables):
                for level in range(levels):
                    out[b, level] += counts[t * levels + level]


@jit
def _bin_of(x, edges, span):
    """Find the bin of a pixel within the range, as numpy.histogram does."""
    nbins = edges.size - 1
    k = np.uint64(min(np.int64((x - edges[0]) / span * nbins), nbins - 1))
    k -= np.uint64(x < edges[k])
    return k + np.uint64(x >= edges[k + np.uint64(1)] and k != np.uint64(nbins - 1))


@jit
def _guess_bins(bins, data, keep, edges, scale, doubt):
    """Find bins without a division; count pixels that are too near to an edge to tell."""
    # Pixels that do not count have the bin after the last. Doubtful ones have, counted from the one
    # after that, the edge that they are near.
    nbins, doubtful = np.int32(edges.size - 1), np.int32(0)
    lo, hi, masked = edges[0], edges[edges.size - 1], keep.size > 0
    least, most, outside = doubt, 1.0 - doubt, np.float64(nbins)
    for i in range(np.uint64(bins.size)):
        x = np.float64(data[i])
        inside = (x >= lo) & (x <= hi)
        if masked:
            inside = inside & (keep[i] != 0)
        place = (x - lo) * scale
        place = place if inside and place < outside else outside
        k = np.int32(place)
        part = place - np.float64(k)
        unsure = inside & ((part < least) | (part > most))
        bins[i] = k + np.int32(part > 0.5) + np.int32(nbins + 1) if unsure else k
        doubtful += np.int32(unsure)
    return doubtful


@jit
def _settle(bins, data, edges, span, doubt):
    """Find the bins of doubtful pixels: those at the edge that the pixel is near."""
    nbins = edges.size - 1
    for i in range(np.uint64(bins.size)):
        near = bins[i] - (nbins + 1)
        if near >= 0:
            x = np.float64(data[i])
            if doubt > 0.25:
                bins[i] = _bin_of(x, edges, span)
            else:
                k = near - np.int64(x < edges[np.uint64(near)])
                bins[i] = min(k, nbins - 1)


@jit
def _count_bins(data, keep, edges, width, doubt, out):
    nbins, n = out.shape[1], data.shape[1]
    # Equal neighbours would wait for each other's store: several tables in turn.
    tables = 4 if nbins <= 4096 else 1
    counts = np.zeros((tables, nbins + 2), np.int64)
    buffer = np.empty(_FEW, np.int32)
    turn = np.uint64(tables - 1)
    for b in range(data.shape[0]):
        counts[:] = 0
        for start in range(0, n, _FEW):
            stop = min(start + _FEW, n)
            bins, pixels, kept = buffer[: stop - start], data[b, start:stop], keep[b, start:stop]
            if _guess_bins(bins, pixels, kept, edges[b], nbins / width[b], doubt[b]) > 0:
                _settle(bins, pixels, edges[b], width[b], doubt[b])
            for i in range(np.uint64(bins.size)):
                counts[i & turn, np.uint64(bins[i])] += 1
        for t in range(tables):
            for k in range(nbins):
                out[b, k] += counts[t, k]


@jit
def _bin_levels(levels, first, edges, width, out):
    """Put counts of integers from the first on into bins."""
    for b in range(levels.shape[0]):
        for i in range(levels.shape[1]):
            x = np.float64(first + i)
            if levels[b, i] > 0 and edges[b, 0] <= x <= edges[b, out.shape[1]]:
                out[b, _bin_of(x, edges[b], width[b])] += levels[b, i]


@jit
def _extremes(bits, keep, kind, consts, found, counts):
    sign, most, above, below = consts[0], consts[1], consts[2], consts[3]
    zero = sign ^ sign
    flip = sign if kind == UNSIGNED else zero
    turn = most if kind == FLOAT else flip
    masked = keep.shape[1] > 0
    n = np.uint64(bits.shape[1])
    for b in range(bits.shape[0]):
        low, high = most, sign  # everything in the dtype's own width, which vectorises
        for start in range(np.uint64(0), n, np.uint64(_PIECE)):
            finite = kept = np.int32(0)
            for i in range(start, min(start + np.uint64(_PIECE), n)):
                v = bits[b, i]
                key = v ^ (turn if v < 0 else flip)
                use = not masked or keep[b, i] != 0
                good = use and (kind != FLOAT or (key < above and key > below))
                kept += use
                finite += good
                low = key if good and key < low else low
                high = key if good and key > high else high
            counts[b, 0] += finite
            counts[b, 1] += kept - finite
        found[b, 0] = low
        found[b, 1] = high


@jit
def _lookup(data, table, lo, start, out):
    most = np.uint64(table.shape[1] - 1)
    for b in range(data.shape[0]):
        for i in range(np.uint64(data.shape[1])):
            v = data[b, i]
            level = np.uint64(v) - start if v >= lo[0] else np.uint64(0)
            out[b, i] = table[b, min(level, most)]


@jit
def _interpolate(data, x, y, slopes, out):
    last = x.shape[1] - 1
    for b in range(data.shape[0]):
        first, span = x[b, 0], x[b, last] - x[b, 0]
        for i in range(np.uint64(data.shape[1])):
            v = np.float64(data[b, i])
            if not first <= v < x[b, last]:
                out[b, i] = y[b, 0] if v < first else (y[b, last] if v >= x[b, last] else v)
                continue
            k = min(np.int64((v - first) / span * last), last - 1)
            while x[b, k] > v:
                k -= 1
            while x[b, k + 1] <= v:
                k += 1
            out[b, i] = slopes[b, k] * (v - x[b, k]) + y[b, k]

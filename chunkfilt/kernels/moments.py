"""Exact sums of whole images: count, sum and sum of squares without any rounding.

A float is an integer mantissa times a power of two. Mantissas and their squares are added as
integers, in one cell per exponent; integers add exactly in any order, so the result has the same
bits whatever the partition of the image. One rounding happens, at the very end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import as4d, jit

__all__ = ["Moments", "Summary", "combine", "finalize", "moments"]

_SCALE = 1074  # sums are integers in units of 2**-1074, the least float64; squares of its square
_SUM_WORDS = 68  # 32-bit words: 1074 + 1024 bits and 64 more for the count
_SQUARE_WORDS = 134
_CHUNK = 1 << 20  # pixels between two emptyings of the cells; 2**22 squares would overflow them


class Moments(NamedTuple):
    """Exact partial sums of a part of an image; arrays of plain integers, one row per batch.

    ``sums`` and ``squares`` hold two's complement integers as little-endian 32-bit words, in
    units of ``2**-1074`` and ``2**-2148``. ``counts`` holds finite, NaN, +inf and -inf pixels.
    """

    sums: NDArray[np.uint32]
    squares: NDArray[np.uint32]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """Statistics of the finite pixels, correctly rounded; NaN where there are too few."""

    count: NDArray[np.int64]
    sum: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    nan: NDArray[np.int64]
    posinf: NDArray[np.int64]
    neginf: NDArray[np.int64]


def moments(block: NDArray[Any], mask: NDArray[Any] | None = None) -> Moments:
    """Add up the pixels of a block and their squares, exactly.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        One to three spatial axes; bool, integers or floats to 64 bits.
    mask : ndarray of bool, optional
        The shape of the block; pixels where it is False are left out.

    Returns
    -------
    Moments
        To be joined by `combine` and read by `finalize`.

    Raises
    ------
    ValueError
        If the mask has another shape.
    TypeError
        If the dtype is not one of the above.

    Examples
    --------
    >>> float(finalize(moments(np.array([[1e100, 1.0, -1e100]]))).sum[0])
    1.0
    """
    if block.dtype.kind not in "biuf" or block.dtype.itemsize > 8:
        raise TypeError(f"moments take bool, integers and floats to 64 bits, not {block.dtype}")
    if mask is not None and mask.shape != block.shape:
        raise ValueError(f"mask of shape {mask.shape} for a block of shape {block.shape}")
    batch = block.shape[0]
    data = as4d(block).reshape(batch, -1)
    keep = np.empty((batch, 0), np.uint8) if mask is None else as4d(mask != 0).reshape(batch, -1)
    counts = np.zeros((batch, 4), np.int64)
    sums, squares = [0] * batch, [0] * batch
    for b in range(batch):
        for at in range(0, data.shape[1], _CHUNK):
            piece, kept = data[b, at : at + _CHUNK], keep[b, at : at + _CHUNK]
            one, two = (
                _add_floats(piece, kept, counts[b])
                if data.dtype.kind == "f"
                else (_add_integers(piece, kept, counts[b]))
            )
            sums[b] += one
            squares[b] += two
    return Moments(_pack(sums, _SUM_WORDS), _pack(squares, _SQUARE_WORDS), counts)


def combine(a: Moments, b: Moments) -> Moments:
    """Join the sums of two disjoint parts; exact, so any order gives the same bits.

    Raises
    ------
    ValueError
        If the two have different numbers of batch indices.

    Examples
    --------
    >>> one = moments(np.array([[1, 2]]))
    >>> int(finalize(combine(one, one)).count[0])
    4
    """
    if a.counts.shape != b.counts.shape:
        raise ValueError(f"{a.counts.shape[0]} and {b.counts.shape[0]} batch indices do not match")
    sums = [x + y for x, y in zip(_unpack(a.sums), _unpack(b.sums), strict=True)]
    squares = [x + y for x, y in zip(_unpack(a.squares), _unpack(b.squares), strict=True)]
    return Moments(
        _pack(sums, _SUM_WORDS), _pack(squares, _SQUARE_WORDS), np.add(a.counts, b.counts)
    )


def finalize(partial: Moments, ddof: int = 0) -> Summary:
    """Round exact sums to float64, once: ``variance = (n*S2 - S1**2) / (n*(n - ddof))``.

    Parameters
    ----------
    partial : Moments
        Of the whole image.
    ddof : int
        Subtracted from the count in the variance.

    Returns
    -------
    Summary
        One entry per batch index; a value too large for float64 is infinite.

    Examples
    --------
    >>> float(finalize(moments(np.array([[1, 2, 4]]))).mean[0])
    2.3333333333333335
    """
    count = partial.counts[:, 0]
    total, mean, variance = [], [], []
    for n, s1, s2 in zip(
        count.tolist(), _unpack(partial.sums), _unpack(partial.squares), strict=True
    ):
        total.append(_ratio(s1, 1 << _SCALE))
        mean.append(_ratio(s1, n << _SCALE))
        free = n * max(n - ddof, 0)
        variance.append(_ratio(n * s2 - s1 * s1, free << (2 * _SCALE)))
    _, nan, posinf, neginf = partial.counts.T.copy()
    return Summary(
        count.copy(), np.array(total), np.array(mean), np.array(variance), nan, posinf, neginf
    )


def _ratio(numerator: int, denominator: int) -> float:
    """Divide exactly and round once, which Python's integer division does."""
    if denominator == 0:
        return float("nan")
    try:
        return numerator / denominator
    except OverflowError:
        return float("inf") if numerator > 0 else float("-inf")


def _pack(values: list[int], words: int) -> NDArray[np.uint32]:
    raw = b"".join(value.to_bytes(4 * words, "little", signed=True) for value in values)
    return np.frombuffer(raw, dtype="<u4").reshape(len(values), words).astype(np.uint32)


def _unpack(words: NDArray[np.uint32]) -> list[int]:
    return [int.from_bytes(row.astype("<u4").tobytes(), "little", signed=True) for row in words]


def _add_floats(values: NDArray[Any], keep: NDArray[Any], counts: NDArray[Any]) -> tuple[int, int]:
    """Return sum and sum of squares in the units of `Moments`; add to the counts."""
    single = values.dtype == np.float32
    least = 149 if single else _SCALE  # its mantissas count in units of 2**-least
    bits = values.view(np.int32 if single else np.int64)
    cells = np.zeros((4, 256 if single else 2048, 4), np.uint64)
    (_float32_cells if single else _float64_cells)(bits, keep, cells)
    # 256 or 2048 exponents; the last one is that of infinities and NaN, counted in its cells.
    top = cells.shape[1] - 1
    counts[1:] += cells[:, top, 1:].sum(axis=0).astype(np.int64)
    sums = squares = 0
    for e in np.flatnonzero(cells[:, :top].any(axis=(0, 2))).tolist():
        one = two = 0
        for low, high, square_low, square_high in cells[:, e].tolist():
            one += _signed(low) + (_signed(high) << 26)
            two += square_low + (square_high << (24 if single else 64))
        shift = max(e, 1) - 1 + _SCALE - least
        sums += one << shift
        squares += two << (2 * shift)
    kept = len(values) if not len(keep) else int(np.count_nonzero(keep))
    counts[0] += kept - int(cells[:, top, 1:].sum())
    return sums, squares


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@jit
def _float32_cells(bits, keep, cells):
    """Cells: sum of mantissas, unused, low and high 24 bits of their squares."""
    masked = keep.shape[0] > 0
    flat = cells.reshape(-1)  # a view per pixel would cost more than the sums
    for i in range(np.uint64(bits.shape[0])):
        if masked and not keep[i]:
            continue
        v = np.int64(bits[i])
        e = (v >> 23) & 0xFF
        m = v & 0x7FFFFF
        # Four sets of cells in turn, so that equal exponents do not wait for each other.
        at = np.uint64((np.int64(i & np.uint64(3)) << 10) | (e << 2))
        if e == 0xFF:
            flat[at + np.uint64(1 if m else (3 if v < 0 else 2))] += np.uint64(1)
            continue
        m |= np.int64(e != 0) << 23
        flat[at] += np.uint64(-m if v < 0 else m)
        flat[at + np.uint64(2)] += np.uint64((m * m) & 0xFFFFFF)
        flat[at + np.uint64(3)] += np.uint64((m * m) >> 24)


@jit
def _float64_cells(bits, keep, cells):
    """Cells: low 26 and high 27 bits of the mantissas; the squares as 128-bit integers."""
    masked = keep.shape[0] > 0
    flat = cells.reshape(-1)
    for i in range(np.uint64(bits.shape[0])):
        if masked and not keep[i]:
            continue
        v = bits[i]
        e = (v >> 52) & 0x7FF
        m = v & 0xFFFFFFFFFFFFF
        at = np.uint64((np.int64(i & np.uint64(3)) << 13) | (e << 2))
        if e == 0x7FF:
            flat[at + np.uint64(1 if m else (3 if v < 0 else 2))] += np.uint64(1)
            continue
        m |= np.int64(e != 0) << 52
        low, high = m & 0x3FFFFFF, m >> 26
        flat[at] += np.uint64(-low if v < 0 else low)
        flat[at + np.uint64(1)] += np.uint64(-high if v < 0 else high)
        # m*m = high^2 2^52 + high low 2^27 + low^2, below 2^106
        square = np.uint64(m) * np.uint64(m)  # modulo 2^64
        top = np.uint64(high * high) >> np.uint64(12)
        rest = (np.uint64(high * high) & np.uint64(0xFFF)) << np.uint64(25)
        rest += np.uint64(high * low) + (np.uint64(low * low) >> np.uint64(27))
        sum_low = flat[at + np.uint64(2)] + square
        flat[at + np.uint64(2)] = sum_low
        flat[at + np.uint64(3)] += top + (rest >> np.uint64(37)) + np.uint64(sum_low < square)


def _add_integers(
    values: NDArray[Any], keep: NDArray[Any], counts: NDArray[Any]
) -> tuple[int, int]:
    """Return sum and sum of squares in the units of `Moments`; add to the counts."""
    if values.dtype.itemsize <= 2:
        count, one, two = _small_sums(values, keep)
        sums, squares = int(one), int(two)
    else:
        count, low, high, *parts = (int(v) for v in _wide_sums(values, keep))
        sums = low + (high << 32)
        shifts = (0, 32, 33, 65, 64, 96)  # of low*low, 2*low*high and high*high, each in two parts
        squares = sum(part << shift for part, shift in zip(parts, shifts, strict=True))
    counts[0] += count
    return sums << _SCALE, squares << (2 * _SCALE)


@jit
def _small_sums(values, keep):
    """Sum integers to 16 bits and their squares; 2**20 of them fit easily."""
    one = two = np.int64(0)
    if keep.shape[0] == 0:
        for i in range(values.shape[0]):
            v = np.int64(values[i])
            one += v
            two += v * v
        return np.int64(values.shape[0]), one, two
    count = np.int64(0)
    for i in range(values.shape[0]):
        v = np.int64(values[i]) if keep[i] else np.int64(0)
        count += keep[i]
        one += v
        two += v * v
    return count, one, two


@jit
def _wide_sums(values, keep):
    """Sum 32- and 64-bit integers in halves of 32 bits, and the products of those halves."""
    half, most = np.uint64(32), np.uint64(0xFFFFFFFF)
    count = low = high = np.int64(0)
    ll0 = ll1 = lh0 = lh1 = hh0 = hh1 = np.uint64(0)
    masked = keep.shape[0] > 0
    for i in range(values.shape[0]):
        if masked and not keep[i]:
            continue
        v = values[i]
        count += 1
        low += np.int64(np.uint64(v) & most)
        high += np.int64(v >> 32)
        size = np.uint64(0) - np.uint64(v) if v < 0 else np.uint64(v)
        a, b = size & most, size >> half
        ll0 += (a * a) & most
        ll1 += (a * a) >> half
        lh0 += (a * b) & most
        lh1 += (a * b) >> half
        hh0 += (b * b) & most
        hh1 += (b * b) >> half
    return count, low, high, ll0, ll1, lh0, lh1, hh0, hh1

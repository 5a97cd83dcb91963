"""Compiled loops along rows, and the number types that sums, variances and extremes are kept in.

Windows of any shape are joined from parts. A cell of a part holds one number (a sum, an extreme)
or a pair: the halves of a 64-bit sum, the sums of pixels and of squares, or mean and sum of squared
deviations. Every loop runs along contiguous rows, so that it vectorises.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chunkfilt.kernels._common import jit

EPSILON = 2.2e-16  # weights up to this size are no weights: a NaN under them must not spread
ADD, MAX, MIN = 0, 1, 2
HALVES, SQUARES, MOMENTS = 0, 1, 2


def _integer(dtype: DTypeLike) -> np.dtype[Any] | None:
    kind = np.dtype(np.uint8) if np.dtype(dtype) == np.bool_ else np.dtype(dtype)
    return kind if kind.kind in "iu" else None


def _largest(dtype: np.dtype[Any]) -> int:
    info = np.iinfo(dtype)
    return max(int(info.max), -int(info.min))


def sum_dtypes(dtype: DTypeLike, count: int) -> tuple[Any, ...]:
    """Return what sums of `count` pixels are kept in: one dtype, or two for 64-bit halves."""
    integer = _integer(dtype)
    if integer is None:
        return (np.float64,)
    if integer.itemsize == 8:
        return (np.int64, np.int64)
    # Half the bytes, twice the speed, where no sum can overflow.
    return (np.int32 if _largest(integer) * count < 2**31 else np.int64,)


def variance_dtypes(dtype: DTypeLike, count: int) -> tuple[int, Any, Any]:
    """Return the kind of pair and its two dtypes for the variance of `count` pixels."""
    integer = _integer(dtype)
    if integer is None or integer.itemsize > 2 or (count * _largest(integer)) ** 2 >= 2**63:
        return MOMENTS, np.float64, np.float64
    work = [np.int32 if count * _largest(integer) ** p < 2**31 else np.int64 for p in (1, 2)]
    return SQUARES, work[0], work[1]


def extreme_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return what extremes are kept in: what `as4d` makes of the dtype."""
    if np.dtype(dtype) == np.float16:
        return np.dtype(np.float32)
    return _integer(dtype) or np.dtype(dtype).newbyteorder("=")


def parts_of(length: int, overlap: bool) -> list[tuple[int, int]]:
    """Split a run of pixels into parts of `2**level` pixels: `(level, offset)` for each.

    The binary digits of the length, largest first; or, where parts may overlap, at most two.
    """
    top = length.bit_length() - 1
    if overlap:
        return [(top, 0), (top, length - 2**top)][: 1 + (length > 2**top)]
    return [(k, length >> (k + 1) << (k + 1)) for k in range(top, -1, -1) if length >> k & 1]


@jit
def join(out, a, b, op):
    """Combine two rows into a third: sum, minimum or maximum by `op`."""
    n = out.size
    if op == 0:
        for i in range(n):
            out[i] = a[i] + b[i]
    elif op == 1:
        for i in range(n):
            p, q = a[i], b[i]
            r = p if p > q else q
            out[i] = p if p != p else r
    else:
        for i in range(n):
            p, q = a[i], b[i]
            r = p if p < q else q
            out[i] = p if p != p else r


@jit
def fold(out, b, op):
    """Combine a row into another, in place."""
    # Apart from join, because the compiler vectorises an update in place only when it sees one.
    n = out.size
    if op == 0:
        for i in range(n):
            out[i] += b[i]
    elif op == 1:
        for i in range(n):
            p, q = out[i], b[i]
            r = p if p > q else q
            out[i] = p if p != p else r
    else:
        for i in range(n):
            p, q = out[i], b[i]
            r = p if p < q else q
            out[i] = p if p != p else r


@jit
def copy(out, a):
    """Copy a row."""
    for i in range(out.size):
        out[i] = a[i]


@jit
def join_pair(out, out2, a, a2, b, b2, na, nb, kind):
    """Combine two rows of pairs (two sums, or mean and squared deviations) into a third."""
    n = out.size
    if kind == 2:
        # Means, not sums: a window of equal pixels then has a variance of exactly 0.
        share, weight = nb / (na + nb), na * nb / (na + nb)
        for i in range(n):
            d = b[i] - a[i]
            out[i] = a[i] + d * share
            out2[i] = (a2[i] + b2[i]) + d * d * weight
    else:
        for i in range(n):
            out[i] = a[i] + b[i]
            out2[i] = a2[i] + b2[i]


@jit
def fold_pair(out, out2, b, b2, na, nb, kind):
    """Combine a row of pairs into another, in place."""
    n = out.size
    if kind == 2:
        share, weight = nb / (na + nb), na * nb / (na + nb)
        for i in range(n):
            d = b[i] - out[i]
            out[i] += d * share
            out2[i] = (out2[i] + b2[i]) + d * d * weight
    else:
        for i in range(n):
            out[i] += b[i]
            out2[i] += b2[i]


@jit
def divide(target, row, count):
    """Store a row divided by the number of pixels."""
    for i in range(target.size):
        target[i] = row[i] / count


@jit
def load_pair(out, out2, pixels, before, mask, kind):
    """Add one row of pixels to pairs that hold `before` pixels each."""
    n = out.size
    if before == 0:
        out[:] = 0
        out2[:] = 0
    if kind == 0:
        for i in range(n):
            v = np.int64(pixels[i])
            out[i] += (v >> 32) & mask
            out2[i] += v & 0xFFFFFFFF
    elif kind == 1:
        for i in range(n):
            v = np.int64(pixels[i])
            out[i] += v
            out2[i] += v * v
    elif before == 0:
        copy(out, pixels)
    else:
        share, weight = 1.0 / (before + 1.0), before / (before + 1.0)
        for i in range(n):
            d = np.float64(pixels[i]) - out[i]
            out[i] += d * share
            out2[i] += d * d * weight


@jit
def store_pair(target, a, a2, count, divisor, root, kind):
    """Store a row of pairs as what they stand for: a wide sum, a variance or a deviation."""
    n = target.size
    if kind == 0:
        for i in range(n):
            target[i] = (np.float64(a[i]) * 4294967296.0 + np.float64(a2[i])) / divisor
        return
    for i in range(n):
        if kind == 1:
            s = np.int64(a[i])
            v = np.float64(np.int64(count) * np.int64(a2[i]) - s * s) / divisor
        else:
            # The mean is infinite or NaN when a pixel is: so is then the variance.
            v = (a2[i] + (a[i] - a[i])) / divisor
        target[i] = np.sqrt(v) if root else v


@jit
def fold4(out, a, b, c, d):
    """Add four rows to a fifth in one go, in a fixed order."""
    for i in range(out.size):
        out[i] = out[i] + a[i] + b[i] + c[i] + d[i]


@jit
def _weigh1(out, flat, at, weight):
    a, u = np.uint64(at[0]), weight[0]
    for k in range(out.size):
        i = np.uint64(k)
        out[i] = out[i] + u * flat[a + i]


@jit
def _weigh4(out, flat, at, weight):
    a, b, c, d = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2]), np.uint64(at[3])
    u0, u1, u2, u3 = weight[0], weight[1], weight[2], weight[3]
    for k in range(out.size):
        i = np.uint64(k)
        s = out[i] + u0 * flat[a + i] + u1 * flat[b + i]
        out[i] = s + u2 * flat[c + i] + u3 * flat[d + i]


@jit
def _weigh8(out, flat, at, weight):
    a, b, c, d = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2]), np.uint64(at[3])
    e, f, g, h = np.uint64(at[4]), np.uint64(at[5]), np.uint64(at[6]), np.uint64(at[7])
    u0, u1, u2, u3 = weight[0], weight[1], weight[2], weight[3]
    u4, u5, u6, u7 = weight[4], weight[5], weight[6], weight[7]
    for k in range(out.size):
        i = np.uint64(k)
        s = out[i] + u0 * flat[a + i] + u1 * flat[b + i] + u2 * flat[c + i] + u3 * flat[d + i]
        out[i] = s + u4 * flat[e + i] + u5 * flat[f + i] + u6 * flat[g + i] + u7 * flat[h + i]


@jit
def weigh(out, flat, at, weight):
    """Add `weight[p] * flat[at[p] + i]` to every `out[i]`, in the order of p."""
    # Groups change how often `out` is loaded and stored, not the order of the additions. Indices
    # are unsigned, since a sign test would keep the loops from vectorising; a slice per tap would
    # do as well, but costs more than its part of a short row.
    p, count = 0, weight.size
    while p + 8 <= count:
        _weigh8(out, flat, at[p : p + 8], weight[p : p + 8])
        p += 8
    while p + 4 <= count:
        _weigh4(out, flat, at[p : p + 4], weight[p : p + 4])
        p += 4
    while p < count:
        _weigh1(out, flat, at[p : p + 1], weight[p : p + 1])
        p += 1

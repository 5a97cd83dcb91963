"""Compiled loops along rows, and the number types that sums, variances and extremes are kept in.

Windows of any shape are joined from parts. A cell of a part holds one number (a sum, an extreme)
or a pair: the halves of a 64-bit sum, the sums of pixels and of squares, or mean and sum of squared
deviations. Every loop runs along contiguous rows, so that it vectorises.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import DTypeLike

from chunkfilt.kernels._common import jit

EPSILON = 2.2e-16  # weights up to this size are no weights: a NaN under them must not spread
AT_ONCE = 5  # rows that one loop adds up
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


def may_scale(dtype: np.dtype[Any], count: int) -> bool:
    """Whether sums times `1 / count`, rounded to a dtype, are the same as sums divided."""
    # A quotient of integers that is no float32 itself is 1 / (2**25 * count) of its size or more
    # from where rounding to float32 turns; the product is within 2**-52 of it. It lies just there,
    # for means below 2**16, only if the count is a multiple of 2**9. Powers of two are exact.
    if count & (count - 1) == 0:
        return True
    return dtype == np.float32 and count % 512 != 0 and count < 2**24


def parts_of(length: int) -> list[tuple[int, int]]:
    """Split a run of pixels into parts of `2**level` pixels: `(level, offset)` for each.

    The binary digits of the length, largest first.
    """
    top = length.bit_length() - 1
    return [(k, length >> (k + 1) << (k + 1)) for k in range(top, -1, -1) if length >> k & 1]


@jit
def join(out, a, b):
    """Add two rows up into a third."""
    for i in range(out.size):
        out[i] = a[i] + b[i]


@jit
def fold(out, b):
    """Add a row to another, in place."""
    # Apart from join, because the compiler vectorises an update in place only when it sees one.
    for i in range(out.size):
        out[i] += b[i]


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


@intrinsic
def _prefetch(typing, flat, index):
    """Ask for the cache line of an element, which may lie beyond the end."""

    def generate(context, builder, signature, args):
        data = context.make_array(flat)(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(call, [place, number(0), number(3), number(1)])  # to read, into every cache
        return context.get_dummy_value()

    return types.void(flat, types.int64), generate


@jit
def fetch(flat, at, length):
    """Have a row of a flat array on its way from memory while others are worked on."""
    for i in range(at, at + length, 64 // flat.itemsize):
        _prefetch(flat, i)


@jit
def enter(out, flat, at):
    """Add a row of integers to another."""
    a = np.uint64(at)
    for k in range(out.size):
        out[k] += flat[a + np.uint64(k)]


@jit
def slide(out, flat, enters, leaves):
    """Add a row of integers to another, less a third."""
    a, b = np.uint64(enters), np.uint64(leaves)
    for k in range(out.size):
        i = np.uint64(k)
        out[k] += out.dtype.type(flat[a + i]) - out.dtype.type(flat[b + i])


@jit
def add(out, flat, at, p, n):
    """Add the rows of a flat array that begin at indices p to n to a row, in order."""
    kind = out.dtype.type
    while p + 2 <= n:
        a, b = np.uint64(at[p]), np.uint64(at[p + 1])
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = out[k] + kind(flat[a + i]) + kind(flat[b + i])
        p += 2
    if p < n:
        a = np.uint64(at[p])
        for k in range(out.size):
            out[k] += kind(flat[a + np.uint64(k)])


@jit
def total(out, flat, at, count):
    """Add up the rows of a flat array that begin at the first `count` indices, in order."""
    kind, n = out.dtype.type, min(count, AT_ONCE)
    a, b, c = np.uint64(at[0]), np.uint64(at[min(1, n - 1)]), np.uint64(at[min(2, n - 1)])
    d, e = np.uint64(at[min(3, n - 1)]), np.uint64(at[n - 1])
    if n == 1:
        for k in range(out.size):
            out[k] = kind(flat[a + np.uint64(k)])
    elif n == 2:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = kind(flat[a + i]) + kind(flat[b + i])
    elif n == 3:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = kind(flat[a + i]) + kind(flat[b + i]) + kind(flat[c + i])
    elif n == 4:
        for k in range(out.size):
            i = np.uint64(k)
            s = kind(flat[a + i]) + kind(flat[b + i])
            out[k] = s + (kind(flat[c + i]) + kind(flat[d + i]))
    else:
        for k in range(out.size):
            i = np.uint64(k)
            s = kind(flat[a + i]) + kind(flat[b + i])
            out[k] = s + (kind(flat[c + i]) + kind(flat[d + i])) + kind(flat[e + i])
        add(out, flat, at, n, count)


@jit
def total_two(out, out2, flat, at, n):
    """Add up rows 0 to n, and 1 to n + 1, as `total` does, for n = 3 or 5."""
    # Most of the rows are common: they are loaded, and turned into the work's dtype, once.
    kind, b, c, d = out.dtype.type, np.uint64(at[1]), np.uint64(at[2]), np.uint64(at[3])
    a, e, f = np.uint64(at[0]), np.uint64(at[n - 1]), np.uint64(at[n])
    if n == 3:
        for k in range(out.size):
            i = np.uint64(k)
            q, r = kind(flat[b + i]), kind(flat[c + i])
            out[k] = kind(flat[a + i]) + q + r
            out2[k] = q + r + kind(flat[d + i])
    else:
        for k in range(out.size):
            i = np.uint64(k)
            q, r, s, t = kind(flat[b + i]), kind(flat[c + i]), kind(flat[d + i]), kind(flat[e + i])
            out[k] = (kind(flat[a + i]) + q) + (r + s) + t
            out2[k] = (q + r) + (s + t) + kind(flat[f + i])


@jit
def scaled(out, flat, at, n, scale):
    """Add up one to five rows of a flat array, as `total` does, and store them times a scale."""
    kind = flat.dtype.type
    a, b, c = np.uint64(at[0]), np.uint64(at[min(1, n - 1)]), np.uint64(at[min(2, n - 1)])
    d, e = np.uint64(at[min(3, n - 1)]), np.uint64(at[n - 1])
    if n == 1:
        for k in range(out.size):
            out[k] = flat[a + np.uint64(k)] * scale
    elif n == 2:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = kind(flat[a + i] + flat[b + i]) * scale
    elif n == 3:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = kind(flat[a + i] + flat[b + i] + flat[c + i]) * scale
    elif n == 4:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = kind((flat[a + i] + flat[b + i]) + (flat[c + i] + flat[d + i])) * scale
    else:
        for k in range(out.size):
            i = np.uint64(k)
            s = kind((flat[a + i] + flat[b + i]) + (flat[c + i] + flat[d + i]))
            out[k] = kind(s + flat[e + i]) * scale


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

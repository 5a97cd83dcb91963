"""Column histograms: a rank in a box of bytes, at the same cost for any size.

Each column of a strip has a histogram of the pixels that the window will see in it; those of a
window are the sum over its columns, kept as the window moves along a row. Histograms are cumulative
and in two levels of 16 bins, so that an update, and the search for the rank, is one operation on 16
numbers: the upper level is always kept, of the lower one only the bins where ranks are found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._keys import UNSIGNED
from chunkfilt.kernels._sums import aligned

__all__ = ["COLUMNS_MAX", "columns_memory", "run_columns"]

COLUMNS_MAX = 65535  # pixels of a window: what a bin can count
_BINS = 16  # of a level
_STRIP = 512  # columns whose histograms a core's own cache holds
# What a pixel of each bin adds to cumulative bins, and nothing.
_STEPS = np.concatenate([np.tri(_BINS).T.reshape(-1), np.zeros(_BINS)]).astype(np.uint16)


def _strip(length: int, window: int) -> int:
    strip = min(max(_STRIP, 2 * window), length)
    return -(-length // -(-length // strip))


def columns_memory(core: tuple[int, ...], window: tuple[int, ...]) -> int:
    """Return the bytes that `run_columns` works in, for a core and a window `(z, y, x)`."""
    columns = _strip(max(core[2], 1), window[2]) + window[2] - 1
    return (columns + 2) * (_BINS + 1) * _BINS * 2


def run_columns(
    src: NDArray[Any], dst: NDArray[Any], window: tuple[int, ...], rank: int, kind: int
) -> None:
    """Filter a batch of bytes with a box of at most `COLUMNS_MAX` pixels."""
    strip = _strip(dst.shape[3], window[2])
    columns = strip + window[2] - 1
    upper = aligned(columns * _BINS, np.dtype(np.uint16))
    lower = aligned(columns * _BINS * _BINS, np.dtype(np.uint16))
    steps = aligned(_STEPS.size, np.dtype(np.uint16))
    steps[:] = _STEPS
    sums = aligned((_BINS + 1) * _BINS, np.dtype(np.uint16))
    turn = 0 if kind == UNSIGNED else 128
    _run(src, dst, window, rank, turn, strip, (upper, lower, steps, sums))


def _sixteen(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return a pointer to 16 numbers of an array, from an index on."""
    data = context.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(ir.IntType(16), _BINS)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@intrinsic
def _add(typing, out, to, array, at):
    """Add 16 numbers to 16 others."""

    def generate(context, builder, signature, args):
        target = _sixteen(context, builder, out, args[0], args[1])
        more = builder.load(_sixteen(context, builder, array, args[2], args[3]), align=32)
        builder.store(builder.add(builder.load(target, align=32), more), target, align=32)
        return context.get_dummy_value()

    return types.void(out, types.int64, array, types.int64), generate


@intrinsic
def _move(typing, out, to, array, enters, leaves):
    """Add 16 numbers to 16 others, less 16."""

    def generate(context, builder, signature, args):
        target = _sixteen(context, builder, out, args[0], args[1])
        more = builder.load(_sixteen(context, builder, array, args[2], args[3]), align=32)
        less = builder.load(_sixteen(context, builder, array, args[2], args[4]), align=32)
        moved = builder.sub(builder.add(builder.load(target, align=32), more), less)
        builder.store(moved, target, align=32)
        return context.get_dummy_value()

    return types.void(out, types.int64, array, types.int64, types.int64), generate


@intrinsic
def _find(typing, array, at, rank):
    """Count those of 16 numbers that are at most the rank."""

    def generate(context, builder, signature, args):
        numbers = builder.load(_sixteen(context, builder, array, args[0], args[1]), align=32)
        one = builder.trunc(args[2], ir.IntType(16))
        vector = ir.VectorType(ir.IntType(16), _BINS)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), one, ir.IntType(32)(0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), _BINS), [0] * _BINS)
        ranks = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)
        most = builder.icmp_unsigned("<=", numbers, ranks)
        return builder.zext(builder.ctpop(builder.bitcast(most, ir.IntType(16))), ir.IntType(64))

    return types.int64(array, types.int64, types.int64), generate


@jit
def _enter(upper, lower, steps, row, turn, columns):
    """Add a row of pixels to the columns' histograms."""
    for c in range(row.size):
        v = (np.int64(row[c]) & 255) ^ turn
        _add(upper, c * 16, steps, v & 240)
        _add(lower, ((v >> 4) * columns + c) * 16, steps, (v & 15) * 16)


@jit
def _exchange(upper, lower, steps, row, old, turn, columns):
    """Add a row of pixels to the columns' histograms, and take another from them."""
    for c in range(row.size):
        v, w = (np.int64(row[c]) & 255) ^ turn, (np.int64(old[c]) & 255) ^ turn
        _move(upper, c * 16, steps, v & 240, w & 240)
        _add(lower, ((v >> 4) * columns + c) * 16, steps, (v & 15) * 16)
        _move(lower, ((w >> 4) * columns + c) * 16, steps, 256, (w & 15) * 16)


@jit
def _catch_up(sums, lower, k, x, seen, wx, columns):
    """Have the lower histogram of the k-th upper bin hold the window at x."""
    to, base = (k + 1) * 16, k * columns * 16
    if x - seen >= wx // 2 or seen < 0:
        for i in range(16):
            sums[to + i] = 0
        for c in range(x, x + wx):
            _add(sums, to, lower, base + c * 16)
    else:
        for c in range(seen, x):
            _move(sums, to, lower, base + (c + wx) * 16, base + c * 16)


@jit
def _slide(out, upper, lower, sums, seen, wx, rank, turn, columns):
    """Find the rank in the windows of one row."""
    sums[:16] = 0
    seen[:] = -1
    for c in range(wx):
        _add(sums, 0, upper, c * 16)
    for x in range(out.size):
        if x > 0:
            _move(sums, 0, upper, (x + wx - 1) * 16, (x - 1) * 16)
        k = _find(sums, 0, rank)
        below = np.int64(sums[np.uint64(k - 1)]) if k > 0 else 0
        if seen[k] != x:
            _catch_up(sums, lower, k, x, seen[k], wx, columns)
            seen[k] = x
        out[x] = (k * 16 + _find(sums, (k + 1) * 16, rank - below)) ^ turn


@jit
def _run(src, dst, window, rank, turn, strip, work):
    """Filter strip by strip, row by row."""
    upper, lower, steps, sums = work
    depth, wy, wx = window
    batch, nz, ny, nx = dst.shape
    seen = np.empty(16, np.int64)
    columns = strip + wx - 1
    for b in range(batch):
        for z in range(nz):
            for x0 in range(0, nx, strip):
                n = min(strip, nx - x0)
                upper[:] = 0
                lower[:] = 0
                for y in range(ny + wy - 1):
                    for d in range(z, z + depth):
                        row = src[b, d, y, x0 : x0 + n + wx - 1]
                        if y < wy:
                            _enter(upper, lower, steps, row, turn, columns)
                        else:
                            old = src[b, d, y - wy, x0 : x0 + n + wx - 1]
                            _exchange(upper, lower, steps, row, old, turn, columns)
                    if y >= wy - 1:
                        out = dst[b, z, y - wy + 1, x0 : x0 + n]
                        _slide(out, upper, lower, sums, seen, wx, rank, turn, columns)

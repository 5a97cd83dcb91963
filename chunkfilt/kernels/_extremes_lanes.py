"""Extremes of rows of keys, a whole vector at a time.

The rows lie in one flat array of signed integers. They begin on cache lines, and are as long as so
many vectors. The vectors are written out because several rows of one array might overlap: the
compiler does not find out that they do not, and would take one key at a time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["VECTOR", "advance", "fold", "neighbours"]

VECTOR = 64  # bytes; the compiler splits it where there are no such registers


def _int(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


class _Row:
    """The vectors of a row of a flat array, which begins on a cache line."""

    def __init__(self, context: Any, builder: Any, flat: Any, array: Any, start: Any) -> None:
        self.lanes = VECTOR * 8 // flat.dtype.bitwidth
        self.kind = ir.VectorType(ir.IntType(flat.dtype.bitwidth), self.lanes)
        data = context.make_array(flat)(context, builder, array).data
        first = builder.gep(data, [start])
        self._builder, self._first = builder, builder.bitcast(first, self.kind.as_pointer())

    def load(self, index: Any) -> Any:
        """Return a vector."""
        return self._builder.load(self._builder.gep(self._first, [index]), align=VECTOR)

    def store(self, index: Any, value: Any) -> None:
        """Set a vector."""
        self._builder.store(value, self._builder.gep(self._first, [index]), align=VECTOR)


def _greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@intrinsic
def neighbours(typing, flat, source, target, count, levels):
    """Take the greatest of `2**levels` neighbours, of 2 to a whole vector."""

    def generate(context, builder, signature, args):
        row = _Row(context, builder, flat, args[0], args[1])
        out = _Row(context, builder, flat, args[0], args[2])
        last = builder.sub(args[3], _int(1))
        for top in range(1, row.lanes.bit_length()):
            with builder.if_then(builder.icmp_signed("==", args[4], _int(top))):
                after = [cgutils.alloca_once(builder, row.kind) for _ in range(top)]
                for held in after:
                    builder.store(ir.Constant(row.kind, None), held)
                # From the end, so that each level of the next vector is there already.
                steps = cgutils.for_range_slice(builder, last, _int(-1), _int(-1), inc=False)
                with steps as (i, _):
                    value = row.load(i)
                    for k, held in enumerate(after):
                        order = [*range(1 << k, (1 << k) + row.lanes)]
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), row.lanes), order)
                        moved = builder.shuffle_vector(value, builder.load(held), mask)
                        builder.store(value, held)
                        value = _greater(builder, value, moved)
                    out.store(i, value)
        return context.get_dummy_value()

    number = types.int64
    return types.void(flat, number, number, number, number), generate


@intrinsic
def fold(typing, flat, to, one, count):
    """Join a row of vectors to another."""

    def generate(context, builder, signature, args):
        out = _Row(context, builder, flat, args[0], args[1])
        row = _Row(context, builder, flat, args[0], args[2])
        with cgutils.for_range(builder, args[3]) as loop:
            i = loop.index
            out.store(i, _greater(builder, out.load(i), row.load(i)))
        return context.get_dummy_value()

    return types.void(flat, types.int64, types.int64, types.int64), generate


@intrinsic
def advance(typing, flat, before, one, seen, left, to, count):
    """Join a row of vectors to what was seen before, and that to what is left of others."""

    def generate(context, builder, signature, args):
        rows = [_Row(context, builder, flat, args[0], start) for start in args[1:6]]
        before, one, seen, left, to = rows
        with cgutils.for_range(builder, args[6]) as loop:
            i = loop.index
            value = _greater(builder, before.load(i), one.load(i))
            more = left.load(i)
            seen.store(i, value)
            to.store(i, _greater(builder, value, more))
        return context.get_dummy_value()

    return types.void(flat, *[types.int64] * 6), generate

"""Extremes of moved pixels in vectors that stay in registers: the code of a few such vectors.

The compiler makes vectors of the innermost loop, which would be the one over pixels in a row, and
keeps what it has found so far in memory. Here that loop goes over the structure.
"""

import itertools
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["AT_ONCE", "VECTOR", "tile"]

VECTOR = 64  # bytes of a vector; the compiler splits it where there are none
AT_ONCE = 4  # vectors that are computed in one go: two registers each where they hold 32 bytes


@intrinsic(prefer_literal=True)
def tile(typing, count, largest, out, to, flat, at, places, amounts, bounds):
    """Store extremes of pixels of a flat array: `count` vectors of them, or a single one if 0.

    A pixel of the structure lies `places` behind `at`. Those between the first two bounds are taken
    as they are, then some are raised by their amounts, and some lowered.
    """

    def generate(context, builder, signature, args):
        target, source, place, amount = (
            context.make_array(signature.args[k])(context, builder, args[k]).data
            for k in (2, 4, 6, 7)
        )
        vectors, greatest = max(count.literal_value, 1), bool(largest.literal_value)
        lanes = VECTOR * 8 // flat.dtype.bitwidth if count.literal_value else 1
        kind = ir.VectorType(source.type.pointee, lanes)
        held = [cgutils.alloca_once_value(builder, _start(kind, greatest)) for _ in range(vectors)]
        ends = cgutils.unpack_tuple(builder, args[8])
        align = flat.dtype.bitwidth // 8
        for way, (start, end) in enumerate(itertools.pairwise(ends)):
            with cgutils.for_range_slice(builder, start, end, _int(1)) as (t, _):
                first = builder.add(args[5], builder.load(builder.gep(place, [t])))
                move = _spread(builder, builder.load(builder.gep(amount, [t])), kind)
                for k, one in enumerate(held):
                    where = _vector(builder, source, builder.add(first, _int(k * lanes)), kind)
                    value = _moved(builder, builder.load(where, align=align), move, way)
                    builder.store(_extreme(builder, value, builder.load(one), greatest), one)
        for k, one in enumerate(held):
            where = _vector(builder, target, builder.add(args[3], _int(k * lanes)), kind)
            builder.store(builder.load(one), where, align=align)
        return context.get_dummy_value()

    return types.void(count, largest, out, to, flat, at, places, amounts, bounds), generate


def _int(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _start(kind: Any, greatest: bool) -> Any:
    """Return vectors of what any pixel replaces."""
    if isinstance(kind.element, ir.IntType):
        value: Any = 0 if greatest else (1 << kind.element.width) - 1
    else:
        value = -np.inf if greatest else np.inf
    return ir.Constant(kind, [value] * kind.count)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    """Return a vector of one number."""
    lanes = ir.VectorType(ir.IntType(32), kind.count)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), number, lanes.element(0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(lanes, None))


def _vector(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    """Return a pointer to a vector that begins anywhere in an array."""
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _moved(builder: Any, value: Any, move: Any, way: int) -> Any:
    """Return a vector as it is, raised, or lowered; integers stop at their limits."""
    if way == 0:
        return value
    if isinstance(value.type.element, ir.IntType):
        name = (
            f"llvm.{('uadd', 'usub')[way - 1]}.sat.v{value.type.count}i{value.type.element.width}"
        )
        function = ir.FunctionType(value.type, [value.type] * 2)
        stopping = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(stopping, [value, move])
    return (builder.fadd, builder.fsub)[way - 1](value, move)


def _extreme(builder: Any, value: Any, best: Any, greatest: bool) -> Any:
    """Return the lesser or the greater of two vectors, which hold no NaN."""
    sign = ">" if greatest else "<"
    integers = isinstance(value.type.element, ir.IntType)
    compare = builder.icmp_unsigned if integers else builder.fcmp_ordered
    return builder.select(compare(sign, value, best), value, best)

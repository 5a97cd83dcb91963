"""Weighted sums of rows as straight vector code, which keeps its sums in the processor's registers.

A pass over an image is bound by loads: a sum of 17 rows takes 17 of them, and half as many cycles
of arithmetic. A row loaded once for eight sums at a time, or for the two that are next to each
other, leaves the arithmetic. The compiler does not find these forms by itself, so they are written
for whole vectors here. Every sum is made in the order of its weights, each product rounded before
it is added, exactly as a plain loop would do it.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from chunkfilt.kernels._common import jit

__all__ = ["ROWS", "WHOLE", "Code", "borrow", "weigh", "weigh_along", "weigh_down"]

ROWS = 8  # rows of sums that one loop makes: as many as there are registers for on most processors
WHOLE = 32  # rows are worked on in whole multiples of this many numbers, so no remainder runs
_LANES = 8  # numbers in a vector; the compiler splits it where registers are shorter

_INDEX, _NUMBER = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_NUMBER, _LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * _LANES)


class Code:
    """Writes code on vectors, from pointers to their first numbers."""

    lanes, vector, zero = _LANES, _VECTOR, _ZERO

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self._arrays = {
            i: context.make_array(kind)(context, builder, args[i])
            for i, kind in enumerate(signature.args)
            if isinstance(kind, types.Array)
        }

    def data(self, i: int) -> Any:
        """Return the pointer to the first number of an argument."""
        return self._arrays[i].data

    def length(self, i: int) -> Any:
        """Return the length of an argument's last axis."""
        shape = self._arrays[i].shape
        return self.builder.extract_value(shape, shape.type.count - 1)

    def place(self, pointer: Any, *offsets: Any) -> Any:
        """Return a pointer moved by some offsets."""
        for offset in offsets:
            index = _INDEX(offset) if isinstance(offset, int) else offset
            pointer = self.builder.gep(pointer, [index])
        return pointer

    def _cast(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, _VECTOR.as_pointer())

    def load(self, pointer: Any) -> Any:
        return self.builder.load(self._cast(pointer), align=8)

    def store(self, vector: Any, pointer: Any) -> None:
        self.builder.store(vector, self._cast(pointer), align=8)

    def spread(self, pointer: Any) -> Any:
        """Load one number into all lanes."""
        number, narrow = self.builder.load(pointer), ir.IntType(32)
        first = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, narrow(0))
        lanes = ir.Constant(ir.VectorType(narrow, _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(first, first, lanes)

    def begin(self, fresh: Any, pointer: Any) -> Any:
        """Return what a sum begins with: 0 if fresh, else what has been summed so far."""
        return self.builder.select(fresh, _ZERO, self.load(pointer))

    def add(self, total: Any, weight: Any, vector: Any) -> Any:
        return self.builder.fadd(total, self.builder.fmul(weight, vector))

    def loop(
        self, start: Any, stop: Any, step: int, values: list[Any], body: Callable[..., list[Any]]
    ) -> list[Any]:
        """Write a loop whose body turns the values it is given into those of the next round."""
        builder, before = self.builder, self.builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        phis = [builder.phi(value.type) for value in [start, *values]]
        for phi, value in zip(phis, [start, *values], strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", phis[0], stop), inside, after)
        builder.position_at_end(inside)
        after_body = body(phis[0], phis[1:])
        following = [builder.add(phis[0], _INDEX(step)), *after_body]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return phis[1:]


@intrinsic
def borrow(typing, value):
    """Return an array, or a tuple of them, whose references are not counted.

    Every slice and every call counts a reference, by an atomic instruction that waits for all
    stores before it: dozens for a row, more than its arithmetic. The caller holds the arrays.
    """

    def lent(context, builder, kind, item):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, item)
            array.meminfo = ir.Constant(array.meminfo.type, None)
            return array._getvalue()
        for i, part in enumerate(kind):
            new = lent(context, builder, part, builder.extract_value(item, i))
            item = builder.insert_value(item, new, i)
        return item

    def generate(context, builder, signature, args):
        return lent(context, builder, value, args[0])

    return value(value), generate


@intrinsic
def weigh(typing, out, flat, at, weight, fresh):
    """Add `weight[p] * flat[at[p] + i]` to every `out[i]`, in the order of p."""
    columns = WHOLE // _LANES

    def generate(context, builder, signature, args):
        code = Code(context, builder, signature, args)
        target, source, places, weights = (code.data(i) for i in range(4))

        def sums(x, _):
            cells = [code.place(target, x, c * _LANES) for c in range(columns)]

            def tap(p, totals):
                row = code.place(source, x, builder.load(code.place(places, p)))
                factor = code.spread(code.place(weights, p))
                vectors = [code.load(code.place(row, c * _LANES)) for c in range(columns)]
                pairs = zip(totals, vectors, strict=True)
                return [code.add(total, factor, vector) for total, vector in pairs]

            totals = [code.begin(args[4], cell) for cell in cells]
            totals = code.loop(_INDEX(0), code.length(3), 1, totals, tap)
            for total, cell in zip(totals, cells, strict=True):
                code.store(total, cell)
            return []

        code.loop(_INDEX(0), code.length(0), WHOLE, [], sums)
        return context.get_dummy_value()

    return types.void(out, flat, at, weight, fresh), generate


@intrinsic
def weigh_down(typing, out, length, flat, at, weight, fresh):
    """Add `weight[p] * flat[at[p + j] + i]` to `out[j, i]` for every i < length, in order of p.

    For ROWS rows, and at least as many weights.
    """

    def generate(context, builder, signature, args):
        code = Code(context, builder, signature, args)
        target, source, places, weights = (code.data(i) for i in (0, 2, 3, 4))
        width, count = code.length(0), code.length(4)

        def sums(x, _):
            def row(r, totals, first, last):
                vector = code.load(code.place(source, x, builder.load(code.place(places, r))))
                new = list(totals)
                for j in range(first, last):
                    factor = code.spread(code.place(weights, r, -j))
                    new[j] = code.add(new[j], factor, vector)
                return new

            cells = [code.place(target, builder.mul(width, _INDEX(j)), x) for j in range(ROWS)]
            totals = [code.begin(args[5], cell) for cell in cells]
            for r in range(ROWS - 1):  # the first rows are not for all sums, nor are the last
                totals = row(_INDEX(r), totals, 0, r + 1)
            totals = code.loop(
                _INDEX(ROWS - 1), count, 1, totals, lambda r, totals: row(r, totals, 0, ROWS)
            )
            for r in range(ROWS - 1):
                totals = row(builder.add(count, _INDEX(r)), totals, r + 1, ROWS)
            for total, cell in zip(totals, cells, strict=True):
                code.store(total, cell)
            return []

        code.loop(_INDEX(0), args[1], _LANES, [], sums)
        return context.get_dummy_value()

    return types.void(out, length, flat, at, weight, fresh), generate


def _along(groups: int) -> Any:
    """Return the form of `weigh_along` for so many groups of _LANES weights, and a few more."""

    @intrinsic
    def form(typing, out, flat, weight, fresh):
        def generate(context, builder, signature, args):
            code = Code(context, builder, signature, args)
            target, source, weights = (code.data(i) for i in range(3))
            factors = [code.spread(code.place(weights, p)) for p in range(groups * _LANES)]

            # Sum number g has had the first g groups of weights. The vectors that give the first
            # sum its first group give the next its second, so each is loaded once for all.
            def feed(x, totals):
                x = builder.add(x, _INDEX(_LANES * (groups - 1)))
                totals = [code.begin(args[3], code.place(target, x)), *totals]
                for lane in range(_LANES):
                    vector = code.load(code.place(source, x, lane))
                    for g, total in enumerate(totals):
                        totals[g] = code.add(total, factors[g * _LANES + lane], vector)
                return totals

            def sums(x, totals):
                def tap(p, last):
                    factor = code.spread(code.place(weights, p))
                    return [code.add(last[0], factor, code.load(code.place(source, x, p)))]

                totals = feed(x, totals)
                last = code.loop(_INDEX(len(factors)), code.length(2), 1, totals[-1:], tap)
                code.store(last[0], code.place(target, x))
                return totals[:-1]

            totals = []
            for g in range(1, groups):
                totals = feed(_INDEX(_LANES * (g - groups)), totals)
            code.loop(_INDEX(0), code.length(0), _LANES, totals, sums)
            return context.get_dummy_value()

        return types.void(out, flat, weight, fresh), generate

    return form


_along8, _along16 = _along(1), _along(2)


@jit
def weigh_along(out, flat, steps, weight, fresh):
    """Add `weight[p] * flat[p + i]` to every `out[i]`, in the order of p; `steps` counts from 0."""
    p, count = 0, weight.size
    while count - p >= 16:
        # What is left in the end, if less than 8 weights, joins the last 16.
        q = count if count - p < 24 else p + 16
        _along16(out, flat[p:], weight[p:q], fresh)
        p, fresh = q, False
    if count - p >= 8:
        _along8(out, flat[p:], weight[p:], fresh)
    elif p < count or fresh:
        weigh(out, flat[p:], steps, weight[p:], fresh)

"""Sums of dense weights: pixels are read where they lie, summed in registers, and stored.

A ring of rows pays where a row is weighted once for many sums. Dense weights are all different, so
here each row of the result is made straight from the block, 32 pixels at a time. Sums are those of
`_sweep`, to the last bit: in float64, in the order of the weights, each product rounded before it
is added.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._weigh import WHOLE, Code, borrow

__all__ = ["near"]

_INDEX = ir.IntType(64)


class _Cells(Code):
    """Writes code on vectors of float64 that are other numbers in memory."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        super().__init__(context, builder, signature, args)
        self.stored, self.given = signature.args[0].dtype, signature.args[1].dtype

    def take(self, pointer: Any) -> Any:
        """Load pixels."""
        kind = ir.VectorType(pointer.type.pointee, self.lanes)
        place = self.builder.bitcast(pointer, kind.as_pointer())
        vector = self.builder.load(place, align=self.given.bitwidth // 8)
        if isinstance(self.given, types.Integer):
            widen = self.builder.sitofp if self.given.signed else self.builder.uitofp
            return widen(vector, self.vector)
        return vector if self.given == types.float64 else self.builder.fpext(vector, self.vector)

    def put(self, vector: Any, pointer: Any) -> None:
        """Store results."""
        kind = ir.VectorType(pointer.type.pointee, self.lanes)
        if self.stored != types.float64:
            vector = self.builder.fptrunc(vector, kind)
        place = self.builder.bitcast(pointer, kind.as_pointer())
        self.builder.store(vector, place, align=self.stored.bitwidth // 8)

    def root(self, vector: Any) -> Any:
        """Return square roots, correctly rounded."""
        kind = ir.FunctionType(self.vector, [self.vector])
        name = f"llvm.sqrt.v{self.lanes}f64"
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, name), [vector]
        )


def _row(magnitude: bool) -> Any:
    """Return the code that makes a row: of one weighted sum, or of the magnitude of some."""

    @intrinsic
    def form(typing, out, flat, at, weight, bound):
        def generate(context, builder, signature, args):
            code = _Cells(context, builder, signature, args)
            target, source, places, weights, bounds = (code.data(i) for i in range(5))
            columns = WHOLE // code.lanes
            zeros = [code.zero] * columns
            last = builder.sub(code.length(0), _INDEX(WHOLE))

            def sums(pixels, first, stop):
                def tap(p, totals):
                    row = code.place(pixels, builder.load(code.place(places, p)))
                    factor = code.spread(code.place(weights, p))
                    cells = [code.take(code.place(row, c * code.lanes)) for c in range(columns)]
                    return [
                        code.add(total, factor, cell)
                        for total, cell in zip(totals, cells, strict=True)
                    ]

                return code.loop(first, stop, 1, zeros, tap)

            def part(pixels, number, squares):
                first = builder.load(code.place(bounds, number))
                stop = builder.load(code.place(bounds, number, 1))
                return [
                    builder.fadd(square, builder.fmul(total, total))
                    for square, total in zip(squares, sums(pixels, first, stop), strict=True)
                ]

            def whole(x, _):
                # The last pixels are made twice, the same, where the row is no whole number.
                x = builder.select(builder.icmp_signed("<", x, last), x, last)
                pixels, cells = code.place(source, x), code.place(target, x)
                if magnitude:
                    parts = builder.sub(code.length(4), _INDEX(1))
                    found = code.loop(
                        _INDEX(0), parts, 1, zeros, lambda n, held: part(pixels, n, held)
                    )
                    found = [code.root(vector) for vector in found]
                else:
                    found = sums(pixels, _INDEX(0), code.length(3))
                for c, vector in enumerate(found):
                    code.put(vector, code.place(cells, c * code.lanes))
                return []

            code.loop(_INDEX(0), code.length(0), WHOLE, [], whole)
            return context.get_dummy_value()

        return types.void(out, flat, at, weight, bound), generate

    return form


_sum_row, _magnitude_row = _row(False), _row(True)


@jit
def _short(out, flat, at, weight, bound):
    """Make a row of fewer pixels than are made at a time."""
    parts = bound.size - 1
    for x in range(out.size):
        squares, total = 0.0, 0.0
        for part in range(parts):
            total = 0.0
            for p in range(bound[part], bound[part + 1]):
                total += weight[p] * np.float64(flat[at[p] + x])
            squares += total * total
        out[x] = np.sqrt(squares) if parts > 1 else total


@jit
def _sum_rows(view, out, at, weight, bound):
    view, out, at, weight, bound = borrow((view, out, at, weight, bound))
    batch, nz, ny, nx = out.shape
    flat = view.reshape(-1)
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                start = ((b * view.shape[1] + z) * view.shape[2] + y) * view.shape[3]
                if nx < WHOLE:
                    _short(out[b, z, y], flat[start:], at, weight, bound)
                else:
                    _sum_row(out[b, z, y], flat[start:], at, weight, bound)


@jit
def _magnitude_rows(view, out, at, weight, bound):
    view, out, at, weight, bound = borrow((view, out, at, weight, bound))
    batch, nz, ny, nx = out.shape
    flat = view.reshape(-1)
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                start = ((b * view.shape[1] + z) * view.shape[2] + y) * view.shape[3]
                if nx < WHOLE:
                    _short(out[b, z, y], flat[start:], at, weight, bound)
                else:
                    _magnitude_row(out[b, z, y], flat[start:], at, weight, bound)


def near(view: NDArray[Any], out: NDArray[Any], taps: Any) -> None:
    """Correlate with dense weights, given as `_sweep` has them, or with some for a magnitude."""
    _, _, height, width = view.shape
    at = (taps.z * height + taps.y) * width + taps.x
    rows = _sum_rows if taps.bound.size == 2 else _magnitude_rows
    rows(view, out, at, taps.value, taps.bound)

"""Running selection networks: comparators one by one, or compiled into straight vector code.

Rows enter a ring once, as ordered integer keys. The program of any footprint runs a comparator at
a time over strips of rows. That of a small box, the windows most in use, is compiled for itself:
each stage is then one loop over whole vectors, whose values stay in the processor's registers.
"""

from __future__ import annotations

from ast import literal_eval
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._keys import FLOAT, map_keys
from chunkfilt.kernels._network import Network

__all__ = ["network_memory", "run"]

_LANES = 64  # strips are computed in whole multiples of this, so that no scalar remainder runs
_VECTOR = 64  # bytes of a vector in straight code; the compiler splits it where there are none
_STRIP = 2048  # bytes of a register: those of a small network fit the first cache
_RING = 400_000  # bytes of the ring that should stay in a core's own cache


def run(
    src: NDArray[Any],
    dst: NDArray[Any],
    net: Network,
    rule: tuple[int, NDArray[Any]],
    straight: bool,
) -> None:
    """Run a network over a batch of bits, compiled for itself if `straight`."""
    kind, consts = rule
    sizes, stride = _layout(net, dst.shape[3], consts.dtype.itemsize, straight)
    depth, height, line, *_ = sizes
    ring = depth * height * line
    regs = _aligned(ring + net.registers * stride, consts.dtype)
    base = ring + stride * np.arange(net.registers)
    work = (regs, base, np.zeros(len(net.rows), np.int64), np.zeros(depth * height, np.bool_))
    driver = _driver(net.text if straight else "()")
    driver(
        src.reshape(-1), src.shape, dst.reshape(-1), dst.shape,
        net.rows, net.pixels, net.ops, net.results, work, sizes, kind, consts,
    )  # fmt: skip


def network_memory(net: Network, length: int, itemsize: int) -> int:
    """Return the bytes that `run` works in, for a core whose rows have so many pixels."""
    (depth, height, line, *_), stride = _layout(net, length, itemsize, straight=False)
    return (depth * height * line + net.registers * stride) * itemsize


def _layout(
    net: Network, length: int, itemsize: int, straight: bool
) -> tuple[tuple[int, ...], int]:
    """Return planes and rows of the ring, the pitch of both, pixels of a strip and of a tile."""
    depth, height = net.rows.max(axis=0) + 1
    total = _whole(max(_STRIP // itemsize, 2 * net.reach, 2 * _LANES))
    strip, stride = total - net.reach, _whole(total + net.reach + _LANES)
    strip -= strip % _LANES if straight else 0
    tile = min(length, max(_RING // (depth * height * itemsize), strip))
    line = _whole(tile + total + net.reach)
    return (int(depth), int(height), int(line), strip, int(tile)), stride


def _aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that begin on a cache line."""
    raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size * dtype.itemsize].view(dtype)


def _whole(length: int) -> int:
    return -(-length // _LANES) * _LANES


@jit
def _has_nan(keys, at, n, consts):
    at = np.uint64(at)
    low, high = consts[3], consts[2]  # without arithmetic they keep their width, and vectorise
    for i in range(np.uint64(n)):
        key = keys[at + i]
        low = min(low, key)
        high = max(high, key)
    return low < consts[3] or high > consts[2]


@jit
def _run_ops(regs, base, ops, length):
    # One flat array and unsigned indices: views would cost more than the comparators, and
    # signed indices are checked for wrap-around.
    for k in range(ops.shape[0]):
        n = np.uint64((length + ops[k, 6] + _LANES - 1) // _LANES * _LANES)
        a, b = np.uint64(base[ops[k, 0]] + ops[k, 1]), np.uint64(base[ops[k, 2]] + ops[k, 3])
        low, high = np.uint64(base[ops[k, 4]]), np.uint64(base[ops[k, 5]])
        if ops[k, 4] >= 0 and ops[k, 5] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
                regs[high + i] = max(x, y)
        elif ops[k, 4] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
        else:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[high + i] = max(x, y)


@intrinsic(prefer_literal=True)
def _run_straight(typing, program, regs, base, length):
    """Run a program given as text, in code made for it, over whole vectors."""

    def generate(context, builder, signature, args):
        inputs, ops, results = literal_eval(program.literal_value)
        data = context.make_array(regs)(context, builder, args[1]).data
        starts = context.make_array(base)(context, builder, args[2]).data
        used = {op[i] for op in ops for i in (0, 2, 4, 5)}
        place = {}
        for register in sorted(used - {-1}):
            start = builder.load(builder.gep(starts, [_int(register)]))
            place[register] = builder.gep(data, [start])
        kept = _kept(inputs, ops, results)
        lanes = _VECTOR * 8 // regs.dtype.bitwidth
        for stage in sorted({op[7] for op in ops}):
            mine = [(k, op) for k, op in enumerate(ops) if op[7] == stage]
            end = builder.add(args[3], _int(max(op[6] for _, op in mine)))
            with cgutils.for_range_slice(builder, _int(0), end, _int(lanes)) as (i, _):
                _emit(builder, mine, kept, place, i, lanes)
        return context.get_dummy_value()

    return types.void(program, regs, base, types.int64), generate


def _int(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _kept(inputs: int, ops: list[list[int]], results: list[list[int]]) -> set[tuple[int, int]]:
    """Return the (op, half) whose values are read after their stage, and so stored."""
    owner: dict[int, tuple[int, int]] = {}
    kept = set()
    for k, (a, _, b, _, low, high, _, stage) in enumerate(ops):
        for register in (a, b):
            if register >= inputs and ops[owner[register][0]][7] < stage:
                kept.add(owner[register])
        owner |= {low: (k, 0), high: (k, 1)}
    return kept | {owner[register] for register, _ in results if register >= inputs}


def _emit(builder, ops, kept, place, at, lanes):
    """Emit the comparators of one stage for the vector at an index."""
    number = next(iter(place.values())).type.pointee
    vector = ir.VectorType(number, lanes)
    values = {}

    def where(register, shift):
        pointer = builder.gep(place[register], [builder.add(at, _int(shift))])
        return builder.bitcast(pointer, vector.as_pointer())

    def get(register, shift):
        # Loads across cache lines are slow among stores: whole vectors are loaded and shifted.
        if (register, shift) not in values:
            over = shift % lanes
            if over:
                pair = get(register, shift - over), get(register, shift - over + lanes)
                mask = ir.Constant(
                    ir.VectorType(ir.IntType(32), lanes), [*range(over, over + lanes)]
                )
                value = builder.shuffle_vector(*pair, mask)
            else:
                value = builder.load(where(register, shift), align=_VECTOR)
            values[register, shift] = value
        return values[register, shift]

    for k, (a, shift_a, b, shift_b, low, high, _, _) in ops:
        x, y = get(a, shift_a), get(b, shift_b)
        for half, (register, sign) in enumerate(((low, "<"), (high, ">"))):
            if register >= 0:
                for ref in [ref for ref in values if ref[0] == register]:
                    del values[ref]
                value = builder.select(builder.icmp_signed(sign, x, y), x, y)
                values[register, 0] = value
                if (k, half) in kept:
                    builder.store(value, where(register, 0), align=_VECTOR)


@lru_cache(maxsize=256)
def _driver(program: str) -> Any:
    """Return the compiled loop over rows and strips for one program, or for any: `()`."""
    straight = program != "()"

    @jit
    def drive(flat, shape, out, core, rows, pixels, ops, results, work, sizes, kind, consts):
        depth, height, line, strip, tile = sizes
        regs, base, slot, nans = work
        batch, nz, ny, nx = core
        _, sz, sy, sx = shape
        outputs, inputs = len(results), len(rows)
        for b in range(batch):
            for z in range(nz):
                for x0 in range(0, nx, tile):
                    width, entered = min(tile, nx - x0), 0
                    for y in range(0, ny, outputs):
                        while entered < min(y + height, sy):
                            for d in range(depth):
                                at = d * height + entered % height
                                row = ((b * sz + z + d) * sy + entered) * sx + x0
                                m = width + sx - nx
                                map_keys(regs, at * line, flat, row, m, kind, consts)
                                nans[at] = kind == FLOAT and _has_nan(regs, at * line, m, consts)
                            entered += 1
                        any_nan = False
                        for r in range(inputs):
                            slot[r] = rows[r, 0] * height + (y + rows[r, 1]) % height
                            any_nan |= nans[slot[r]]
                        for x in range(0, width, strip):
                            n = min(strip, width - x)
                            for r in range(inputs):
                                base[r] = slot[r] * line + x
                            if straight:
                                _run_straight(program, regs, base, n)
                            else:
                                _run_ops(regs, base, ops, n)
                            for o in range(min(outputs, ny - y)):
                                to = ((b * nz + z) * ny + y + o) * nx + x0 + x
                                key = base[results[o, 0]] + results[o, 1]
                                map_keys(out, to, regs, key, n, kind, consts)
                                if any_nan:
                                    _put_nans(out, to, regs, base, pixels, o, nans, slot, n, consts)

    return drive


@jit
def _put_nans(out, to, regs, base, pixels, output, nans, slot, n, consts):
    to, above, below, nan = np.uint64(to), consts[2], consts[3], consts[4]
    for p in range(pixels.shape[0]):
        if pixels[p, 0] == output and nans[slot[pixels[p, 1]]]:
            at = np.uint64(base[pixels[p, 1]] + pixels[p, 2])
            for i in range(np.uint64(n)):
                key, old = regs[at + i], out[to + i]
                out[to + i] = nan if (key > above) | (key < below) else old

"""Selection networks: a rank under a footprint by comparators that run over whole rows.

The columns of a footprint are sorted and merged, and what cannot be the rank is dropped on the
way. Comparators that are shifted copies of each other are run once, for all pixels of a strip.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._keys import FLOAT, map_keys

__all__ = ["Network", "network_for", "place", "run_network"]

_LANES = 64  # strips are computed in whole multiples of this, so that no scalar remainder runs
_STRIP_BYTES = 2048

Ref = tuple[int, int]  # (value id, shift to the right in pixels)


class Network(NamedTuple):
    """A comparator program over rows of registers; the first registers are the image rows."""

    rows: NDArray[Any]  # (rows, 2): z, y of each input row
    pixels: NDArray[Any]  # (pixels, 2): row, x of each footprint pixel
    ops: NDArray[Any]  # (ops, 7): a, shift a, b, shift b, low register or -1, high or -1, reach
    registers: int
    result: int
    shift: int
    reach: int


class _Builder:
    """Collects comparators; those that are shifted copies of each other become one."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.ops: list[tuple[Ref, Ref]] = []
        self._seen: dict[tuple[Ref, Ref], int] = {}

    def compare(self, a: Ref, b: Ref) -> tuple[Ref, Ref]:
        """Return the lower and the higher of two references."""
        shift = min(a[1], b[1])
        one, two = sorted(((a[0], a[1] - shift), (b[0], b[1] - shift)))
        op = self._seen.setdefault((one, two), len(self.ops))
        if op == len(self.ops):
            self.ops.append((one, two))
        low = self.inputs + 2 * op
        return (low, shift), (low + 1, shift)

    def merge(self, a: list[Ref], b: list[Ref]) -> list[Ref]:
        """Merge two sorted lists by Batcher's odd-even merge."""
        if not a or not b:
            return a or b
        if len(a) == len(b) == 1:
            return list(self.compare(a[0], b[0]))
        even, odd = self.merge(a[::2], b[::2]), self.merge(a[1::2], b[1::2])
        merged = [even[0]]
        for low, high in zip(odd, even[1:], strict=False):
            merged.extend(self.compare(low, high))
        return merged + odd[len(even) - 1 :] + even[len(odd) + 1 :]

    def sort(self, items: dict[int, Ref], first: int, size: int) -> list[Ref]:
        """Sort items by halves of the aligned interval, so that equal parts are shared."""
        if size == 1:
            return [items[first]] if first in items else []
        half = size // 2
        return self.merge(self.sort(items, first, half), self.sort(items, first + half, half))

    def select(self, a: list[Ref], b: list[Ref], rank: int) -> Ref:
        """Return the rank-th of two sorted lists: the least of max(a[i - 1], b[rank - i])."""
        best: Ref | None = None
        for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
            j = rank + 1 - i
            term = b[j - 1] if i == 0 else a[i - 1]
            if i and j:
                term = self.compare(a[i - 1], b[j - 1])[1]
            best = term if best is None else self.compare(best, term)[0]
        assert best is not None
        return best


def _trim(lists: list[list[Ref]], rank: int) -> int:
    """Drop, in place, what cannot be the rank-th; return the rank among what is left."""
    count = sum(map(len, lists))
    for i, items in enumerate(lists):
        below = max(0, len(items) - (count - rank))  # each has count - rank others above it
        above = max(0, len(items) - 1 - rank)
        lists[i] = items[below : len(items) - above]
        count -= below + above
        rank -= below
    return rank


@lru_cache(maxsize=64)
def network_for(shape: tuple[int, int, int], raw: bytes, rank: int) -> Network:
    """Build the program that selects one rank under a footprint."""
    points = np.argwhere(np.frombuffer(raw, dtype=np.bool_).reshape(shape))
    rows = np.unique(points[:, :2], axis=0)
    index = {(z, y): i for i, (z, y) in enumerate(rows.tolist())}
    pixels = [(index[z, y], x) for z, y, x in points.tolist()]
    net = _Builder(len(rows))
    columns: dict[int, dict[int, Ref]] = {}
    for row, x in pixels:
        columns.setdefault(x, {})[row] = (row, x)
    size = 1 << (len(rows) - 1).bit_length()
    lists = [net.sort(columns[x], 0, size) for x in sorted(columns)]
    rank = _trim(lists, rank)
    while len(lists) > 2:
        pairs = [lists[i : i + 2] for i in range(0, len(lists), 2)]
        lists = [net.merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        rank = _trim(lists, rank)
    result = net.select(lists[0], lists[1], rank) if len(lists) == 2 else lists[0][rank]
    return _assemble(net, result, rows, np.array(pixels))


def _assemble(net: _Builder, result: Ref, rows: NDArray[Any], pixels: NDArray[Any]) -> Network:
    """Keep the halves of comparators that reach the result and give them registers."""
    reach = {result[0]: result[1]}  # of every value used: how far right of the strip it is read
    last: dict[int, int] = {}
    for op in range(len(net.ops) - 1, -1, -1):
        low = net.inputs + 2 * op
        need = max(reach.get(low, -1), reach.get(low + 1, -1))
        if need < 0:
            continue
        for value, shift in net.ops[op]:
            reach[value] = max(reach.get(value, 0), need + shift)
            last.setdefault(value, op)
    registers = {value: value for value in range(net.inputs)}
    free: list[int] = []
    total = net.inputs
    ops = []
    for op, (a, b) in enumerate(net.ops):
        outs = []
        for value in (net.inputs + 2 * op, net.inputs + 2 * op + 1):
            if value in reach:
                registers[value] = free.pop() if free else total
                total = max(total, registers[value] + 1)
            outs.append(registers.get(value, -1))
        if max(outs) < 0:
            continue
        need = max(reach.get(net.inputs + 2 * op + half, 0) for half in (0, 1))
        ops.append((registers[a[0]], a[1], registers[b[0]], b[1], *outs, need))
        free.extend(registers[v] for v in {a[0], b[0]} if v >= net.inputs and last[v] == op)
    program = np.array(ops, dtype=np.int64).reshape(-1, 7)
    most = max([int(pixels[:, 1].max()), *(value for value in reach.values())])
    return Network(rows, pixels, program, total, registers[result[0]], result[1], most)


def place(net: Network, itemsize: int) -> tuple[int, int, NDArray[Any]]:
    """Return strip length, register stride and the program with registers as flat offsets."""
    total = max(_STRIP_BYTES // itemsize, 2 * net.reach, 2 * _LANES)
    total = -(-total // _LANES) * _LANES
    stride = total + net.reach + _LANES
    stride = -(-stride // _LANES) * _LANES
    a, shift_a, b, shift_b, low, high, reach = net.ops.T
    halves = [np.where(half < 0, -1, half * stride) for half in (low, high)]
    columns = [a * stride + shift_a, b * stride + shift_b, *halves, reach]
    return total - net.reach, stride, np.ascontiguousarray(np.stack(columns, axis=1))


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
def _run_ops(regs, ops, length):
    # One flat array and unsigned indices: views would cost more than the comparators, and
    # signed indices are checked for wrap-around.
    for k in range(ops.shape[0]):
        n = np.uint64((length + ops[k, 4] + _LANES - 1) // _LANES * _LANES)
        a, b = np.uint64(ops[k, 0]), np.uint64(ops[k, 1])
        low, high = np.uint64(ops[k, 2]), np.uint64(ops[k, 3])
        if ops[k, 2] >= 0 and ops[k, 3] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
                regs[high + i] = max(x, y)
        elif ops[k, 2] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
        else:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[high + i] = max(x, y)


@jit
def run_network(src, dst, rows, pixels, ops, registers, result, stride, reach, strip, kind, consts):
    """Run a selection network over every strip of every row of a batch."""
    batch, nz, ny, nx = dst.shape
    sz, sy, sx = src.shape[1:]
    raw = np.zeros((registers + 1) * stride, dtype=src.dtype)
    regs = raw[(-raw.ctypes.data % 64) // raw.itemsize :]
    nans = np.zeros(rows.shape[0], dtype=np.bool_)
    flat, out = src.reshape(-1), dst.reshape(-1)
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                for x in range(0, nx, strip):
                    n = min(strip, nx - x)
                    any_nan = False
                    for r in range(rows.shape[0]):
                        at = ((b * sz + z + rows[r, 0]) * sy + y + rows[r, 1]) * sx + x
                        m = min(n + reach, sx - x)
                        map_keys(regs, r * stride, flat, at, m, kind, consts)
                        nans[r] = kind == FLOAT and _has_nan(regs, r * stride, m, consts)
                        any_nan |= nans[r]
                    _run_ops(regs, ops, n)
                    to = ((b * nz + z) * ny + y) * nx + x
                    map_keys(out, to, regs, result, n, kind, consts)
                    if any_nan:
                        _put_nans(out, to, regs, stride, pixels, nans, n, consts)


@jit
def _put_nans(out, to, regs, stride, pixels, nans, n, consts):
    to, above, below, nan = np.uint64(to), consts[2], consts[3], consts[4]
    for p in range(pixels.shape[0]):
        if nans[pixels[p, 0]]:
            at = np.uint64(pixels[p, 0] * stride + pixels[p, 1])
            for i in range(np.uint64(n)):
                key, old = regs[at + i], out[to + i]
                out[to + i] = nan if (key > above) | (key < below) else old

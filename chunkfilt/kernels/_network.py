"""Selection networks: a rank under a footprint by comparators that run over whole rows.

The columns of a footprint are sorted and merged, and what cannot be the rank is dropped on the
way. Comparators that are shifted copies of each other are run once, for all pixels of a row. Two
rows of the result are found together: the pixels that both their footprints hold are merged once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Network", "network_for"]

Ref = tuple[int, int]  # (value id, shift to the right in pixels)
Point = tuple[int, int, int]


class Network(NamedTuple):
    """A comparator program over rows of registers; the first registers are the image rows.

    Operations stand in the order of their stages. Within a stage nothing is read with a shift that
    the stage itself computes, so that a stage can run over a row in one go.
    """

    rows: NDArray[Any]  # (rows, 2): z, y of each input row
    pixels: NDArray[Any]  # (pixels, 3): output row, input row, x of each footprint pixel
    ops: NDArray[Any]  # (ops, 8): a, shift, b, shift, low register or -1, high or -1, reach, stage
    registers: int
    results: NDArray[Any]  # (outputs, 2): register, shift of one or two rows of the result
    reach: int
    text: str  # input rows, ops and results, to compile


class _Builder:
    """Collects comparators; those that are shifted copies of each other become one."""

    def __init__(self, rows: list[tuple[int, int]]) -> None:
        self.inputs = len(rows)
        self.ops: list[tuple[Ref, Ref]] = []
        self._row = {row: i for i, row in enumerate(rows)}
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

    def narrow(
        self, points: list[Point], rank: int, others: int, most: int
    ) -> tuple[list[list[Ref]], int]:
        """Sort points into at most `most` lists that, with `others` more pixels, hold the rank-th.

        Returns the lists, and the rank among what is left of them and the others.
        """
        columns: dict[int, dict[int, Ref]] = {}
        for z, y, x in points:
            row = self._row[z, y]
            columns.setdefault(x, {})[row] = (row, x)
        size = 1 << (self.inputs - 1).bit_length()
        lists = [self.sort(columns[x], 0, size) for x in sorted(columns)]
        rank = _trim(lists, rank, others)
        while len(lists) > most:
            pairs = [lists[i : i + 2] for i in range(0, len(lists), 2)]
            lists = [self.merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
            rank = _trim(lists, rank, others)
        return lists, rank

    def select(self, lists: list[list[Ref]], rank: int) -> Ref:
        """Return the rank-th of one or two sorted lists: the least max(a[i - 1], b[rank - i])."""
        a, b = lists if len(lists) == 2 else (lists[0], [])
        best: Ref | None = None
        for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
            j = rank + 1 - i
            term = b[j - 1] if i == 0 else a[i - 1]
            if i and j:
                term = self.compare(a[i - 1], b[j - 1])[1]
            best = term if best is None else self.compare(best, term)[0]
        assert best is not None
        return best


def _trim(lists: list[list[Ref]], rank: int, others: int = 0) -> int:
    """Drop, in place, what cannot be the rank-th; return the rank among what is left."""
    count = sum(map(len, lists)) + others
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
    mask = np.frombuffer(raw, dtype=np.bool_).reshape(shape)
    first: set[Point] = {(z, y, x) for z, y, x in np.argwhere(mask).tolist()}
    second = {(z, y + 1, x) for z, y, x in first}
    common = sorted(first & second)
    together = 2 * len(common) > len(first)  # else two rows apart cost less
    outputs = [sorted(first), sorted(second)] if together else [sorted(first)]
    rows = sorted({point[:2] for points in outputs for point in points})
    net = _Builder(rows)
    if together:
        extra = len(first) - len(common)
        (shared,), rank = net.narrow(common, rank, extra, 1)
        results = []
        for points in (first - second, second - first):
            (own,), left = net.narrow(sorted(points), rank, len(shared), 1)
            lists = [shared, own]
            left = _trim(lists, left)
            results.append(net.select(lists, left))
    else:
        lists, rank = net.narrow(outputs[0], rank, 0, 2)
        results = [net.select(lists, rank)]
    index = {row: i for i, row in enumerate(rows)}
    pixels = [(o, index[z, y], x) for o, points in enumerate(outputs) for z, y, x in points]
    return _assemble(net, results, np.array(rows), np.array(pixels))


def _needs(net: _Builder, results: list[Ref]) -> dict[int, int]:
    """Return, for every value that a result needs, how far right of a strip it is read."""
    reach: dict[int, int] = {}
    for value, shift in results:
        reach[value] = max(reach.get(value, 0), shift)
    for op in range(len(net.ops) - 1, -1, -1):
        low = net.inputs + 2 * op
        need = max(reach.get(low, -1), reach.get(low + 1, -1))
        if need >= 0:
            for value, shift in net.ops[op]:
                reach[value] = max(reach.get(value, 0), need + shift)
    return reach


def _stages(net: _Builder, reach: dict[int, int]) -> list[tuple[int, int]]:
    """Return (stage, op) of the comparators needed, in the order in which they run."""
    stage = [-1] * net.inputs  # of every value; image rows may be read at once, with any shift
    order = []
    for op, refs in enumerate(net.ops):
        at = max(0, *(stage[value] + (shift > 0) for value, shift in refs))
        stage += [at, at]
        if net.inputs + 2 * op in reach or net.inputs + 2 * op + 1 in reach:
            order.append((at, op))
    return sorted(order)


def _assemble(
    net: _Builder, results: list[Ref], rows: NDArray[Any], pixels: NDArray[Any]
) -> Network:
    """Keep the halves of comparators that reach a result and give them registers."""
    reach = _needs(net, results)
    order = _stages(net, reach)
    last = {value: op for _, op in order for value, _ in net.ops[op]}
    last.update({value: -1 for value, _ in results})
    registers = {value: value for value in range(net.inputs)}
    free: list[int] = []
    total = net.inputs
    ops = []
    for stage, op in order:
        a, b = net.ops[op]
        outs = []
        for value in (net.inputs + 2 * op, net.inputs + 2 * op + 1):
            if value in reach:
                registers[value] = free.pop() if free else total
                total = max(total, registers[value] + 1)
            outs.append(registers.get(value, -1))
        need = max(reach.get(net.inputs + 2 * op + half, 0) for half in (0, 1))
        ops.append((registers[a[0]], a[1], registers[b[0]], b[1], *outs, need, stage))
        free.extend(registers[v] for v in {a[0], b[0]} if v >= net.inputs and last[v] == op)
    program = np.array(ops, dtype=np.int64).reshape(-1, 8)
    most = max([int(pixels[:, 2].max()), *reach.values()])
    ends = np.array([(registers[value], shift) for value, shift in results])
    text = repr((net.inputs, program.tolist(), ends.tolist()))
    return Network(rows, pixels, program, total, ends, most, text)

"""What a candidate block costs, in time and in memory; the planner chooses by it.

Blocks in the middle and at both ends of the image stand for all of them.  Integers and rough
nanoseconds: no pixel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from chunkfilt.engine.evaluate import demand, wanted_runs
from chunkfilt.engine.graph import (
    Filtered,
    ImageNode,
    Node,
    Source,
    Value,
    substitute,
    topological,
    value_depths,
)
from chunkfilt.engine.memory import chunk_bytes, pixels_of, table_bytes, task_bytes
from chunkfilt.errors import BudgetError
from chunkfilt.grid import Blocks, ImageSpec, Region, Runs, round_up
from chunkfilt.words import format_bytes, format_shape

__all__ = ["Costing", "Layout", "Pass", "kept_chunks"]

# Nanoseconds of one core, measured on a server (see benchmarks/); only their ratios matter: they
# decide where a larger block stops paying, and whether an intermediate is worth keeping.
_READ_PIXEL, _READ_BYTE, _WRITE_BYTE = 1.0, 0.5, 2.0
_NODE = 3.0
_NEARLY = 1.05
_KEPT_LEAST, _KEPT_MOST = 64, 1024
# The allocator keeps some of what was freed; measured peaks stay within this.
_SLACK = 1.3


@dataclass(frozen=True)
class Layout:
    """How an output is cut: its write unit along the grid axes, and the chunk's bytes."""

    spec: ImageSpec
    unit: tuple[int, ...]
    chunk_bytes: int


@dataclass(frozen=True)
class Pass:
    """One sweep over the blocks: values to compute, images to write, intermediates to keep."""

    values: tuple[Value, ...]
    images: Mapping[str, ImageNode]
    keeps: tuple[Filtered, ...]
    grid: Blocks

    @property
    def names(self) -> tuple[str, ...]:
        """What the pass does, in words."""
        return (
            *(value.filter.name for value in self.values),
            *(f"keep {node.filter.name}" for node in self.keeps),
            *(f"write {name or 'image'}" for name in self.images),
        )

    @property
    def targets(self) -> tuple[Node, ...]:
        """The nodes the pass is about."""
        return (*self.values, *self.keeps, *self.images.values())


@dataclass(frozen=True)
class _Kept:
    """Stands for an intermediate that an earlier pass has written, uncompressed."""

    chunks: tuple[int, ...]

    def read(self, region: Region) -> np.ndarray:
        """Never called: plans hold no pixels."""
        raise AssertionError(region)


class Costing:
    """What blocks cost in time and memory, for one graph."""

    def __init__(
        self,
        outputs: Mapping[str, ImageNode | Value],
        layouts: Mapping[str, Layout],
        grid: ImageSpec,
        *,
        workers: int,
        base: int,
        keep: bool,
        overhead: float,
    ) -> None:
        self.outputs, self.grid = outputs, grid
        self.workers, self.base, self.keep = workers, base, keep
        self.overhead = overhead
        self.codec = max((one.chunk_bytes for one in layouts.values()), default=0)
        self.depths = value_depths(outputs.values())

    def passes(self, block: Sequence[int]) -> list[Pass]:
        """Return the sweeps that blocks of this size take, values first.

        Values of an image of another shape than the outputs' (of which an output is a crop) come
        with the blocks of that shape; the planner chooses those.
        """
        wanted = set(self.outputs.values())
        swept: dict[tuple[int, tuple[int, ...]], list[Value]] = {}
        for value, depth in self.depths.items():
            if value in wanted or not self._local(value, block):
                swept.setdefault((depth, value.image.spec.grid_shape), []).append(value)
        found = [
            Pass(tuple(values), {}, (), Blocks(shape, tuple(block) if self._own(shape) else shape))
            for (_, shape), values in sorted(swept.items(), key=lambda item: item[0])
        ]
        images = {n: node for n, node in self.outputs.items() if not isinstance(node, Value)}
        if images:
            found.append(Pass((), images, (), Blocks(self.grid.shape, tuple(block))))
        return self._with_keeps(found) if self.keep else found

    def fitting(self, candidates: Sequence[tuple[int, ...]], budget: int) -> tuple[int, ...]:
        """Return the cheapest candidate within the budget.

        Raises
        ------
        BudgetError
            If there is none; the message names the node and the smallest budget that works.
        """
        costs = {tuple(block): self.cost(block) for block in candidates}
        # Time is quicker to estimate than memory: look for the first that fits, by cost.
        for block in sorted(costs, key=lambda block: costs[block]):
            if sum(self.memory(block)[0].values()) <= budget:
                # Smaller blocks that cost nearly the same take less memory for it.
                near = [b for b in costs if costs[b] <= _NEARLY * costs[block]]
                for smaller in sorted(near, key=lambda b: (math.prod(b), costs[b])):
                    if sum(self.memory(smaller)[0].values()) <= budget:
                        return smaller
        return self._refuse(min(candidates, key=math.prod), budget)

    def memory(self, block: Sequence[int]) -> tuple[dict[str, int], str]:
        """Return the bytes of a process by name, and the step at which a task peaks."""
        passes = self.passes(block)
        swept = [value for one in passes for value in one.values]
        peak: dict[str, int] = {}
        where = "reading"
        chunk = self.codec
        for one, targets, known in self._followed(passes):
            # Values of an image of another shape are planned by themselves.
            for region in _samples(one.grid) if self._own(one.grid.shape) else ():
                terms, step = task_bytes(targets, region, known)
                if sum(terms.values()) > sum(peak.values()):
                    peak, where = terms, step
            sources = [n for n in topological(targets) if isinstance(n, Source)]
            chunk = max(chunk, *(chunk_bytes(source) for source in sources), 0)
        peak["codec buffers"] = 3 * chunk
        tables = sum(table_bytes(value) for value in swept)
        scaled = {name: int(size * self.workers * _SLACK) for name, size in peak.items()}
        # The values themselves, and the partials of the blocks that are under way.
        held = tables * (1 + 2 * self.workers)
        return {"interpreter and libraries": self.base, **scaled, "values": held}, where

    def cost(self, block: Sequence[int]) -> float:
        """Return nanoseconds per pixel of the image on all workers, roughly."""
        count = len(Blocks(self.grid.shape, tuple(block)))
        waves = -(-count // self.workers) * self.workers / max(count, 1)
        # The last blocks leave workers idle: with few blocks that is a large share.
        tail = 1 + self.workers / (2 * max(count, 1))
        return self._time(self.passes(block)) * waves * tail

    def reading(self, passes: Sequence[Pass]) -> tuple[int, float]:
        """Return the bytes all passes read, and the most pixels one reads per pixel there is."""
        total, worst = 0.0, 1.0
        for one, targets, known in self._followed(passes):
            region = _samples(one.grid)[0]
            if region.size == 0:
                continue
            order, runs = demand(wanted_runs(targets, region), dict.fromkeys(known))
            share = math.prod(one.grid.shape) / region.size
            for node in order:
                if isinstance(node, Source):
                    read = pixels_of(runs[id(node)]) * share
                    total += read * node.spec.dtype.itemsize
                    worst = max(worst, read / max(node.spec.size, 1))
        return int(total), worst

    def decisions(self, passes: Sequence[Pass]) -> list[str]:
        """Return what was decided about values, as notes."""
        swept = [value for one in passes for value in one.values]
        local = dict.fromkeys(v.filter.name for v in self.depths if v not in swept)
        told = [f"{name} within each block: a block holds whole images" for name in local]
        kept = [node for one in passes for node in one.keeps]
        told += [
            f"{node.filter.name} kept on disk for the later passes: cheaper than computing it again"
            for node in kept
        ]
        times: Counter[Node] = Counter()
        for one, targets, known in self._followed(passes):
            region = _samples(one.grid)[0]
            times.update(demand(wanted_runs(targets, region), dict.fromkeys(known))[0])
        again = [n.filter.name for n, k in times.items() if k > 1 and isinstance(n, Filtered)]
        if again and not kept:
            compared = self.keep and self._keepable(passes)
            why = ": cheaper than keeping the result" if compared else ""
            told.append(f"{', '.join(dict.fromkeys(again))} computed in more than one pass{why}")
        return told

    def _with_keeps(self, passes: list[Pass]) -> list[Pass]:
        """Keep the image behind the first values on disk, where that is cheaper."""
        kept = self._keepable(passes)
        if not kept:
            return passes
        first = Pass(passes[0].values, passes[0].images, kept, passes[0].grid)
        keeping = [first, *passes[1:]]
        return keeping if self._time(keeping) < self._time(passes) else passes

    def _keepable(self, passes: Sequence[Pass]) -> tuple[Filtered, ...]:
        """Return the computed images behind the first values, if they can be kept on disk."""
        if len(passes) < 2 or not passes[0].values or not self._own(passes[0].grid.shape):
            return ()
        images = [value.image for value in passes[0].values]
        kept = tuple(dict.fromkeys(n for n in images if isinstance(n, Filtered)))
        return () if any(node.leading or node.spec.leading for node in kept) else kept

    def _followed(self, passes: Sequence[Pass]) -> list[tuple[Pass, list[Node], list[Value]]]:
        """Return each pass with its targets, and the values a pass computes.

        Both as they stand once intermediates are kept.
        """
        followed = []
        swap: dict[Node, Node] = {}
        swept = [value for one in passes for value in one.values]
        for one in passes:
            targets = [swap.get(node, node) for node in one.targets]
            known = [found for v in swept if isinstance(found := swap.get(v, v), Value)]
            followed.append((one, targets, known))
            if one.keeps:
                later = [n for other in passes for n in other.targets]
                kept: dict[Node, Node] = {
                    n: Source(n.spec, _Kept(kept_chunks(n.spec, one.grid.block))) for n in one.keeps
                }
                swap = substitute(later, kept)
        return followed

    def _time(self, passes: Sequence[Pass]) -> float:
        """Return nanoseconds of core time per pixel of the image, over all passes."""
        total = 0.0
        for one, targets, known in self._followed(passes):
            region = _samples(one.grid)[0]
            order, runs = demand(wanted_runs(targets, region), dict.fromkeys(known))
            spent = self.overhead
            for node in order:
                spent += _node_time(node, runs[id(node)])
            written = sum(node.spec.dtype.itemsize for node in (*one.keeps, *one.images.values()))
            spent += _WRITE_BYTE * written * region.size
            total += spent / max(region.size, 1)
        return total

    def _own(self, shape: Sequence[int]) -> bool:
        return tuple(shape) == self.grid.shape

    def _local(self, value: Value, block: Sequence[int]) -> bool:
        """Return whether a block holds every image whose value it needs."""
        if not value.per_batch or not value.batch or value.image.spec.shape != self.grid.shape:
            return False
        return all(block[a] >= self.grid.shape[a] for a in value.spatial)

    def _refuse(self, block: Sequence[int], budget: int) -> NoReturn:
        memory, where = self.memory(block)
        needed = sum(memory.values())
        fixed = memory["interpreter and libraries"] + memory["values"]
        one = fixed + (needed - fixed) // self.workers
        fewer = (
            f" or workers: {(budget - fixed) * self.workers // (needed - fixed)}"
            if one <= budget and self.workers > 1
            else ""
        )
        shape = format_shape(block, self.grid.axes)
        message = (
            f"{where}: the smallest block, {shape}, needs {format_bytes(needed)} per process, the "
            f"budget is {format_bytes(budget)}: use memory: {_budget_text(needed)}{fewer}, or "
            "smaller output chunks"
        )
        raise BudgetError(message)


def _budget_text(needed: int) -> str:
    """Return a budget a little above `needed`, as a person would write it."""
    return f"{-(-int(needed * 1.03) // (1 << 20))} MiB"


def kept_chunks(spec: ImageSpec, block: Sequence[int]) -> tuple[int, ...]:
    """Return the chunks of an intermediate: they divide the block, about a thousand pixels wide."""
    chunks = []
    for axis, (side, n) in enumerate(zip(block, spec.shape, strict=True)):
        wide = [d for d in range(_KEPT_LEAST, _KEPT_MOST + 1) if side % d == 0]
        chunks.append(max(wide) if axis in spec.spatial and wide else min(side, max(n, 1)))
    return tuple(chunks)


def _samples(blocks: Blocks) -> list[Region]:
    """Return the block in the middle, the first and the last one."""
    if len(blocks) == 0:
        return [Region.whole(blocks.shape)]
    middle = 0
    for count in blocks.counts:
        middle = middle * count + count // 2
    return [blocks[i] for i in dict.fromkeys((middle, 0, len(blocks) - 1))]


def _node_time(node: Node, runs: Sequence[Runs]) -> float:
    if isinstance(node, Source):
        return _decoded(node, runs) * (_READ_PIXEL + _READ_BYTE * node.spec.dtype.itemsize)
    if isinstance(node, Filtered):
        rule = node.filter.rules.cost
        each = _NODE if rule is None else rule(node.resolved, node.prepared)
        return pixels_of(node.strip(runs)) * each
    return 0.0


def _decoded(source: Source, runs: Sequence[Runs]) -> int:
    """Return the pixels of all the chunks that runs touch."""
    chunks = getattr(source.reader, "chunks", None)
    if chunks is None:
        return pixels_of(runs)
    touched = 1
    for along, chunk in zip(runs, chunks, strict=True):
        touched *= sum(round_up(b, chunk) - a // chunk * chunk for a, b in along)
    return touched

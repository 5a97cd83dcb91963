"""What a candidate block costs, in time and in memory; the planner chooses by it.

Blocks in the middle and at both ends of the image stand for all of them.  Integers and rough
nanoseconds: no pixel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from chunkfilt.engine.memory import chunk_bytes, table_bytes, task_bytes
from chunkfilt.errors import BudgetError
from chunkfilt.grid import Blocks, ImageSpec, Region, Runs, run_length
from chunkfilt.words import format_bytes, format_shape

__all__ = ["Costing", "Layout", "Pass", "kept_chunks"]

# Nanoseconds of one core, measured on a server (see benchmarks/); only their ratios matter: they
# decide where a larger block stops paying, and whether an intermediate is worth keeping.
_READ_CHUNK, _READ_BYTE, _COPY_BYTE, _WRITE_BYTE = 5e4, 0.5, 0.2, 0.8
# An intermediate goes to a disk, which may be slow.
_KEEP_BYTE = 2.0
_NODE = 3.0
_NEARLY = 1.08
_KEPT_LEAST, _KEPT_MOST = 64, 1024
# A block and the strip of it that a task computes at a time.
Cut = tuple[tuple[int, ...], tuple[int, ...]]
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
    """One sweep over the blocks: values to compute, images to write, intermediates to keep.

    A task goes through its block strip by strip, along the axis `walked`; None where a strip is
    the whole block.
    """

    values: tuple[Value, ...]
    images: Mapping[str, ImageNode]
    keeps: tuple[Filtered, ...]
    grid: Blocks
    strip: tuple[int, ...]
    walked: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """What the pass does, in words."""
        return (
            *(value.filter.name for value in self.values),
            *(f"keep {node.filter.name}" for node in self.keeps),
            *(f"write {name or 'image'}" for name in self.images),
        )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the grid."""
        node = self.targets[0]
        spec = node.image.spec if isinstance(node, Value) else node.spec
        return tuple(spec.axes[a] for a in spec.grid)

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

    def passes(self, block: Sequence[int], strip: Sequence[int]) -> list[Pass]:
        """Return the sweeps that blocks of this size, cut in such strips, take, values first.

        Values of an image of another shape than the outputs' (of which an output is a crop) come
        with the blocks of that shape; the planner chooses those.
        """
        wanted = set(self.outputs.values())
        swept: dict[tuple[int, tuple[int, ...]], list[Value]] = {}
        for value, depth in self.depths.items():
            if value in wanted or not self._local(value, strip):
                swept.setdefault((depth, value.image.spec.grid_shape), []).append(value)
        cut = tuple(strip), self.walked(block, strip)
        found = []
        for (_, shape), values in sorted(swept.items(), key=lambda item: item[0]):
            own = self._own(shape)
            grid = Blocks(shape, tuple(block) if own else shape)
            found.append(Pass(tuple(values), {}, (), grid, *(cut if own else (shape, None))))
        images = {n: node for n, node in self.outputs.items() if not isinstance(node, Value)}
        if images:
            found.append(Pass((), images, (), Blocks(self.grid.shape, tuple(block)), *cut))
        return self._with_keeps(found) if self.keep else found

    def walked(self, block: Sequence[int], strip: Sequence[int]) -> str | None:
        """Return the axis along which a task walks from strip to strip."""
        sides = zip(self.grid.axes, block, strip, strict=True)
        return next((name for name, b, s in sides if s < b), None)

    def fitting(self, candidates: Sequence[Cut], budget: int) -> Cut:
        """Return the cheapest candidate within the budget.

        Raises
        ------
        BudgetError
            If there is none; the message names the node and the smallest budget that works.
        """
        costs = {cut: self.cost(*cut) for cut in candidates}
        # Time is quicker to estimate than memory: look for the first that fits, by cost.
        for cut in sorted(costs, key=lambda cut: costs[cut]):
            if self.peak(*cut) <= budget:
                # What costs nearly the same may take less memory for it.
                near = [one for one in costs if costs[one] <= _NEARLY * costs[cut]]
                return min(near, key=lambda one: (self.peak(*one), costs[one]))
        return self._refuse(min(candidates, key=lambda cut: math.prod(cut[1])), budget)

    def peak(self, block: Sequence[int], strip: Sequence[int]) -> int:
        """Return the bytes of a process at its peak."""
        return sum(self.memory(block, strip)[0].values())

    def memory(self, block: Sequence[int], strip: Sequence[int]) -> tuple[dict[str, int], str]:
        """Return the bytes of a process by name, and the step at which a task peaks."""
        passes = self.passes(block, strip)
        swept = [value for one in passes for value in one.values]
        peak: dict[str, int] = {}
        where = "reading"
        chunk = self.codec
        for one, targets, known in self._followed(passes):
            # Values of an image of another shape are planned by themselves.
            own = self._own(one.grid.shape)
            for region in _samples(Blocks(one.grid.shape, one.strip)) if own else ():
                terms, step = task_bytes(targets, region, known, one.walked)
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

    def cost(self, block: Sequence[int], strip: Sequence[int]) -> float:
        """Return nanoseconds for the whole image on all workers, roughly."""
        count = len(Blocks(self.grid.shape, tuple(block)))
        waves = -(-count // self.workers) * self.workers / max(count, 1)
        # The last blocks leave workers idle: with few blocks that is a large share.
        tail = 1 + self.workers / (4 * max(count, 1))
        return self._time(self.passes(block, strip)) * waves * tail

    def reading(self, passes: Sequence[Pass]) -> tuple[int, float]:
        """Return the bytes all passes read, and the most pixels one reads per pixel there is."""
        total, worst = 0.0, 1.0
        for one, targets, known in self._followed(passes):
            if 0 in one.grid.shape:
                continue
            needed = Needed(targets, known, one.grid, one.axes)
            for node in needed.nodes:
                if isinstance(node, Source):
                    read = needed.total(node, lambda _, runs: run_length(runs))
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
            region = _samples(Blocks(one.grid.shape, one.strip))[0]
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
        first = replace(passes[0], keeps=kept)
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
                    n: Source(n.spec, _Kept(kept_chunks(n.spec, one.strip))) for n in one.keeps
                }
                swap = substitute(later, kept)
        return followed

    def _time(self, passes: Sequence[Pass]) -> float:
        """Return nanoseconds of core time for the whole image, over all passes."""
        total = 0.0
        for one, targets, known in self._followed(passes):
            if 0 in one.grid.shape:
                continue
            strips = Blocks(one.grid.shape, one.strip)
            needed = Needed(targets, known, strips, one.axes)
            read = Needed(targets, known, one.grid, one.axes)
            for node in needed.nodes:
                if isinstance(node, Source):
                    total += _read_time(node, needed, read)
                elif isinstance(node, Filtered):
                    rule = node.filter.rules.cost
                    each = _NODE if rule is None else rule(node.resolved, node.prepared)
                    pixels = needed.total(node, lambda _, runs: run_length(runs))
                    total += each * pixels / math.prod(n for _, n in node.leading)
            total += _WRITE_BYTE * sum(node.spec.nbytes for node in one.images.values())
            total += _KEEP_BYTE * sum(node.spec.nbytes for node in one.keeps)
            total += self.overhead * len(strips)
        return total

    def _own(self, shape: Sequence[int]) -> bool:
        return tuple(shape) == self.grid.shape

    def _local(self, value: Value, strip: Sequence[int]) -> bool:
        """Return whether a strip holds every image whose value it needs."""
        if not value.per_batch or not value.batch or value.image.spec.shape != self.grid.shape:
            return False
        return all(strip[a] >= self.grid.shape[a] for a in value.spatial)

    def _refuse(self, cut: Cut, budget: int) -> NoReturn:
        block, strip = cut
        memory, where = self.memory(block, strip)
        needed = sum(memory.values())
        fixed = memory["interpreter and libraries"] + memory["values"]
        one = fixed + (needed - fixed) // self.workers
        fewer = (
            f" or workers: {(budget - fixed) * self.workers // (needed - fixed)}"
            if one <= budget and self.workers > 1
            else ""
        )
        shape = format_shape(strip, self.grid.axes)
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


class Needed:
    """What all blocks of a size need together.

    Needs along one axis do not depend on the place along the others, and all blocks away from the
    image's edge need the same: three blocks tell of all.
    """

    def __init__(
        self,
        targets: Sequence[Node],
        known: Sequence[Value],
        blocks: Blocks,
        axes: Sequence[str],
    ) -> None:
        self.counts = dict(zip(axes, blocks.counts, strict=True))
        held = dict.fromkeys(known)
        ends = (blocks[0], _samples(blocks)[0], blocks[len(blocks) - 1])
        found = [demand(wanted_runs(targets, region), held) for region in ends]
        self.nodes = found[0][0]
        self.runs = [runs for _, runs in found]

    def total(self, node: ImageNode, measure: Callable[[int, Runs], int]) -> int:
        """Add up ``measure(axis, runs)``, multiplied over the axes of a node, over all blocks."""
        others = self.counts.keys() - set(node.spec.axes)
        total = math.prod(self.counts[name] for name in others)
        first, middle, last = (runs[id(node)] for runs in self.runs)
        for axis, name in enumerate(node.spec.axes):
            count = self.counts.get(name, 1)
            sizes = [measure(axis, runs[axis]) for runs in (first, middle, last)]
            total *= sizes[0] if count == 1 else sizes[0] + (count - 2) * sizes[1] + sizes[2]
        return total


def _read_time(source: Source, strips: Needed, blocks: Needed) -> float:
    """Return nanoseconds to decode whole chunks once for every block, and to lay out its strips."""
    pixel = source.spec.dtype.itemsize
    copied = strips.total(source, lambda _, runs: run_length(runs))
    chunks = getattr(source.reader, "chunks", None)
    if chunks is None:
        return _COPY_BYTE * pixel * copied

    def touched(axis: int, runs: Runs) -> int:
        return sum(-(-b // chunks[axis]) - a // chunks[axis] for a, b in runs)

    decoded = blocks.total(source, touched)
    return decoded * (_READ_CHUNK + _READ_BYTE * pixel * math.prod(chunks)) + (
        _COPY_BYTE * pixel * copied
    )

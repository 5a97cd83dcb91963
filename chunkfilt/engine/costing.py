"""What a candidate block costs, in time and in memory; the planner chooses by it.

Blocks in the middle and at both ends of the image stand for all of them.  Integers and rough
nanoseconds: no pixel.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

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
from chunkfilt.engine.needed import Needed, chunks, grown
from chunkfilt.errors import BudgetError
from chunkfilt.grid import Blocks, ImageSpec, Region
from chunkfilt.words import format_bytes, format_shape

__all__ = ["Costing", "Layout", "Pass", "kept_chunks"]

# Nanoseconds of one core, measured on a server (see benchmarks/); only their ratios matter: they
# decide where a larger block stops paying, and whether an intermediate is worth keeping.
_READ_CHUNK, _READ_BYTE, _COPY_BYTE, _WRITE_BYTE = 1e5, 0.5, 0.2, 0.8
# An intermediate goes to a disk, which may be slow.
_KEEP_BYTE = 2.0
_NODE = {"pointwise": 1.0, "neighbourhood": 3.0}
_TILED_SAMPLES = 12
# Twice the memory is worth 13 % of the time; what is dearer than a quarter more is not looked at.
_MEMORY_WORTH, _DEAREST = math.log2(1.13), 1.25
_KEPT_LEAST, _KEPT_MOST = 64, 1024
# A block and the strip of it that a task computes at a time.
Cut = tuple[tuple[int, ...], tuple[int, ...]]
# The allocator keeps some of what was freed; measured peaks stay within this.
_SLACK = 1.4


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
    def targets(self) -> tuple[Node, ...]:
        """The nodes the pass is about."""
        return (*self.values, *self.keeps, *self.images.values())


@dataclass(frozen=True)
class _Kept:
    """Stands for an intermediate that an earlier pass has written, uncompressed."""

    def read(self, region: Region) -> np.ndarray:
        """Never called: plans hold no pixels."""
        raise AssertionError(region)


@dataclass(frozen=True)
class _Sweep:
    """A pass before it is known in which blocks: what it computes, and what that needs.

    `targets` and `known` are nodes and values as they stand once intermediates are kept.
    """

    values: tuple[Value, ...]
    images: Mapping[str, ImageNode]
    keeps: tuple[Filtered, ...]
    spec: ImageSpec
    targets: tuple[Node, ...] = ()
    known: tuple[Value, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes the pass is about, as the graph has them."""
        return (*self.values, *self.keeps, *self.images.values())

    @functools.cached_property
    def needed(self) -> Needed:
        """What the blocks of the pass need."""
        axes = tuple(self.spec.axes[a] for a in self.spec.grid)
        return Needed(self.targets, self.known, self.spec.grid_shape, axes)

    @functools.cached_property
    def sources(self) -> list[Source]:
        """The sources behind the targets."""
        return [node for node in topological(self.targets) if isinstance(node, Source)]


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
        self._sweeps = functools.cache(self._sweeps_with)
        self._peaks: dict[Any, tuple[dict[str, int], str]] = {}

    def passes(self, block: Sequence[int], strip: Sequence[int]) -> list[Pass]:
        """Return the sweeps that blocks of this size, cut in such strips, take, values first.

        Values of an image of another shape than the outputs' (of which an output is a crop) come
        with the blocks of that shape; the planner chooses those.
        """
        cut = tuple(strip), self.walked(block, strip)
        found = []
        for one in self._best(block, strip):
            shape = one.spec.grid_shape
            own = self._own(shape)
            grid = Blocks(shape, tuple(block) if own else shape)
            found.append(
                Pass(one.values, one.images, one.keeps, grid, *(cut if own else (shape, None)))
            )
        return found

    def walked(self, block: Sequence[int], strip: Sequence[int]) -> str | None:
        """Return the axis along which a task walks from strip to strip."""
        sides = zip(self.grid.axes, block, strip, strict=True)
        return next((name for name, b, s in sides if s < b), None)

    def fitting(self, candidates: Sequence[Cut], budget: int) -> Cut:
        """Return a cheap candidate within the budget: twice the memory must buy some time.

        Raises
        ------
        BudgetError
            If there is none; the message names the node and the smallest budget that works.
        """
        if len(candidates) == 1 and self.peak(*candidates[0]) <= budget:
            return candidates[0]
        costs = {cut: self.cost(*cut) for cut in candidates}
        # Time is quicker to estimate than memory: look for the first that fits, by cost.
        # Strips that take too much; one that walks holds some rows more than one that does not.
        over: list[tuple[int, ...]] = []
        found, best = None, math.inf
        for cut in sorted(costs, key=lambda cut: costs[cut]):
            size = (cut[0] != cut[1], *cut[1])
            if any(all(a >= b for a, b in zip(size, one, strict=True)) for one in over):
                continue
            if found is not None and costs[cut] > _DEAREST * costs[found]:
                break
            if self.peak(*cut) > budget:
                over.append(size)
                continue
            found = found or cut
            score = costs[cut] * max(self.peak(*cut) - self.base, 1) ** _MEMORY_WORTH
            if score < best:
                best, chosen = score, cut
        if found is not None:
            return chosen
        return self._refuse(min(candidates, key=lambda cut: math.prod(cut[1])), budget)

    def peak(self, block: Sequence[int], strip: Sequence[int]) -> int:
        """Return the bytes of a process at its peak."""
        return sum(self.memory(block, strip)[0].values())

    def memory(self, block: Sequence[int], strip: Sequence[int]) -> tuple[dict[str, int], str]:
        """Return the bytes of a process by name, and the step at which a task peaks."""
        sweeps, walked = self._best(block, strip), self.walked(block, strip)
        key = tuple(strip), walked, len(sweeps[0].keeps) if sweeps else 0
        if key not in self._peaks:
            self._peaks[key] = self._memory(sweeps, strip, walked)
        return self._peaks[key]

    def _memory(
        self, sweeps: Sequence[_Sweep], strip: Sequence[int], walked: str | None
    ) -> tuple[dict[str, int], str]:
        swept = [value for one in sweeps for value in one.values]
        peak: dict[str, int] = {}
        where = "reading"
        chunk = self.codec
        for one in sweeps:
            # Values of an image of another shape are planned by themselves.
            shape = one.spec.grid_shape
            tiled = any(
                isinstance(n, Filtered) and max(n.tile, default=1) > 1 for n in one.needed.nodes
            )
            regions = _samples(Blocks(shape, tuple(strip)), tiled) if self._own(shape) else ()
            for region in regions:
                terms, step = task_bytes(one.targets, region, one.known, walked)
                if sum(terms.values()) > sum(peak.values()):
                    peak, where = terms, step
            chunk = max(chunk, *(chunk_bytes(source) for source in one.sources), 0)
        # Two chunks at a time, each laid out by itself and compressed, and what the allocator keeps
        # of such for every thread.
        peak["codec buffers"] = 6 * chunk
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
        return self._time(self._best(block, strip), block, strip) * waves * tail

    def reading(self, block: Sequence[int], strip: Sequence[int]) -> tuple[int, float]:
        """Return the bytes all passes read, and the most pixels one reads per pixel there is."""
        total, worst = 0.0, 1.0
        for one in self._best(block, strip):
            shape = one.spec.grid_shape
            for source in one.sources if 0 not in shape else ():
                read = one.needed.total(source, block if self._own(shape) else shape)
                total += read * source.spec.dtype.itemsize
                worst = max(worst, read / max(source.spec.size, 1))
        return int(total), worst

    def decisions(self, block: Sequence[int], strip: Sequence[int]) -> list[str]:
        """Return what was decided about values, as notes."""
        sweeps = self._best(block, strip)
        swept = [value for one in sweeps for value in one.values]
        local = dict.fromkeys(v.filter.name for v in self.depths if v not in swept)
        told = [f"{name} within each block: a block holds whole images" for name in local]
        nodes = dict.fromkeys(n for one in sweeps for n in one.needed.nodes)
        filtered = [node for node in nodes if isinstance(node, Filtered)]
        # How a filter is going to compute what it was asked for, if it has a choice.
        how = [(n.written.filter.name, n.prepared["how"]) for n in filtered if "how" in n.prepared]
        told += dict.fromkeys(f"{name}: {way}" for name, way in how)
        kept = [node for one in sweeps for node in one.keeps]
        told += [
            f"{node.filter.name} kept on disk for the later passes: cheaper than computing it again"
            for node in kept
        ]
        times = Counter(n for one in sweeps for n in one.needed.nodes if isinstance(n, Filtered))
        again = dict.fromkeys(node.filter.name for node, k in times.items() if k > 1)
        if again and not kept:
            compared = self.keep and self._keepable(sweeps)
            why = ": cheaper than keeping the result" if compared else ""
            told.append(f"{', '.join(again)} computed in more than one pass{why}")
        return told

    def _best(self, block: Sequence[int], strip: Sequence[int]) -> list[_Sweep]:
        """Return the sweeps that take the least time: with or without intermediates kept."""
        local = frozenset(value for value in self.depths if self._local(value, strip))
        ways = self._sweeps(local)
        return ways[0] if len(ways) == 1 else min(ways, key=lambda w: self._time(w, block, strip))

    def _sweeps_with(self, local: frozenset[Value]) -> list[list[_Sweep]]:
        """Return the ways to go: plainly, and with the images behind the first values kept."""
        wanted = set(self.outputs.values())
        swept: dict[tuple[int, tuple[int, ...]], list[Value]] = {}
        for value, depth in self.depths.items():
            if value in wanted or value not in local:
                swept.setdefault((depth, value.image.spec.grid_shape), []).append(value)
        plain = [
            _Sweep(tuple(values), {}, (), values[0].image.spec)
            for _, values in sorted(swept.items(), key=lambda item: item[0])
        ]
        images = {n: node for n, node in self.outputs.items() if not isinstance(node, Value)}
        if images:
            plain.append(_Sweep((), images, (), next(iter(images.values())).spec))
        kept = self._keepable(plain) if self.keep else ()
        ways = [plain, [replace(plain[0], keeps=kept), *plain[1:]]] if kept else [plain]
        return [_followed(way) for way in ways]

    def _keepable(self, sweeps: Sequence[_Sweep]) -> tuple[Filtered, ...]:
        """Return the computed images behind the first values, if they can be kept on disk."""
        if len(sweeps) < 2 or not sweeps[0].values or not self._own(sweeps[0].spec.grid_shape):
            return ()
        images = [value.image for value in sweeps[0].values]
        kept = tuple(dict.fromkeys(n for n in images if isinstance(n, Filtered)))
        return () if any(node.leading or node.spec.leading for node in kept) else kept

    def _time(self, sweeps: Sequence[_Sweep], block: Sequence[int], strip: Sequence[int]) -> float:
        """Return nanoseconds of core time for the whole image, over all passes."""
        total = 0.0
        for one in sweeps:
            shape = one.spec.grid_shape
            if 0 in shape:
                continue
            own = (block, strip) if self._own(shape) else (shape, shape)
            for node in one.needed.nodes:
                if isinstance(node, Source):
                    total += _read_time(node, one.needed, *own)
                elif isinstance(node, Filtered):
                    rule = node.filter.rules.cost
                    each = rule(node.resolved, node.prepared) if rule else _NODE[node.filter.kind]
                    # A kernel works on the pixels of the halo too, if not as hard.
                    pixels = one.needed.total(node, own[1]) + one.needed.total(node, own[1], grown)
                    total += each * pixels / 2 / math.prod(n for _, n in node.leading)
            total += _WRITE_BYTE * sum(node.spec.nbytes for node in one.images.values())
            total += _KEEP_BYTE * sum(node.spec.nbytes for node in one.keeps)
            total += self.overhead * len(Blocks(shape, tuple(own[1])))
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


def _followed(sweeps: Sequence[_Sweep]) -> list[_Sweep]:
    """Return sweeps with their targets and known values, reading intermediates once kept."""
    followed = []
    swap: dict[Node, Node] = {}
    swept = [value for one in sweeps for value in one.values]
    for one in sweeps:
        targets = tuple(swap.get(node, node) for node in one.nodes)
        known = tuple(found for v in swept if isinstance(found := swap.get(v, v), Value))
        followed.append(replace(one, targets=targets, known=known))
        if one.keeps:
            later = [node for other in sweeps for node in other.nodes]
            kept: dict[Node, Node] = {node: Source(node.spec, _Kept()) for node in one.keeps}
            swap = substitute(later, kept)
    return followed


def _samples(blocks: Blocks, tiled: bool) -> list[Region]:
    """Return the block in the middle, the first and the last one.

    Where a filter works in tiles, what sticks out of a block depends on where it lies: some more.
    """
    if len(blocks) == 0:
        return [Region.whole(blocks.shape)]
    places = [tuple(count // 2 for count in blocks.counts)]
    if tiled:
        places += [tuple(min(k, n - 1) for n in blocks.counts) for k in range(_TILED_SAMPLES)]
    chosen = [0, len(blocks) - 1]
    for place in places:
        index = 0
        for at, count in zip(place, blocks.counts, strict=True):
            index = index * count + at
        chosen.append(index)
    return [blocks[index] for index in dict.fromkeys(chosen)]


def _read_time(source: Source, needed: Needed, block: Sequence[int], strip: Sequence[int]) -> float:
    """Return nanoseconds to decode whole chunks once for every block, and to lay out its strips."""
    pixel = source.spec.dtype.itemsize
    # What the next strip needs of the pixels read is copied.
    walks = tuple(block) != tuple(strip)
    copied = _COPY_BYTE * pixel * needed.total(source, strip) if walks else 0.0
    sides = getattr(source.reader, "chunks", None)
    if sides is None:
        return copied
    return copied + needed.total(source, block, chunks) * (
        _READ_CHUNK + _READ_BYTE * pixel * math.prod(sides)
    )

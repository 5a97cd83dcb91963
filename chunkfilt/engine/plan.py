"""The plan: what a run will do, known before it starts.  Integers only: no pixel, no store.

Blocks are whole write units.  For a candidate block the planner walks the graph as the
evaluator will, for a block in the middle and at both ends of the image, and adds up what is
alive at every step; the block chosen is the cheapest one that fits the budget.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chunkfilt.engine.evaluate import demand
from chunkfilt.engine.graph import (
    Filtered,
    ImageNode,
    Node,
    Source,
    Value,
    behind,
    topological,
    value_depths,
)
from chunkfilt.errors import BudgetError, InputError
from chunkfilt.grid import Blocks, ImageSpec, Region, Runs, round_up, run_length

__all__ = ["Layout", "Plan", "Sweep", "default_chunks", "format_bytes", "make_plan"]

# Costs in nanoseconds, measured on one core of a server (see benchmarks/); only their ratios
# matter: they decide where a larger block stops paying.
_READ, _NODE, _TASK = 2.0, 4.0, 4_000_000.0
_FIT_LARGEST, _FIT_NARROW, _FIT_SIDE = 1 << 24, 64, 1024
_LARGEST_BLOCK, _MEMORY_UNIT = 1 << 26, 256
# The allocator keeps some of what was freed; measured peaks stay within this.
_SLACK = 1.1


@dataclass(frozen=True)
class Layout:
    """How an output is cut: its write unit along the grid axes, and the chunk's bytes."""

    spec: ImageSpec
    unit: tuple[int, ...]
    chunk_bytes: int


@dataclass(frozen=True)
class Sweep:
    """A pass that computes values, over the blocks of the images they are values of."""

    values: tuple[Value, ...]
    grid: Blocks


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    block : tuple of int
        Pixels of a block along the grid axes (leading axes are held in full).
    blocks : int
        Blocks, and so tasks, in one pass.
    passes : tuple of tuple of str
        What every pass computes; the last one writes the images, if there are any.
    memory : dict of str to int
        Bytes at the peak of one process, by name.
    budget : int
        Bytes one process may use.
    workers : int
        Tasks that run at the same time in one process.
    read_bytes, written_bytes : int
        Bytes of pixels read over all passes (with halos), and written.
    halo_cost : float
        Pixels read over pixels of the image, in one pass.
    notes : tuple of str
        What the planner decided on its own.
    """

    grid_shape: tuple[int, ...]
    axes: tuple[str, ...]
    block: tuple[int, ...]
    passes: tuple[tuple[str, ...], ...]
    memory: Mapping[str, int]
    budget: int
    workers: int
    read_bytes: int
    written_bytes: int
    halo_cost: float
    outputs: Mapping[str, ImageSpec]
    sweeps: tuple[Sweep, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Blocks:
        """The blocks themselves."""
        return Blocks(self.grid_shape, self.block)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.grid)

    @property
    def peak(self) -> int:
        """Bytes of one process at its peak."""
        return sum(self.memory.values())

    @property
    def tasks(self) -> int:
        """Number of tasks over all passes."""
        swept = sum(len(sweep.grid) for sweep in self.sweeps)
        return swept + self.blocks * (len(self.passes) - len(self.sweeps))

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        return {
            "shape": list(self.grid_shape),
            "axes": list(self.axes),
            "block": list(self.block),
            "blocks": self.blocks,
            "tasks": self.tasks,
            "workers": self.workers,
            "passes": [list(names) for names in self.passes],
            "memory": dict(self.memory),
            "peak": self.peak,
            "budget": self.budget,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
            "halo_cost": round(self.halo_cost, 4),
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of a word and its figure, for people."""
        named = " x ".join(f"{n} {a}" for a, n in zip(self.axes, self.block, strict=True))
        rows = [("image", _shape(self.grid_shape, self.axes))]
        for name, spec in self.outputs.items():
            described = f"{_shape(spec.shape, spec.axes)} {spec.dtype.name}"
            rows.append((f"output {name}" if name else "output", described))
        rows.append(("block", f"{named} ({self.blocks} blocks)"))
        for number, names in enumerate(self.passes, 1):
            rows.append((f"pass {number} of {len(self.passes)}", ", ".join(names)))
        rows += [
            ("tasks", f"{self.tasks} on {self.workers} worker{'s' * (self.workers != 1)}"),
            ("read", f"{format_bytes(self.read_bytes)} (halo cost {self.halo_cost:.2f} x)"),
            ("written", format_bytes(self.written_bytes)),
            ("peak memory", f"{format_bytes(self.peak)} of {format_bytes(self.budget)}"),
        ]
        rows += [(f"  {name}", format_bytes(size)) for name, size in self.memory.items()]
        return rows + [("note", note) for note in self.notes]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(word) for word, _ in rows)
        return "\n".join(f"{word:<{width}}  {figure}" for word, figure in rows)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{word.replace('  ', '&emsp;')}</th>"
            f"<td style='text-align:left'>{figure}</td></tr>"
            for word, figure in self.rows()
        )
        return f"<table class='chunkfilt-plan'>{cells}</table>"


def make_plan(
    outputs: Mapping[str, ImageNode | Value],
    layouts: Mapping[str, Layout],
    *,
    budget: int,
    workers: int,
    base: int,
    block: Sequence[int] | None = None,
    notes: Iterable[str] = (),
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    outputs : mapping
        The nodes to compute, by name.
    layouts : mapping
        For every output that is an image, how it is cut.
    budget : int
        Bytes one process may use.
    workers : int
        Tasks at the same time in one process.
    base : int
        Bytes the process uses before it holds a pixel.
    block : sequence of int, optional
        A block to use rather than the cheapest one; rounded up to whole write units.

    Raises
    ------
    BudgetError
        If even the smallest block does not fit.
    InputError
        If the outputs are not of one shape.
    """
    grid = _common_grid(outputs)
    unit = _common_unit(grid, outputs, layouts)
    candidates = [unit] if grid.size == 0 else _candidates(grid.shape, unit)
    if block is not None:
        asked = zip(block, unit, grid.shape, strict=True)
        candidates = [tuple(min(round_up(b, u), round_up(n, u)) for b, u, n in asked)]
    costing = _Costing(outputs, layouts, grid, workers, base)
    best = costing.choose(candidates, budget)
    sweeps: list[Sweep] = []
    memory = costing.memory(best)[0]
    for values in costing.sweeps(best):
        if values[0].image.spec.grid_shape == grid.shape:
            sweeps.append(Sweep(values, Blocks(grid.shape, best)))
            continue
        # Values of an image of another shape (of which an output is a crop): blocks of its own.
        named = {str(i): value for i, value in enumerate(values)}
        inner = make_plan(named, {}, budget=budget, workers=workers, base=base)
        sweeps.append(Sweep(values, inner.grid))
        if inner.peak > sum(memory.values()):
            memory = dict(inner.memory)
    passes = [tuple(node.filter.name for node in sweep.values) for sweep in sweeps]
    images = {name: n.spec for name, n in outputs.items() if not isinstance(n, Value)}
    if images:
        passes.append(tuple(f"write {name or 'image'}" for name in images))
    read, halo_cost = costing.reading(best)
    return Plan(
        grid_shape=grid.shape,
        axes=grid.axes,
        block=best,
        passes=tuple(passes),
        memory=memory,
        budget=budget,
        workers=workers,
        read_bytes=read * max(len(passes), 1),
        written_bytes=sum(spec.nbytes for spec in images.values()),
        halo_cost=halo_cost,
        outputs=images,
        sweeps=tuple(sweeps),
        notes=(*notes, *costing.decisions(best)),
    )


class _Costing:
    """What a candidate block costs in time and memory, for one graph."""

    def __init__(
        self,
        outputs: Mapping[str, ImageNode | Value],
        layouts: Mapping[str, Layout],
        grid: ImageSpec,
        workers: int,
        base: int,
    ) -> None:
        self.nodes = list(outputs.values())
        self.grid, self.workers, self.base = grid, workers, base
        self.codec = max((one.chunk_bytes for one in layouts.values()), default=0)
        self.depths = value_depths(self.nodes)
        self.values = list(self.depths)
        order = topological(self.nodes)
        self.sources = [node for node in order if isinstance(node, Source)]
        before = [n for v in self.values for n in topological([v]) if isinstance(n, Filtered)]
        self.computed_before_values = list(dict.fromkeys(n.filter.name for n in before))

    def sweeps(self, block: Sequence[int]) -> tuple[tuple[Value, ...], ...]:
        """Return the values that need a pass of their own, pass by pass."""
        wanted = set(self.nodes)
        swept: dict[tuple[int, tuple[int, ...]], list[Value]] = {}
        for value in self.values:
            if value in wanted or not self._local(value, block):
                key = (self.depths[value], value.image.spec.grid_shape)
                swept.setdefault(key, []).append(value)
        return tuple(tuple(values) for _, values in sorted(swept.items()))

    def decisions(self, block: Sequence[int]) -> list[str]:
        """Return what was decided about values, as notes."""
        swept = _flat(self.sweeps(block))
        local = dict.fromkeys(v.filter.name for v in self.values if v not in swept)
        told = [f"{name} within each block: a block holds whole images" for name in local]
        if swept and self.computed_before_values:
            names = ", ".join(self.computed_before_values)
            told.append(
                f"{names} recomputed in every pass: cheaper than writing and reading an "
                "intermediate"
            )
        return told

    def choose(self, candidates: Sequence[tuple[int, ...]], budget: int) -> tuple[int, ...]:
        """Return the cheapest candidate within the budget."""
        fits = [block for block in candidates if sum(self.memory(block)[0].values()) <= budget]
        if not fits:
            self._refuse(min(candidates, key=math.prod), budget)
        return min(fits, key=self.cost)

    def memory(self, block: Sequence[int]) -> tuple[dict[str, int], str]:
        """Return the bytes of a process by name, and the step at which a task peaks."""
        sweeps = self.sweeps(block)
        peak: dict[str, int] = {}
        where = "reading"
        for targets in self._passes(sweeps):
            for region in self._samples(block):
                terms, step = self._task(targets, region, _flat(sweeps))
                if sum(terms.values()) > sum(peak.values()):
                    peak, where = terms, step
        peak["codec buffers"] = 3 * max(self.codec, *(_chunk_bytes(s) for s in self.sources), 0)
        tables = sum(self._table_bytes(value) for value in _flat(sweeps))
        scaled = {name: int(size * self.workers * _SLACK) for name, size in peak.items()}
        return {"interpreter and libraries": self.base, **scaled, "values": 2 * tables}, where

    def cost(self, block: Sequence[int]) -> float:
        """Return nanoseconds per pixel of the image on all workers, roughly."""
        region = self._samples(block)[0]
        pixels = max(region.size, 1)
        sweeps = self.sweeps(block)
        known = dict.fromkeys(_flat(sweeps))
        total = 0.0
        for targets in self._passes(sweeps):
            order, runs = demand(self._wanted(targets, region), known)
            total += _TASK
            for node in order:
                if isinstance(node, Source):
                    total += _READ * _decoded(node, runs[id(node)])
                elif isinstance(node, Filtered):
                    total += _NODE * _pixels(runs[id(node)])
        count = len(Blocks(self.grid.shape, tuple(block)))
        waves = -(-count // self.workers) * self.workers / max(count, 1)
        # The last blocks leave workers idle: with few blocks that is a large share.
        tail = 1 + self.workers / (2 * max(count, 1))
        return total / pixels * waves * tail

    def reading(self, block: Sequence[int]) -> tuple[int, float]:
        """Return the bytes one pass reads, and the pixels read over the pixels there are."""
        region = self._samples(block)[0]
        if region.size == 0 or not self.sources:
            return 0, 1.0
        known = dict.fromkeys(_flat(self.sweeps(block)))
        images = [n for n in self.nodes if not isinstance(n, Value)] or self.nodes
        order, runs = demand(self._wanted(images, region), known)
        read = [(n, _pixels(runs[id(n)])) for n in order if isinstance(n, Source)]
        factor = sum(p for _, p in read) / (region.size * max(len(read), 1))
        share = self.grid.size / region.size
        return int(sum(p * n.spec.dtype.itemsize for n, p in read) * share), factor

    def _passes(self, sweeps: Iterable[Sequence[Node]]) -> list[Sequence[Node]]:
        """Return the targets of every pass over the blocks of this grid."""
        own = [
            s
            for s in sweeps
            if isinstance(s[0], Value) and s[0].image.spec.grid_shape == self.grid.shape
        ]
        images = [node for node in self.nodes if not isinstance(node, Value)]
        return [*own, *([images] if images else [])]

    def _local(self, value: Value, block: Sequence[int]) -> bool:
        """Return whether a block holds every image whose value it needs."""
        if not value.per_batch or not value.batch or value.image.spec.ndim != self.grid.ndim:
            return False
        return all(block[a] >= self.grid.shape[a] for a in value.spatial) and (
            value.image.spec.shape == self.grid.shape
        )

    def _samples(self, block: Sequence[int]) -> list[Region]:
        blocks = Blocks(self.grid.shape, tuple(block))
        if len(blocks) == 0:
            return [Region.whole(self.grid.shape)]
        middle = 0
        for count in blocks.counts:
            middle = middle * count + count // 2
        return [blocks[i] for i in dict.fromkeys((middle, 0, len(blocks) - 1))]

    def _wanted(self, targets: Iterable[Node], region: Region) -> dict[Node, Sequence[Runs]]:
        wanted: dict[Node, Sequence[Runs]] = {}
        for node in targets:
            spec = node.image.spec if isinstance(node, Value) else node.spec
            runs = spec.from_grid(region).runs
            if not isinstance(node, Value):
                wanted[node] = runs
                continue
            for one in behind(node):
                wanted[one] = [runs[a] for a in node.batch] if isinstance(one, Value) else runs
        return wanted

    def _task(
        self, targets: Iterable[Node], region: Region, known: Iterable[Value]
    ) -> tuple[dict[str, int], str]:
        """Follow the evaluator through one block; return what is alive at the worst step."""
        held = dict.fromkeys(known)
        targets = list(targets)
        wanted = self._wanted(targets, region)
        order, runs = demand(wanted, held)
        left = Counter(id(one) for n in order if n not in held for one in behind(n))
        alive: dict[int, tuple[str, int]] = {}
        worst: dict[str, int] = {}
        where = "reading"
        for node in order:
            term, size = _patch_bytes(node, runs[id(node)], node in wanted)
            alive[id(node)] = (term, size)
            terms: Counter[str] = Counter({"kernel": _kernel_bytes(node, runs[id(node)])})
            for name, bytes_held in alive.values():
                terms[name] += bytes_held
            if sum(terms.values()) > sum(worst.values()):
                worst, where = dict(terms), getattr(getattr(node, "filter", None), "name", where)
            for one in () if node in held else behind(node):
                left[id(one)] -= 1
                if not left[id(one)] and one not in wanted:
                    del alive[id(one)]
        order_of = ("input with halo", "intermediates", "kernel", "output")
        return {name: worst[name] for name in order_of if worst.get(name)}, where

    def _table_bytes(self, value: Value) -> int:
        rule = value.filter.rules.memory
        rows = value.rows
        if rule is None:
            return 64 * rows
        return rule(value.resolved, (rows,), value.block_dtype)

    def _refuse(self, block: Sequence[int], budget: int) -> None:
        memory, where = self.memory(block)
        needed = sum(memory.values())
        fixed = memory["interpreter and libraries"] + memory["values"]
        one = fixed + (needed - fixed) // self.workers
        fewer = (
            f" or workers: {(budget - fixed) * self.workers // (needed - fixed)}"
            if one <= budget and self.workers > 1
            else ""
        )
        message = (
            f"{where}: the smallest block, {_shape(block, self.grid.axes)}, needs "
            f"{format_bytes(needed)} per process, the budget is {format_bytes(budget)}: use "
            f"memory: {format_bytes(_rounded(needed))}{fewer}, or smaller output chunks"
        )
        raise BudgetError(message)


def default_chunks(
    spec: ImageSpec, source: ImageSpec | None, chunks: Sequence[int] | None
) -> tuple[tuple[int, ...], str | None]:
    """Return an output's chunks along all its axes, and a note if they are not the input's.

    The input's chunks are kept, axis by axis by name, unless they are unfit for work in blocks
    (one huge chunk, strips of a few rows); then the spatial axes get square chunks of about a
    million pixels.
    """
    by_name = dict(zip(source.axes, chunks, strict=True)) if source and chunks else {}
    own = [
        1 if axis in spec.leading else min(by_name.get(name, n), max(n, 1))
        for axis, (name, n) in enumerate(zip(spec.axes, spec.shape, strict=True))
    ]
    pixels = math.prod(own)
    narrow = any(
        own[a] < min(_FIT_NARROW, spec.shape[a]) and pixels // own[a] >= _FIT_SIDE
        for a in spec.spatial[-2:]
    )
    if by_name and pixels <= _FIT_LARGEST and not narrow:
        return tuple(max(n, 1) for n in own), None
    side = round(2 ** (20 / max(len(spec.spatial), 1)))
    fresh = tuple(
        min(side, max(n, 1)) if axis in spec.spatial else 1 for axis, n in enumerate(spec.shape)
    )
    if not by_name:
        return fresh, None
    held = " x ".join(str(by_name.get(name, 1)) for name in spec.axes)
    chosen = " x ".join(map(str, fresh))
    return fresh, f"chunks of {chosen}: the input's {held} are unfit for work in blocks"


def format_bytes(size: float) -> str:
    """Return bytes as people write them.

    >>> format_bytes(2 << 30), format_bytes(1536), format_bytes(10)
    ('2.0 GiB', '1.5 KiB', '10 B')
    """
    if size < 1024:
        return f"{int(size)} B"
    power = min(int(math.log(size, 1024)), 4)
    return f"{size / 1024**power:.1f} {'_KMGT'[power]}iB"


def _common_grid(outputs: Mapping[str, ImageNode | Value]) -> ImageSpec:
    """Return the grid that all outputs share, as a spec without leading axes."""
    specs = [
        (name, node.image.spec if isinstance(node, Value) else node.spec)
        for name, node in outputs.items()
    ]
    if not specs:
        message = "nothing to compute: name at least one output"
        raise InputError(message)
    first_name, first = specs[0]
    for name, spec in specs[1:]:
        if spec.grid_shape != first.grid_shape:
            message = (
                f"outputs of one run must have one shape: {first_name} is {first.grid_shape}, "
                f"{name} is {spec.grid_shape}"
            )
            raise InputError(message)
    return replace(
        first,
        shape=first.grid_shape,
        axes=tuple(first.axes[a] for a in first.grid),
        spatial=tuple(first.grid.index(a) for a in first.spatial if a in first.grid),
        leading=(),
    )


def _common_unit(
    grid: ImageSpec, outputs: Mapping[str, ImageNode | Value], layouts: Mapping[str, Layout]
) -> tuple[int, ...]:
    """Return what blocks are whole multiples of: the outputs' write units, or input chunks."""
    units = [tuple(layout.unit) for layout in layouts.values()]
    if units:
        return tuple(math.lcm(*along) for along in zip(*units, strict=True))
    for node in topological(outputs.values()):
        chunks = getattr(node.reader, "chunks", None) if isinstance(node, Source) else None
        if isinstance(node, Source) and chunks is not None:
            by_name = dict(zip(node.spec.axes, chunks, strict=True))
            sides = zip(grid.axes, grid.shape, strict=True)
            return tuple(max(min(by_name.get(name, n), n), 1) for name, n in sides)
    return tuple(
        min(_MEMORY_UNIT, max(n, 1)) if axis in grid.spatial else 1
        for axis, n in enumerate(grid.shape)
    )


def _candidates(shape: Sequence[int], unit: Sequence[int]) -> list[tuple[int, ...]]:
    """Return blocks of whole units, from one unit up, at most a few hundred of them."""
    axes = []
    for n, u in zip(shape, unit, strict=True):
        whole = -(-n // u)
        steps = {1, whole}
        k = 1
        while k < whole:
            steps |= {k, min(k * 3 // 2, whole)}
            k *= 2
        axes.append(sorted(s * u for s in steps if s))
    found: list[tuple[int, ...]] = [()]
    for along in reversed(axes):
        found = [
            (a, *rest) for a in along for rest in found if a * math.prod(rest) <= _LARGEST_BLOCK
        ]
        # With many axes, growing the last ones first keeps the list short.
        found = sorted(found, key=math.prod)[-400:] if len(found) > 2000 else found
    return list(dict.fromkeys([tuple(unit), *found]))


def _pixels(runs: Sequence[Runs]) -> int:
    return math.prod(run_length(along) for along in runs)


def _decoded(source: Source, runs: Sequence[Runs]) -> int:
    """Return the pixels of all the chunks that runs touch."""
    chunks = getattr(source.reader, "chunks", None)
    if chunks is None:
        return _pixels(runs)
    touched = 1
    for along, chunk in zip(runs, chunks, strict=True):
        touched *= sum(round_up(b, chunk) - a // chunk * chunk for a, b in along)
    return touched


def _chunk_bytes(source: Source) -> int:
    chunks = getattr(source.reader, "chunks", None)
    return math.prod(chunks) * source.spec.dtype.itemsize if chunks else 0


def _patch_bytes(node: Node, runs: Sequence[Runs], wanted: bool) -> tuple[str, int]:
    if isinstance(node, Value):
        return "intermediates", 0
    size = _pixels(runs) * node.spec.dtype.itemsize
    if isinstance(node, Source):
        return "input with halo", size
    return ("output" if wanted else "intermediates"), size


def _kernel_bytes(node: Node, runs: Sequence[Runs]) -> int:
    """Return what a node needs beside its inputs and its result.

    The block with its halo is a copy at the image's edge and behind other nodes; a result in
    another dtype than the kernel's is copied by the cast.
    """
    if not isinstance(node, Filtered):
        return 0
    own = [run_length(along) for along in node.strip(runs)]
    grown = [n + sum(h) for n, h in zip(own, node.halo, strict=True)]
    copies = 2 if node.filter.kind == "neighbourhood" else 0
    needed = copies * math.prod(grown) * node.block_dtype.itemsize
    core = (math.prod(own[a] for a in node.batch), *(own[a] for a in node.spatial))
    if node.filter.rules.memory is not None:
        needed += node.filter.rules.memory(node.resolved, core, node.block_dtype)
    natural = node.params.get("dtype")
    if natural is not None:
        needed += 2 * _pixels(runs) * 8
    return int(needed)


def _flat(sweeps: Iterable[Iterable[Value]]) -> list[Value]:
    return [value for sweep in sweeps for value in sweep]


def _rounded(size: int) -> int:
    """Return a budget a little above `size`, as a person would write it."""
    step = 10 ** max(len(str(size)) - 2, 0)
    return round_up(int(size * 1.02), step)


def _shape(shape: Sequence[int], axes: Sequence[str]) -> str:
    return " x ".join(f"{n} {a}" for a, n in zip(axes, shape, strict=True))

"""The plan: what a run will do, known before it starts.  Integers only: no pixel, no store.

Blocks are whole write units.  For a candidate block the planner walks the graph as the
evaluator will, for a block in the middle and at both ends of the image, and adds up what is
alive at every step; the block chosen is the cheapest one that fits the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chunkfilt.engine.costing import Costing, Layout, Pass
from chunkfilt.engine.graph import ImageNode, Source, Value, topological
from chunkfilt.errors import InputError
from chunkfilt.grid import Blocks, ImageSpec, round_up
from chunkfilt.words import format_bytes, format_shape

__all__ = ["Layout", "Pass", "Plan", "common_grid", "default_chunks", "make_plan"]

STORE_OVERHEAD, MEMORY_OVERHEAD = 2.5e6, 3e5
_FIT_LARGEST, _FIT_NARROW, _FIT_SIDE = 1 << 24, 64, 1024
_LARGEST_BLOCK, _MEMORY_UNIT = 1 << 26, 256


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    block : tuple of int
        Pixels of a block along the grid axes (leading axes are held in full).
    strip : tuple of int
        Pixels of a strip: a task walks its block from strip to strip, computing one at a time.
    blocks : int
        Blocks, and so tasks, in one pass.
    steps : tuple of Pass
        The passes themselves; `passes` says in words what each does.
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
    strip: tuple[int, ...]
    steps: tuple[Pass, ...] = field(repr=False)
    memory: Mapping[str, int]
    budget: int
    workers: int
    read_bytes: int
    written_bytes: int
    halo_cost: float
    outputs: Mapping[str, ImageSpec]
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
    def passes(self) -> tuple[tuple[str, ...], ...]:
        """What every pass computes; the last one writes the images, if there are any."""
        return tuple(step.names for step in self.steps)

    @property
    def peak(self) -> int:
        """Bytes of one process at its peak."""
        return sum(self.memory.values())

    @property
    def tasks(self) -> int:
        """Number of tasks over all passes."""
        return sum(len(step.grid) for step in self.steps)

    def refuse_empty(self) -> None:
        """Refuse to look for values where there is no pixel.

        Raises
        ------
        InputError
            If the image has none.
        """
        if not self.blocks:
            names = ", ".join(name for sweep in self.passes for name in sweep)
            message = f"{names}: an image without pixels has no value"
            raise InputError(message)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        return {
            "shape": list(self.grid_shape),
            "axes": list(self.axes),
            "block": list(self.block),
            "strip": list(self.strip),
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
        rows = [("image", format_shape(self.grid_shape, self.axes))]
        for name, spec in self.outputs.items():
            described = f"{format_shape(spec.shape, spec.axes)} {spec.dtype.name}"
            rows.append((f"output {name}" if name else "output", described))
        rows.append(("block", f"{named} ({self.blocks} blocks)"))
        if self.strip != self.block:
            rows.append(("strip", format_shape(self.strip, self.axes)))
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
    strip: Sequence[int] | None = None,
    keep: bool = True,
    overhead: float = STORE_OVERHEAD,
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
    strip : sequence of int, optional
        A strip to use, likewise; as wide as the block along batch axes.
    keep : bool, default True
        Whether intermediates may be kept on disk between passes.
    overhead : float
        Nanoseconds that a task costs beside its pixels: calls to the store above all.
    notes : iterable of str
        What was decided before.

    Raises
    ------
    BudgetError
        If even the smallest block does not fit.
    InputError
        If the outputs are not of one shape.
    """
    grid = common_grid(outputs)
    unit = _common_unit(grid, outputs, layouts)
    blocks = [unit] if grid.size == 0 else _candidates(grid.shape, unit)
    if block is not None:
        blocks = [_whole(block, unit, grid.shape)]
    candidates = [
        (one, cut)
        for one in blocks
        for cut in (_strips(one, unit, grid.spatial) if keep else [one])
    ]
    if strip is not None:
        candidates = list(dict.fromkeys((one, _whole(strip, unit, one)) for one in blocks))
    costing = Costing(
        outputs, layouts, grid, workers=workers, base=base, keep=keep, overhead=overhead
    )
    best = costing.fitting(candidates, budget)
    memory = costing.memory(*best)[0]
    steps = []
    for step in costing.passes(*best):
        if step.grid.shape == grid.shape:
            steps.append(step)
            continue
        named = {str(i): value for i, value in enumerate(step.values)}
        inner = make_plan(
            named, {}, budget=budget, workers=workers, base=base, keep=False, overhead=overhead
        )
        swept = inner.steps[-1]
        steps.append(replace(step, grid=swept.grid, strip=swept.strip, walked=swept.walked))
        memory = max(memory, dict(inner.memory), key=lambda terms: sum(terms.values()))
    read, halo_cost = costing.reading(*best)
    written = [node for step in steps for node in (*step.keeps, *step.images.values())]
    return Plan(
        grid_shape=grid.shape,
        axes=grid.axes,
        block=best[0],
        strip=best[1],
        steps=tuple(steps),
        memory=memory,
        budget=budget,
        workers=workers,
        read_bytes=read,
        written_bytes=sum(node.spec.nbytes for node in written),
        halo_cost=halo_cost,
        outputs={n: node.spec for n, node in outputs.items() if not isinstance(node, Value)},
        notes=(*notes, *costing.decisions(*best)),
    )


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


def common_grid(outputs: Mapping[str, ImageNode | Value]) -> ImageSpec:
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


def _whole(asked: Sequence[int], unit: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return a size rounded up to whole units, within a shape."""
    sides = zip(asked, unit, shape, strict=True)
    return tuple(min(round_up(b, u), round_up(n, u)) for b, u, n in sides)


def _strips(
    block: tuple[int, ...], unit: Sequence[int], spatial: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return strips that a block may be cut in: all of it, or along its first long spatial axis.

    Each holds the same batch indices as the block, whose values are joined strip by strip.
    """
    axis = next((a for a in spatial if block[a] > unit[a]), None)
    if axis is None:
        return [block]
    whole = block[axis] // unit[axis]
    steps = {whole, *(2**k for k in range(whole.bit_length() - 1) if whole % 2**k == 0)}
    return [(*block[:axis], step * unit[axis], *block[axis + 1 :]) for step in sorted(steps)]

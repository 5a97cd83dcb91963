"""The task of a block, and the passes over all blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from chunkfilt.engine.costing import Pass
from chunkfilt.engine.evaluate import (
    Patch,
    chunk_value,
    demand,
    evaluate,
    extract,
    rows_within,
    wanted_runs,
)
from chunkfilt.engine.graph import ImageNode, Node, Source, Value, is_image, substitute
from chunkfilt.engine.values import join_rows, row_numbers, take_rows
from chunkfilt.grid import Blocks, Region
from chunkfilt.kernels.checksum import combine_checksums, image_checksum
from chunkfilt.runtime.executors import Executor
from chunkfilt.runtime.progress import BlockDone, PassStarted, Report, RunStopped
from chunkfilt.runtime.walk import Walk

__all__ = ["BlockTask", "Store", "run_passes"]


class Store(Protocol):
    """Where an image's pixels go."""

    def write(self, region: Region, data: np.ndarray) -> None:
        """Store the pixels of whole write units."""
        ...


@dataclass(frozen=True)
class BlockTask:
    """Compute one block: store the images, return their checksums and the values' partials.

    A task walks its block strip by strip, so that it holds no more than a strip at a time. Tasks
    share nothing and may be run again: the same block gives the same bytes.
    """

    values: Sequence[Value]
    images: Mapping[str, tuple[ImageNode, Store]]
    grid: Blocks
    strip: tuple[int, ...]
    walked: str | None
    known: Mapping[Value, Any]
    summed: frozenset[str]

    def __call__(self, index: int) -> tuple[list[Any], dict[str, int]]:
        """Return one partial for each value, and one checksum for each image."""
        here = self.grid[index]
        strips = Blocks(
            here.shape, tuple(min(s, n) for s, n in zip(self.strip, here.shape, strict=True))
        )
        targets = [*(node for node, _ in self.images.values()), *self.values]
        walk = Walk(demand(wanted_runs(targets, here), self.known)[1], self.walked)
        partials: list[Any] = []
        sums = dict.fromkeys(self.summed, 0)
        for strip in strips:
            found = self._compute(targets, strip.shift(here.start), walk, sums)
            joined = zip(self.values, partials, found, strict=True)
            partials = (
                [value.filter.rules.combine(held, one) for value, held, one in joined]
                if partials
                else found
            )
        return partials, sums

    def _compute(
        self, targets: Sequence[Node], here: Region, walk: Walk, sums: dict[str, int]
    ) -> list[Any]:
        """Store a strip's images, add up their checksums, return the values' partials."""
        patches = evaluate(wanted_runs(targets, here), self.known, walk.read)
        partials = [self._partial(value, here, patches) for value in self.values]
        for name, (node, store) in self.images.items():
            region = node.spec.from_grid(here)
            data = extract(node, patches[node], region)
            store.write(region, data)
            if name in sums:
                own = image_checksum(data, region.start, node.spec.shape)
                sums[name] = combine_checksums(sums[name], own)
        return partials

    def _partial(self, value: Value, here: Region, patches: Mapping[Node, Patch]) -> Any:
        region = value.image.spec.from_grid(here)
        blocks = [
            extract(one, patches[one], region) if is_image(one) else one for one in value.inputs
        ]
        batch = [region.runs[a] for a in value.batch]
        taken = {n: rows_within(one, patches[one], batch) for n, one in value.values.items()}
        if not value.per_batch:
            taken = {n: take_rows(table, np.zeros(1, np.intp)) for n, table in taken.items()}
        return chunk_value(value, blocks, taken)


@dataclass
class _Tables:
    """Partials of one value, combined in the order of the blocks, whatever order they end in."""

    value: Value
    grid: Blocks
    parts: dict[tuple[int, ...], Any] = field(default_factory=dict)
    early: dict[int, Any] = field(default_factory=dict)
    upcoming: int = 0

    def add(self, index: int, partial: Any) -> None:
        self.early[index] = partial
        while self.upcoming in self.early:
            self._combine(self.upcoming, self.early.pop(self.upcoming))
            self.upcoming += 1

    def _combine(self, index: int, partial: Any) -> None:
        region = self.value.image.spec.from_grid(self.grid[index])
        rows: tuple[int, ...] = (0,)
        if self.value.per_batch:
            runs = [region.runs[a] for a in self.value.batch]
            rows = tuple(row_numbers(runs, self.value.batch_shape).tolist())
        held = self.parts.get(rows)
        rule = self.value.filter.rules.combine
        self.parts[rows] = partial if held is None else rule(held, partial)

    def table(self) -> Any:
        """Return the finished value, rows in the order of the batch indices."""
        rows = np.concatenate([np.array(key, dtype=np.intp) for key in self.parts])
        joined = take_rows(join_rows(list(self.parts.values())), np.argsort(rows, kind="stable"))
        final = self.value.filter.rules.finalize
        return joined if final is None else final(joined, self.value.resolved)


def run_passes(
    passes: Sequence[Pass],
    stores: Mapping[str, Store],
    executor: Executor,
    report: Report,
    *,
    known: Mapping[Value, Any] | None = None,
    keep: Callable[[ImageNode, Sequence[int]], Any] | None = None,
    checksum: bool = True,
) -> tuple[dict[Value, Any], dict[str, int]]:
    """Carry out passes one after the other.

    Parameters
    ----------
    stores : mapping
        Where each image of the passes goes, by name.
    known : mapping, optional
        Values found before; a pass for nothing else is left out.
    keep : callable, optional
        ``keep(node, strip)`` makes a place that an intermediate is written to and read from.
    checksum : bool
        Whether to add up the images' checksums.

    Returns
    -------
    values, checksums : dict, dict
    """
    found = dict(known or {})
    totals: dict[str, int] = {}
    swap: dict[Node, Node] = {}
    later = [node for step in passes for node in step.targets]
    for number, step in enumerate(passes, 1):
        values = [value for value in step.values if value not in found]
        if not (values or step.images or step.keeps):
            continue
        kept = {
            f"keep {i}": (node, keep(node, step.strip))
            for i, node in enumerate(step.keeps)
            if keep is not None
        }
        images: dict[str, tuple[Any, Store]] = {
            name: (swap.get(node, node), stores[name]) for name, node in step.images.items()
        }
        task = BlockTask(
            [_as(value, swap) for value in values],
            {**images, **kept},
            step.grid,
            step.strip,
            step.walked,
            {_as(value, swap): table for value, table in found.items()},
            frozenset(images) if checksum else frozenset(),
        )
        totals |= dict.fromkeys(images, 0)
        tables = [_Tables(value, step.grid) for value in values]
        count = _counter(report, PassStarted(number, len(passes), step.names, len(step.grid)))
        try:
            for index, (partials, sums) in executor.execute(task, len(step.grid)):
                for table, partial in zip(tables, partials, strict=True):
                    table.add(index, partial)
                for name, total in sums.items():
                    totals[name] = combine_checksums(totals[name], total)
                count(step.grid[index].size)
        except BaseException as error:
            report(RunStopped(str(error) or type(error).__name__))
            raise
        found.update({value: t.table() for value, t in zip(values, tables, strict=True)})
        if kept:
            sources: dict[Node, Node] = {n: Source(n.spec, store) for n, store in kept.values()}
            swap = substitute(later, sources)
    return found, totals


def _as(value: Value, swap: Mapping[Node, Node]) -> Value:
    """Return a value as it stands once intermediates are kept."""
    now = swap.get(value, value)
    assert isinstance(now, Value)
    return now


def _counter(report: Report, started: PassStarted) -> Callable[[int], None]:
    """Announce a pass; return what counts its blocks."""
    report(started)
    since = time.perf_counter()
    done = [0, 0]

    def count(pixels: int) -> None:
        done[0] += 1
        done[1] += pixels
        report(BlockDone(done[0], started.blocks, done[1], time.perf_counter() - since))

    return count

"""The two tasks of a pass, and the passes themselves: values first, then images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from chunkfilt.engine.evaluate import Patch, chunk_value, evaluate, extract
from chunkfilt.engine.graph import ImageNode, Node, Value, behind, is_image
from chunkfilt.engine.plan import Sweep
from chunkfilt.engine.values import join_rows, row_numbers, take_rows
from chunkfilt.grid import Blocks, Region, Runs
from chunkfilt.kernels.checksum import combine_checksums, image_checksum
from chunkfilt.runtime.executors import Executor
from chunkfilt.runtime.progress import BlockDone, PassStarted, Report

__all__ = ["Begin", "Writer", "reporter", "sweep_images", "sweep_values"]

# Announces a pass by what it computes and its number of blocks; gives what counts the blocks.
Begin = Callable[[Sequence[str], int], Callable[[int], None]]


class Writer(Protocol):
    """Where an output's pixels go."""

    def write(self, region: Region, data: np.ndarray) -> None:
        """Store the pixels of whole write units."""
        ...


@dataclass(frozen=True)
class ImageTask:
    """Compute one block of every output, store it, return its checksums."""

    outputs: Mapping[str, tuple[ImageNode, Writer]]
    grid: Blocks
    known: Mapping[Value, Any] = field(default_factory=dict)
    checksum: bool = True

    def __call__(self, index: int) -> dict[str, int]:
        """Return the checksum of the block for each output."""
        here = self.grid[index]
        wanted: dict[Node, Sequence[Runs]] = {
            node: node.spec.from_grid(here).runs for node, _ in self.outputs.values()
        }
        patches = evaluate(wanted, self.known)
        sums = {}
        for name, (node, writer) in self.outputs.items():
            region = node.spec.from_grid(here)
            data = extract(node, patches[node], region)
            writer.write(region, data)
            sums[name] = image_checksum(data, region.start, node.spec.shape) if self.checksum else 0
        return sums


@dataclass(frozen=True)
class ValueTask:
    """Compute one block's partials of the values of a pass."""

    values: Sequence[Value]
    grid: Blocks
    known: Mapping[Value, Any]

    def __call__(self, index: int) -> list[Any]:
        """Return one partial for each value."""
        here = self.grid[index]
        wanted: dict[Node, Sequence[Runs]] = {}
        for value in self.values:
            runs = value.image.spec.from_grid(here).runs
            for one in behind(value):
                wanted[one] = [runs[a] for a in value.batch] if isinstance(one, Value) else runs
        patches = evaluate(wanted, self.known)
        return [self._partial(value, here, patches) for value in self.values]

    def _partial(self, value: Value, here: Region, patches: Mapping[Node, Patch]) -> Any:
        region = value.image.spec.from_grid(here)
        blocks = [
            extract(one, patches[one], region) if is_image(one) else one for one in value.inputs
        ]
        taken = {name: patches[one].data for name, one in value.values.items()}
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
        rows = (0,)
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


def sweep_values(
    sweeps: Iterable[Sweep],
    executor: Executor,
    begin: Begin,
    known: Mapping[Value, Any] | None = None,
) -> dict[Value, Any]:
    """Compute whole-image values, one pass for each level of them."""
    found: dict[Value, Any] = dict(known or {})
    for sweep in sweeps:
        values = [value for value in sweep.values if value not in found]
        grid = sweep.grid
        if not values:
            continue
        step = begin([value.filter.name for value in values], len(grid))
        tables = [_Tables(value, grid) for value in values]
        for index, partials in executor.execute(ValueTask(values, grid, dict(found)), len(grid)):
            for table, partial in zip(tables, partials, strict=True):
                table.add(index, partial)
            step(grid[index].size)
        found.update({value: t.table() for value, t in zip(values, tables, strict=True)})
    return found


def sweep_images(
    outputs: Mapping[str, tuple[ImageNode, Writer]],
    grid: Blocks,
    executor: Executor,
    begin: Begin,
    known: Mapping[Value, Any],
    *,
    checksum: bool = True,
) -> dict[str, int]:
    """Compute and store every block of every output; return the images' checksums."""
    step = begin([f"write {name or 'image'}" for name in outputs], len(grid))
    totals = dict.fromkeys(outputs, 0)
    task = ImageTask(outputs, grid, known, checksum)
    for index, sums in executor.execute(task, len(grid)):
        for name, one in sums.items():
            totals[name] = combine_checksums(totals[name], one)
        step(grid[index].size)
    return totals


def reporter(report: Report, passes: int) -> Begin:
    """Return the function that announces a pass and gives the one that counts its blocks."""
    number = [0]

    def begin(computes: Sequence[str], blocks: int) -> Callable[[int], None]:
        number[0] += 1
        report(PassStarted(number[0], passes, tuple(computes), blocks))
        started = time.perf_counter()
        done = [0, 0]

        def step(size: int) -> None:
            done[0] += 1
            done[1] += size
            report(BlockDone(done[0], blocks, done[1], time.perf_counter() - started))

        return step

    return begin

"""The passes over all blocks: what is left to do, what is tried again, what is recorded."""

from __future__ import annotations

import contextlib
import errno
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.engine.costing import Pass
from chunkfilt.engine.graph import ImageNode, Node, Source, Value, substitute
from chunkfilt.engine.values import join_rows, row_numbers, take_rows
from chunkfilt.errors import InputError, MissingDependency, RunError, StoppedError
from chunkfilt.grid import Blocks, Region
from chunkfilt.kernels.checksum import combine_checksums
from chunkfilt.runtime.executors import Executor, Failed
from chunkfilt.runtime.ledger import PassLedger
from chunkfilt.runtime.progress import BlockDone, BlockFailed, PassStarted, Report, RunStopped
from chunkfilt.runtime.tasks import BlockTask, Store, TaskResult
from chunkfilt.storage.units import OutputArray

__all__ = ["Keep", "run_passes"]

# How often a block is tried, and how many that failed are named.
ATTEMPTS, _NAMED = 3, 5
# What no other block will fare better with.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# A pass' number, and how many there are.
Order = tuple[int, int]
Keep = Callable[[str, ImageNode, Sequence[int]], OutputArray]


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

    def state(self) -> list[Any]:
        """Return what is combined so far, as plain data and tables."""
        return [[list(rows), part] for rows, part in self.parts.items()]

    def restore(self, state: list[Any], upcoming: int) -> None:
        """Go on from what `state` gave."""
        self.parts = {tuple(rows): part for rows, part in state}
        self.upcoming = upcoming

    def table(self) -> Any:
        """Return the finished value, rows in the order of the batch indices."""
        rows = np.concatenate([np.array(key, dtype=np.intp) for key in self.parts])
        joined = take_rows(join_rows(list(self.parts.values())), np.argsort(rows, kind="stable"))
        final = self.value.filter.rules.finalize
        return joined if final is None else final(joined, self.value.resolved)


class _Queue:
    """Blocks to be computed: those that failed come back after the others that are under way."""

    def __init__(self, blocks: Iterator[int]) -> None:
        self._blocks, self.again = blocks, deque[int]()

    def __iter__(self) -> _Queue:
        return self

    def __next__(self) -> int:
        return self.again.popleft() if self.again else next(self._blocks)


class _Sweep:
    """One pass under way."""

    def __init__(self, step: Pass, values: Sequence[Value], ledger: PassLedger | None) -> None:
        self.step, self.ledger, self._count = step, ledger, len(step.grid)
        self.tables = [_Tables(value, step.grid) for value in values]
        self.failed: dict[int, BaseException] = {}
        self.sums = dict.fromkeys(step.images, 0)
        if ledger is not None:
            self.sums |= ledger.sums
            if ledger.state is not None:
                for table, held in zip(self.tables, ledger.state["tables"], strict=True):
                    table.restore(held, ledger.upcoming)

    def run(self, task: BlockTask, executor: Executor, report: Report, order: Order) -> None:
        """Compute the blocks that are not done.

        Raises
        ------
        StoppedError
            If blocks failed, again and again, once all others have ended.
        """
        grid, done = self.step.grid, None if self.ledger is None else self.ledger.done
        resumed = 0 if done is None else done.count(1)
        report(PassStarted(*order, self.step.names, self._count, resumed, executor.workers))
        if resumed == self._count:
            return
        queue = _Queue(i for i in range(self._count) if done is None or not done[i])
        tries: Counter[int] = Counter()
        progress = BlockDone(resumed, self._count, resumed=resumed)
        began = time.perf_counter()
        with contextlib.closing(executor.execute(task, queue)) as ended:  # type: ignore[type-var]
            for index, found in ended:
                if isinstance(found, Failed):
                    tries[index] += 1
                    if self._again(index, found.error, tries[index]):
                        queue.again.append(index)
                        continue
                    report(BlockFailed(index, _place(grid[index]), _cause(found.error)))
                else:
                    self._record(index, found)
                    pixels, peak = (
                        progress.pixels + grid[index].size,
                        max(progress.peak, found.peak),
                    )
                    progress = replace(progress, done=progress.done + 1, pixels=pixels, peak=peak)
                passed = time.perf_counter() - began
                rate = progress.pixels / max(passed, 1e-9) / 1e6
                progress = replace(
                    progress,
                    seconds=passed,
                    mpx_per_s=rate,
                    failed=len(self.failed),
                    workers=executor.workers,
                )
                report(progress)
        if self.failed:
            raise StoppedError(self._told())

    def save(self, now: bool = True) -> None:
        """Write down what is found of values, and put the records on the disk."""
        if self.ledger is None:
            return
        if self.tables:
            upcoming = self.tables[0].upcoming
            self.ledger.save_values(
                lambda: {"upcoming": upcoming, "tables": [one.state() for one in self.tables]}, now
            )
        if now:
            self.ledger.close()

    def _record(self, index: int, found: TaskResult) -> None:
        for table, partial in zip(self.tables, found.partials, strict=True):
            table.add(index, partial)
        for name in self.sums:
            own = [unit.checksum for unit in found.units[name]]
            self.sums[name] = combine_checksums(self.sums[name], *own)
        if self.ledger is not None:
            self.ledger.record(index, found.units)
            self.save(now=False)

    def _again(self, index: int, error: BaseException, tries: int) -> bool:
        """Return whether to try a block once more; stop where that leads nowhere."""
        if self.ledger is None or isinstance(error, InputError | MissingDependency):
            raise error
        if _no_room(error):
            raise StoppedError(str(error)) from error
        if tries < ATTEMPTS:
            return True
        self.failed[index] = error
        if self.tables:
            # Without its part there is no value; what is found of it before is recorded.
            raise StoppedError(self._told()) from error
        return False

    def _told(self) -> str:
        few = list(self.failed.items())[:_NAMED]
        first = [f"block {i} ({_place(self.step.grid[i])}): {_cause(error)}" for i, error in few]
        more = f"; and {len(self.failed) - _NAMED} more" if len(self.failed) > _NAMED else ""
        blocks = f"{len(self.failed)} of {self._count} blocks failed, {ATTEMPTS} times each"
        return f"{blocks}: {'; '.join(first)}{more}"


def run_passes(
    passes: Sequence[Pass],
    stores: Mapping[str, Store],
    executor: Executor,
    report: Report,
    *,
    known: Mapping[Value, Any] | None = None,
    keep: Keep | None = None,
    ledger: Path | None = None,
) -> tuple[dict[Value, Any], dict[str, int]]:
    """Carry out passes one after the other.

    Parameters
    ----------
    stores : mapping
        Where each image of the passes goes, by name.
    known : mapping, optional
        Values found before; a pass for nothing else is left out.
    keep : callable, optional
        ``keep(name, node, strip)`` makes a place that an intermediate is written to and read from,
        or opens the one that is there.
    ledger : Path, optional
        The folder of the records: what is done already is not done again, and what is done is
        recorded. Without it the first block that fails ends the run.

    Returns
    -------
    values, checksums : dict, dict
        The checksums of the images that `stores` tells the units of.

    Raises
    ------
    StoppedError
        If blocks failed, again and again; all others are stored and recorded.
    """
    found = dict(known or {})
    totals: dict[str, int] = {}
    swap: dict[Node, Node] = {}
    later = [node for step in passes for node in step.targets]
    last = _last_ledger(passes, stores, ledger)
    spared = last is not None and last.complete
    for number, step in enumerate(passes, 1):
        values = [value for value in step.values if value not in found]
        # Nothing is read from an intermediate any more once all is written.
        keeps = () if keep is None or spared else step.keeps
        if not (values or step.images or keeps):
            continue
        kept = {
            f"keep {number}-{i}": (node, keep(f"{number}-{i}", node, step.strip))
            for i, node in enumerate(keeps)
            if keep is not None
        }
        images: dict[str, tuple[Any, Store]] = {
            name: (swap.get(node, node), stores[name]) for name, node in step.images.items()
        }
        own = None
        if ledger is not None:
            placed: dict[str, Any] = {name: store for name, (_, store) in (images | kept).items()}
            own = last if step is passes[-1] and last else None
            # What is found of values holds whether or not an intermediate is kept beside.
            own = own or PassLedger(ledger, number, replace(step, keeps=()), placed)
        task = BlockTask(
            [_as(value, swap) for value in values],
            images | kept,
            step.grid,
            step.strip,
            step.walked,
            {_as(value, swap): table for value, table in found.items()},
        )
        sweep = _Sweep(step, values, own)
        try:
            sweep.run(task, executor, report, (number, len(passes)))
        except BaseException as error:
            report(RunStopped(str(error) or type(error).__name__))
            raise
        finally:
            sweep.save()
        totals |= sweep.sums
        found.update({one.value: one.table() for one in sweep.tables})
        if kept:
            sources: dict[Node, Node] = {
                node: Source(node.spec, store.image) for node, store in kept.values()
            }
            swap = substitute(later, sources)
    return found, totals


def _last_ledger(
    passes: Sequence[Pass], stores: Mapping[str, Store], ledger: Path | None
) -> PassLedger | None:
    """Return the records of the last pass, where it does nothing but write images."""
    if ledger is None or not passes or passes[-1].values or not passes[-1].images:
        return None
    placed: dict[str, Any] = {name: stores[name] for name in passes[-1].images}
    return PassLedger(ledger, len(passes), passes[-1], placed)


def _as(value: Value, swap: Mapping[Node, Node]) -> Value:
    """Return a value as it stands once intermediates are kept."""
    now = swap.get(value, value)
    assert isinstance(now, Value)
    return now


def _place(region: Region) -> str:
    return ", ".join(f"{a}:{b}" for a, b in zip(region.start, region.stop, strict=True))


def _cause(error: BaseException) -> str:
    if isinstance(error, RunError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _no_room(error: BaseException) -> bool:
    """Return whether a disk is full or may not be written to."""
    held: BaseException | None = error
    while held is not None:
        if isinstance(held, OSError) and held.errno in _NO_ROOM:
            return True
        held = held.__cause__
    return False

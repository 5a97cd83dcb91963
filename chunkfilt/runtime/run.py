"""A run from store to store, and the same in memory."""

from __future__ import annotations

import itertools
import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.engine.costing import kept_chunks
from chunkfilt.engine.graph import ImageNode, Value, topological
from chunkfilt.engine.plan import MEMORY_OVERHEAD, Layout, Plan, common_grid, make_plan
from chunkfilt.engine.values import lay_rows
from chunkfilt.errors import InputError, RunError
from chunkfilt.grid import ImageSpec, Region
from chunkfilt.kernels.checksum import format_checksum
from chunkfilt.runtime import provenance
from chunkfilt.runtime.executors import SCHEDULERS, Executor, available_cores, make_executor
from chunkfilt.runtime.layout import OutputOptions, layout_of
from chunkfilt.runtime.progress import Report, RunFinished, silent
from chunkfilt.runtime.tables import value_document, write_table
from chunkfilt.runtime.tasks import run_passes
from chunkfilt.runtime.warm import compiling_told, load_kernels
from chunkfilt.storage.zarr_output import (
    ArrayLayout,
    check_output_path,
    create_output,
    remove_output,
    run_folder,
    write_attributes,
)
from chunkfilt.storage.zarr_store import ZarrImage

__all__ = [
    "RunOptions",
    "RunResult",
    "compute",
    "plan_in_memory",
    "plan_run",
    "run",
    "values_of",
]

DEFAULT_MEMORY = 2 << 30
_SMALL_JSON = 64 * 1024
# Pixels of an image in memory that is cut into blocks without much thought, and of a block.
_SOON_DONE, _LEAST_BLOCK = 1 << 24, 1 << 18
# What kernels from the cache, codecs and zarr's event loop add when they are first used (measured:
# 20 MiB, and some 80 MiB that codecs and the allocator hold). Compiling, once on a machine, takes
# some 150 MiB more.
_LOADED_LATER = 112 << 20


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; the pixels do not depend on it."""

    scheduler: str = "threads"
    address: str | None = None
    workers: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            message = f"scheduler must be one of {', '.join(SCHEDULERS)}, got {self.scheduler!r}"
            raise InputError(message)
        if self.address is not None and self.scheduler != "distributed":
            message = f"address goes with scheduler: distributed, got scheduler: {self.scheduler}"
            raise InputError(message)
        if self.workers is not None and self.workers < 1:
            message = f"workers must be >= 1, got {self.workers}"
            raise InputError(message)

    @property
    def budget(self) -> int:
        """Bytes one process may use; default 2 GiB, more in one that holds much already."""
        return self.memory or max(DEFAULT_MEMORY, process_memory() + DEFAULT_MEMORY // 2)

    @property
    def tasks(self) -> int:
        """Tasks at the same time, over all processes."""
        return 1 if self.scheduler == "serial" else self.workers or available_cores()

    @property
    def tasks_per_process(self) -> int:
        """Tasks that share one process and its memory."""
        return self.tasks if self.scheduler == "threads" else 1


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    path: Path
    plan: Plan
    checksums: Mapping[str, str]
    seconds: float
    values: Mapping[str, Any] = field(default_factory=dict)


def plan_run(
    outputs: Mapping[str, ImageNode | Value],
    output: OutputOptions | None = None,
    options: RunOptions | None = None,
    *,
    workers: int | None = None,
) -> tuple[Plan, dict[str, ArrayLayout]]:
    """Return the plan of a run and the layout of its output arrays; nothing is computed.

    `workers` is the number of tasks that share a process, where a cluster has told it.

    Raises
    ------
    InputError
        If the outputs or the storage options do not go together, or the budget is too small.
    """
    output, options = output or OutputOptions(), options or RunOptions()
    layouts: dict[str, ArrayLayout] = {}
    notes: list[str] = []
    for name, node in outputs.items():
        if not isinstance(node, Value):
            layouts[name], note = layout_of(node, output)
            notes += [note] if note else []
    cut = {
        name: Layout(
            one.spec,
            tuple(one.unit[a] for a in one.spec.grid),
            int(np.prod(one.unit)) * one.spec.dtype.itemsize,
        )
        for name, one in layouts.items()
    }
    plan = make_plan(
        outputs,
        cut,
        budget=options.budget,
        workers=workers or options.tasks_per_process,
        base=process_memory() + _LOADED_LATER,
        notes=dict.fromkeys(notes),
    )
    return plan, layouts


def run(
    outputs: Mapping[str, ImageNode | Value],
    path: str | Path,
    *,
    group: bool,
    output: OutputOptions | None = None,
    options: RunOptions | None = None,
    document: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> RunResult:
    """Compute the outputs block by block and store them.

    Parameters
    ----------
    outputs : mapping
        Nodes by name; with `group` false, exactly one.
    path : path
        The output; every check comes before anything at this path is touched.
    group : bool
        A group with one array per name, rather than one array.
    document : mapping, optional
        The job as it stands in YAML; recorded with the output.
    report : callable
        Receives the progress events.

    Raises
    ------
    InputError
        If something is wrong before the run; nothing has been touched then.
    RunError
        If a block fails; the output stays, marked unfinished.
    """
    output, options = output or OutputOptions(), options or RunOptions()
    started = time.perf_counter()
    place = check_run(outputs, path, output)
    with _executor(options) as executor, compiling_told(report):
        plan, layouts = plan_run(outputs, output, options, workers=executor.tasks_per_process)
        if plan.blocks and options.scheduler != "distributed":
            load_kernels(outputs)
        if any(isinstance(node, Value) for node in outputs.values()):
            _refuse_empty(plan)
        try:
            remove_output(place)
            record = provenance.record(outputs, value_document(document))
            arrays = create_output(place, layouts, group=group, attributes={"chunkfilt": record})
            _write_run(place, plan, record, {})
            steps = plan.steps if plan.blocks else ()
            found, checksums = run_passes(steps, arrays, executor, report, keep=_keeper(place))
            texts = {name: format_checksum(checksums.get(name, 0)) for name in layouts}
            tables = _store_values(place, outputs, found)
            record |= {"finished": True, "checksums": texts, **tables}
            seconds = time.perf_counter() - started
            _write_run(place, plan, record, {"seconds": round(seconds, 3), **provenance.machine()})
            write_attributes(place, {"chunkfilt": record})
        except Exception as error:
            raise _stopped(error, place) from error
        finally:
            shutil.rmtree(run_folder(place) / "intermediate", ignore_errors=True)
    report(RunFinished(str(path), seconds, texts))
    return RunResult(place, plan, texts, seconds, tables.get("values", {}))


def check_run(
    outputs: Mapping[str, ImageNode | Value], path: str | Path, output: OutputOptions
) -> Path:
    """Return where a run may write; see `check_output_path` for what is refused."""
    inputs = [source.path for source in input_images(outputs)]
    return check_output_path(path, inputs, overwrite=output.overwrite)


def compute(
    outputs: Mapping[str, ImageNode],
    *,
    known: Mapping[Value, Any] | None = None,
    options: RunOptions | None = None,
    report: Report = silent,
) -> tuple[dict[str, np.ndarray], dict[Value, Any]]:
    """Compute images in memory, on all cores; also return the values they took."""
    results = {name: np.empty(n.spec.shape, n.spec.dtype) for name, n in outputs.items()}
    options = options or RunOptions()
    found = dict(known or {})
    if all(result.size for result in results.values()):
        plan = plan_in_memory(outputs, options)
        stores = {name: ArrayStore(result) for name, result in results.items()}
        with _executor(options) as executor:
            found, _ = run_passes(plan.steps, stores, executor, report, known=found, checksum=False)
    return results, found


def values_of(
    outputs: Sequence[Value],
    *,
    known: Mapping[Value, Any] | None = None,
    options: RunOptions | None = None,
    report: Report = silent,
) -> dict[Value, Any]:
    """Compute whole-image values, and those they depend on."""
    options = options or RunOptions()
    plan = plan_in_memory({str(i): node for i, node in enumerate(outputs)}, options)
    _refuse_empty(plan)
    with _executor(options) as executor:
        return run_passes(plan.steps, {}, executor, report, known=known)[0]


@dataclass(frozen=True)
class ArrayStore:
    """Keeps blocks in an array in memory."""

    array: np.ndarray

    def write(self, region: Region, data: np.ndarray) -> None:
        """Store the pixels of a region."""
        self.array[region.slices] = data


def input_images(outputs: Mapping[str, ImageNode | Value]) -> list[ZarrImage]:
    """Return the stored images that outputs are computed from."""
    readers = (getattr(node, "reader", None) for node in topological(outputs.values()))
    return [reader for reader in readers if isinstance(reader, ZarrImage)]


def process_memory() -> int:
    """Return the bytes this process occupies now: the interpreter's and libraries' share."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _executor(options: RunOptions) -> Iterator[Executor]:
    executor = make_executor(options.scheduler, options.tasks, options.address, options.budget)
    try:
        yield executor
    finally:
        executor.close()


def _keeper(place: Path) -> Callable[[ImageNode, Sequence[int]], ZarrImage]:
    """Return what makes intermediates: uncompressed arrays in the run's folder."""
    count = itertools.count()

    def keep(node: ImageNode, strip: Sequence[int]) -> ZarrImage:
        folder = run_folder(place) / "intermediate" / f"{next(count)}.zarr"
        layout = ArrayLayout(node.spec, kept_chunks(node.spec, strip), None, None)
        return create_output(folder, {"": layout}, group=False, attributes={})[""]

    return keep


def plan_in_memory(outputs: Mapping[str, ImageNode | Value], options: RunOptions) -> Plan:
    """Plan work in memory: the budget is what it takes, the unit a small tile.

    To look for the best block takes longer than to filter a small image; that is cut into a few.
    """
    grid = common_grid(outputs)
    block = _parts(grid, options.tasks) if 0 < grid.size <= _SOON_DONE else None
    layouts = {}
    for name, node in outputs.items():
        if not isinstance(node, Value):
            unit = tuple(
                min(64, max(node.spec.shape[a], 1)) if a in node.spec.spatial else 1
                for a in node.spec.grid
            )
            layouts[name] = Layout(node.spec, unit, 0)
    return make_plan(
        outputs,
        layouts,
        budget=1 << 62,
        workers=options.tasks,
        base=process_memory(),
        block=block,
        strip=block,
        keep=False,
        overhead=MEMORY_OVERHEAD,
    )


def _parts(grid: ImageSpec, workers: int) -> list[int]:
    """Return a block of which an image has at least two for each worker; batch axes go first."""
    block = [max(n, 1) for n in grid.shape]
    most = grid.size if workers == 1 else grid.size // (2 * workers)
    while math.prod(block) > max(most, _LEAST_BLOCK):
        axis = max(range(len(block)), key=lambda a: (block[a] > 1, a not in grid.spatial, block[a]))
        block[axis] = -(-block[axis] // 2)
    return block


def _refuse_empty(plan: Plan) -> None:
    if not plan.blocks:
        names = ", ".join(name for sweep in plan.passes for name in sweep)
        message = f"{names}: an image without pixels has no value"
        raise InputError(message)


def _store_values(
    place: Path, outputs: Mapping[str, ImageNode | Value], found: Mapping[Value, Any]
) -> dict[str, Any]:
    """Store values: in the attributes where they are small, as tables beside the arrays if not."""
    small: dict[str, Any] = {}
    tables: dict[str, str] = {}
    for name, node in outputs.items():
        if isinstance(node, Value):
            written = value_document(lay_rows(found[node], node.table_shape))
            if len(json.dumps(written)) <= _SMALL_JSON:
                small[name] = written
            else:
                tables[name] = write_table(place, name, found[node])
    stored = {"values": small, "tables": tables}
    return {key: held for key, held in stored.items() if held}


def _write_run(
    place: Path, plan: Plan, record: Mapping[str, Any], times: Mapping[str, Any]
) -> None:
    folder = run_folder(place)
    folder.mkdir(exist_ok=True)
    text = json.dumps({**record, "plan": plan.as_dict(), "run": times}, indent=2)
    temporary = folder / "run.json.partial"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "run.json")


def _stopped(error: Exception, place: Path) -> RunError:
    what = str(error) or type(error).__name__
    return RunError(f"{what}; {place} stays, marked unfinished")

"""Graphs over images in memory: the same passes, without a store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chunkfilt.engine.graph import Filtered, ImageNode, Value, topological
from chunkfilt.engine.plan import MEMORY_OVERHEAD, Layout, Plan, common_grid, make_plan
from chunkfilt.grid import ImageSpec
from chunkfilt.kernels.checksum import format_checksum
from chunkfilt.runtime.machine import process_memory
from chunkfilt.runtime.options import RunOptions, open_executor
from chunkfilt.runtime.passes import run_passes
from chunkfilt.runtime.progress import Report, silent
from chunkfilt.runtime.run import plan_run
from chunkfilt.runtime.tables import recorded_values
from chunkfilt.runtime.tasks import ArrayStore, NoStore

__all__ = ["compute", "plan_in_memory", "results_of", "values_of"]

# Pixels of an image in memory that is cut into blocks without much thought, and of a block.
_SOON_DONE, _LEAST_BLOCK = 1 << 24, 1 << 18
# Bytes of a strip of one; its rows at least, and how many times the halo those must be.
_STRIP, _LEAST_ROWS, _HALOS = 4 << 20, 64, 2


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
        with open_executor(options) as executor:
            found, _ = run_passes(plan.steps, stores, executor, report, known=found)
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
    plan.refuse_empty()
    with open_executor(options) as executor:
        return run_passes(plan.steps, {}, executor, report, known=known)[0]


def results_of(
    outputs: Mapping[str, ImageNode | Value], options: RunOptions, report: Report = silent
) -> dict[str, dict[str, Any]]:
    """Compute a run's outputs and keep nothing but what is recorded of their pixels and values."""
    with open_executor(options) as executor:
        plan, layouts = plan_run(
            outputs, options=options, workers=executor.tasks_per_process, keep=False
        )
        stores = {name: NoStore(layout.spec) for name, layout in layouts.items()}
        found, sums = run_passes(plan.steps if plan.blocks else (), stores, executor, report)
    texts = {name: format_checksum(sums.get(name, 0)) for name in layouts}
    return {"checksums": texts, **recorded_values(outputs, found)}


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
        strip=None if block is None else _strip(block, grid, outputs),
        keep=False,
        overhead=MEMORY_OVERHEAD,
    )


def _strip(
    block: Sequence[int], grid: ImageSpec, outputs: Mapping[str, ImageNode | Value]
) -> list[int]:
    """Return a strip of a block whose pixels, and what is made of them, stay in a core's cache.

    It is several times as high as the halo, which is computed again for each.
    """
    axis = next((a for a in grid.spatial if block[a] > 1), None)
    if axis is None:
        return list(block)
    nodes = [node for node in topological(outputs.values()) if isinstance(node, Filtered)]
    halo = max((sum(map(sum, node.halo)) for node in nodes), default=0)
    strip = list(block)
    widest = max((node.spec.dtype.itemsize for node in nodes), default=1)
    rows = _STRIP // (math.prod(block) // block[axis] * widest)
    strip[axis] = min(block[axis], max(rows, _LEAST_ROWS, _HALOS * halo))
    return strip


def _parts(grid: ImageSpec, workers: int) -> list[int]:
    """Return a block of which an image has at least two for each worker; batch axes go first."""
    block = [max(n, 1) for n in grid.shape]
    most = grid.size if workers == 1 else grid.size // (2 * workers)
    while math.prod(block) > max(most, _LEAST_BLOCK):
        axis = max(range(len(block)), key=lambda a: (block[a] > 1, a not in grid.spatial, block[a]))
        block[axis] = -(-block[axis] // 2)
    return block

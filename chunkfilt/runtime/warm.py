"""Kernels ready before the first block: loaded from the disk's cache, or compiled, and told so."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba.core import event

from chunkfilt.engine.graph import Filtered, ImageNode, Node, Source, Value, substitute, topological
from chunkfilt.engine.plan import Layout, common_grid, make_plan
from chunkfilt.grid import Blocks, ImageSpec, Region
from chunkfilt.kernels.unit_checksums import unit_checksums
from chunkfilt.runtime.executors import LocalExecutor
from chunkfilt.runtime.passes import run_passes
from chunkfilt.runtime.progress import CompileStarted, Report, silent

__all__ = ["compiling_told", "load_kernels"]


@contextlib.contextmanager
def compiling_told(report: Report) -> Iterator[None]:
    """Report the first time something is compiled: on a machine's first run with a filter."""
    listener = _Listener(report)
    with event.install_listener("numba:compile", listener):
        yield


def load_kernels(outputs: Mapping[str, ImageNode | Value]) -> None:
    """Compute one pixel of an image of zeros, so that every kernel is compiled and loaded.

    Nothing is done where a filter, or a function that one is given, is not our own: what it does
    with zeros is not for us to try.
    """
    order = topological(outputs.values())
    bound = [node for node in order if isinstance(node, Filtered | Value)]
    if any(not one.filter.function.__module__.startswith("chunkfilt.") for one in bound):
        return
    if any(callable(given) for one in bound for given in one.params.values()):
        return
    blank: dict[Node, Node] = {
        node: Source(node.spec, _Blank(node.spec)) for node in order if isinstance(node, Source)
    }
    swap = substitute(outputs.values(), blank)
    nodes: dict[str, Any] = {name: swap.get(node, node) for name, node in outputs.items()}
    layouts = {
        name: Layout(node.spec, (1,) * len(node.spec.grid), 0)
        for name, node in nodes.items()
        if not isinstance(node, Value)
    }
    stores = {name: _Blank(layout.spec) for name, layout in layouts.items()}
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        # An image of zeros may be refused (no two levels, say): the run tells of its own image.
        warnings.simplefilter("ignore")
        # Blocks are those of one pixel, below: here they only need not be chosen, which takes time.
        shape = common_grid(nodes).shape
        halves = [-(-n // 2) for n in shape]
        plan = make_plan(
            nodes, layouts, budget=1 << 62, workers=1, base=0, block=shape, strip=halves, keep=False
        )
        steps = [_first_pixel(step) for step in plan.steps]
        run_passes(steps, stores, _Once(), silent)


def _first_pixel(step: Any) -> Any:
    one = (1,) * len(step.grid.shape)
    return replace(step, grid=Blocks(step.grid.shape, one), strip=one, walked=None)


class _Listener(event.Listener):  # type: ignore[misc]
    """Reports the first of numba's compilations."""

    def __init__(self, report: Report) -> None:
        self._report: Callable[[], None] | None = lambda: report(CompileStarted())

    def on_start(self, event: Any) -> None:
        """Report, once."""
        report, self._report = self._report, None
        if report is not None:
            report()

    def on_end(self, event: Any) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _Blank:
    """An image of zeros, which keeps nothing of what is written to it."""

    spec: ImageSpec

    def read(self, region: Region) -> np.ndarray:
        return np.zeros(region.shape, self.spec.dtype)

    def write(self, region: Region, data: np.ndarray) -> tuple[()]:
        unit_checksums(data, region.start, self.spec.shape, (1,) * self.spec.ndim)
        return ()


class _Once(LocalExecutor):
    """An executor that computes the first block alone."""

    workers = tasks_per_process = 1

    def execute(
        self, task: Callable[[int], Any], indices: Iterator[int]
    ) -> Iterator[tuple[int, Any]]:
        yield 0, task(next(indices))

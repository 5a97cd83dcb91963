"""The task of a block: what runs on a thread, in a process, on a machine of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from chunkfilt.engine.evaluate import (
    Patch,
    chunk_value,
    demand,
    evaluate,
    extract,
    rows_within,
    wanted_runs,
)
from chunkfilt.engine.graph import ImageNode, Node, Value, is_image
from chunkfilt.engine.values import take_rows
from chunkfilt.grid import Blocks, ImageSpec, Region
from chunkfilt.kernels.checksum import image_checksum
from chunkfilt.runtime.machine import peak_memory
from chunkfilt.runtime.stopping import stop_requested
from chunkfilt.runtime.walk import Walk
from chunkfilt.storage.units import Unit

__all__ = ["ArrayStore", "TaskResult", "BlockTask", "NoStore", "Store"]


class Store(Protocol):
    """Where an image's pixels go."""

    def write(self, region: Region, data: np.ndarray) -> Sequence[Unit]:
        """Store the pixels of whole write units, and return those."""
        ...


@dataclass(frozen=True)
class ArrayStore:
    """Keeps blocks in an array in memory."""

    array: np.ndarray

    def write(self, region: Region, data: np.ndarray) -> tuple[()]:
        """Store the pixels of a region."""
        self.array[region.slices] = data
        return ()


@dataclass(frozen=True)
class NoStore:
    """Keeps nothing but the checksum."""

    spec: ImageSpec

    def write(self, region: Region, data: np.ndarray) -> tuple[Unit]:
        """Return the pixels of a region as one unit that has no file."""
        return (Unit(0, image_checksum(data, region.start, self.spec.shape), None),)


class TaskResult(NamedTuple):
    """What a task gives: a part of each value, the units it has stored, its process' memory."""

    partials: list[Any]
    units: dict[str, list[Unit]]
    peak: int


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The run was stopped while the block was being computed."""


@dataclass(frozen=True)
class BlockTask:
    """Compute one block: store the images, return their units and the values' partials.

    A task walks its block strip by strip, so that it holds no more than a strip at a time. Tasks
    share nothing and may be run again: the same block gives the same bytes.
    """

    values: Sequence[Value]
    images: Mapping[str, tuple[ImageNode, Store]]
    grid: Blocks
    strip: tuple[int, ...]
    walked: str | None
    known: Mapping[Value, Any]

    def __call__(self, index: int) -> TaskResult:
        """Return one partial for each value, and the units of each image."""
        here = self.grid[index]
        strips = Blocks(
            here.shape, tuple(min(s, n) for s, n in zip(self.strip, here.shape, strict=True))
        )
        targets = [*(node for node, _ in self.images.values()), *self.values]
        walk = Walk(demand(wanted_runs(targets, here), self.known)[1], self.walked)
        partials: list[Any] = []
        units: dict[str, list[Unit]] = {name: [] for name in self.images}
        for strip in strips:
            if stop_requested():
                raise Interrupted
            found = self._compute(targets, strip.shift(here.start), walk, units)
            joined = zip(self.values, partials, found, strict=True)
            partials = (
                [value.filter.rules.combine(held, one) for value, held, one in joined]
                if partials
                else found
            )
        return TaskResult(partials, units, peak_memory())

    def _compute(
        self, targets: Sequence[Node], here: Region, walk: Walk, units: dict[str, list[Unit]]
    ) -> list[Any]:
        """Store a strip's images, note their units, return the values' partials."""
        patches = evaluate(wanted_runs(targets, here), self.known, walk.read)
        partials = [self._partial(value, here, patches) for value in self.values]
        for name, (node, store) in self.images.items():
            region = node.spec.from_grid(here)
            units[name] += store.write(region, extract(node, patches[node], region))
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

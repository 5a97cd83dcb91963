"""The graph: sources, crops, and filters bound to their inputs.

Every node is immutable and knows its `spec` (shape, dtype, axes).  A node answers two
questions: which pixels of each input it needs for given pixels of its own, and, in
``evaluate.py``, what its pixels are.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np

from chunkfilt.edges import needed_runs
from chunkfilt.errors import InputError, nearest
from chunkfilt.filters.filter import Filter
from chunkfilt.grid import Halo, ImageSpec, Region, Runs, merge_runs, round_up
from chunkfilt.words import shown

__all__ = [
    "Crop",
    "Filtered",
    "ImageNode",
    "Node",
    "Reader",
    "Source",
    "Value",
    "Written",
    "behind",
    "crop",
    "crop_named",
    "is_image",
    "plain_axes",
    "substitute",
    "topological",
    "value_depths",
]

MAX_SPATIAL = 3
_DEFAULT_SPATIAL = ("z", "y", "x")


class Reader(Protocol):
    """Where a source's pixels come from."""

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of a region inside the image."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """An image that is read, not computed."""

    spec: ImageSpec
    reader: Reader

    inputs: tuple[ImageNode, ...] = ()

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of a region inside the image."""
        return self.reader.read(region)


@dataclass(frozen=True, eq=False)
class Crop:
    """A box of another node as an image of its own; axes given by number are dropped.

    `start` and `stop` are in the input's coordinates, `dropped` the input's axes left out.
    """

    spec: ImageSpec
    inputs: tuple[ImageNode]
    start: tuple[int, ...]
    stop: tuple[int, ...]
    dropped: tuple[int, ...]

    def needs(self, runs: Sequence[Runs]) -> list[Runs]:
        """Return the input's runs for runs of the crop."""
        kept = iter(runs)
        return [
            ((first, first + 1),)
            if axis in self.dropped
            else tuple((a + first, b + first) for a, b in next(kept))
            for axis, first in enumerate(self.start)
        ]


class Written(NamedTuple):
    """A composite as its user wrote it, on the node of its last step."""

    filter: Filter
    params: Mapping[str, Any]
    inputs: tuple[Operand, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Bound:
    """A filter with its parameters checked and its inputs named."""

    filter: Filter
    params: Mapping[str, Any]
    resolved: SimpleNamespace
    inputs: tuple[Operand, ...]
    spatial: tuple[int, ...]
    values: Mapping[str, Value] = field(default_factory=dict)
    composite: Written | None = None

    @property
    def written(self) -> Written:
        """The filter, parameters and inputs as they stand in YAML."""
        return self.composite or Written(self.filter, self.params, self.inputs)

    @functools.cached_property
    def image(self) -> ImageNode:
        """The first input that is an image; the node works along its axes."""
        return next(one for one in self.inputs if is_image(one))

    @property
    def batch(self) -> tuple[int, ...]:
        """The input's batch axes."""
        return tuple(a for a in range(self.image.spec.ndim) if a not in self.spatial)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The input's shape along its batch axes."""
        return tuple(self.image.spec.shape[a] for a in self.batch)


@dataclass(frozen=True, eq=False, kw_only=True)
class Filtered(_Bound):
    """An image computed by a filter, pixel by pixel from its neighbourhood."""

    spec: ImageSpec
    halo: Halo
    mode: str
    cval: Any
    block_dtype: np.dtype
    leading: tuple[tuple[str, int], ...] = ()
    prepared: Mapping[str, Any] = field(default_factory=dict)

    def cval_of(self, one: ImageNode) -> Any:
        """Return what lies beyond an input's edge; a further input is a mask, and true there."""
        return self.cval if one is self.image else one.spec.dtype.type(1)

    @property
    def lead_at(self) -> int:
        """Where the leading axes stand in the output: before the first spatial axis."""
        return self.spatial[0] if self.spatial else self.image.spec.ndim

    def strip(self, runs: Sequence[Any]) -> list[Any]:
        """Return per-axis things of the output without those of the leading axes."""
        return [*runs[: self.lead_at], *runs[self.lead_at + len(self.leading) :]]

    @property
    def mask(self) -> ImageNode | None:
        """The image that says which pixels count."""
        held = self.inputs[-1] if self.filter.rules.omits else None
        return held if held is not None and is_image(held) else None

    @property
    def omits(self) -> bool:
        """Whether pixels may be left out: of these parameters and inputs, whatever the pixels."""
        rule = self.filter.rules.omits
        if not rule:
            return False
        by_nan = rule == "always" or self.params.get("nan_policy") == "omit"
        nan = by_nan and self.image.spec.dtype.kind == "f"
        return nan or self.image.spec.nodata is not None or self.mask is not None

    @cached_property
    def tile(self) -> tuple[int, ...]:
        """The pixels of a tile along every axis of the input; 1 where any pixel may begin one."""
        rule = self.filter.rules.tile
        sides = None if rule is None else rule(self.resolved, self.prepared)
        tile = [1] * self.image.spec.ndim
        for axis, side in zip(self.spatial, sides or (1,) * len(self.spatial), strict=True):
            tile[axis] = side
        return tuple(tile)

    def snap(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        """Return pixels along an axis of the input, grown to whole tiles of the image."""
        side, n = self.tile[axis], self.image.spec.shape[axis]
        if stop <= start:
            return start, stop
        return start // side * side, min(round_up(stop, side), n)

    def at_once(self, runs: Sequence[Runs]) -> list[Runs]:
        """Return the runs that the kernel gives: leading axes in full, and whole tiles."""
        snapped = [
            merge_runs(tuple(self.snap(axis, a, b) for a, b in along))
            for axis, along in enumerate(self.strip(runs))
        ]
        lead: list[Runs] = [((0, n),) for _, n in self.leading]
        return [*snapped[: self.lead_at], *lead, *snapped[self.lead_at :]]

    def needs(self, runs: Sequence[Runs]) -> list[Runs]:
        """Return the runs every input needs for runs of the output."""
        needed = []
        snapped = self.strip(self.at_once(runs))
        for axis, (along, n) in enumerate(zip(snapped, self.image.spec.shape, strict=True)):
            before, after = self.halo[axis]
            pieces = [needed_runs(a - before, b + after, n, self.mode) for a, b in along]
            needed.append(merge_runs(*pieces))
        return needed


@dataclass(frozen=True, eq=False, kw_only=True)
class Value(_Bound):
    """A small value or table of the whole image, one row per batch index."""

    block_dtype: np.dtype

    @property
    def per_batch(self) -> bool:
        """Whether there is a row per batch index, rather than one for all."""
        return bool(self.resolved.scope == "batch")

    @property
    def table_shape(self) -> tuple[int, ...]:
        """The shape that the rows of the value are laid out in."""
        return self.batch_shape if self.per_batch else ()

    @property
    def rows(self) -> int:
        """Number of rows of the value."""
        return math.prod(self.batch_shape) if self.per_batch else 1

    def needs(self, batch_runs: Sequence[Runs]) -> list[Runs]:
        """Return the input's runs when the value is wanted for runs of the batch axes."""
        runs: list[Runs] = [((0, n),) if n else () for n in self.image.spec.shape]
        if self.per_batch:
            for axis, along in zip(self.batch, batch_runs, strict=True):
                runs[axis] = along
        return runs


ImageNode = Source | Crop | Filtered
Node = Source | Crop | Filtered | Value
# A number may stand for an image of that value; None for an optional image that is left out.
Operand = ImageNode | int | float | np.number | None


def is_image(operand: Operand) -> TypeGuard[ImageNode]:
    """Return whether an operand is a node rather than a number or nothing."""
    return isinstance(operand, (Source, Crop, Filtered))


def crop(
    node: ImageNode, ranges: Mapping[int, tuple[int, int]], dropped: Iterable[int] = ()
) -> Crop:
    """Return a box of a node as an image of its own.

    `ranges` maps axes to ``(start, stop)`` within the image; axes in `dropped` must be given
    one pixel and disappear.
    """
    spec = node.spec
    start = tuple(ranges.get(axis, (0, n))[0] for axis, n in enumerate(spec.shape))
    stop = tuple(ranges.get(axis, (0, n))[1] for axis, n in enumerate(spec.shape))
    gone = tuple(sorted(dropped))
    kept = [axis for axis in range(spec.ndim) if axis not in gone]
    return Crop(
        ImageSpec(
            tuple(stop[a] - start[a] for a in kept),
            spec.dtype,
            tuple(spec.axes[a] for a in kept),
            tuple(kept.index(a) for a in spec.spatial if a in kept),
            tuple(kept.index(a) for a in spec.leading if a in kept),
            spec.nodata,
        ),
        (node,),
        start,
        stop,
        gone,
    )


def crop_named(node: ImageNode, ranges: Mapping[str, Any]) -> Crop:
    """Return a crop by ranges of named axes; a single int drops its axis."""
    spec = node.spec
    boxes: dict[int, tuple[int, int]] = {}
    dropped = []
    for name, wanted in ranges.items():
        if name not in spec.axes:
            known = ", ".join(spec.axes)
            message = f"crop: no axis {name!r}{nearest(name, spec.axes)}; the axes are {known}"
            raise InputError(message)
        axis = spec.axes.index(name)
        n = spec.shape[axis]
        if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
            index = int(wanted)
            if not -n <= index < n:
                message = f"crop: {name} must be within {-n} and {n - 1}, got {index}"
                raise InputError(message)
            boxes[axis] = (index % n, index % n + 1)
            dropped.append(axis)
            continue
        boxes[axis] = _range(name, wanted, n)
    return crop(node, boxes, dropped)


def plain_axes(ndim: int) -> tuple[str, ...]:
    """Return axis names for an array that has none: the last ones are z, y, x.

    >>> plain_axes(2), plain_axes(4)
    (('y', 'x'), ('d0', 'z', 'y', 'x'))
    """
    extra = max(ndim - len(_DEFAULT_SPATIAL), 0)
    names = [f"d{i}" for i in range(extra)]
    return (*names, *_DEFAULT_SPATIAL[len(_DEFAULT_SPATIAL) - (ndim - extra) :])


def topological(targets: Iterable[Node]) -> list[Node]:
    """Return the nodes behind `targets`, each once, inputs before users."""
    order: dict[int, Node] = {}
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(targets))]
    while stack:
        node, ready = stack.pop()
        if id(node) in order:
            continue
        if ready:
            order[id(node)] = node
            continue
        stack.append((node, True))
        stack.extend(
            (needed, False) for needed in reversed(behind(node)) if id(needed) not in order
        )
    return list(order.values())


def behind(node: Node) -> list[Node]:
    """Return the nodes a node takes directly, images first, then values."""
    images = [one for one in node.inputs if is_image(one)]
    return [*images, *getattr(node, "values", {}).values()]


def substitute(targets: Iterable[Node], swap: Mapping[Node, Node]) -> dict[Node, Node]:
    """Return every node behind `targets` as it stands with some nodes replaced.

    Nodes that do not depend on a replaced one stand for themselves.
    """
    made: dict[Node, Node] = {}
    for node in topological(targets):
        if node in swap:
            made[node] = swap[node]
            continue
        changes: dict[str, Any] = {}
        inputs = tuple(made[one] if is_image(one) else one for one in node.inputs)
        if inputs != node.inputs:
            changes["inputs"] = inputs
        if isinstance(node, Filtered | Value):
            values = {name: made[one] for name, one in node.values.items()}
            if values != node.values:
                changes["values"] = values
        made[node] = replace(node, **changes) if changes else node
    return made


def value_depths(targets: Iterable[Node]) -> dict[Value, int]:
    """Return, for every value behind `targets`, the sweep (from 0) that can compute it."""
    depth: dict[int, int] = {}
    values: dict[Value, int] = {}
    for node in topological(targets):
        below = max((depth[id(one)] for one in behind(node)), default=0)
        depth[id(node)] = below
        if isinstance(node, Value):
            values[node] = below
            depth[id(node)] = below + 1
    return values


def _range(name: str, wanted: Any, n: int) -> tuple[int, int]:
    if isinstance(wanted, slice) and wanted.step in (None, 1):
        wanted = (wanted.start, wanted.stop)
    whole = (int, np.integer, type(None))
    if (
        not isinstance(wanted, (tuple, list))
        or len(wanted) != 2
        or any(isinstance(at, bool) or not isinstance(at, whole) for at in wanted)
    ):
        message = f"crop: {name} must be (start, stop) or an index, got {shown(wanted)}"
        raise InputError(message)
    start, stop = (
        default if at is None else operator.index(at) + (n if operator.index(at) < 0 else 0)
        for at, default in zip(wanted, (0, n), strict=True)
    )
    if not 0 <= start <= stop <= n:
        message = f"crop: {name} must lie within 0 and {n}, got {tuple(wanted)}"
        raise InputError(message)
    return start, stop

"""The one evaluator: what a node's pixels are, for any box of any image.

For the boxes wanted, `demand` walks the graph backwards and collects for every node the runs
its users need (per axis, joined; whole tiles where a filter works in tiles); `evaluate` walks
forwards and computes every node once.  The
edge is extended at every node, by that node's own mode.  Run in series over the whole image
this is the specification of chunkfilt; every other way of running is compared with it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunkfilt.edges import gather, positions
from chunkfilt.engine.graph import (
    MAX_SPATIAL,
    Crop,
    Filtered,
    ImageNode,
    Node,
    Source,
    Value,
    behind,
    is_image,
    topological,
)
from chunkfilt.engine.missing import counted, mark_missing, omitted
from chunkfilt.engine.values import combine_rows, row_numbers, take_rows
from chunkfilt.grid import Region, Runs, boxes, merge_runs, run_length

__all__ = [
    "Patch",
    "chunk_value",
    "compute_box",
    "demand",
    "evaluate",
    "evaluate_region",
    "extract",
    "wanted_runs",
]


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels of a node over the product of runs, or rows of a value."""

    runs: tuple[Runs, ...]
    data: Any


def demand(
    wanted: Mapping[Node, Sequence[Runs]], known: Mapping[Value, Any] | None = None
) -> tuple[list[Node], dict[int, list[Runs]]]:
    """Return the nodes to compute, inputs first, and the runs each must be computed over.

    Parameters
    ----------
    wanted : mapping
        For each target the runs along its axes (a value's: along its batch axes).
    known : mapping, optional
        Values computed already; what lies behind them is not asked for.
    """
    known = known or {}
    order = topological(wanted)
    runs: dict[int, list[Runs]] = {}

    def ask(node: Node, more: Sequence[Runs]) -> None:
        if isinstance(node, Filtered):
            more = node.at_once(more)
        held = runs.get(id(node))
        runs[id(node)] = (
            list(more)
            if held is None
            else [merge_runs(a, b) for a, b in zip(held, more, strict=True)]
        )

    for node, along in wanted.items():
        ask(node, along)
    for node in reversed(order):
        if id(node) not in runs or (isinstance(node, Value) and node in known):
            continue
        if isinstance(node, Source):
            continue
        needed = node.needs(runs[id(node)])
        for one in node.inputs:
            if is_image(one):
                ask(one, needed)
        if isinstance(node, Filtered):
            own = node.strip(runs[id(node)])
            batch_runs = [own[axis] for axis in node.batch]
        for value in getattr(node, "values", {}).values():
            ask(value, batch_runs if isinstance(node, Filtered) else runs[id(node)])
    return [node for node in order if id(node) in runs], runs


def wanted_runs(targets: Iterable[Node], region: Region) -> dict[Node, Sequence[Runs]]:
    """Return what a block must evaluate for its targets: images themselves, a value's inputs."""
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


def evaluate(
    wanted: Mapping[Node, Sequence[Runs]],
    known: Mapping[Value, Any] | None = None,
    read: Callable[[Source, Region], np.ndarray] = Source.read,
) -> dict[Node, Patch]:
    """Compute every node behind `wanted` once; return the targets' patches.

    A patch may hold more than was wanted, where another node needs more of it: see `extract`.
    An intermediate is let go as soon as its last user has been computed. `read` gives the pixels
    of a source.
    """
    known = known or {}
    order, runs = demand(wanted, known)
    computed = [node for node in order if not (isinstance(node, Value) and node in known)]
    left = Counter(id(one) for node in computed for one in behind(node))
    patches: dict[int, Patch] = {}
    for node in order:
        along = tuple(runs[id(node)])
        if isinstance(node, Value):
            patches[id(node)] = _value_patch(node, along, patches, known)
        else:
            patches[id(node)] = Patch(along, _image_patch(node, along, patches, read))
        for one in () if isinstance(node, Value) and node in known else behind(node):
            left[id(one)] -= 1
            if not left[id(one)] and one not in wanted:
                del patches[id(one)]
    return {node: patches[id(node)] for node in wanted}


def extract(node: ImageNode, patch: Patch, region: Region) -> np.ndarray:
    """Return one region out of a patch that holds it."""
    return gather(patch.data, patch.runs, region, node.spec.shape, "constant")


def evaluate_region(
    node: ImageNode, region: Region, known: Mapping[Value, Any] | None = None
) -> np.ndarray:
    """Return the pixels of one region of one node."""
    if region.size == 0:
        return np.empty(region.shape, node.spec.dtype)
    return extract(node, evaluate({node: region.runs}, known)[node], region)


def compute_box(
    node: Filtered, region: Region, blocks: Sequence[Any], values: Mapping[str, Any]
) -> np.ndarray:
    """Run the kernel for one box of the output.

    Parameters
    ----------
    node : Filtered
        The node.
    region : Region
        The core, in the output's coordinates: leading axes in full, and whole tiles.
    blocks : sequence
        Each input over the core and its halo, axes as in the input; numbers and None as given.
    values : mapping
        The declared values, rows for the region's batch indices only.
    """
    core_start, core_shape = node.strip(region.start), node.strip(region.shape)
    batch_shape = [core_shape[a] for a in node.batch]
    flat = [
        _to_block(one, node.batch, node.spatial, node.block_dtype if first else None)
        if isinstance(one, np.ndarray)
        else one
        for one, first in ((one, i == 0) for i, one in enumerate(blocks))
    ]
    merged = node.filter.kind == "pointwise"
    arguments = [_merge(one) if merged and isinstance(one, np.ndarray) else one for one in flat]
    arguments, told = omitted(node, arguments)
    given = {
        "origin_px": tuple(core_start[a] for a in node.spatial),
        "shape_px": tuple(node.image.spec.shape[a] for a in node.spatial),
        "result": node.spec.dtype,
        **node.prepared,
        **values,
        **told,
    }
    chosen = {name: given.get(name) for name in node.filter.given}
    own = {name: getattr(node.resolved, name) for name in node.filter.own}
    with np.errstate(all="ignore"):
        out = node.filter.function(*arguments, **own, **chosen)
    spatial_shape = [core_shape[a] for a in node.spatial]
    if any(is_image(one) and one.spec.nodata is not None for one in node.inputs):
        lead = [n for _, n in node.leading]
        out = mark_missing(node, out.reshape([len(out), *lead, *spatial_shape]), flat)
    out = out.reshape([*batch_shape, *(n for _, n in node.leading), *spatial_shape])
    return cast(_from_block(out, node), node.spec.dtype)


def chunk_value(node: Value, blocks: Sequence[Any], values: Mapping[str, Any]) -> Any:
    """Return a block's partial of a value, one row per batch index of the block (or one)."""
    flat = [
        _merge(_to_block(one, node.batch, node.spatial, None))
        if isinstance(one, np.ndarray)
        else one
        for one in blocks
    ]
    own = {name: getattr(node.resolved, name) for name in node.filter.own}
    chosen = {name: values.get(name) for name in node.filter.given}
    with np.errstate(all="ignore"):
        partial = node.filter.function(*counted(node, flat), **own, **chosen)
    return partial if node.per_batch else combine_rows(partial, node.filter.rules.combine)


def cast(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cast to `dtype`: to integers round half to even and saturate, NaN becomes 0.

    >>> cast(np.array([0.5, 1.5, 300.0, -1.0, np.nan]), np.dtype("uint8"))
    array([  0,   2, 255,   0,   0], dtype=uint8)
    """
    if data.dtype == dtype:
        return data
    with np.errstate(all="ignore"):
        if dtype.kind not in "iu":
            return data.astype(dtype)
        limits = np.iinfo(dtype)
        if data.dtype.kind in "iu":
            held = np.iinfo(data.dtype)
            low, high = max(limits.min, held.min), min(limits.max, held.max)
            return np.clip(data, low, high).astype(dtype)
        if data.dtype.kind == "b":
            return data.astype(dtype)
        rounded = np.rint(data)
        # The largest float below the limit: float(limits.max) may round up beyond it.
        ceiling = np.nextafter(data.dtype.type(limits.max) + 1, 0, dtype=data.dtype)
        out = np.clip(np.nan_to_num(rounded, nan=0.0), limits.min, ceiling).astype(dtype)
        out[rounded >= float(limits.max)] = limits.max
        return out


def rows_for(value: Value, runs: Sequence[Runs]) -> np.ndarray:
    """Return the rows of a whole table that runs of the batch axes stand for."""
    if not value.per_batch:
        length = int(np.prod([run_length(along) for along in runs], dtype=np.int64))
        return np.zeros(length, dtype=np.intp)
    return row_numbers(runs, value.batch_shape)


def _image_patch(
    node: ImageNode,
    runs: tuple[Runs, ...],
    patches: Mapping[int, Patch],
    read: Callable[[Source, Region], np.ndarray],
) -> Any:
    if isinstance(node, Crop):
        # Runs of a crop are runs of its input, moved; the input may hold more than those.
        held = patches[id(node.inputs[0])]
        compute = _crop_reader(node, held)
    elif isinstance(node, Source):
        compute = functools.partial(read, node)
    else:
        compute = _filter_reader(node, runs, patches)
    parts = list(boxes(runs))
    if len(parts) == 1:
        return compute(parts[0][0])
    data = np.empty([run_length(along) for along in runs], node.spec.dtype)
    for region, place in parts:
        data[place] = compute(region)
    return data


def _crop_reader(node: Crop, held: Patch) -> Any:
    inner = node.inputs[0]

    def read(region: Region) -> np.ndarray:
        moved = node.needs(region.runs)
        box = Region(tuple(r[0][0] for r in moved), tuple(r[0][1] for r in moved))
        data = gather(held.data, held.runs, box, inner.spec.shape, "constant")
        return data.reshape(region.shape)

    return read


def _filter_reader(node: Filtered, runs: Sequence[Runs], patches: Mapping[int, Patch]) -> Any:
    shape = node.image.spec.shape

    def compute(region: Region) -> np.ndarray:
        grown = Region(tuple(node.strip(region.start)), tuple(node.strip(region.stop))).grow(
            node.halo
        )
        blocks = [
            _input_block(node, one, patches[id(one)], grown, shape) if is_image(one) else one
            for one in node.inputs
        ]
        here = [node.strip(region.runs)[axis] for axis in node.batch]
        values = {
            name: rows_within(value, patches[id(value)], here)
            for name, value in node.values.items()
        }
        return compute_box(node, region, blocks, values)

    return compute


def _input_block(
    node: Filtered, one: ImageNode, patch: Patch, grown: Region, shape: Sequence[int]
) -> np.ndarray:
    data = patch.data
    if node.block_dtype != one.spec.dtype and one is node.image and node.mode == "constant":
        data = data.astype(node.block_dtype)
    return gather(data, patch.runs, grown, shape, node.mode, node.cval_of(one))


def _value_patch(
    node: Value, runs: tuple[Runs, ...], patches: Mapping[int, Patch], known: Mapping[Value, Any]
) -> Patch:
    """Return a value's rows: out of the known table, or from its whole extent, here and now."""
    if node in known:
        return Patch(runs, take_rows(known[node], rows_for(node, runs)))
    # Patches may hold more than was asked for here, where another node needs more of them.
    needed = node.needs(runs)
    blocks = [_narrow(patches[id(one)], needed) if is_image(one) else one for one in node.inputs]
    values = {name: rows_within(one, patches[id(one)], runs) for name, one in node.values.items()}
    if not node.per_batch:
        # Rows of values it takes are per batch index, its own is one for all.
        values = {name: take_rows(table, np.zeros(1, np.intp)) for name, table in values.items()}
    partial = chunk_value(node, blocks, values)
    final = node.filter.rules.finalize
    table = partial if final is None else final(partial, node.resolved)
    if not node.per_batch:
        table = take_rows(table, rows_for(node, runs))
    return Patch(runs, table)


def _narrow(patch: Patch, runs: Sequence[Runs]) -> np.ndarray:
    """Return the pixels of some of a patch's runs, packed by those."""
    data: np.ndarray = patch.data
    for axis, (held, wanted) in enumerate(zip(patch.runs, runs, strict=True)):
        if held != wanted:
            index = np.concatenate([np.arange(a, b) for a, b in wanted] or [np.arange(0)])
            data = np.take(data, positions(held, index), axis=axis)
    return data


def rows_within(value: Value, patch: Patch, runs: Sequence[Runs]) -> Any:
    """Return the rows for runs of the batch axes out of a patch that may hold more of them."""
    if list(patch.runs) == list(runs):
        return patch.data
    held = row_numbers(patch.runs, value.batch_shape)
    wanted = row_numbers(runs, value.batch_shape)
    return take_rows(patch.data, np.searchsorted(held, wanted))


def _to_block(
    data: np.ndarray,
    batch: Sequence[int],
    spatial: Sequence[int],
    dtype: np.dtype | None,
) -> np.ndarray:
    """Return an input as a kernel wants it: ``(batch, *spatial)``, C-contiguous, read-only."""
    order = (*batch, *spatial)
    if order != tuple(range(data.ndim)):
        data = data.transpose(order)
    native = data.dtype.newbyteorder("=") if dtype is None else dtype
    data = np.ascontiguousarray(data, dtype=native)
    rows = int(np.prod(data.shape[: len(batch)], dtype=np.int64))
    block = data.reshape((rows, *data.shape[len(batch) :])).view()
    block.flags.writeable = False
    return block


def _merge(block: np.ndarray) -> np.ndarray:
    """Return a block with 1 to 3 spatial axes, for kernels to which they mean nothing."""
    if 2 <= block.ndim <= MAX_SPATIAL + 1:
        return block
    tail = block.shape[-2:] if block.ndim > 2 else ()
    pixels = int(np.prod(block.shape[1 : block.ndim - len(tail)], dtype=np.int64))
    return block.reshape((block.shape[0], pixels, *tail))


def _from_block(out: np.ndarray, node: Filtered) -> np.ndarray:
    """Return ``(*batch, *leading, *spatial)`` in the order of the output's axes."""
    leads, batch = len(node.leading), len(node.batch)
    axes: list[int] = []
    for axis in range(node.image.spec.ndim):
        if axis == node.lead_at:
            axes += range(batch, batch + leads)
        if axis in node.batch:
            axes.append(node.batch.index(axis))
        else:
            axes.append(batch + leads + node.spatial.index(axis))
    if axes == list(range(out.ndim)):
        return out
    return out.transpose(axes)

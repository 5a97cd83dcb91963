"""The dask face: filters on dask arrays, lazily, block by block.

A filter's blocks are the chunks of the array it is given, and its result has the same chunks;
leading axes (a Gabor bank's) stand in one chunk in full, because a kernel gives all of them at
once.  There are two ways to a block's pixels:

* *overlapped*: ``dask.array.map_overlap``, which without a halo is ``map_blocks``;
* *gathered*: the parts of chunks that hold the pixels needed, joined by the task, where
  ``map_overlap`` cannot: ``wrap``, chunks thinner than the halo, an edge rule that looks further
  than the halo, tiles that stick out of the chunks, and filters that take whole-image values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from chunkfilt.edges import gather, needed_runs
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import chunk_value, compute_box, rows_for
from chunkfilt.engine.graph import Filtered, Source, Value, is_image, plain_axes
from chunkfilt.engine.values import join_rows, lay_rows, take_rows
from chunkfilt.errors import InputError
from chunkfilt.filters.filter import Apply, Filter
from chunkfilt.grid import Halo, ImageSpec, Region, Runs, boxes, merge_runs, run_length

__all__ = ["apply_dask"]

# Along every axis where the chunks begin, and where the last one ends.
Bounds = tuple[np.ndarray, ...]
Layer = dict[Any, Any]


def apply_dask(declared: Filter, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Return a filter's result on dask arrays, lazily.

    Parameters
    ----------
    declared : Filter
        The filter.
    inputs : sequence
        Dask arrays, NumPy arrays, numbers, or None for an image that is left out; at least one
        dask array.  The first dask array sets the chunks; the others are rechunked to them.
    params : mapping
        Parameters by name.

    Returns
    -------
    dask.array.Array or dask.delayed.Delayed
        An image with the input's chunks, leading axes in one chunk in full; or a value, shaped
        as it is for a NumPy array.

    Raises
    ------
    InputError
        If a parameter, an input or its dtype does not fit, or chunk sizes are not known.
    """
    given = [_operand(declared, one) for one in inputs]
    if declared.kind == "composite":
        return _composite(declared, given, params)
    node = bind(declared, [_source(one) for one in given], params)
    chunks = next(one.chunks for one in given if isinstance(one, da.Array))
    aligned = [_aligned(one, chunks) for one in given]
    bounds = tuple(np.cumsum([0, *along]) for along in chunks)
    if isinstance(node, Value):
        return _value(node, aligned, bounds)
    return _image(node, aligned, bounds)


def _composite(declared: Filter, given: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Apply a composite step by step; all of it is checked before, on the whole."""
    bind(declared, [_source(one) for one in given], params)
    checked = declared.validate(params)
    first = next(one for one in given if isinstance(one, (da.Array, np.ndarray)))
    axes = checked.get("axes")

    def take(image: Any, axis: int | str, index: int) -> Any:
        along = plain_axes(image.ndim).index(axis) if isinstance(axis, str) else axis
        return image[(slice(None),) * (along % image.ndim) + (index,)]

    ndim = first.ndim if axes is None else len(axes)
    apply = Apply(checked, apply_dask, take=take, ndim=ndim, dtype=first.dtype)
    filled = [*given, *[None] * (len(declared.inputs) - len(given))]
    return declared.expand(filled, checked, apply)


def _image(node: Filtered, aligned: Sequence[Any], bounds: Bounds) -> da.Array:
    sizes = [tuple(np.diff(edges).tolist()) for edges in bounds]
    chunks = _insert(node, sizes, [(n,) for _, n in node.leading])
    if not node.spec.size:
        return da.zeros(node.spec.shape, dtype=node.spec.dtype, chunks=chunks)
    meta = np.empty((0,) * node.spec.ndim, node.spec.dtype)
    name = _name(node, aligned)
    # The node is one object of the graph: its weights may be too large for every task.
    carried = delayed(node, name=f"{name}-node", traverse=False)
    depth = None if node.values else _overlap_depth(node, bounds)
    if depth is None:
        return da.Array(_gathered(name, node, carried, aligned, bounds), name, chunks, meta=meta)
    return da.map_overlap(
        partial(_overlapped, bounds, depth),
        *_arrays(aligned),
        node=carried,
        depth={axis: around if any(around) else 0 for axis, around in enumerate(depth)},
        boundary="none",
        trim=False,
        align_arrays=False,
        allow_rechunk=False,
        name=name,
        chunks=chunks,
        new_axis=[node.lead_at + i for i in range(len(node.leading))] or None,
        dtype=node.spec.dtype,
        meta=meta,
    )


def _operand(declared: Filter, one: Any) -> Any:
    if isinstance(one, np.generic):
        return one
    if not isinstance(one, da.Array):
        return one if one is None or isinstance(one, (int, float)) else np.asarray(one)
    if any(math.isnan(n) for n in one.shape):
        message = (
            f"{declared.name}: the chunk sizes of a dask array must be known, got shape "
            f"{one.shape}: call its compute_chunk_sizes() first"
        )
        raise InputError(message)
    return one


def _source(one: Any) -> Any:
    if not isinstance(one, (da.Array, np.ndarray)):
        return one
    spec = ImageSpec(one.shape, one.dtype, plain_axes(one.ndim), tuple(range(one.ndim)))
    # The pixels come with the task: nothing is ever read.
    return Source(spec, None)  # type: ignore[arg-type]


def _aligned(one: Any, chunks: tuple[tuple[int, ...], ...]) -> Any:
    if isinstance(one, da.Array):
        return one.rechunk(chunks)
    return da.from_array(one, chunks=chunks) if isinstance(one, np.ndarray) else one


def _arrays(operands: Sequence[Any]) -> list[da.Array]:
    return [one for one in operands if isinstance(one, da.Array)]


def _name(node: Filtered | Value, operands: Sequence[Any]) -> str:
    """Return the name of a node's blocks: the same for the same call."""
    declared = node.filter
    # A kernel that is being written in a notebook changes under one name and version.
    kernel = declared.function if declared.function.__module__ == "__main__" else None
    about = (declared.name, declared.rules.version, kernel, dict(node.params))
    return f"{declared.name}-{tokenize(about, list(operands))}"


def _insert(node: Filtered, along: Sequence[Any], lead: Sequence[Any]) -> tuple[Any, ...]:
    """Return per-axis things of the input with those of the leading axes."""
    return (*along[: node.lead_at], *lead, *along[node.lead_at :]) if lead else tuple(along)


def _cores(bounds: Bounds) -> Iterator[tuple[tuple[int, ...], Region]]:
    """Yield the place and the region of every block, in order."""
    for index in np.ndindex(*(len(edges) - 1 for edges in bounds)):
        yield index, _core(bounds, index)


def _core(bounds: Bounds, index: Sequence[int]) -> Region:
    at = list(zip(bounds, index, strict=True))
    return Region(tuple(int(e[i]) for e, i in at), tuple(int(e[i + 1]) for e, i in at))


def _needed(node: Filtered, bounds: Bounds) -> list[list[Runs]]:
    """Return the pixels that the blocks along each axis need along it, their own included."""
    needed = []
    for axis, (halo, edges) in enumerate(zip(node.halo, bounds, strict=True)):
        before, after = max(halo[0], 0), max(halo[1], 0)
        n = node.image.spec.shape[axis]
        cores = [node.snap(axis, a, b) for a, b in pairwise(edges.tolist())]
        needed.append([needed_runs(a - before, b + after, n, node.mode) for a, b in cores])
    return needed


def _operands(node: Filtered | Value, arrays: Sequence[Any]) -> list[Any]:
    """Return a node's inputs with arrays, in their order, in place of images."""
    left = iter(arrays)
    return [next(left) if is_image(one) else one for one in node.inputs]


def _compute(
    node: Filtered, core: Region, runs: Sequence[Runs], arrays: Sequence[Any], tables: Sequence[Any]
) -> np.ndarray:
    """Compute one block of a node from pixels packed by `runs`."""
    region = _with_leading(node, core)
    if not core.size:
        return np.empty(region.shape, node.spec.dtype)
    ends = [
        node.snap(axis, a, b) for axis, (a, b) in enumerate(zip(core.start, core.stop, strict=True))
    ]
    tiles = Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    grown, shape = tiles.grow(node.halo), node.image.spec.shape
    # A cval that the pixels' dtype cannot hold needs a wider one before it is filled in.
    held = [a if i else a.astype(node.block_dtype, copy=False) for i, a in enumerate(arrays)]
    images = [one for one in node.inputs if is_image(one)]
    blocks = [
        np.asarray(gather(a, runs, grown, shape, node.mode, node.cval_of(one)))
        for one, a in zip(images, held, strict=True)
    ]
    values = dict(zip(node.values, tables, strict=True))
    whole = _with_leading(node, tiles)
    out = compute_box(node, whole, _operands(node, blocks), values)
    if whole != region:
        out = out[region.shift([-a for a in whole.start]).slices].copy()
    # A kernel may give its input back, which is not the user's to write to.
    return out if out.flags.writeable else out.copy()


def _with_leading(node: Filtered, core: Region) -> Region:
    """Return a region of the input's axes as one of the output's."""
    return Region(
        _insert(node, core.start, [0 for _ in node.leading]),
        _insert(node, core.stop, [n for _, n in node.leading]),
    )


def _overlapped(
    bounds: Bounds, depth: Halo, *arrays: np.ndarray, node: Filtered, block_id: tuple[int, ...]
) -> np.ndarray:
    """Compute the block at `block_id` from its chunk as `map_overlap` extended it."""
    index = node.strip(block_id)
    runs = [(_extended(*along),) for along in zip(bounds, index, depth, strict=True)]
    return _compute(node, _core(bounds, index), runs, arrays, ())


def _overlap_depth(node: Filtered, bounds: Bounds) -> Halo | None:
    """Return the depth per axis that gives every block its pixels, None where none does."""
    depth = []
    for halo, edges, needed in zip(node.halo, bounds, _needed(node, bounds), strict=True):
        # The only chunk of an axis holds whatever there is along it.
        reach = (max(halo[0], 0), max(halo[1], 0)) if len(needed) > 1 else (0, 0)
        if np.diff(edges).min() < max(reach):
            return None
        for i, runs in enumerate(needed):
            start, stop = _extended(edges, i, reach)
            if any(first < start or last > stop for first, last in runs):
                return None
        depth.append(reach)
    return tuple(depth)


def _extended(edges: np.ndarray, i: int, depth: tuple[int, int]) -> tuple[int, int]:
    """Return the run that `map_overlap` gives block `i` along an axis."""
    start, stop = int(edges[i]), int(edges[i + 1])
    return start - depth[0] * (i > 0), stop + depth[1] * (i < len(edges) - 2)


def _gathered(
    name: str, node: Filtered, carried: Delayed, aligned: Sequence[Any], bounds: Bounds
) -> HighLevelGraph:
    """Return the graph of one task per block, each given the parts of chunks it needs."""
    arrays = _arrays(aligned)
    tables = {label: _table(value, aligned, bounds) for label, value in node.values.items()}
    cuts = [
        [_cut(runs, edges) for runs in along]
        for along, edges in zip(_needed(node, bounds), bounds, strict=True)
    ]
    layer: Layer = {}
    for index, core in _cores(bounds):
        cut = tuple(along[i] for along, i in zip(cuts, index, strict=True))
        regions = [region for region, _ in boxes(cut)] if core.size else []
        parts = [[_part(layer, name, a, region, bounds) for region in regions] for a in arrays]
        rows = _rows(layer, name, node, tables if core.size else {}, core)
        key = (name, *_insert(node, index, [0 for _ in node.leading]))
        layer[key] = (partial(_join_and_compute, core, cut), carried.key, parts, rows)
    return HighLevelGraph.from_collections(name, layer, [*arrays, *tables.values(), carried])


def _join_and_compute(
    core: Region, cut: Sequence[Runs], node: Filtered, parts: Sequence[Any], tables: Sequence[Any]
) -> np.ndarray:
    """Compute one block of a node from parts of chunks, for each input in the order of `boxes`."""
    arrays = [pieces[0] for pieces in parts if pieces]
    if any(len(pieces) > 1 for pieces in parts):
        shape = [run_length(along) for along in cut]
        arrays = [np.empty(shape, array.dtype) for array in arrays]
        for array, pieces in zip(arrays, parts, strict=True):
            for (_, place), piece in zip(boxes(cut), pieces, strict=True):
                array[place] = piece
    return _compute(node, core, [merge_runs(along) for along in cut], arrays, tables)


def _cut(runs: Runs, edges: np.ndarray) -> Runs:
    """Return runs cut where the chunks meet."""
    cut: list[tuple[int, int]] = []
    for a, b in runs:
        inside = np.unique(edges[(edges > a) & (edges < b)]).tolist()
        cut += pairwise([a, *inside, b])
    return tuple(cut)


def _part(layer: Layer, name: str, array: da.Array, region: Region, bounds: Bounds) -> Any:
    """Return the key of a region that lies in one chunk; the same part is cut only once."""
    axes = zip(bounds, region.start, strict=True)
    index = tuple(int(np.searchsorted(edges, a, side="right")) - 1 for edges, a in axes)
    chunk = _core(bounds, index)
    if region == chunk:
        return (array.name, *index)
    key = (f"{name}-part", array.name, *region.start, *region.stop)
    local = region.shift([-a for a in chunk.start]).slices
    layer.setdefault(key, (getitem, (array.name, *index), local))
    return key


def _value(value: Value, aligned: Sequence[Any], bounds: Bounds) -> Delayed:
    """Return a value as users see it."""
    if not value.image.spec.size:
        message = f"{value.filter.name}: an image without pixels has no value"
        raise InputError(message)
    table = _table(value, aligned, bounds)
    shape = value.table_shape
    return delayed(lay_rows)(table, shape, dask_key_name=f"{table.key}-shaped")


def _table(value: Value, aligned: Sequence[Any], bounds: Bounds) -> Delayed:
    """Return a value's table: partials of the blocks, combined in their order, finished once."""
    inputs = aligned[: len(value.inputs)]
    name, arrays = _name(value, inputs), _arrays(inputs)
    tables = {label: _table(one, aligned, bounds) for label, one in value.values.items()}
    layer: Layer = {}
    held: dict[tuple[int, ...], Any] = {}
    for index, core in _cores(bounds):
        if not core.size:
            continue
        part: Any = (f"{name}-part", *index)
        rows = _rows(layer, name, value, tables, core)
        layer[part] = (partial(_measure, value), [(a.name, *index) for a in arrays], rows)
        here = tuple(_row_numbers(value, value, core).tolist())
        if here in held:
            combined = (f"{name}-combined", *index)
            layer[combined] = (value.filter.rules.combine, held[here], part)
            part = combined
        held[here] = part
    order = np.argsort([number for here in held for number in here])
    layer[name] = (partial(_finish, value, order), list(held.values()))
    return Delayed(name, HighLevelGraph.from_collections(name, layer, [*arrays, *tables.values()]))


def _measure(value: Value, arrays: Sequence[np.ndarray], tables: Sequence[Any]) -> Any:
    blocks = _operands(value, [np.asarray(array) for array in arrays])
    return chunk_value(value, blocks, dict(zip(value.values, tables, strict=True)))


def _finish(value: Value, order: np.ndarray, parts: Sequence[Any]) -> Any:
    joined = take_rows(join_rows(parts), order)
    final = value.filter.rules.finalize
    return joined if final is None else final(joined, value.resolved)


def _rows(
    layer: Layer, name: str, node: Filtered | Value, tables: Mapping[str, Delayed], core: Region
) -> list[Any]:
    """Return the keys of the rows that a block takes of each value; blocks share them."""
    keys = []
    for label, table in tables.items():
        numbers = _row_numbers(node, node.values[label], core)
        key = (f"{name}-rows", label, *(core.start[axis] for axis in node.batch))
        layer.setdefault(key, (partial(take_rows, rows=numbers), table.key))
        keys.append(key)
    return keys


def _row_numbers(node: Filtered | Value, value: Value, core: Region) -> np.ndarray:
    """Return the rows of a value's table that stand for the batch indices of a block."""
    if isinstance(node, Value) and not node.per_batch:
        return np.zeros(1, np.intp)
    return rows_for(value, [core.runs[axis] for axis in node.batch])

"""What users do with nodes of the graph: plan, save, preview, write as YAML."""

from __future__ import annotations

import operator
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.config_document import to_document
from chunkfilt.config_parts import parse_bytes
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import (
    Crop,
    Filtered,
    ImageNode,
    Source,
    Value,
    crop,
    is_image,
    topological,
)
from chunkfilt.engine.plan import Plan
from chunkfilt.errors import InputError
from chunkfilt.filters.params import plain
from chunkfilt.grid import Blocks, ImageSpec, Region
from chunkfilt.runtime.compute import compute
from chunkfilt.runtime.executors import Failed, Threads
from chunkfilt.runtime.layout import OutputOptions
from chunkfilt.runtime.machine import available_cores
from chunkfilt.runtime.options import RunOptions
from chunkfilt.runtime.progress import Report, silent, suitable
from chunkfilt.runtime.run import RunResult, plan_run, run
from chunkfilt.show.picture import Picture, describe_box, plane_index
from chunkfilt.storage.paths import local_path
from chunkfilt.storage.zarr_output import make_compressor, run_folder
from chunkfilt.words import brief, shown

__all__ = [
    "compute_node",
    "describe",
    "document_beside",
    "picture_of",
    "plan_nodes",
    "preview_node",
    "save_nodes",
    "stored_as",
]

# Values computed for windows are kept as long as a graph holds their node.
KNOWN: weakref.WeakKeyDictionary[Value, Any] = weakref.WeakKeyDictionary()
_COARSE_BLOCK = 2048
# A graph is described in full up to so many nodes and letters.
_FEW_NODES, _FEW_LETTERS = 8, 72

Outputs = Mapping[str, ImageNode | Value]


def compute_node(
    node: ImageNode, report: Report | None = None, options: RunOptions | None = None
) -> np.ndarray:
    """Compute a node into memory, with progress if that takes a sweep over the input."""
    if report is None:
        report = suitable() if needs_sweep(node) else silent
    arrays, found = compute({"": node}, known=dict(KNOWN), report=report, options=options)
    KNOWN.update(found)
    return arrays[""]


def needs_sweep(node: ImageNode) -> bool:
    """Return whether a window of the node costs a sweep over the whole input first."""
    return any(isinstance(n, Value) and n not in KNOWN for n in topological([node]))


def describe(node: ImageNode | Value) -> str:
    """Return in a few words where an image comes from."""
    order = topological([node])
    words = _words(node) if len(order) <= _FEW_NODES else ""
    if words and len(words) <= _FEW_LETTERS:
        return words
    first, *others = dict.fromkeys(_words(one) for one in order if isinstance(one, Source))
    more = f" and {len(others)} more" if others else ""
    return f"{_own_word(node)} of ... of {first}{more}"


def _words(node: ImageNode | Value) -> str:
    if isinstance(node, Source):
        path = getattr(node.reader, "path", None)
        return brief(Path(path).name, 40) if path else "an array in memory"
    inputs = node.inputs if isinstance(node, Crop) else node.written.inputs
    taken = [_words(n) if is_image(n) else str(n) for n in inputs if n is not None]
    return f"{_own_word(node)} of {' and '.join(taken)}"


def _own_word(node: Any) -> str:
    return "crop" if isinstance(node, Crop) else str(node.written.filter.name)


def storage_options(
    *,
    chunks: int | Sequence[int] | None = None,
    shards: int | Sequence[int] | None = None,
    compressor: Any = None,
    overwrite: bool = False,
    grid: int = 2,
) -> OutputOptions:
    """Return how the output is stored, from options as users give them."""
    try:
        codec = "input" if compressor is None else make_compressor(compressor)
    except ValueError as error:
        message = f"compressor {error}"
        raise InputError(message) from None
    if not isinstance(overwrite, bool):
        message = f"overwrite must be True or False, got {shown(overwrite)}"
        raise InputError(message)

    def lengths(word: str, value: Any) -> tuple[int, ...] | None:
        listed = value if isinstance(value, (tuple, list)) else (value,) * grid
        try:
            return None if value is None else tuple(_integer(n) for n in listed)
        except TypeError:
            message = f"{word} must be a whole number, or one for each axis, got {shown(value)}"
            raise InputError(message) from None

    return OutputOptions(lengths("chunks", chunks), lengths("shards", shards), codec, overwrite)


def run_options(
    *,
    scheduler: str = "threads",
    address: str | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    scheduler_file: str | os.PathLike[str] | None = None,
) -> RunOptions:
    """Return how the run is carried out, from options as users give them."""
    try:
        size = None if memory is None else parse_bytes(memory)
    except ValueError as error:
        message = f"memory {error}, got {shown(memory)}"
        raise InputError(message) from None
    try:
        workers = None if workers is None else _integer(workers)
    except TypeError:
        message = f"workers must be a whole number >= 1, got {shown(workers)}"
        raise InputError(message) from None
    file = None if scheduler_file is None else Path(scheduler_file)
    return RunOptions(scheduler, address, workers, size, file)


def plan_nodes(outputs: Outputs, **options: Any) -> Plan:
    """Return the plan of saving `outputs`."""
    output, how = split_options(outputs, options)
    return plan_run(outputs, output, how)[0]


def save_nodes(
    outputs: Outputs,
    path: str | os.PathLike[str],
    *,
    group: bool,
    progress: bool | Report = True,
    resume: bool = False,
    **options: Any,
) -> RunResult:
    """Compute `outputs` in one run and store them."""
    place = local_path(path, "output")
    output, how = split_options(outputs, options)
    report = progress if callable(progress) else suitable() if progress else silent
    return run(
        outputs,
        os.fspath(path),
        group=group,
        output=output,
        options=how,
        document=document_beside(outputs, place, group, stored_as(options, output)),
        resume=resume,
        report=report,
    )


def split_options(outputs: Outputs, options: Mapping[str, Any]) -> tuple[OutputOptions, RunOptions]:
    """Sort options into those of the output and those of the run."""
    of_output = ("chunks", "shards", "compressor", "overwrite")
    of_run = ("scheduler", "address", "scheduler_file", "workers", "memory")
    for name in options:
        if name not in (*of_output, *of_run):
            known = ", ".join((*of_output, *of_run))
            message = f"unknown option {name!r}; there are {known}"
            raise InputError(message)
    specs = [n.image.spec if isinstance(n, Value) else n.spec for n in outputs.values()]
    grid = len(specs[0].grid) if specs else 0
    output = storage_options(**{k: v for k, v in options.items() if k in of_output}, grid=grid)
    return output, run_options(**{k: v for k, v in options.items() if k in of_run})


def document_beside(
    outputs: Outputs, place: Path, group: bool, stored: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the job of `outputs` as it stands in their run's folder; None where YAML has none.

    A graph that YAML cannot hold (images in memory, say) runs all the same.
    """
    folder = run_folder(place)
    try:
        job = to_document(outputs, f"../{place.name}", group=group, relative_to=folder)
    except InputError:
        return None
    return {**job, "output": {**job["output"], **stored}}


def stored_as(options: Mapping[str, Any], output: OutputOptions) -> dict[str, Any]:
    """Return what is asked of an output's storage, as it stands in YAML."""
    lengths = {"chunks": output.chunks, "shards": output.shards}
    given = {**lengths, "compressor": options.get("compressor")}
    return {word: plain(held) for word, held in given.items() if held is not None}


def preview_node(
    node: ImageNode, *, size: int = 512, whole: bool | None = None, **ranges: Any
) -> Picture:
    """Return a picture with ranges as keywords; see `picture_of`."""
    return picture_of(node, ranges, size=size, whole=whole)


def picture_of(
    node: ImageNode | Value,
    ranges: Mapping[str, Any],
    *,
    size: int = 512,
    whole: bool | None = None,
) -> Picture:
    """Return a picture of a window at full resolution, or of the whole at a coarse level."""
    if isinstance(node, Value):
        message = f"preview: {node.filter.name} is a value of the whole image, no image to draw"
        raise InputError(message)
    try:
        side = _integer(size)
    except TypeError:
        side = 0
    if side < 1:
        message = f"preview: size must be a whole number >= 1, got {shown(size)}"
        raise InputError(message)
    if whole is None:
        whole = not ranges and not any(isinstance(n, Filtered) for n in topological([node]))
    if whole and ranges:
        message = "preview: whole=True goes without ranges of axes"
        raise InputError(message)
    if node.spec.size == 0:
        message = "preview: the image has no pixels"
        raise InputError(message)
    about = describe(node)
    if whole:
        return _whole(node, side, about)
    spec = node.spec
    box = _window(spec, side, ranges)
    data = compute_node(crop(node, box))
    start = [box.get(a, (0, n))[0] for a, n in enumerate(spec.shape)]
    stop = [box.get(a, (0, n))[1] for a, n in enumerate(spec.shape)]
    words = describe_box(spec.axes, start, stop)
    return Picture(_plane(data, spec), f"{about}: {words}, full resolution")


def _whole(node: ImageNode, size: int, about: str) -> Picture:
    spec = node.spec
    shown = [spec.shape[a] for a in (spec.spatial or tuple(range(spec.ndim)))[-2:]]
    factor = max([1, *(-(-n // size) for n in shown)])
    index = plane_index(spec.shape, spec.spatial)
    plane = {axis: (at, at + 1) for axis, at in index.items()}
    if index:
        about += " at " + ", ".join(f"{spec.axes[axis]} {at}" for axis, at in index.items())
    if factor == 1:
        data = compute_node(crop(node, plane))
        return Picture(_plane(data, spec), f"{about}: the whole image")
    coarse = crop(_coarsen(node, factor), plane)
    data = compute_node(coarse)
    filtered = any(isinstance(n, Filtered) for n in topological([node]))
    caution = ", filters run on that level" if filtered else ""
    words = f"{about}: the whole, from the input at 1/{factor} of its resolution{caution}"
    return Picture(_plane(data, coarse.spec), words)


def _window(spec: ImageSpec, size: int, ranges: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """Return the box to show: the ranges given, else `size` pixels in the middle."""
    box = {a: (i, i + 1) for a, i in plane_index(spec.shape, spec.spatial).items()}
    for axis in (spec.spatial or tuple(range(spec.ndim)))[-2:]:
        n = spec.shape[axis]
        side = min(size, n)
        box[axis] = ((n - side) // 2, (n - side) // 2 + side)
    for name, wanted in ranges.items():
        if name not in spec.axes:
            message = f"preview: no axis {name!r}; the axes are {', '.join(spec.axes)}"
            raise InputError(message)
        axis, n = spec.axes.index(name), spec.shape[spec.axes.index(name)]
        try:
            ends = wanted if isinstance(wanted, (tuple, list)) else (wanted, _integer(wanted) + 1)
            start, stop = map(_integer, ends)
        except (TypeError, ValueError):
            message = f"preview: {name} must be (start, stop) or an index, got {shown(wanted)}"
            raise InputError(message) from None
        if not 0 <= start < stop <= n:
            message = f"preview: {name} must lie within 0 and {n}, got {shown(wanted)}"
            raise InputError(message)
        box[axis] = (start, stop)
    return box


def _integer(value: Any) -> int:
    """Return a whole number of any kind; TypeError for what is none, bools among them."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def _plane(data: np.ndarray, spec: ImageSpec) -> np.ndarray:
    index: list[Any] = [slice(None)] * data.ndim
    for axis, at in plane_index(data.shape, spec.spatial).items():
        index[axis] = min(at, data.shape[axis] - 1)
    return data[tuple(index)]


def _coarsen(node: ImageNode, factor: int) -> ImageNode:
    """Return the same graph over its inputs at a coarse level."""
    made: dict[int, ImageNode] = {}
    for one in topological([node]):
        if isinstance(one, Source):
            made[id(one)] = _coarse_source(one, factor)
        elif isinstance(one, Crop):
            inner = made[id(one.inputs[0])]
            shrink = _factors(one.inputs[0].spec, factor)
            box = {
                a: (min(s // f, n - 1), min(max(-(-e // f), s // f + 1), n))
                for a, (s, e, f, n) in enumerate(
                    zip(one.start, one.stop, shrink, inner.spec.shape, strict=True)
                )
            }
            made[id(one)] = crop(inner, box, one.dropped)
        elif isinstance(one, Filtered):
            inputs = [made[id(n)] if is_image(n) else n for n in one.inputs]
            bound = bind(one.filter, inputs, one.params)
            assert isinstance(bound, Filtered)
            made[id(one)] = bound
    return made[id(node)]


def _factors(spec: ImageSpec, factor: int) -> list[int]:
    shown = (spec.spatial or tuple(range(spec.ndim)))[-2:]
    return [factor if axis in shown else 1 for axis in range(spec.ndim)]


@dataclass(frozen=True)
class _Coarse:
    """A source at a coarse level: averages over boxes of its pixels, made when they are read."""

    source: Source
    shrink: tuple[int, ...]
    dtype: np.dtype

    def read(self, region: Region) -> np.ndarray:
        """Average what a region of the coarse level stands for, block by block, on all cores."""
        out = np.empty(region.shape, self.dtype)
        side = tuple(max(_COARSE_BLOCK // f, 1) if f > 1 else 1 for f in self.shrink)
        blocks = Blocks(region.shape, side)

        def fill(index: int) -> None:
            place = blocks[index]
            out[place.slices] = self._average(place.shift(region.start))

        pool = Threads(available_cores())
        try:
            for _, found in pool.execute(fill, iter(range(len(blocks)))):
                if isinstance(found, Failed):
                    raise found.error
        finally:
            pool.close()
        return out

    def _average(self, place: Region) -> np.ndarray:
        fine = zip(place.start, place.stop, self.shrink, self.source.spec.shape, strict=True)
        ends = [(a * f, min(b * f, n)) for a, b, f, n in fine]
        box = Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))
        data = self.source.reader.read(box).astype(np.float64)
        for axis, f in enumerate(self.shrink):
            if f > 1:
                edges = np.arange(0, data.shape[axis], f)
                widths = np.diff([*edges, data.shape[axis]])
                turned = np.add.reduceat(data, edges, axis=axis)
                data = turned / widths.reshape([-1 if a == axis else 1 for a in range(data.ndim)])
        return data.astype(self.dtype)


def _coarse_source(source: Source, factor: int) -> Source:
    """Return a source averaged over squares of `factor` pixels."""
    spec = source.spec
    shrink = tuple(_factors(spec, factor))
    shape = tuple(-(-n // f) for n, f in zip(spec.shape, shrink, strict=True))
    dtype = np.dtype(np.float32) if spec.dtype.kind == "f" else spec.dtype
    held = ImageSpec(shape, dtype, spec.axes, spec.spatial, spec.leading)
    return Source(held, _Coarse(source, shrink, dtype))

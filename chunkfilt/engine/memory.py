"""What one block holds in memory, term by term: the evaluator followed with sizes for pixels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from chunkfilt.engine.evaluate import demand, wanted_runs
from chunkfilt.engine.graph import Filtered, Node, Source, Value, behind, is_image
from chunkfilt.grid import Region, Runs, run_length

__all__ = ["chunk_bytes", "pixels_of", "table_bytes", "task_bytes"]


def task_bytes(
    targets: Iterable[Node], region: Region, known: Iterable[Value], ahead: str | None = None
) -> tuple[dict[str, int], str]:
    """Follow the evaluator through one strip; return what is alive at the worst step.

    Sources are held to the end of a chunk along the axis `ahead`, for the strips that follow.
    """
    held = dict.fromkeys(known)
    targets = list(targets)
    wanted = wanted_runs(targets, region)
    order, runs = demand(wanted, held)
    left = Counter(id(one) for n in order if n not in held for one in behind(n))
    alive: dict[int, tuple[str, int]] = {}
    worst: dict[str, int] = {}
    where = "reading"
    for node in order:
        alive[id(node)] = _patch_bytes(node, runs[id(node)], node in wanted, ahead)
        terms: Counter[str] = Counter({"kernel": _kernel_bytes(node, runs[id(node)])})
        for name, bytes_held in alive.values():
            terms[name] += bytes_held
        if sum(terms.values()) > sum(worst.values()):
            worst, where = dict(terms), getattr(getattr(node, "filter", None), "name", where)
        for one in () if node in held else behind(node):
            left[id(one)] -= 1
            if not left[id(one)] and one not in wanted:
                del alive[id(one)]
    # What is computed beyond what is stored (for a neighbour's halo, in tiles) is copied out.
    stored = [node for node in wanted if not isinstance(node, Value)]
    copied = [
        pixels_of(wanted[node]) * node.spec.dtype.itemsize
        for node in stored
        if pixels_of(runs[id(node)]) > pixels_of(wanted[node])
    ]
    if copied:
        terms = Counter({"kernel": max(copied)})
        for name, bytes_held in alive.values():
            terms[name] += bytes_held
        worst = max(worst, dict(terms), key=lambda held: sum(held.values()))
    # A value's kernel reads contiguous copies of what has been computed for it.
    read = sum(
        pixels_of(runs[id(one)]) * one.spec.dtype.itemsize
        for node in targets
        if isinstance(node, Value)
        for one in node.inputs
        if is_image(one)
    )
    if read:
        terms = Counter({"kernel": read})
        for name, bytes_held in alive.values():
            terms[name] += bytes_held
        worst = max(worst, dict(terms), key=lambda held: sum(held.values()))
    order_of = ("input with halo", "intermediates", "kernel", "output")
    return {name: worst[name] for name in order_of if worst.get(name)}, where


def table_bytes(value: Value) -> int:
    """Return the bytes of a value's table."""
    rule = value.filter.rules.memory
    if rule is None:
        return 64 * value.rows
    return rule(value.resolved, (value.rows,), value.block_dtype)


def chunk_bytes(source: Source) -> int:
    """Return the bytes of a decoded chunk of a stored source, 0 for one in memory."""
    chunks = getattr(source.reader, "chunks", None)
    return math.prod(chunks) * source.spec.dtype.itemsize if chunks else 0


def pixels_of(runs: Sequence[Runs]) -> int:
    """Return the number of pixels in a product of runs."""
    return math.prod(run_length(along) for along in runs)


def _patch_bytes(
    node: Node, runs: Sequence[Runs], wanted: bool, ahead: str | None
) -> tuple[str, int]:
    if isinstance(node, Value):
        return "intermediates", 0
    pixels = pixels_of(runs)
    if isinstance(node, Source):
        chunks = getattr(node.reader, "chunks", None)
        if chunks is not None and ahead in node.spec.axes:
            axis = node.spec.axes.index(ahead)
            rows = run_length(runs[axis])
            pixels += pixels // max(rows, 1) * (chunks[axis] - 1)
        return "input with halo", pixels * node.spec.dtype.itemsize
    return ("output" if wanted else "intermediates"), pixels * node.spec.dtype.itemsize


def _kernel_bytes(node: Node, runs: Sequence[Runs]) -> int:
    """Return what a node needs beside its inputs and its result.

    The block with its halo is a copy at the image's edge and behind other nodes; extending it
    along one axis after the other takes a second one, before there is a result.  A result in
    another dtype than the kernel's is copied by the cast.
    """
    if not isinstance(node, Filtered):
        return 0
    own = [run_length(along) for along in node.strip(runs)]
    grown = [n + sum(h) for n, h in zip(own, node.halo, strict=True)]
    images = [one for one in node.inputs if is_image(one)]
    needed = sum(math.prod(own) * one.spec.dtype.itemsize for one in images)
    if node.filter.kind == "neighbourhood":
        block = math.prod(grown) * node.block_dtype.itemsize
        needed = block + max(block - pixels_of(runs) * node.spec.dtype.itemsize, 0)
    if node.omits:
        # Which pixels count, and what that was gathered from.
        needed += 3 * math.prod(grown)
    elif node.image.spec.nodata is not None:
        needed += math.prod(grown) * node.block_dtype.itemsize
    core = (math.prod(own[a] for a in node.batch), *(own[a] for a in node.spatial))
    if node.filter.rules.memory is not None:
        needed += node.filter.rules.memory(node.resolved, core, node.block_dtype)
    natural = node.params.get("dtype")
    if natural is not None:
        needed += 2 * pixels_of(runs) * 8
    return int(needed)

"""What all blocks of a size need together, without looking at each of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from chunkfilt.engine.evaluate import demand, wanted_runs
from chunkfilt.engine.graph import Filtered, ImageNode, Node, Source, Value
from chunkfilt.grid import Region, Runs, run_length

__all__ = ["Needed", "chunks", "grown", "pixels"]

Measure = Callable[[ImageNode, int, Runs], int]


def pixels(node: ImageNode, axis: int, runs: Runs) -> int:
    """Return the pixels of runs along an axis."""
    return run_length(runs)


def chunks(node: ImageNode, axis: int, runs: Runs) -> int:
    """Return the chunks of a stored source that runs touch along an axis."""
    assert isinstance(node, Source)
    side = node.reader.chunks[axis]  # type: ignore[attr-defined]
    return sum(-(-b // side) - a // side for a, b in runs)


def grown(node: ImageNode, axis: int, runs: Runs) -> int:
    """Return the pixels of runs with the halo that a filter needs around each."""
    assert isinstance(node, Filtered)
    halo = [(0, 0)] * node.spec.ndim
    for own, around in zip(node.strip(range(len(halo))), node.halo, strict=True):
        halo[own] = around
    return run_length(runs) + sum(halo[axis]) * len(runs)


class Needed:
    """The nodes behind some targets, and how much of each all blocks of the image need.

    What a block needs along one axis does not depend on its place along the others, and blocks away
    from the image's edge all need the same: the first, the last and one between tell of all (of
    blocks smaller than the halo nearly so: more of them feel the edge).

    Parameters
    ----------
    targets : sequence of Node
        What is computed.
    known : sequence of Value
        Values computed before.
    shape, axes : sequence
        Of the grid that is cut in blocks.
    """

    def __init__(
        self,
        targets: Sequence[Node],
        known: Sequence[Value],
        shape: Sequence[int],
        axes: Sequence[str],
    ) -> None:
        self._targets, self._known = targets, dict.fromkeys(known)
        self._shape, self._axes = shape, axes
        self.nodes, self._pixel = self._demand({})
        self._along = functools.cache(self._along_axis)
        self._sum = functools.cache(self._sum_along)

    def total(self, node: ImageNode, block: Sequence[int], measure: Measure = pixels) -> int:
        """Add up a measure, multiplied over the axes of a node, over all blocks of a size."""
        sums = [self._sum(node, axis, side, measure) for axis, side in enumerate(block)]
        own = self._pixel[id(node)]
        others = [a for a, name in enumerate(node.spec.axes) if name not in self._axes]
        return math.prod(sums) * math.prod(measure(node, a, own[a]) for a in others)

    def _sum_along(self, node: ImageNode, axis: int, side: int, measure: Measure) -> int:
        """Add up along one axis of the grid; a node without it is needed by every block."""
        total = 0
        for count, runs in self._along(axis, side):
            name = self._axes[axis]
            own = node.spec.axes.index(name) if name in node.spec.axes else None
            total += count * (1 if own is None else measure(node, own, runs[id(node)][own]))
        return total

    def _along_axis(self, axis: int, side: int) -> list[tuple[int, dict[int, list[Runs]]]]:
        """Return what blocks need along an axis: how many blocks, and the runs of each node."""
        last = -(-self._shape[axis] // side) - 1
        places = {0: 1, last // 2: last - 1, last: 1} if last > 1 else dict.fromkeys((0, last), 1)
        found = []
        for place, count in places.items():
            stop = min((place + 1) * side, self._shape[axis])
            found.append((count, self._demand({axis: (place * side, stop)})[1]))
        return found

    def _demand(
        self, sides: dict[int, tuple[int, int]]
    ) -> tuple[list[Node], dict[int, list[Runs]]]:
        along = [sides.get(axis, (0, 1)) for axis in range(len(self._shape))]
        region = Region(tuple(a for a, _ in along), tuple(b for _, b in along))
        return demand(wanted_runs(self._targets, region), self._known)

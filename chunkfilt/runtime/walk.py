"""Reading strip by strip: a chunk is decoded once, though the next strip's halo needs it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chunkfilt.engine.graph import Source
from chunkfilt.grid import Region, Runs, round_up

__all__ = ["Walk"]


class Walk:
    """The sources of one block, read as its strips come.

    What is read goes on to the end of the chunks it touches, and what the next strip needs of it
    stays until then.

    Parameters
    ----------
    runs : mapping
        For the ``id`` of each source the runs that the whole block needs.
    along : str, optional
        The axis on which the strips follow each other; None where there is but one.
    """

    def __init__(self, runs: Mapping[int, Sequence[Runs]], along: str | None) -> None:
        self._runs, self._along = runs, along
        self._held: dict[Any, tuple[int, np.ndarray]] = {}

    def read(self, source: Source, region: Region) -> np.ndarray:
        """Return the pixels of a region, good until the next strip is read."""
        chunks = getattr(source.reader, "chunks", None)
        if self._along not in source.spec.axes or chunks is None:
            return source.read(region)
        axis = source.spec.axes.index(self._along)
        start, stop = region.start[axis], region.stop[axis]
        # Where an edge shows pixels of elsewhere (wrap), a strip has several regions.
        lane = id(source), _replaced(region, axis, 0, 0)
        ahead = min(round_up(stop, chunks[axis]), self._limit(source, axis, stop))
        whole = _replaced(region, axis, start, ahead)
        if lane not in self._held:
            self._held[lane] = start, source.read(whole)
        begin, pixels = self._held[lane]
        end = begin + pixels.shape[axis]
        if not begin <= start <= end:
            return source.read(region)
        if ahead > end:
            # A copy, so that the rest of what was held can go before more is read.
            del self._held[lane]
            left = _cut(pixels, axis, start - begin, end - begin).copy()
            del pixels
            begin, pixels = start, np.empty(whole.shape, source.spec.dtype)
            _cut(pixels, axis, 0, end - start)[...] = left
            _fill(source, _replaced(region, axis, end, ahead), _cut(pixels, axis, end - start))
            self._held[lane] = begin, pixels
        return _cut(pixels, axis, start - begin, stop - begin)

    def _limit(self, source: Source, axis: int, stop: int) -> int:
        """Return where what the block needs of the source ends."""
        return max(b for a, b in self._runs[id(source)][axis] if a < stop)


def _fill(source: Source, region: Region, out: np.ndarray) -> None:
    """Read a region into an array: straight into it where the reader can."""
    straight = getattr(source.reader, "read_into", None)
    if straight is not None and out.flags.c_contiguous:
        straight(region, out)
    else:
        out[...] = source.read(region)


def _cut(pixels: np.ndarray, axis: int, start: int, stop: int | None = None) -> np.ndarray:
    return pixels[(slice(None),) * axis + (slice(start, stop),)]


def _replaced(region: Region, axis: int, start: int, stop: int) -> Region:
    """Return a region with another extent along one axis."""
    starts, stops = list(region.start), list(region.stop)
    starts[axis], stops[axis] = start, stop
    return Region(tuple(starts), tuple(stops))

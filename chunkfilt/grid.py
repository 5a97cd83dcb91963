"""Regions, halos, runs and blocks: integers only.

A *region* is a half-open N-d box in image coordinates.  Along one axis, *runs* are sorted,
disjoint, half-open intervals; the product of the runs of every axis is what a node must hold
for a block (one run per axis away from the image's edge, two where ``wrap`` reaches round).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Blocks",
    "Halo",
    "ImageSpec",
    "Region",
    "Runs",
    "boxes",
    "merge_runs",
    "round_up",
    "run_length",
    "window_halo",
    "write_unit",
]

Halo = tuple[tuple[int, int], ...]
Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A half-open box ``start <= pixel < stop`` along every axis.

    >>> Region((0, 2), (4, 8)).shape
    (4, 6)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop) or any(
            b < a for a, b in zip(self.start, self.stop, strict=True)
        ):
            message = f"a region needs start <= stop per axis, got {self.start} to {self.stop}"
            raise ValueError(message)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """Return the region of a whole image."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along every axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The region as an index."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def runs(self) -> tuple[Runs, ...]:
        """The region as one run per axis."""
        return tuple(((a, b),) if b > a else () for a, b in zip(self.start, self.stop, strict=True))

    def shift(self, offset: Sequence[int]) -> Region:
        """Return the region moved by `offset` pixels per axis."""
        return Region(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def grow(self, halo: Halo) -> Region:
        """Return the region with its halo; may reach beyond the image."""
        return Region(
            tuple(a - h[0] for a, h in zip(self.start, halo, strict=True)),
            tuple(b + h[1] for b, h in zip(self.stop, halo, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What is known of an image without its pixels: shape, dtype, named axes.

    `spatial` holds the indices of the axes a filter works along; the others are batch axes.
    `leading` are the axes that a filter added (a Gabor bank's): they have chunks of 1, and every
    block holds them in full; the rest is the image's *grid*.  A pixel that equals `nodata` is
    missing.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[str, ...]
    spatial: tuple[int, ...]
    leading: tuple[int, ...] = ()
    nodata: float | None = None

    def __post_init__(self) -> None:
        # Stored pixels may have the other byte order; everything computed has the machine's.
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))
        if self.nodata is not None and math.isnan(self.nodata):
            # One NaN for all: specs that have it are equal.
            object.__setattr__(self, "nodata", math.nan)

    @property
    def grid(self) -> tuple[int, ...]:
        """The axes that came with the image."""
        return tuple(a for a in range(self.ndim) if a not in self.leading)

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """The shape without the leading axes."""
        return tuple(self.shape[a] for a in self.grid)

    def from_grid(self, region: Region) -> Region:
        """Return a region of the grid with the leading axes in full."""
        start, stop = [0] * self.ndim, list(self.shape)
        for axis, a, b in zip(self.grid, region.start, region.stop, strict=True):
            start[axis], stop[axis] = a, b
        return Region(tuple(start), tuple(stop))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of an image as an index computation: ``blocks[i]`` is a region, never a list.

    >>> blocks = Blocks((10, 10), (4, 8))
    >>> len(blocks), blocks[5]
    (6, Region(start=(8, 8), stop=(10, 10)))
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.block) or any(b < 1 for b in self.block):
            message = f"blocks of {self.block} do not fit an image of {self.shape}"
            raise ValueError(message)

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along every axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            message = f"block {index} of {len(self)}"
            raise IndexError(message)
        start = []
        for count, size in zip(reversed(self.counts), reversed(self.block), strict=True):
            index, along = divmod(index, count)
            start.append(along * size)
        start.reverse()
        ends = zip(start, self.block, self.shape, strict=True)
        return Region(tuple(start), tuple(min(a + b, n) for a, b, n in ends))

    def __iter__(self) -> Iterator[Region]:
        return (self[i] for i in range(len(self)))


def window_halo(size: Sequence[int], origin: Sequence[int] | None = None) -> Halo:
    """Return the halo ``(before, after)`` per axis of a window of `size` pixels.

    Output p sees inputs ``p - n//2 - origin`` to ``p - n//2 - origin + n - 1``.

    >>> window_halo((3, 4)), window_halo((3,), (1,))
    (((1, 1), (2, 1)), ((2, 0),))
    """
    shift = (0,) * len(size) if origin is None else origin
    return tuple((n // 2 + o, n - 1 - n // 2 - o) for n, o in zip(size, shift, strict=True))


def merge_runs(*many: Runs) -> Runs:
    """Return the union of several runs, joined where they touch or overlap.

    >>> merge_runs(((0, 3),), ((2, 5), (8, 9)))
    ((0, 5), (8, 9))
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(itertools.chain.from_iterable(many)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def run_length(runs: Runs) -> int:
    """Return the number of pixels in `runs`."""
    return sum(b - a for a, b in runs)


def boxes(runs: Sequence[Runs]) -> Iterator[tuple[Region, tuple[slice, ...]]]:
    """Yield each box of the product of runs and its place in an array packed by those runs."""
    placed = []
    for along in runs:
        at, here = 0, []
        for start, stop in along:
            here.append((start, stop, slice(at, at + stop - start)))
            at += stop - start
        placed.append(here)
    for combination in itertools.product(*placed):
        region = Region(tuple(c[0] for c in combination), tuple(c[1] for c in combination))
        yield region, tuple(c[2] for c in combination)


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


def write_unit(chunks: Sequence[int], shards: Sequence[int] | None) -> tuple[int, ...]:
    """Return the pixels of one file of a Zarr array: its shard, or its chunk without shards."""
    return tuple(chunks if shards is None else shards)

"""A block worked through tile by tile, where some of its pixels do not count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import core_shape

__all__ = ["in_tiles", "seen_by", "tile_sides"]

_WINDOWS = 4  # a tile has at least as many windows along each axis: neighbours overlap


def in_tiles(
    block: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, ...],
    dtype: np.dtype[Any],
    sides: tuple[int, ...],
    whole: Callable[[NDArray[Any]], NDArray[Any]],
    partly: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> NDArray[Any]:
    """Filter a block tile by tile.

    ``whole(block)`` filters a tile whose pixels all count, ``partly(block, valid)`` others.
    """
    out = np.empty(core_shape(block, size), dtype)
    starts = [range(0, n, max(side, 1)) for n, side in zip(out.shape, sides, strict=True)]
    for at in itertools.product(*starts):
        core = tuple(slice(a, a + side) for a, side in zip(at, sides, strict=True))
        target, tile = out[core], (core[0], *map(_seen, core[1:], size))
        kept = valid[tile]
        if kept.all():
            target[...] = whole(block[tile])
        elif kept.any():
            target[...] = partly(block[tile], kept)
        else:
            target[...] = np.nan
    return out


def _seen(core: slice, window: int) -> slice:
    return slice(core.start, core.stop + window - 1)


def seen_by(sides: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Return how many pixels a tile sees."""
    return sides[0] * math.prod(a + b - 1 for a, b in zip(sides[1:], size, strict=True))


def tile_sides(
    core: tuple[int, ...], size: tuple[int, ...], pixels: int, row: int
) -> tuple[int, ...]:
    """Return the sides of a tile of about so many pixels in rows of such a length."""
    left, sides = pixels, []
    for axis in reversed(range(len(core))):
        wanted = left
        if axis > 1:
            wanted = row if axis == len(core) - 1 else math.isqrt(left)
        least = _WINDOWS * size[axis - 1] if axis else 1
        sides.append(min(core[axis], max(wanted, least)))
        left //= max(sides[-1], 1)
    return tuple(reversed(sides))

"""The checksums of all write units of a block, in one walk over its pixels.

A unit is a few thousand pixels wide at most, so that its rows lie scattered over the block: to copy
it out and sum it by itself takes twice as long as to walk the block in its own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels.checksum import _PLACE, _WORD, _check_box, _sum_floats, _sum_words

__all__ = ["unit_checksums"]


def unit_checksums(
    block: NDArray[Any], origin: Sequence[int], shape: Sequence[int], unit: Sequence[int]
) -> list[int]:
    """Return `image_checksum` of every cell of a grid that lies over a block.

    Parameters
    ----------
    block : ndarray
        One axis or more; the dtypes of `image_checksum`.
    origin, shape : sequence of int
        Image coordinates of the block's first pixel, and the shape of the whole image.
    unit : sequence of int
        Pixels of a cell; the first begins where the block does.

    Returns
    -------
    list of int
        In C order of the cells.

    Examples
    --------
    >>> from chunkfilt.kernels.checksum import image_checksum
    >>> left, right = unit_checksums(np.zeros((2, 5)), (0, 0), (2, 5), (2, 3))
    >>> right == image_checksum(np.zeros((2, 2)), (0, 3), (2, 5))
    True
    """
    start, whole, cell = [int(o) for o in origin], [int(n) for n in shape], [int(n) for n in unit]
    _check_box(block, start, whole)
    if block.size == 0:
        return []
    data = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
    if data.dtype.kind == "c":
        data = data.view(f"f{data.dtype.itemsize // 2}")
        start, whole, cell = ([*held[:-1], 2 * held[-1]] for held in (start, whole, cell))
    word = np.dtype(f"u{data.dtype.itemsize}")
    special = np.zeros(3, dtype=word)  # as in `image_checksum`
    if data.dtype.kind == "f":
        special[:2] = np.array([np.inf, np.nan], dtype=data.dtype).view(word)
        special[2] = np.iinfo(word).max >> 1
    axes, cells = _table(data.shape, start, whole, cell)
    totals = np.zeros(cells, dtype=np.uint64)
    rows = data.view(word).reshape(-1)
    rows.flags.writeable = False
    _sum_units(rows, axes, special, totals)
    return [int(total) for total in totals]


def _table(
    box: Sequence[int], start: list[int], whole: list[int], unit: list[int]
) -> tuple[NDArray[Any], int]:
    """Return ``(axes, 5)`` and the number of cells.

    Of each axis its length, its stride in the image, its first place, the length of a cell and the
    stride of the cells. An axis that the block spans in one cell is joined to the one before.
    """
    joined: list[tuple[int, int, int, int]] = []
    for n, extent, first, cell in zip(box, whole, start, unit, strict=True):
        if joined and n == extent <= cell:
            joined[-1] = (
                joined[-1][0] * n, joined[-1][1] * n, joined[-1][2] * n, joined[-1][3] * n
            )  # fmt: skip
        else:
            joined.append((n, extent, first, cell))
    table, stride, cells = [], 1, 1
    for n, extent, first, cell in reversed(joined):
        table.append((n, stride % _WORD, first * stride % _WORD, cell, cells))
        stride *= extent
        cells *= -(-n // cell)
    return np.array(table[::-1], dtype=np.uint64), cells


@jit
def _sum_units(values, axes, special, totals):
    """Walk the rows, each cut where a cell ends; all arithmetic is modulo 2**64."""
    last = axes.shape[0] - 1
    width, cell = np.int64(axes[last, 0]), np.int64(axes[last, 3])
    for row in range(values.size // width):
        place = axes[last, 2]
        number = np.uint64(0)
        rest = np.uint64(row)
        for axis in range(last - 1, -1, -1):
            along = rest % axes[axis, 0]
            place += axes[axis, 2] + along * axes[axis, 1]
            number += along // axes[axis, 3] * axes[axis, 4]
            rest //= axes[axis, 0]
        for first in range(0, width, cell):
            n = min(cell, width - first)
            at = (place + np.uint64(first)) * _PLACE
            if special[0]:
                total = _sum_floats(values, row * width + first, n, at, special)
            else:
                total = _sum_words(values, row * width + first, n, at)
            totals[number] += total
            number += np.uint64(1)

"""A checksum of an image that does not depend on how it was cut into boxes.

Every pixel contributes a 64-bit mix of its place in the whole image and its bits; contributions
are added modulo 2**64, so boxes may be summed in any order and any division.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit

__all__ = ["combine_checksums", "format_checksum", "image_checksum"]

_WORD = 1 << 64
# The golden ratio of 2**64 spreads the places; the multipliers are those of splitmix64.
_PLACE = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def image_checksum(block: NDArray[Any], origin: Sequence[int], shape: Sequence[int]) -> int:
    """Sum a hash of place and value over the pixels of one box of an image.

    ``sum(mix(C-order index in the image, bits of the pixel)) mod 2**64``

    Parameters
    ----------
    block : ndarray
        Any number of axes, any layout; bool, integers, floats to 64 bits, complex (two floats).
    origin : sequence of int
        Image coordinates of the first pixel of the block.
    shape : sequence of int
        Shape of the whole image.

    Returns
    -------
    int
        0 ... 2**64 - 1. Every NaN counts as one and the same value; -0.0 differs from 0.0.

    Raises
    ------
    ValueError
        If the box does not lie in the image.
    TypeError
        If the dtype is not one of the above.

    Examples
    --------
    >>> image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    >>> top, rest = (image_checksum(image[a], o, (3, 4))
    ...              for a, o in ((np.s_[:1], (0, 0)), (np.s_[1:], (1, 0))))
    >>> combine_checksums(top, rest) == image_checksum(image, (0, 0), (3, 4))
    True
    """
    start, whole = [int(o) for o in origin], [int(n) for n in shape]
    _check_box(block, start, whole)
    if block.size == 0:
        return 0
    data = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
    if block.ndim == 0:  # a single number is now an array of one
        start, whole = [0], [1]
    if data.dtype.kind == "c":
        data = data.view(f"f{data.dtype.itemsize // 2}")
        start, whole = [*start[:-1], 2 * start[-1]], [*whole[:-1], 2 * whole[-1]]
    places, width = _rows(data.shape, start, whole)
    word = np.dtype(f"u{data.dtype.itemsize}")
    special = np.zeros(3, dtype=word)  # bits of infinity and NaN, all bits but the sign
    if data.dtype.kind == "f":
        special[:2] = np.array([np.inf, np.nan], dtype=data.dtype).view(word)
        special[2] = np.iinfo(word).max >> 1
    rows = data.view(word).reshape(-1)
    rows.flags.writeable = False
    return int(_checksum(rows, width, places, special))


def _check_box(block: NDArray[Any], start: list[int], whole: list[int]) -> None:
    """Refuse a box outside its image and a dtype that has no plain bits."""
    if not block.ndim == len(start) == len(whole):
        raise ValueError("block, origin and shape must have the same axes")
    for o, n, extent in zip(start, block.shape, whole, strict=True):
        if o < 0 or o + n > extent:
            raise ValueError(f"box {block.shape} at {start} is not inside the image {whole}")
    if block.dtype.kind not in "biufc" or block.dtype.itemsize > (
        16 if block.dtype.kind == "c" else 8
    ):
        raise TypeError(f"no checksum for dtype {block.dtype}")


def combine_checksums(*parts: int) -> int:
    """Add the checksums of disjoint boxes of one image, modulo 2**64.

    Examples
    --------
    >>> combine_checksums(2**64 - 1, 3)
    2
    """
    return sum(parts) % _WORD


def format_checksum(checksum: int) -> str:
    """Write a checksum as ``cf1:`` and 16 hexadecimal digits.

    Raises
    ------
    ValueError
        If the number is not in 0 ... 2**64 - 1.

    Examples
    --------
    >>> format_checksum(255)
    'cf1:00000000000000ff'
    """
    if not 0 <= checksum < _WORD:
        raise ValueError(f"a checksum lies in 0 ... 2**64 - 1, not {checksum}")
    return f"cf1:{checksum:016x}"


def _rows(box: Sequence[int], start: list[int], whole: list[int]) -> tuple[NDArray[Any], int]:
    """Return ``(axes, 3)``: length, stride in the image and first place of each outer axis.

    Axes that a box spans wholly are joined to the one before, so that a row is as long as can be.
    """
    axes: list[tuple[int, int, int]] = []  # extent of the box, of the image, first place
    for n, extent, first in zip(box, whole, start, strict=True):
        if axes and n == extent:
            axes[-1] = (axes[-1][0] * n, axes[-1][1] * n, axes[-1][2] * n)
        else:
            axes.append((n, extent, first))
    axes = axes or [(1, 1, 0)]
    table, stride = [], 1
    for n, extent, first in reversed(axes):
        table.append((n, stride % _WORD, first * stride % _WORD))
        stride *= extent
    return np.array(table[::-1], dtype=np.uint64), table[0][0]


@jit
def _checksum(values, width, axes, special):
    """Walk the rows; all arithmetic is modulo 2**64."""
    total = np.uint64(0)
    outer = axes.shape[0] - 1
    for row in range(values.size // width):
        place = axes[outer, 2]
        rest = np.uint64(row)
        for axis in range(outer - 1, -1, -1):
            place += axes[axis, 2] + (rest % axes[axis, 0]) * axes[axis, 1]
            rest //= axes[axis, 0]
        if special[0]:
            total += _sum_floats(values, row * width, width, place * _PLACE, special)
        else:
            total += _sum_words(values, row * width, width, place * _PLACE)
    return total


@jit
def _sum_words(values, at, n, place):
    total = np.uint64(0)
    at = np.uint64(at)
    for i in range(np.uint64(n)):
        total += _mix(place + i * _PLACE, np.uint64(values[at + i]))
    return total


@jit
def _sum_floats(values, at, n, place, special):
    total = np.uint64(0)
    at = np.uint64(at)
    limit, nan, unsigned = special[0], special[1], special[2]
    for i in range(np.uint64(n)):
        bits = values[at + i]
        bits = nan if (bits & unsigned) > limit else bits
        total += _mix(place + i * _PLACE, np.uint64(bits))
    return total


@jit
def _mix(place, bits):
    """Hash one pixel: the folded place decouples it from the value before the two are joined."""
    z = (place ^ (place >> np.uint64(32))) + bits
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))

"""Ranks and extremes among the pixels of a window that count.

Where all pixels of a window count, the kernels for whole windows are exact too, and far faster;
sets that know the valid pixels are left with the windows of which a part is missing. A block is
worked through in bands, so that what says where these are stays small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _slide
from chunkfilt.kernels._common import as4d, core_shape, pad3
from chunkfilt.kernels._keys import key_rule
from chunkfilt.kernels._slide import slide_memory
from chunkfilt.kernels._slide_valid import slide_valid
from chunkfilt.kernels.extremes import (
    Window,
    difference,
    extreme_filter,
    range_filter,
    window_of,
)
from chunkfilt.kernels.rank import rank_filter

__all__ = ["valid_memory", "valid_extreme", "valid_range", "valid_rank"]

_BAND = 1 << 18  # pixels of a band


def valid_rank(
    block: NDArray[Any],
    footprint: NDArray[Any],
    ranks: NDArray[Any],
    valid: NDArray[Any],
    missing: Any,
) -> NDArray[Any]:
    """Select a pixel by its rank among the valid pixels under a footprint.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Extended by the halo; bool, integers or floats to 64 bits.
    footprint : ndarray of bool
        One axis per spatial axis.
    ranks : ndarray of int
        ``ranks[n]`` is the rank from 0, below n, to take among n valid pixels, for n from 0
        (which is not read) to the number of pixels in the footprint.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    missing : scalar
        The result where none does.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        The dtype of the block. NaN where a valid pixel of the window is NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> block, valid = np.array([[3, 1, 2, 9]]), np.array([[True, True, False, True]])
    >>> valid_rank(block, np.ones(3, bool), np.array([0, 0, 1, 1]), valid, -1)
    array([[3, 9]])
    """
    count = int(np.count_nonzero(footprint))

    def partly(part: NDArray[Any], kept: NDArray[Any], out: NDArray[Any]) -> None:
        spoilt = np.isnan(part) & kept if part.dtype.kind == "f" else np.zeros_like(kept)
        full, some = (extreme_filter(kept, footprint, largest) for largest in (False, True))
        out[...] = rank_filter(part, footprint, int(ranks[count])) if full.any() else missing
        _put_ranks(part, footprint, ranks, kept & ~spoilt, some & ~full, out)
        out[~some] = missing
        if spoilt.any():
            out[extreme_filter(spoilt, footprint, True)] = np.nan

    return _in_bands(
        block,
        footprint,
        valid,
        lambda part: rank_filter(part, footprint, int(ranks[count])),
        partly,
    )


def valid_extreme(
    block: NDArray[Any],
    footprint: Window,
    largest: bool,
    valid: NDArray[Any],
    missing: Any,
) -> NDArray[Any]:
    """Take the least or the greatest of the valid pixels under a footprint.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Extended by the halo; bool, integers or floats to 64 bits.
    footprint : ndarray of bool, or tuple of int
        One axis per spatial axis; or the size of a box.
    largest : bool
        Take the greatest pixel, not the least.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    missing : scalar
        The result where none does.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        The dtype of the block. NaN where a valid pixel of the window is NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> block, valid = np.array([[3, 1, 2, 9]]), np.array([[True, False, True, False]])
    >>> valid_extreme(block, np.ones(2, bool), False, valid, -1)
    array([[3, 2, 2]])
    """

    def partly(part: NDArray[Any], kept: NDArray[Any], out: NDArray[Any]) -> None:
        out[...] = _extreme(part, kept, footprint, largest)
        out[~extreme_filter(kept, footprint, True)] = missing

    return _in_bands(
        block, footprint, valid, lambda part: extreme_filter(part, footprint, largest), partly
    )


def valid_range(
    block: NDArray[Any], footprint: Window, valid: NDArray[Any], missing: Any
) -> NDArray[Any]:
    """Subtract the least from the greatest of the valid pixels under a footprint.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        Extended by the halo; bool, integers or floats to 64 bits.
    footprint : ndarray of bool, or tuple of int
        One axis per spatial axis; or the size of a box.
    valid : ndarray of bool
        The shape of the block: which pixels count.
    missing : scalar
        The result where none does.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        As `range_filter` gives it.

    Raises
    ------
    ValueError
        If the footprint is empty or does not fit the block.

    Examples
    --------
    >>> block, valid = np.array([[3, 1, 2, 9]]), np.array([[True, False, True, False]])
    >>> valid_range(block, np.ones(3, bool), valid, -1)
    array([[1, 0]])
    """

    def partly(part: NDArray[Any], kept: NDArray[Any], out: NDArray[Any]) -> None:
        high, low = (_extreme(part, kept, footprint, largest) for largest in (True, False))
        out[...] = difference(high, low)
        out[~extreme_filter(kept, footprint, True)] = missing

    return _in_bands(block, footprint, valid, lambda part: range_filter(part, footprint), partly)


def valid_memory(core: tuple[int, ...], footprint: Window, itemsize: int, ranks: bool) -> int:
    """Return the bytes that these filters take beside what those of whole windows do.

    Parameters
    ----------
    core : tuple of int
        The result's shape, `(batch, *spatial)`.
    footprint : ndarray of bool, or tuple of int
        One axis per spatial axis; or the size of a box.
    itemsize : int
        Bytes of a pixel.
    ranks : bool
        For `valid_rank`, not one of the others.

    Returns
    -------
    int

    Examples
    --------
    >>> valid_memory((1, 4096, 4096), (5, 5), 1, ranks=False)
    2197600
    """
    window = window_of(footprint)
    grown = [max(n, 1) + w - 1 for n, w in zip(core[1:], window, strict=True)]
    row = core[0] * math.prod(grown[1:])
    rows = min(_rows(row, window[0]) + window[0] - 1, grown[0])
    # Two results, a block filled up, and what says which pixels count, are wanted, or are NaN.
    held = rows * row * (3 * itemsize + 5)
    # The valid pixels of a tile are listed, and have their codes, beside those of all.
    sets = slide_memory(pad3(core[1:], 1), pad3(window, 1), itemsize + 8)
    return held + sets if ranks else held


def _rows(row: int, window: int) -> int:
    """Return the rows of a band's core, for rows of so many pixels."""
    return max(_BAND // max(row, 1), 2 * window)


def _extreme(
    block: NDArray[Any], valid: NDArray[Any], footprint: Window, largest: bool
) -> NDArray[Any]:
    """Take an extreme of a block whose invalid pixels are the last to be taken."""
    least, greatest = _limits(block.dtype)
    filled = np.where(valid, block, least if largest else greatest)
    return extreme_filter(filled, footprint, largest)


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest value of a dtype, as its scalars."""
    if dtype.kind == "b":
        return np.False_, np.True_
    kind = dtype.newbyteorder("=").type
    if dtype.kind == "f":
        return kind(-np.inf), kind(np.inf)
    info = np.iinfo(dtype)
    return kind(info.min), kind(info.max)


def _in_bands(
    block: NDArray[Any],
    footprint: Window,
    valid: NDArray[Any],
    whole: Callable[[NDArray[Any]], NDArray[Any]],
    partly: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], None],
) -> NDArray[Any]:
    """Filter a block band by band, along its first spatial axis.

    ``whole(block)`` filters a band whose pixels all count, ``partly(block, valid, out)`` others.
    """
    out = np.empty(core_shape(block, window_of(footprint)), block.dtype.newbyteorder("="))
    if out.size:
        window = window_of(footprint)[0]
        rows = _rows(block.size // block.shape[1], window)
        for first in range(0, out.shape[1], rows):
            band = slice(first, first + rows + window - 1)
            kept, target = valid[:, band], out[:, first : first + rows]
            if kept.all():
                target[...] = whole(block[:, band])
            else:
                partly(block[:, band], kept, target)
    return out


def _put_ranks(
    block: NDArray[Any],
    footprint: NDArray[Any],
    ranks: NDArray[Any],
    valid: NDArray[Any],
    wanted: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Put ranks among the valid pixels into a result, where they are wanted."""
    if not wanted.any():
        return
    dtype = block.dtype.newbyteorder("=")
    kind, consts = key_rule(dtype)
    cells = np.ascontiguousarray(footprint, np.bool_).reshape(pad3(footprint.shape, 1))
    result = np.empty(out.shape, dtype)
    core = (out.shape[0], *pad3(out.shape[1:], 1))
    slide_valid(
        as4d(np.ascontiguousarray(block, dtype).view(consts.dtype)), as4d(valid), as4d(wanted),
        result.view(consts.dtype).reshape(core), _slide.runs(cells), cells.shape,
        np.ascontiguousarray(ranks, np.int64), _slide.tile_of(cells.shape), (kind, consts),
    )  # fmt: skip
    np.copyto(out, result, where=wanted)

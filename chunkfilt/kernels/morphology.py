"""Morphology: steps on binary images, and erosion by structures that are not flat."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._bits import PLANES, Bits, Box, cover
from chunkfilt.kernels._common import core_shape, pad3
from chunkfilt.kernels._uneven import least_counted, uneven_extreme
from chunkfilt.kernels.extremes import extreme_filter
from chunkfilt.kernels.valid import valid_extreme

__all__ = [
    "Step",
    "binary_memory",
    "binary_steps",
    "grey_extreme",
    "make_step",
    "saturated_difference",
    "uneven_filter",
]

Window = NDArray[np.bool_] | tuple[int, ...]  # a footprint, or the size of a box

_BAND = 1 << 20  # pixels of a band: its planes of bits should stay in a core's cache


class Step(NamedTuple):
    """One erosion, or dilation where `grow`: boxes of the structure and the centre, per axis."""

    boxes: tuple[Box, ...]
    window: tuple[int, ...]
    centre: tuple[int, ...]
    grow: bool


def make_step(cells: NDArray[Any], centre: tuple[int, ...], grow: bool) -> Step:
    """Return one step of `binary_steps`.

    Parameters
    ----------
    cells : ndarray of bool
        The structure over one to three spatial axes: what the pixel at `centre` sees of its
        neighbours.  A dilation's is given turned round already.
    centre : tuple of int
        The pixel's own place in the window.
    grow : bool
        Whether one pixel of the structure is enough (a dilation), or all are needed.

    Returns
    -------
    Step

    Examples
    --------
    >>> make_step(np.ones((3, 5), bool), (1, 2), False).boxes
    (((0, 1), (0, 3), (0, 5)),)
    """
    held = np.asarray(cells, np.bool_)
    return Step(cover(held.reshape(pad3(held.shape, 1))), held.shape, tuple(centre), grow)


def binary_steps(
    block: NDArray[Any], steps: Sequence[Step], free: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Erode and dilate a binary image, step by step.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halos of all steps; what is not zero is True.
    steps : sequence of Step
        In order.
    free : ndarray, optional
        The shape of the block; pixels where it is zero keep their values in every step.

    Returns
    -------
    ndarray of bool
        Shape `(batch, *core)`.

    Raises
    ------
    ValueError
        If the windows do not fit the block.

    Examples
    --------
    >>> cross = make_step(np.ones(3, bool), (1,), grow=False)
    >>> binary_steps(np.array([[0, 1, 1, 1, 1]]), [cross])
    array([[False,  True,  True]])
    """
    lost = [sum(step.window[axis] - 1 for step in steps) for axis in range(block.ndim - 1)]
    shape = core_shape(block, tuple(n + 1 for n in lost))
    out = np.empty((shape[0], *pad3(shape[1:], 1)), np.bool_)
    if out.size == 0:
        return out.reshape(shape)
    pixels, may = _plain(block), None if free is None else _plain(free)
    _, nz, ny, nx = pixels.shape
    tall = _band(nz * nx, pad3(tuple(lost), 0)[1], out.shape[2])
    high = tall + ny - out.shape[2]
    bits = Bits((nz, high, nx))
    # The last band may begin within the one before.
    tops = [min(y, out.shape[2] - tall) for y in range(0, out.shape[2], tall)]
    for one, y0 in itertools.product(range(shape[0]), tops):
        band = (one, slice(None), slice(y0, y0 + high))
        bits.fill(pixels[band], None if may is None else may[band])
        for step in steps:
            bits.step(step.boxes, pad3(step.centre, 0), step.grow, may is not None)
        bits.read(out[one, :, y0 : y0 + tall])
    return out.reshape(shape)


def _plain(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block with three spatial axes, as bool or integers that are zero or not."""
    held = block if block.dtype.kind in "biu" else block != 0
    return held.reshape(block.shape[0], *pad3(block.shape[1:], 1))


def binary_memory(shape: tuple[int, ...], lost: tuple[int, ...]) -> int:
    """Return the bytes that `binary_steps` works in, for a block that loses so many pixels.

    Examples
    --------
    >>> binary_memory((1, 64, 64), (2, 2)) > 64 * 64
    True
    """
    z, y, x = pad3(shape[1:], 1)
    halo = pad3(lost, 0)[1]
    rows = z * (_band(z * x, halo, max(y - halo, 0)) + halo)
    # The planes of bits, a byte for each pixel to read them, and one where the block is no mask.
    return rows * (-(-x // 64) * 8 * PLANES + x) + int(np.prod(shape, dtype=np.int64))


def _band(row: int, lost: int, rows: int) -> int:
    """Return how many rows of the result to compute at a time: of the speed only."""
    return min(max(_BAND // max(row, 1), 2 * lost, 16), rows)


def uneven_filter(
    block: NDArray[Any],
    cells: NDArray[Any],
    heights: NDArray[Any],
    largest: bool,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Take the least of the pixels less a structure's heights, or the greatest of their sums.

    Integers are saturated, and fractions of the heights cut off for them; float16 and float32 are
    added up in float32.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    cells : ndarray of bool
        The pixels of the window that count, as the output pixel sees them.
    heights : ndarray
        Finite numbers, the shape of `cells`.
    largest : bool
        Take the greatest of the pixels plus the heights.
    valid : ndarray of bool, optional
        The shape of the block: where not, a pixel does not count.  Where none does the result is
        that of the extreme value.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype. NaN where the structure holds a NaN.

    Raises
    ------
    ValueError
        If the structure is empty or does not fit the block.

    Examples
    --------
    >>> block, heights = np.array([[10, 3, 7]], np.uint8), np.array([9, 0, 5])
    >>> uneven_filter(block, np.ones(3, bool), heights, False)
    array([[1]], dtype=uint8)
    """
    held = np.ascontiguousarray(cells, np.bool_)
    if not held.any():
        raise ValueError("a structure without a single pixel")
    native = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    chosen = np.asarray(heights)[held]
    if native.dtype.kind == "f":
        return _uneven_floats(native, held, chosen, largest, valid)
    moves = [int(h) if largest else -int(h) for h in chosen]
    width = np.dtype(f"u{native.itemsize}")
    most = np.iinfo(width).max
    turn = most // 2 + 1 if native.dtype.kind == "i" else 0
    if valid is not None and largest:
        # What does not count is the greatest pixel: the least of pixels turned upside down.
        turn, moves = turn ^ most, [-move for move in moves]
    keys = native.view(width) ^ width.type(turn) if turn else native.view(width)
    if valid is None:
        out = uneven_extreme(keys, held, moves, largest)
    else:
        out = least_counted(keys, held, moves, np.where(valid, width.type(0), width.type(most)))
    assert out is not None
    if turn:
        np.bitwise_xor(out, width.type(turn), out=out)
    if native.dtype.kind == "b":
        np.minimum(out, 1, out=out)
    return out.view(native.dtype)


def _uneven_floats(
    block: NDArray[Any],
    cells: NDArray[np.bool_],
    heights: NDArray[Any],
    largest: bool,
    valid: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    dtype = np.dtype(np.float64 if block.itemsize == 8 else np.float32)
    pixels = block.astype(dtype, copy=False)
    if valid is not None:
        pixels = np.where(valid, pixels, dtype.type(-np.inf if largest else np.inf))
    moves = heights.astype(dtype)
    moves = moves if largest else -moves
    out = uneven_extreme(pixels, cells, moves, largest)
    if out is None:
        # The loops know no NaN: it is put where it belongs afterwards.
        gone = np.isnan(pixels)
        out = uneven_extreme(np.where(gone, dtype.type(0), pixels), cells, moves, largest)
        assert out is not None
        out[binary_steps(gone, [make_step(cells, (0,) * cells.ndim, grow=True)])] = np.nan
    with np.errstate(over="ignore"):
        return out.astype(block.dtype, copy=False)


def grey_extreme(
    block: NDArray[Any],
    footprint: Window,
    heights: NDArray[Any] | None,
    largest: bool,
    valid: NDArray[np.bool_] | None = None,
    missing: Any = 0,
) -> NDArray[Any]:
    """Erode by a structure, or dilate by one that is turned round already.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    footprint : ndarray of bool, or tuple of int
        The pixels of the window that count, or the size of a box.
    heights : ndarray, optional
        Of a structure that is not flat: what `uneven_filter` takes.
    largest : bool
        Dilate: take the greatest pixel, not the least.
    valid : ndarray of bool, optional
        The shape of the block: which pixels count.
    missing : scalar
        The result where none does.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, in the block's dtype. NaN where the structure holds a NaN.

    Examples
    --------
    >>> grey_extreme(np.array([[5, 3, 6, 9]]), (3,), None, True)
    array([[6, 9]])
    """
    if heights is None:
        if valid is None:
            return extreme_filter(block, footprint, largest)
        return valid_extreme(block, footprint, largest, valid, missing)
    cells = np.ones(footprint, np.bool_) if isinstance(footprint, tuple) else footprint
    held = heights[cells]
    if (held == held[0]).all():
        # Flat, and then as a whole higher or lower.
        out = grey_extreme(block, footprint, None, largest, valid, missing)
        one = (1,) * cells.ndim
        out = uneven_filter(out, np.ones(one, np.bool_), held[:1].reshape(one), largest)
    else:
        out = uneven_filter(block, cells, heights, largest, valid)
    if valid is not None:
        out[~extreme_filter(valid, footprint, True)] = missing
    return out


def saturated_difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Subtract images of one dtype; integers stop at their limits, bool gives xor.

    Examples
    --------
    >>> saturated_difference(np.array([3, 250], np.uint8), np.array([5, 3], np.uint8))
    array([  0, 247], dtype=uint8)
    """
    if a.dtype.kind == "b":
        return np.logical_xor(a, b)
    if a.dtype.kind == "u":
        out = np.maximum(a, b)
        return np.subtract(out, b, out=out)
    out = np.subtract(a, b)
    if a.dtype.kind == "i":
        # Beyond the limits where the signs differ and the result's is not that of a.
        over = ((a ^ b) & (a ^ out)) < 0
        if over.any():
            limits = np.iinfo(a.dtype)
            out[over] = np.where(a[over] < 0, limits.min, limits.max)
    return out

"""Exact rank filters: comparator networks for small footprints, sliding bit sets for large ones.

Every dtype is first mapped onto a signed integer of its own width whose order is the order of
the values (floats by the sign-flip trick, so that -0.0 stands before 0.0). Both algorithms then
select among integers, which makes their results identical bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _comparators, _network, _slide
from chunkfilt.kernels._common import as4d
from chunkfilt.kernels._keys import key_rule

__all__ = ["median_rank", "rank_filter"]

_STRAIGHT_MAX = 256  # comparators of boxes that are worth a compilation: it takes half a second
_NETWORK_MAX = 2000  # above this many pixels no network is tried: building it takes a second


def median_rank(n: int) -> int:
    """Return the 0-based rank of the median of ``n`` values, ``n // 2`` as scipy has it.

    >>> median_rank(9)
    4
    """
    return n // 2


def rank_filter(block: NDArray[Any], footprint: NDArray[Any], rank: int) -> NDArray[Any]:
    """Select the ``rank``-th smallest pixel under a footprint.

    ``out[p] = sorted(block[p + k] for k where footprint[k])[rank]``

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        One to three spatial axes; bool, integers, float16, float32 or float64.
    footprint : ndarray of bool
        One axis per spatial axis; any shape, holes included.
    rank : int
        0-based, below the number of pixels in the footprint.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        The dtype of the block. NaN where the footprint holds a NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or of other dimension, or the rank is outside it.
    TypeError
        If the dtype is not one of the above.

    Examples
    --------
    >>> rank_filter(np.array([[3, 1, 2, 9]]), np.ones(3, bool), 1)
    array([[2, 2]])
    """
    return _rank_filter(block, footprint, rank, None)


def _rank_filter(
    block: NDArray[Any], footprint: NDArray[Any], rank: int, method: str | None
) -> NDArray[Any]:
    """Run `rank_filter` by ``"straight"``, ``"network"``, ``"slide"`` or the best of these."""
    mask = np.ascontiguousarray(footprint, dtype=np.bool_)
    count = int(np.count_nonzero(mask))
    if mask.ndim != block.ndim - 1:
        raise ValueError(f"footprint has {mask.ndim} axes, the block {block.ndim - 1} spatial ones")
    if count == 0:
        raise ValueError("footprint holds no pixel")
    if not 0 <= rank < count:
        raise ValueError(f"rank {rank} is outside 0 ... {count - 1}")
    kind, consts = key_rule(block.dtype)
    core = tuple(max(n - w + 1, 0) for n, w in zip(block.shape[1:], mask.shape, strict=True))
    out = np.empty((block.shape[0], *core), dtype=block.dtype.newbyteorder("="))
    if out.size == 0:
        return out
    src = as4d(np.ascontiguousarray(block, block.dtype.newbyteorder("=")).view(consts.dtype))
    dst = out.view(consts.dtype).reshape((block.shape[0], *(1,) * (3 - mask.ndim), *core))
    mask3 = mask.reshape((1,) * (3 - mask.ndim) + mask.shape)
    if method is None:
        method = _choose(mask3, rank, consts.dtype.itemsize)
    if method == "slide":
        tile = _slide.TILE_2D if mask3.shape[0] == 1 else _slide.TILE_3D
        _slide.run_slide(src, dst, _slide.runs(mask3), mask3.shape, rank, tile, kind, consts)
    else:
        net = _network.network_for(mask3.shape, mask3.tobytes(), rank)
        _comparators.run(src, dst, net, (kind, consts), method == "straight")
    return out


def _choose(mask: NDArray[Any], rank: int, itemsize: int) -> str:
    """Choose the cheaper algorithm from footprint, rank and dtype, never from the block."""
    if np.count_nonzero(mask) > _NETWORK_MAX:
        return "slide"
    net = _network.network_for(mask.shape, mask.tobytes(), rank)
    # Measured, in nanoseconds per pixel: what a comparator takes for each byte of the dtype; the
    # search for the rank, the runs that enter and leave, and the sort of the tile per byte.
    ops = len(net.ops) / len(net.results)
    network = ops * itemsize * 0.0135
    slide = 31 + 0.45 * len(_slide.runs(mask)) + 1.8 * itemsize
    if mask.all() and len(net.ops) <= _STRAIGHT_MAX:
        return "straight"
    return "network" if network <= slide else "slide"

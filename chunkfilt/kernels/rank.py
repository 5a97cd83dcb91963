"""Exact rank filters: comparator networks for small footprints, for large ones sets that slide.

Large boxes of bytes go by column histograms, all else by sets of bits. Every dtype is first mapped
onto a signed integer of its own width whose order is the order of the values (floats by the
sign-flip trick, so that -0.0 stands before 0.0). All algorithms then select among integers, which
makes their results identical bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _columns, _comparators, _network, _slide
from chunkfilt.kernels._common import as4d, pad3
from chunkfilt.kernels._keys import key_rule
from chunkfilt.kernels.extremes import extreme_filter, extreme_memory

__all__ = ["median_rank", "percentile_rank", "rank_filter", "rank_memory", "signed_rank"]

_STRAIGHT_MAX = 256  # comparators of boxes that are worth a compilation: it takes half a second
_NETWORK_MAX = 2000  # above this many pixels no network is tried: building it takes a second


def median_rank(n: Any) -> Any:
    """Return the rank, from 0, of the median of `n` values: ``n // 2``, as scipy has it.

    >>> median_rank(9), median_rank(np.arange(1, 5))
    (4, array([0, 1, 1, 2]))
    """
    return n // 2


def percentile_rank(n: Any, percentile: float) -> Any:
    """Return the rank, from 0, of a percentile of `n` values, as scipy rounds it.

    >>> percentile_rank(100, 29.0), percentile_rank(100, -20.0), percentile_rank(9, 100.0)
    (29, 80, 8)
    """
    wanted = percentile + 100.0 if percentile < 0 else percentile
    # In this order: 100 * (29 / 100) would be less than 29.
    below = np.asarray(np.float64(n) * wanted / 100.0).astype(np.int64)
    ranks = np.minimum(below, np.asarray(n) - 1)
    return ranks if ranks.ndim else int(ranks)


def signed_rank(n: Any, rank: int) -> Any:
    """Return a rank, from 0, among `n` values: negative ones add n, and none leaves 0 to n - 1.

    >>> signed_rank(9, 3), signed_rank(9, -2), signed_rank(np.arange(1, 5), 2)
    (3, 7, array([0, 1, 2, 2]))
    """
    ranks = np.clip(n + rank if rank < 0 else rank, 0, np.asarray(n) - 1)
    return ranks if ranks.ndim else int(ranks)


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


def rank_memory(
    core: tuple[int, ...], footprint: NDArray[Any], rank: int, dtype: np.dtype[Any]
) -> int:
    """Return the bytes that `rank_filter` works in.

    Parameters
    ----------
    core : tuple of int
        The result's shape, without its batch.
    footprint : ndarray of bool
        One axis per spatial axis.
    rank : int
        0-based, below the number of pixels in the footprint.
    dtype : dtype
        Of the block.

    Returns
    -------
    int

    Examples
    --------
    >>> rank_memory((4096, 4096), np.ones((31, 31), bool), 480, np.dtype(np.uint8)) < 2_000_000
    True
    """
    if rank in (0, np.count_nonzero(footprint) - 1):
        return extreme_memory(core, footprint, dtype.itemsize)
    mask = footprint.reshape(pad3(footprint.shape, 1))
    method = _choose(mask, rank, dtype.itemsize)
    if method == "slide":
        return _slide.slide_memory(pad3(core, 1), mask.shape, dtype.itemsize)
    if method == "columns":
        return _columns.columns_memory(pad3(core, 1), mask.shape)
    net = _network.network_for(mask.shape, mask.tobytes(), rank)
    return _comparators.network_memory(net, core[-1], dtype.itemsize)


def _rank_filter(
    block: NDArray[Any], footprint: NDArray[Any], rank: int, method: str | None
) -> NDArray[Any]:
    """Run `rank_filter` by a method (straight, network, slide, columns) or the best of these."""
    mask = np.ascontiguousarray(footprint, dtype=np.bool_)
    count = int(np.count_nonzero(mask))
    if mask.ndim != block.ndim - 1:
        raise ValueError(f"footprint has {mask.ndim} axes, the block {block.ndim - 1} spatial ones")
    if count == 0:
        raise ValueError("footprint holds no pixel")
    if not 0 <= rank < count:
        raise ValueError(f"rank {rank} is outside 0 ... {count - 1}")
    if method is None and rank in (0, count - 1):
        return extreme_filter(block, mask, rank > 0)
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
        tile = _slide.tile_of(mask3.shape)
        _slide.run_slide(src, dst, _slide.runs(mask3), mask3.shape, rank, tile, kind, consts)
    elif method == "columns":
        _columns.run_columns(src, dst, mask3.shape, rank, kind)
    else:
        net = _network.network_for(mask3.shape, mask3.tobytes(), rank)
        _comparators.run(src, dst, net, (kind, consts), method == "straight")
    return out


def _choose(mask: NDArray[Any], rank: int, itemsize: int) -> str:
    """Choose the cheapest algorithm from footprint, rank and dtype, never from the block."""
    # Measured, in nanoseconds per pixel: the search for the rank, which moves less along a line,
    # the runs that enter and leave, the sort; rows that enter and leave columns; what a comparator
    # takes for each byte of the dtype.
    count, line = np.count_nonzero(mask), mask.shape[:2] == (1, 1)
    price = {"slide": (11 if line else 34) + 0.45 * len(_slide.runs(mask)) + 1.2 * itemsize}
    if itemsize == 1 and count == mask.size <= _columns.COLUMNS_MAX and not line:
        price["columns"] = 6 + 3.5 * mask.shape[0]
    if count <= _NETWORK_MAX:
        net = _network.network_for(mask.shape, mask.tobytes(), rank)
        if count == mask.size and len(net.ops) <= _STRAIGHT_MAX:
            return "straight"
        price["network"] = len(net.ops) / len(net.results) * itemsize * 0.0135
    return min(price, key=lambda method: price[method])

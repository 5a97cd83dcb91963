"""Tone: mapping pixels by what the whole image holds."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.measure import Histogram, UniqueCounts, histogram, unique_counts
from chunkfilt.kernels import histogram as counting

__all__ = ["equalize_hist"]

_DEFAULT_BINS = 256
_SMALL = 2
NBins = Annotated[int, Field(ge=1, le=1 << 20)]


def _by_level(dtype: np.dtype, nbins: int | None) -> bool:
    """Return whether every level is a bin of its own."""
    return dtype.kind == "b" or (dtype.kind in "iu" and (dtype.itemsize <= _SMALL or nbins is None))


def _values(p: SimpleNamespace, dtypes: Any) -> dict[str, Any]:
    if _by_level(dtypes[0], p.nbins):
        return {"levels": (unique_counts, {})}
    return {"histogram": (histogram, {"nbins": p.nbins or _DEFAULT_BINS})}


def _float_like(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    """Return scikit-image's choice: float32 for float16 and float32, else float64."""
    small = dtypes[0].kind == "f" and dtypes[0].itemsize < np.dtype(np.float64).itemsize
    return np.dtype(np.float32 if small else np.float64)


def _bytes(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return working memory: wide integers are looked up by their places in the table."""
    return 24 * math.prod(core) if dtype.kind in "iu" and dtype.itemsize > _SMALL else 0


@image_filter(dtype=_float_like, values=_values, memory=_bytes)
def equalize_hist(
    block: np.ndarray,
    mask: Any = None,
    *,
    nbins: NBins | None = None,
    levels,
    histogram,
) -> np.ndarray:
    """Equalise the histogram of the whole image.

    Every pixel becomes the share of pixels that are not brighter. Integers: exactly, one bin
    per level. Floats: the cumulative histogram of `nbins` bins between the image's extrema,
    interpolated between the bins' centres. Reference: ``skimage.exposure.equalize_hist``.

    One sweep over the image for the counts (two for floats: extrema first), one to write.

    Parameters
    ----------
    image : image
        Bool, integer or float, finite.
    mask : image, optional
        Only pixels where it is not 0 are counted; all are mapped, those beyond the counted
        range to its ends.
    nbins : int, optional
        Bins for floats, and for 32- and 64-bit integers of more than 2**20 levels; default 256
        for floats, one bin per level for integers. Ignored for 8- and 16-bit integers.

    Returns
    -------
    image
        Same shape, 0 to 1; float32 for float16 and float32, else float64.

    Raises
    ------
    InputError
        If a pixel is NaN or infinite, or integers have too many levels.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.equalize_hist(np.array([0, 1, 1, 200], dtype="uint8"))
    array([0.25, 0.75, 0.75, 1.  ])
    """
    if levels is not None:
        return _map_levels(block, levels)
    return _map_bins(block, histogram)


def _map_levels(block: np.ndarray, levels: UniqueCounts) -> np.ndarray:
    small = block.dtype.kind == "b" or block.dtype.itemsize <= _SMALL
    low = 0 if block.dtype.kind == "b" else int(np.iinfo(block.dtype).min)
    span = 2 if block.dtype.kind == "b" else 1 << 8 * block.dtype.itemsize
    out = np.empty(block.shape, np.float64)
    table: np.ndarray = np.empty(0)
    held = None
    for row, (values, counts) in enumerate(zip(levels.values, levels.counts, strict=True)):
        if small:
            if values is not held:
                dense = np.zeros(span, np.int64)
                dense[values.astype(np.int64) - low] = counts
                table = np.cumsum(dense) / float(counts.sum())
                first = int(values[0]) - low
                table[:first] = table[first]
                held = values
            out[row : row + 1] = counting.lookup(block[row : row + 1], table[None], low)
        else:
            share = np.cumsum(counts) / float(counts.sum())
            place = np.searchsorted(values, block[row], side="right") - 1
            out[row] = share[np.maximum(place, 0)]
    return out


def _map_bins(block: np.ndarray, found: Histogram) -> np.ndarray:
    edges = found.bin_edges
    centres = (edges[:, :-1] + edges[:, 1:]) / 2
    total = np.cumsum(found.counts, axis=1)
    shares = total / total[:, -1:].astype(np.float64)
    small = block.dtype.kind == "f" and block.dtype.itemsize < centres.dtype.itemsize
    return counting.interpolate(block, centres, shares, np.float32 if small else np.float64)

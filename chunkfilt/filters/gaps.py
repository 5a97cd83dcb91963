"""Missing pixels, filled from those around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import NonNegative
from chunkfilt.grid import Halo, window_halo
from chunkfilt.kernels import gaps

__all__ = ["fill_gaps"]

_FARTHEST = 4096
# Places around a pixel whose weights are kept in memory.
_MOST_PLACES = 1 << 24
# Powers of ten that float64 has below 1, nearly.
_TINIEST = 300.0
MaxDistance = Annotated[float, Field(gt=0, le=_FARTHEST)]
Method = Literal["nearest", "mean", "idw"]


def _halo(p: SimpleNamespace) -> Halo:
    return window_halo((2 * math.floor(p.max_distance) + 1,) * p.ndim, (0,) * p.ndim)


def _check(p: SimpleNamespace, dtypes: Any) -> None:
    # The nearest pixel is looked for row by row, a mean takes every pixel.
    axes = p.ndim - (p.method == "nearest")
    places = (2 * p.max_distance) ** axes
    if places > _MOST_PLACES:
        most = math.floor(_MOST_PLACES ** (1 / axes) / 2)
        message = (
            f"max_distance must be at most {most} for method {p.method!r} along {p.ndim} axes, "
            f"got {p.max_distance:g}"
        )
        raise ValueError(message)
    if p.method == "idw" and p.power * math.log10(max(p.max_distance, 1.0)) > _TINIEST:
        message = (
            f"power {p.power:g} leaves no weight to pixels {p.max_distance:g} pixels away: lower "
            "power or max_distance"
        )
        raise ValueError(message)


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel of an image with few gaps."""
    return 1.5 if p.method == "nearest" else 3.0


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return gaps.gaps_memory(core, p.max_distance)


@image_filter(
    halo=_halo,
    dtype=same,
    check=_check,
    cost=_cost,
    memory=_memory,
    edge=lambda p: ("constant", 0.0),
    omits="always",
)
def fill_gaps(
    block: np.ndarray,
    *,
    max_distance: MaxDistance,
    method: Method = "nearest",
    power: NonNegative = 2.0,
    origin_px,
    shape_px,
    valid,
    missing,
) -> np.ndarray:
    """Fill missing pixels from the valid ones around them.

    Missing are NaN, the image's nodata value, and pixels where the mask is 0. Pixels that are
    not missing stay exactly as they are; those with no valid pixel within reach stay missing.
    'nearest': the value of the nearest valid pixel, of several as near the one with the smallest
    index along the last axis, then along the axis before it, as
    ``scipy.ndimage.distance_transform_edt`` picks it. 'mean': the mean of the valid pixels within
    reach. 'idw': their mean weighted by the inverse distance,
    ``sum(v / d**power) / sum(1 / d**power)``. Means are taken in float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    max_distance : float
        How far away a pixel may be taken from, in pixels along straight lines, ``> 0`` and at
        most 4096.
    method : {'nearest', 'mean', 'idw'}, default 'nearest'
        How to fill.
    power : float, default 2.0
        Of the distance, for 'idw', ``>= 0``.

    Returns
    -------
    image
        Same shape and dtype; integers are rounded half to even. What stays missing is NaN in
        floats and the nodata value, or 0, in integers.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> image = np.array([1.0, np.nan, np.nan, 4.0, np.nan, np.nan, np.nan])
    >>> cf.fill_gaps(image, max_distance=2)
    array([ 1.,  1.,  4.,  4.,  4.,  4., nan])
    """
    reach = math.floor(max_distance)
    if valid is None:
        middle = (slice(reach, n - reach) for n in block.shape[1:])
        return block[(slice(None), *middle)].copy()
    inside = [
        (max(reach - first, 0), min(reach - first + n, length))
        for first, n, length in zip(origin_px, shape_px, block.shape[1:], strict=True)
    ]
    if method == "nearest":
        return gaps.fill_nearest(block, max_distance, valid, inside, missing)
    shrink = power if method == "idw" else 0.0
    return gaps.fill_weighted(block, max_distance, shrink, valid, inside, missing)

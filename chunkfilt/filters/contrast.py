"""Local contrast: every pixel by its place among the pixels around it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.measure import extrema
from chunkfilt.filters.params import Footprint, WindowSize
from chunkfilt.filters.window import listed_reach, window_shape
from chunkfilt.grid import Halo
from chunkfilt.kernels import local_equalize

__all__ = ["equalize_local"]

# As scikit-image has it: the largest level of bytes, and the smallest that wider pixels may have.
_BYTE_TOP, _LEAST_TOP = 255, 3


def _cells(p: SimpleNamespace) -> np.ndarray:
    """Return the footprint, of a size one without holes."""
    if p.footprint is None:
        return np.ones(window_shape(p), bool)
    cells: np.ndarray = p.footprint
    return cells


def _halo(p: SimpleNamespace) -> Halo:
    return listed_reach(SimpleNamespace(**vars(p), origin=(0,) * p.ndim))


def _check(p: SimpleNamespace, dtypes: Any) -> None:
    if dtypes[0] not in (np.uint8, np.uint16):
        message = (
            f"takes uint8 and uint16 images, got dtype {dtypes[0].name}: bring the image to one "
            "of these first (rescale_intensity with dtype)"
        )
        raise ValueError(message)


def _values(p: SimpleNamespace, dtypes: Any) -> dict[str, Any]:
    return {} if dtypes[0] == np.uint8 else {"extrema": (extrema, {})}


def _prepare(p: SimpleNamespace) -> dict[str, Any]:
    cells = _cells(p)
    # As for two bytes a pixel: those of one take up to half of that.
    return {"cells": cells, "halo": _halo(p), "cost": local_equalize.pixel_cost(cells, 2)}


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    cost: float = prepared["cost"]
    return cost


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return local_equalize.equalize_memory(core, window_shape(p), dtype.itemsize)


@image_filter(
    halo=_halo,
    dtype=same,
    values=_values,
    prepare=_prepare,
    memory=_memory,
    cost=_cost,
    check=_check,
    edge=lambda p: ("constant", 0.0),
    omits=True,
)
def equalize_local(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    extrema,
    cells,
    halo,
    origin_px,
    shape_px,
    valid,
    missing,
) -> np.ndarray:
    """Equalise the histogram of the window around each pixel.

    ``floor((B - 1) * n / N)``: of the N pixels of the window, n are not brighter than the pixel
    itself. B is 256 for uint8, and for uint16 one more than the largest pixel of the whole image
    (than 3 at least), which takes a sweep over it. Pixels beyond the image's edge do not count.
    Reference: ``skimage.filters.rank.equalize``.

    Parameters
    ----------
    image : image
        uint8 or uint16, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`; its middle is at ``n//2``.

    Returns
    -------
    image
        Same shape and dtype; where no pixel of the window counts the nodata value, or 0.

    Raises
    ------
    ParameterError
        If a parameter is out of range, or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.equalize_local(np.array([7, 1, 5, 5, 2], dtype="uint8"), size=3)
    array([255,  85, 255, 255, 127], dtype=uint8)
    """
    top: Any = _BYTE_TOP
    if extrema is not None:
        top = np.maximum(np.asarray(extrema.max, np.int64), _LEAST_TOP)
    inside = _inside(block.shape[1:], halo, origin_px, shape_px)
    return local_equalize.local_equalize(block, cells, top, inside, valid, missing)


def _inside(
    block: tuple[int, ...], halo: Halo, origin_px: tuple[int, ...], shape_px: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return the pixels of the block that the image has, along each spatial axis."""
    starts = [before - first for (before, _), first in zip(halo, origin_px, strict=True)]
    return [
        (max(start, 0), min(start + n, length))
        for start, n, length in zip(starts, shape_px, block, strict=True)
    ]

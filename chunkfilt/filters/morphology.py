"""Grey morphology: erosion, dilation, and what is made of them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import composite_filter, image_filter, same
from chunkfilt.filters.params import Footprint, Origin, WindowSize
from chunkfilt.filters.structure import (
    Heights,
    both_cost,
    both_memory,
    both_reach,
    settle_both,
    settle_structure,
    structure_cost,
    structure_memory,
    structure_reach,
    turn_structure,
    turned_reach,
)
from chunkfilt.kernels.extremes import extreme_filter
from chunkfilt.kernels.morphology import grey_extreme, saturated_difference

__all__ = [
    "black_tophat",
    "closing",
    "dilation",
    "erosion",
    "morphological_gradient",
    "opening",
    "white_tophat",
]


@image_filter(
    halo=structure_reach,
    prepare=settle_structure,
    dtype=same,
    selection=True,
    omits=True,
    cost=structure_cost,
    memory=structure_memory,
)
def erosion(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    window,
    heights,
    valid,
    missing,
) -> np.ndarray:
    """Erode: take the least of the pixels in a window, less a structure's heights.

    ``min over j of x[p + j] - structure[j]``. Reference: ``scipy.ndimage.grey_erosion``, where its
    integers do not wrap round; a NaN under the structure gives NaN.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.erosion(np.array([5, 3, 6, 9]), size=3)
    array([3, 3, 3, 6])
    """
    return grey_extreme(block, window, heights, False, valid, missing)


@image_filter(
    halo=turned_reach,
    prepare=turn_structure,
    dtype=same,
    selection=True,
    omits=True,
    cost=structure_cost,
    memory=structure_memory,
)
def dilation(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    window,
    heights,
    valid,
    missing,
) -> np.ndarray:
    """Dilate: take the greatest of the pixels in a window, plus a structure's heights.

    ``max over j of x[p - j] + structure[j]``: the structure is turned round, and so is `origin`.
    Reference: ``scipy.ndimage.grey_dilation``, where its integers do not wrap round; a NaN under
    the structure gives NaN.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.dilation(np.array([5, 3, 6, 9]), size=3)
    array([5, 6, 9, 9])
    """
    return grey_extreme(block, window, heights, True, valid, missing)


@image_filter(
    halo=both_reach,
    prepare=settle_both,
    dtype=same,
    selection=True,
    omits=True,
    cost=both_cost,
    memory=both_memory,
)
def morphological_gradient(
    block: np.ndarray,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    parts,
    structures,
    valid,
    missing,
) -> np.ndarray:
    """Subtract the erosion from the dilation.

    Reference: ``scipy.ndimage.morphological_gradient``, where its integers do not wrap round; bool
    gives xor. A NaN under the structure gives NaN.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.morphological_gradient(np.array([5, 3, 6, 9]), size=3)
    array([2, 3, 6, 3])
    """
    results = []
    for part, held, largest in zip(parts, structures, (True, False), strict=True):
        count = None if valid is None else valid[part]
        window, heights = held["window"], held["heights"]
        results.append(grey_extreme(block[part], window, heights, largest, count, missing))
    out = saturated_difference(*results)
    if valid is not None:
        for part, held in zip(parts, structures, strict=True):
            out[~extreme_filter(valid[part], held["window"], True)] = missing
    return out


def _difference_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    # Signed integers are searched for results beyond their limits.
    return 3 * math.prod(core) * dtype.itemsize if dtype.kind == "i" else 0


@image_filter(dtype=same, memory=_difference_memory, cost=lambda p, prepared: 0.5)
def _difference(block: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Subtract an image of the same dtype, saturated; xor for bool."""
    return saturated_difference(block, other)


@composite_filter(omits=True)
def opening(
    image: Any,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    apply,
) -> Any:
    """Open: erode, then dilate; bright details smaller than the structure go.

    Reference: ``scipy.ndimage.grey_opening``, where its integers do not wrap round; the edge is
    extended at both steps.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.opening(np.array([1, 9, 1, 7, 7, 7]), size=3)
    array([1, 1, 1, 7, 7, 7])
    """
    given = {"size": size, "footprint": footprint, "structure": structure, "origin": origin}
    return apply(dilation, apply(erosion, image, **given), **given)


@composite_filter(omits=True)
def closing(
    image: Any,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    apply,
) -> Any:
    """Close: dilate, then erode; dark details smaller than the structure go.

    Reference: ``scipy.ndimage.grey_closing``, where its integers do not wrap round; the edge is
    extended at both steps.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.closing(np.array([9, 1, 9, 2, 2, 2]), size=3)
    array([9, 9, 9, 2, 2, 2])
    """
    given = {"size": size, "footprint": footprint, "structure": structure, "origin": origin}
    return apply(erosion, apply(dilation, image, **given), **given)


@composite_filter(omits=True)
def white_tophat(
    image: Any,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    apply,
) -> Any:
    """Subtract the opening from the image: bright details smaller than the structure.

    Reference: ``scipy.ndimage.white_tophat``, where its integers do not wrap round; bool gives
    xor.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.white_tophat(np.array([1, 9, 1, 7, 7, 7]), size=3)
    array([0, 8, 0, 0, 0, 0])
    """
    given = {"size": size, "footprint": footprint, "structure": structure, "origin": origin}
    return apply(_difference, image, apply(opening, image, **given))


@composite_filter(omits=True)
def black_tophat(
    image: Any,
    *,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    structure: Heights | None = None,
    origin: Origin = 0,
    apply,
) -> Any:
    """Subtract the image from the closing: dark details smaller than the structure.

    Reference: ``scipy.ndimage.black_tophat``, where its integers do not wrap round; bool gives
    xor.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that count, instead of `size`.
    structure : array of numbers, optional
        Heights of a structure that is not flat, instead of `size`; with `footprint`, of its
        pixels only. For integer images fractions are cut off.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape and dtype; integers are saturated.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes or dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.black_tophat(np.array([9, 1, 9, 2, 2, 2]), size=3)
    array([0, 8, 0, 0, 0, 0])
    """
    given = {"size": size, "footprint": footprint, "structure": structure, "origin": origin}
    return apply(_difference, apply(closing, image, **given), image)

"""Pixel by pixel: limits, casts, and the choice between images."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, WithJsonSchema

from chunkfilt.filters.arithmetic import check_numbers, promoted
from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import DType

__all__ = ["cast", "clip", "mask", "where"]


def _number(value: Any) -> int | float:
    # An int stays one: as a float it would lose digits of 64-bit pixels.
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, bool) else value
    message = "must be a number"
    raise ValueError(message)


Fill = Annotated[
    float, PlainValidator(_number), WithJsonSchema({"type": ["number", "string", "boolean"]})
]


def _limits(p: SimpleNamespace, dtypes: Any) -> None:
    if p.min is None and p.max is None:
        message = "needs min or max (or both)"
        raise ValueError(message)
    if any(limit is not None and np.isnan(limit) for limit in (p.min, p.max)):
        message = f"min and max must be numbers, got min={p.min!r}, max={p.max!r}"
        raise ValueError(message)
    if p.min is not None and p.max is not None and p.min > p.max:
        message = f"min must be <= max, got min={p.min!r}, max={p.max!r}"
        raise ValueError(message)


@image_filter(dtype=same, check=_limits)
def clip(
    block: np.ndarray,
    *,
    min: float | None = None,  # noqa: A002 - numpy.clip's name
    max: float | None = None,  # noqa: A002 - numpy.clip's name
) -> np.ndarray:
    """Limit every pixel to a range.

    ``min`` where the pixel is below it, ``max`` where it is above; NaN stays. Reference:
    ``numpy.clip``. Limits beyond the dtype's range limit nothing.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    min, max : float, optional
        The range, ``min <= max``; at least one is needed. For integers ``min`` is rounded up,
        ``max`` down.

    Returns
    -------
    image
        Same shape and dtype.

    Raises
    ------
    ParameterError
        If neither limit is given, or ``min > max``.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.clip(np.array([-5, 2, 9]), min=0, max=4)
    array([0, 2, 4])
    """
    if block.dtype.kind == "f":
        return np.clip(block, min, max)
    bounds = (False, True) if block.dtype.kind == "b" else np.iinfo(block.dtype)
    lowest, highest = bounds if isinstance(bounds, tuple) else (bounds.min, bounds.max)
    low = lowest if min is None or min <= lowest else _within(np.ceil(min), lowest, highest)
    high = highest if max is None or max >= highest else _within(np.floor(max), lowest, highest)
    held = block.dtype.type
    return np.clip(block, held(low), held(high))


def _within(limit: float, lowest: int, highest: int) -> int:
    whole = int(limit) if np.isfinite(limit) else (highest if limit > 0 else lowest)
    return lowest if whole < lowest else highest if whole > highest else whole


def _wanted(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return np.dtype(p.dtype)


@image_filter(dtype=_wanted)
def cast(block: np.ndarray, *, dtype: DType) -> np.ndarray:
    """Convert every pixel to another dtype.

    To integers: round half to even, saturate at the dtype's range, NaN becomes 0.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    dtype : dtype
        The dtype wanted: bool, an integer or a float.

    Returns
    -------
    image
        Same shape, in `dtype`.

    Raises
    ------
    ParameterError
        If `dtype` is missing or is none of these.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.cast(np.array([0.5, 1.5, 300.0]), dtype="uint8")
    array([  0,   2, 255], dtype=uint8)
    """
    return block


def _choose(condition: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return pixels of `first` where the condition is not zero, else of `second`, of one dtype.

    What `numpy.where` gives, by masking bits: its branches take ten times as long where the
    condition changes from pixel to pixel.
    """
    bits = np.dtype(f"u{first.dtype.itemsize}")
    kept = np.negative((condition != 0).view(np.uint8).astype(bits))
    kept &= np.bitwise_xor(first.view(bits), second.view(bits))
    kept ^= second.view(bits)
    return kept.view(first.dtype)


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of the condition as bool, and of two images as wide as can be."""
    return 17 * math.prod(core)


def _choice(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return promoted(p, dtypes[1:])


def _check_choice(p: SimpleNamespace, dtypes: Any) -> None:
    if not isinstance(dtypes[0], np.dtype):
        message = f"the condition must be an image, got {dtypes[0]!r}"
        raise ValueError(message)  # noqa: TRY004 - a parameter's error like the others
    check_numbers(p, dtypes[1:])


@image_filter(dtype=_choice, check=_check_choice, memory=_memory)
def where(condition: np.ndarray, image: Any, other: Any, *, result) -> np.ndarray:
    """Choose between two images or numbers, pixel by pixel.

    ``image`` where the condition is not zero (a NaN is not zero), ``other`` elsewhere, with
    NumPy's dtype promotion. Reference: ``numpy.where``.

    Parameters
    ----------
    condition : image
        Usually what a comparison gives, but any image will do.
    image, other : image or number
        Images of the condition's shape, or numbers.

    Returns
    -------
    image
        Same shape; NumPy's result dtype of `image` and `other`, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, the condition is a number, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> x = np.array([-2, 0, 5])
    >>> cf.where(cf.less(x, 0), 0, x)
    array([0, 0, 5])
    """
    operands = (image, other)
    wide = np.result_type(*(x if np.isscalar(x) else x.dtype for x in operands), result)
    first, second = (np.asarray(x, dtype=wide) for x in operands)
    return _choose(condition, first, second)


def _check_mask(p: SimpleNamespace, dtypes: Any) -> None:
    for name, one in zip(("image", "mask"), dtypes, strict=True):
        if not isinstance(one, np.dtype):
            message = f"{name} must be an image, got {one!r}: numbers go with where"
            raise ValueError(message)  # noqa: TRY004 - a parameter's error like the others
    wanted = np.dtype(p.dtype or dtypes[0])
    if p.value is not None and not _fits(p.value, wanted):
        message = f"value must be representable as {wanted.name}, got {p.value!r}: give a dtype="
        raise ValueError(message)


def _fits(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return limits[0] <= value <= limits[1] and value == int(value)


def _widened(block: np.ndarray, result: np.dtype) -> np.ndarray:
    """Return the pixels in a dtype that holds them and whatever the result can hold."""
    wide = np.result_type(block.dtype, result)
    if wide.kind == "f" and block.dtype.kind in "iu" and result.kind in "iu":
        # int64 and uint64 have no integer dtype in common: here what does not fit saturates.
        block, wide = np.clip(block, 0, np.iinfo(np.int64).max), result
    return block.astype(wide, copy=False)


@image_filter(dtype=same, check=_check_mask, memory=_memory)
def mask(block: np.ndarray, mask: Any, *, value: Fill | None = None, result) -> np.ndarray:
    """Give one value to the pixels that a mask leaves out.

    ``image`` where the mask is not zero, ``value`` where it is. Reference: ``numpy.where``.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    mask : image
        Of the same shape; zero (False) leaves a pixel out.
    value : int or float, optional
        What pixels left out get; must be representable in the result's dtype. Default NaN for
        floats, 0 for integers, False for bool. With ``dtype="float32"`` an image of integers
        takes NaN as well.

    Returns
    -------
    image
        Same shape and dtype, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, the mask is a number, or `value` does not fit the dtype.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> x = np.array([1.0, 2.0, 3.0])
    >>> cf.mask(x, cf.greater(x, 1.5))
    array([nan,  2.,  3.])
    """
    pixels = _widened(block, result)
    blank = np.nan if result.kind == "f" else 0
    return _choose(mask, pixels, np.asarray(blank if value is None else value, pixels.dtype))

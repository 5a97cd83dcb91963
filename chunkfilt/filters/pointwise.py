"""Pixel by pixel: arithmetic of images and numbers, and casts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import DType

__all__ = ["abs", "add", "cast", "clip", "divide", "multiply", "subtract"]


def _promoted(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return np.result_type(*dtypes)


def _quotient(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    """Return NumPy's dtype of a true division."""
    samples = [np.ones((), one) if isinstance(one, np.dtype) else _real(one) for one in dtypes]
    return np.true_divide(*samples).dtype


def _real(operand: Any) -> Any:
    """Return an int as a float: a quotient is one, and an int may not fit the image's dtype."""
    return float(operand) if type(operand) is int else operand


def _check_numbers(p: SimpleNamespace, dtypes: Any) -> None:
    """Refuse an int that the calculation's dtype cannot hold, as NumPy does."""
    wide = np.result_type(*dtypes, *([] if p.dtype is None else [p.dtype]))
    for number in dtypes:
        if type(number) is not int or wide.kind not in "iu":
            continue
        limits = np.iinfo(wide)
        if not limits.min <= number <= limits.max:
            message = f"{number} does not fit {wide.name}: give a wider dtype="
            raise ValueError(message)


def _check_signed(p: SimpleNamespace, dtypes: Any) -> None:
    _check_numbers(p, dtypes)
    if np.result_type(*dtypes, *([] if p.dtype is None else [p.dtype])).kind == "b":
        message = "cannot subtract booleans: give dtype='int8', or cast them first"
        raise ValueError(message)


def _calculate(operation: Any, a: Any, b: Any, result: np.dtype) -> np.ndarray:
    """Compute in a dtype that holds operands and result: uint16 - uint16 as int32 is signed."""
    wide = np.result_type(*(x if np.isscalar(x) else x.dtype for x in (a, b)), result)
    out: np.ndarray = operation(a, b, dtype=wide)
    return out


@image_filter(dtype=_promoted, check=_check_numbers)
def add(block: np.ndarray, other: Any, *, result) -> np.ndarray:
    """Add two images, or an image and a number.

    ``image + other``, with NumPy's dtype promotion; unsigned integers wrap as NumPy's do unless
    `dtype` is wider. Reference: ``numpy.add``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; NumPy's result dtype, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.add(np.array([1, 2]), 3)
    array([4, 5])
    """
    return _calculate(np.add, block, other, result)


@image_filter(dtype=_promoted, check=_check_signed)
def subtract(block: np.ndarray, other: Any, *, result) -> np.ndarray:
    """Subtract an image or a number from another.

    ``image - other``, with NumPy's dtype promotion; unsigned integers wrap as NumPy's do unless
    `dtype` is signed or float. Reference: ``numpy.subtract``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; NumPy's result dtype, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.subtract(np.array([1, 2], "uint8"), np.array([2, 2], "uint8"), dtype="int16")
    array([-1,  0], dtype=int16)
    """
    return _calculate(np.subtract, block, other, result)


@image_filter(dtype=_promoted, check=_check_numbers)
def multiply(block: np.ndarray, other: Any, *, result) -> np.ndarray:
    """Multiply two images, or an image by a number.

    ``image * other``, with NumPy's dtype promotion; integers wrap as NumPy's do unless `dtype`
    is wider. Reference: ``numpy.multiply``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; NumPy's result dtype, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.multiply(np.array([1.0, 2.0]), 2)
    array([2., 4.])
    """
    return _calculate(np.multiply, block, other, result)


@image_filter(dtype=_quotient)
def divide(block: np.ndarray, other: Any) -> np.ndarray:
    """Divide an image or a number by another.

    ``image / other``, the true quotient, with NumPy's dtype promotion; a division by zero gives
    an infinity or NaN. Reference: ``numpy.true_divide``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; NumPy's result dtype, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.divide(np.array([1, 2]), 4)
    array([0.25, 0.5 ])
    """
    return np.asarray(np.true_divide(_real(block), _real(other)))


@image_filter(dtype=same)
def abs(block: np.ndarray) -> np.ndarray:  # noqa: A001 - the field's name for it
    """Take the absolute value of every pixel.

    Reference: ``numpy.abs`` (the most negative integer stays itself).

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.

    Returns
    -------
    image
        Same shape and dtype.

    Raises
    ------
    ParameterError
        If a parameter is unknown.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.abs(np.array([-1, 2]))
    array([1, 2])
    """
    return np.abs(block)


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
    return np.asarray(np.minimum(np.maximum(block, held(low)), held(high)))


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

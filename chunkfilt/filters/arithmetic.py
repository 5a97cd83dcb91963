"""Arithmetic: sums, products, powers and logarithms of images and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.declare import image_filter, same
from chunkfilt.filters.params import Positive
from chunkfilt.kernels import real_dtype
from chunkfilt.words import shown

__all__ = ["abs", "add", "divide", "exp", "log", "multiply", "power", "sqrt", "subtract"]


def promoted(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    """Return NumPy's common dtype of images and numbers."""
    return np.result_type(*dtypes)


def _quotient(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    """Return NumPy's dtype of a true division."""
    samples = [
        np.ones((), one) if isinstance(one, np.dtype) else real_number(one) for one in dtypes
    ]
    return np.true_divide(*samples).dtype


def real_number(operand: Any) -> Any:
    """Return an int as a float: a quotient is one, and an int may not fit the image's dtype."""
    try:
        return float(operand) if type(operand) is int else operand
    except OverflowError:
        message = f"{shown(operand)} does not fit float64: give a smaller number"
        raise ValueError(message) from None


def check_numbers(p: SimpleNamespace, dtypes: Any) -> None:
    """Refuse an int that the calculation's dtype cannot hold, as NumPy does."""
    wide = np.result_type(*dtypes, *([] if p.dtype is None else [p.dtype]))
    for number in dtypes:
        if type(number) is not int or wide.kind not in "iu":
            real_number(number)
            continue
        limits = np.iinfo(wide)
        if not limits.min <= number <= limits.max:
            message = f"{number} does not fit {wide.name}: give a wider dtype="
            raise ValueError(message)


def _check_signed(p: SimpleNamespace, dtypes: Any) -> None:
    check_numbers(p, dtypes)
    if np.result_type(*dtypes, *([] if p.dtype is None else [p.dtype])).kind == "b":
        message = "cannot subtract booleans: give dtype='int8', or cast them first"
        raise ValueError(message)


def _calculate(operation: Any, a: Any, b: Any, result: np.dtype) -> np.ndarray:
    """Compute in a dtype that holds operands and result: uint16 - uint16 as int32 is signed."""
    wide = np.result_type(*(x if np.isscalar(x) else x.dtype for x in (a, b)), result)
    out: np.ndarray = operation(a, b, dtype=wide)
    return out


@image_filter(dtype=promoted, check=check_numbers)
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


@image_filter(dtype=promoted, check=_check_signed)
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


@image_filter(dtype=promoted, check=check_numbers)
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
    return np.asarray(np.true_divide(real_number(block), real_number(other)))


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


def _real_pair(p: SimpleNamespace, dtypes: Sequence[Any]) -> np.dtype:
    """Return the common dtype of two operands, integers taken as the floats that hold them."""
    held = [
        real_dtype(one.dtype if isinstance(one, np.generic) else one)
        if isinstance(one, (np.dtype, np.generic))
        else real_number(one)
        for one in dtypes
    ]
    return np.result_type(*held)


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of a result in float64.

    Processors differ in the last bits of these functions, in float32 much more visibly: cast from
    float64 they agree.
    """
    return 8 * math.prod(core)


@image_filter(dtype=_real_pair, memory=_memory, cost=lambda p, prepared: 20.0)
def power(block: np.ndarray, other: Any) -> np.ndarray:
    """Raise an image or a number to a power.

    ``image ** other``, computed in float64: integers do not wrap as NumPy's do, and negative
    exponents are fine. A negative pixel with a fractional exponent gives NaN. Reference:
    ``numpy.power`` on float64.

    Parameters
    ----------
    image, other : image or number
        Base and exponent: two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; float32 where every image is bool, an 8- or 16-bit integer, float16 or
        float32, else float64.

    Raises
    ------
    InputError
        If the shapes differ, or a number does not fit.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.power(np.array([1, 20, 255], "uint8"), 2)
    array([1.0000e+00, 4.0000e+02, 6.5025e+04], dtype=float32)
    """
    return np.asarray(np.power(block, other, dtype=np.float64))


@image_filter()
def sqrt(block: np.ndarray, *, result) -> np.ndarray:
    """Take the square root of every pixel.

    Negative pixels give NaN. Reference: ``numpy.sqrt`` on float64 (on uint8 it gives float16,
    which holds three digits).

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is unknown.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.sqrt(np.array([4, 9], "uint8"))
    array([2., 3.], dtype=float32)
    """
    wide = np.result_type(real_dtype(block.dtype), result)
    return np.asarray(np.sqrt(block, dtype=wide))


@image_filter(memory=_memory, cost=lambda p, prepared: 4.0)
def exp(block: np.ndarray) -> np.ndarray:
    """Raise Euler's number to the power of every pixel.

    What is too large for the result's dtype gives an infinity: from 89 on in float32, from 710
    on in float64. Reference: ``numpy.exp`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is unknown.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.exp(np.array([0.0, 1.0])).round(3)
    array([1.   , 2.718])
    """
    return np.asarray(np.exp(block, dtype=np.float64))


def _check_base(p: SimpleNamespace, dtypes: Any) -> None:
    if p.base == 1:
        message = "base must be > 0 and not 1, got 1.0"
        raise ValueError(message)


@image_filter(memory=_memory, check=_check_base, cost=lambda p, prepared: 4.0)
def log(block: np.ndarray, *, base: Positive | None = None) -> np.ndarray:
    """Take the logarithm of every pixel.

    The natural one, or ``log(image) / log(base)``, in float64; zero gives minus infinity, negative
    pixels NaN. Reference: ``numpy.log``, ``numpy.log2`` and ``numpy.log10`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    base : float, optional
        The base, ``> 0`` and not 1; default Euler's number. Powers of 2 and of 10 come out whole
        with those bases.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If `base` is not above 0, or is 1.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.log(np.array([1, 10, 100], "uint8"), base=10)
    array([0., 1., 2.], dtype=float32)
    """
    whole = {2.0: np.log2, 10.0: np.log10}.get(base or 0.0)
    if whole is not None:
        return np.asarray(whole(block, dtype=np.float64))
    natural = np.log(block, dtype=np.float64)
    if base is not None:
        natural /= math.log(base)
    return natural

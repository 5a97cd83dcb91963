"""Comparisons and logic: pixel by pixel, with masks as results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.arithmetic import real_number
from chunkfilt.filters.declare import image_filter

__all__ = [
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
]


def _truth(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return np.dtype(bool)


def _check_size(p: SimpleNamespace, dtypes: Any) -> None:
    """Refuse an int beyond all floats, where it is compared with floats."""
    if any(isinstance(one, np.dtype) and one.kind == "f" for one in dtypes):
        for one in dtypes:
            real_number(one)


@image_filter(dtype=_truth, check=_check_size)
def greater(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are greater than another image or a number.

    ``image > other``; False where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.greater``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.greater(np.array([1, 2, 3]), 2)
    array([False, False,  True])
    """
    return np.asarray(np.greater(block, other))


@image_filter(dtype=_truth, check=_check_size)
def greater_equal(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are greater than or equal to another image or a number.

    ``image >= other``; False where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.greater_equal``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.greater_equal(np.array([1, 2, 3]), 2)
    array([False,  True,  True])
    """
    return np.asarray(np.greater_equal(block, other))


@image_filter(dtype=_truth, check=_check_size)
def less(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are less than another image or a number.

    ``image < other``; False where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.less``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.less(np.array([1, 2, 3]), 2)
    array([ True, False, False])
    """
    return np.asarray(np.less(block, other))


@image_filter(dtype=_truth, check=_check_size)
def less_equal(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are less than or equal to another image or a number.

    ``image <= other``; False where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.less_equal``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.less_equal(np.array([1, 2, 3]), 2)
    array([ True,  True, False])
    """
    return np.asarray(np.less_equal(block, other))


@image_filter(dtype=_truth, check=_check_size)
def equal(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are equal to another image or a number.

    ``image == other``; False where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.equal``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.equal(np.array([1, 2, 3]), 2)
    array([False,  True, False])
    """
    return np.asarray(np.equal(block, other))


@image_filter(dtype=_truth, check=_check_size)
def not_equal(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that differ from another image or a number.

    ``image != other``; True where either is NaN. Integers of all kinds are compared
    by their values, with numbers beyond their range too; an integer and a float as NumPy does,
    in float64; floats and a number in the image's dtype. Reference: ``numpy.not_equal``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.not_equal(np.array([1, 2, 3]), 2)
    array([ True, False,  True])
    """
    return np.asarray(np.not_equal(block, other))


@image_filter(dtype=_truth)
def logical_and(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are true in both of two images.

    Pixels count as true where they are not zero (a NaN is not). Reference: ``numpy.logical_and``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.logical_and(np.array([0, 0, 5, 5]), np.array([False, True, False, True]))
    array([False, False, False,  True])
    """
    return np.asarray(np.logical_and(block, other))


@image_filter(dtype=_truth)
def logical_or(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are true in one of two images, or in both.

    Pixels count as true where they are not zero (a NaN is not). Reference: ``numpy.logical_or``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.logical_or(np.array([0, 0, 5, 5]), np.array([False, True, False, True]))
    array([False,  True,  True,  True])
    """
    return np.asarray(np.logical_or(block, other))


@image_filter(dtype=_truth)
def logical_xor(block: np.ndarray, other: Any) -> np.ndarray:
    """Mark the pixels that are true in one of two images and not in both.

    Pixels count as true where they are not zero (a NaN is not). Reference: ``numpy.logical_xor``.

    Parameters
    ----------
    image, other : image or number
        Two images of one shape, or one of them a number.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.logical_xor(np.array([0, 0, 5, 5]), np.array([False, True, False, True]))
    array([False,  True,  True, False])
    """
    return np.asarray(np.logical_xor(block, other))


@image_filter(dtype=_truth)
def logical_not(block: np.ndarray) -> np.ndarray:
    """Mark the pixels that are zero.

    True where the pixel is zero (False), so that a mask is turned round; a NaN is not zero.
    Reference: ``numpy.logical_not``.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.

    Returns
    -------
    image
        Same shape; dtype bool, or `dtype`.

    Raises
    ------
    ParameterError
        If a parameter is unknown.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.logical_not(np.array([0, 5]))
    array([ True, False])
    """
    return np.logical_not(block)

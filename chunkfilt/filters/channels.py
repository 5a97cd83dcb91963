"""Channels: weighted sums along a batch axis, such as colour to grey."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, WithJsonSchema

from chunkfilt.errors import InputError
from chunkfilt.filters.declare import composite_filter, image_filter
from chunkfilt.filters.params import DType
from chunkfilt.kernels import real_dtype

__all__ = ["mix_channels"]

# Luma and luminance of red, green and blue.
_NAMED = {
    "rec601": (0.299, 0.587, 0.114),
    "rec709": (0.2126, 0.7152, 0.0722),
    "rgb2gray": (0.2125, 0.7154, 0.0721),
}
_MEAN = "mean"
_MOST = 4096
# A channel with a smaller weight is not looked at, so that its NaNs do not matter either.
_NOTHING = 2.2e-16
# Channels added up at a time: as many as `_weighted_sum` takes.
_AT_ONCE = 4


def _weights(value: Any) -> str | tuple[float, ...]:
    if isinstance(value, str) and value in (*_NAMED, _MEAN):
        return value
    numbers = isinstance(value, tuple) and 1 <= len(value) <= _MOST
    if not numbers or not all(_finite(one) for one in value):
        named = ", ".join(map(repr, (*_NAMED, _MEAN)))
        message = f"must be a list of 1 to {_MOST} finite numbers or one of {named}"
        raise ValueError(message)
    if not any(abs(one) > _NOTHING for one in value):
        message = "must have at least one number that is not zero"
        raise ValueError(message)
    return tuple(map(float, value))


def _finite(one: Any) -> bool:
    # A whole number may be larger than any float.
    try:
        return isinstance(one, (int, float)) and type(one) is not bool and math.isfinite(one)
    except OverflowError:
        return False


def _one_axis(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        message = "must be one axis, by number or by name"
        raise ValueError(message)  # noqa: TRY004 - a parameter's error like the others
    return value


Weights = Annotated[
    str | tuple[float, ...],
    PlainValidator(_weights),
    WithJsonSchema(
        {
            "oneOf": [
                {"enum": [*_NAMED, _MEAN]},
                {"type": "array", "items": {"type": "number"}, "minItems": 1},
            ]
        }
    ),
]
OneAxis = Annotated[
    int | str, PlainValidator(_one_axis), WithJsonSchema({"type": ["string", "integer"]})
]
Numbers = tuple[float, ...]


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of the sum so far and of one weighted channel, in float64."""
    return 16 * math.prod(core)


@image_filter(memory=_memory, cost=lambda p, prepared: 1.5 * len(p.weights), name="_weighted_sum")
def _weighted_sum(
    block: np.ndarray,
    second: Any = None,
    third: Any = None,
    fourth: Any = None,
    *,
    weights: Numbers,
    divisor: float = 1.0,
) -> np.ndarray:
    """Add up to four images times their weights, in float64 and in this order; divide."""
    images = [one for one in (block, second, third, fourth) if one is not None]
    total = np.multiply(block, weights[0], dtype=np.float64)
    for image, weight in zip(images[1:], weights[1:], strict=True):
        total += np.multiply(image, weight, dtype=np.float64)
    if divisor != 1:
        total /= divisor
    return total


@composite_filter(pointwise=True)
def mix_channels(
    image: Any, *, weights: Weights, axis: OneAxis = "c", dtype: DType | None = None, apply
) -> Any:
    """Add up the channels of an image, each times its weight.

    ``sum(weights[i] * image[i])`` along one axis, in float64 and in the order of the channels;
    the axis disappears. Channels of weight 0 are not read. Reference: ``numpy.tensordot``; with
    ``weights="rgb2gray"`` ``skimage.color.rgb2gray``, but without its scaling to 0 ... 1.

    Parameters
    ----------
    image : image
        Bool, integer or float, at least two axes.
    weights : sequence of float or {'rec601', 'rec709', 'rgb2gray', 'mean'}
        One finite number for each channel, not all zero; or the luma of red, green and blue by
        ITU-R BT.601 (0.299, 0.587, 0.114) or BT.709 (0.2126, 0.7152, 0.0722), or scikit-image's
        weights (0.2125, 0.7154, 0.0721); or the mean of all channels.
    axis : int or str, default 'c'
        The channels' axis, by name or number; of an array without names by number: a last axis
        of three is not taken for colour by itself.
    dtype : dtype, optional
        Cast the result: integers round half to even and saturate, NaN becomes 0. Default: as
        said under Returns.

    Returns
    -------
    image
        The image's shape without `axis`; float32 for bool, 8- and 16-bit integers, float16 and
        float32, else float64.

    Raises
    ------
    ParameterError
        If the image has no such axis, or there are not as many weights as channels.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> red_and_white = np.array([[[255, 255]], [[0, 255]], [[0, 255]]], "uint8")
    >>> cf.mix_channels(red_and_white, weights="rec601", axis=0)
    array([[ 76.245, 255.   ]], dtype=float32)
    """
    count = _channels(image, axis, apply)
    numbers = _numbers(weights, count, axis)
    left = [(i, weight) for i, weight in enumerate(numbers) if abs(weight) > _NOTHING]
    kept = np.dtype(dtype or real_dtype(apply.dtype))
    carried: list[Any] = []
    while left:
        now, left = left[: _AT_ONCE - len(carried)], left[_AT_ONCE - len(carried) :]
        # The sum so far goes on as the first of the next images, in float64 until the end.
        total = apply(
            _weighted_sum,
            *carried,
            *(apply.take(image, axis, i) for i, _ in now),
            weights=(*(1.0 for _ in carried), *(weight for _, weight in now)),
            divisor=1.0 if left or weights != _MEAN else float(count),
            dtype=np.dtype(np.float64) if left else kept,
        )
        carried = [total]
    return carried[0]


def _numbers(weights: str | tuple[float, ...], count: int, axis: int | str) -> tuple[float, ...]:
    """Return the weights of so many channels; of a mean, those before it is divided."""
    if weights == _MEAN:
        return (1.0,) * count
    numbers = _NAMED[weights] if isinstance(weights, str) else weights
    if len(numbers) != count:
        message = f"weights must be {count} numbers, one for each index along axis {axis!r}"
        raise ValueError(f"{message}, got {len(numbers)}")
    return numbers


def _channels(image: Any, axis: int | str, apply: Any) -> int:
    """Return the image's length along an axis."""
    shape = getattr(image, "spec", image).shape
    try:
        taken = apply.take(image, axis, 0)
    except (InputError, ValueError, IndexError):
        taken = None
    if taken is None or len(shape) < 2:
        message = f"the image, of shape {shape}, has no axis {axis!r} to mix along: name its axis "
        raise ValueError(f"{message}of channels by axis=, of an array without names by number")
    # What is gone from the shape is the axis, whatever it is called.
    gone = Counter(shape) - Counter(getattr(taken, "spec", taken).shape)
    (count,) = gone
    if not count:
        message = f"the image, of shape {shape}, has no channels along axis {axis!r}"
        raise ValueError(message)
    return count

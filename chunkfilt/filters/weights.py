"""Weighted sums of a window with weights of any make: correlation and convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.footprints import ball, disk
from chunkfilt.filters.params import Origin, full_path
from chunkfilt.filters.smooth import gaussian_weights
from chunkfilt.grid import Halo, window_halo
from chunkfilt.kernels import correlation, fourier
from chunkfilt.words import shown

__all__ = ["convolve", "correlate"]

# Weights a side, and in all.
_LARGEST, _MOST = 1001, 1 << 24
_LAPLACIANS = {4: [[0, 1, 0], [1, -4, 1], [0, 1, 0]], 8: [[1, 1, 1], [1, -8, 1], [1, 1, 1]]}
_NAMED = {
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
}


def _per_axis(value: Any, ndim: int) -> list[Any]:
    """Return what a maker is given for each of `ndim` axes; a list says itself how many."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * ndim


def _numbers(values: list[Any], kinds: tuple[type, ...]) -> bool:
    known = all(isinstance(v, kinds) and not isinstance(v, bool) for v in values)
    return known and bool(values) and all(math.isfinite(v) for v in values)


def _box(value: Any, ndim: int) -> np.ndarray:
    sides = _per_axis(value, ndim)
    if not _numbers(sides, (int,)) or not 1 <= min(sides) <= max(sides) <= _LARGEST:
        message = f"box takes a side of 1 to {_LARGEST} pixels, or one for each axis"
        raise ValueError(message)
    _refuse_many(sides)
    return np.full(sides, 1.0 / np.prod(sides, dtype=np.float64))


def _refuse_many(sides: list[int]) -> None:
    if math.prod(sides) > _MOST:
        message = f"{' x '.join(map(str, sides))} weights are more than 2**24"
        raise ValueError(message)


def _round(maker: Callable[[float], np.ndarray], value: Any, ndim: int) -> np.ndarray:
    cells = maker(value)
    return cells / cells.sum()


def _gaussian(value: Any, ndim: int) -> np.ndarray:
    sigmas = _per_axis(value, ndim)
    most = _LARGEST // 8
    if not _numbers(sigmas, (int, float)) or not 0 <= min(sigmas) <= max(sigmas) <= most:
        message = f"gaussian takes a sigma of 0 to {most} pixels, or one for each axis"
        raise ValueError(message)
    radii = [int(4.0 * s + 0.5) for s in sigmas]
    _refuse_many([2 * r + 1 for r in radii])
    axes = [gaussian_weights(float(s), 0, r) for s, r in zip(sigmas, radii, strict=True)]
    return np.asarray(functools.reduce(np.multiply.outer, axes))


def _laplacian(value: Any, ndim: int) -> np.ndarray:
    if not isinstance(value, int) or value not in _LAPLACIANS:
        message = "laplacian takes 4 or 8, the number of neighbours"
        raise ValueError(message)
    return np.array(_LAPLACIANS[value], np.float64)


# From what YAML says of them to weights; the number of axes counts where none is told.
_MAKERS: dict[str, Callable[[Any, int], np.ndarray]] = {
    "box": _box,
    "disk": functools.partial(_round, disk),
    "ball": functools.partial(_round, ball),
    "gaussian": _gaussian,
    "laplacian": _laplacian,
}
_ACCEPTED = (
    f"nested lists of numbers, the path of a .npy file, {' or '.join(_NAMED)}, or a maker such as "
    f"{{gaussian: 2.0}} ({', '.join(_MAKERS)})"
)


def make_weights(value: Any, ndim: int) -> np.ndarray:
    """Return weights from an array, the name of some, or ``{maker: size}`` for `ndim` axes."""
    if isinstance(value, str):
        return np.array(_NAMED[value], np.float64)
    if isinstance(value, Mapping):
        ((name, size),) = value.items()
        return _MAKERS[name](size, ndim)
    held: np.ndarray = value
    return held


def _load(path: str) -> np.ndarray:
    try:
        array = np.load(full_path(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        message = f"must be a .npy file of numbers that can be read ({error})"
        raise ValueError(message) from None
    return np.asarray(array)


def _checked(value: Any) -> Any:
    """Return checked weights: an array, the name of some, or ``{maker: size}``."""
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _MAKERS:
            message = f"must be {_ACCEPTED}"
            raise ValueError(message)
        ((name, size),) = value.items()
        size = list(size) if isinstance(size, (list, tuple)) else size
        make_weights({name: size}, 2)
        return {name: size}
    if isinstance(value, str):
        if value in _NAMED:
            return value
        if not value.endswith(".npy"):
            message = f"must be {_ACCEPTED}"
            raise ValueError(message)
        value = _load(value)
    return _numbers_of(value)


def _numbers_of(value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= 3 or not array.size:
        message = f"must be {_ACCEPTED}: real numbers along 1 to 3 axes"
        raise ValueError(message)
    if max(array.shape) > _LARGEST:
        message = f"must have at most {_LARGEST} weights a side, not {max(array.shape)}"
        raise ValueError(message)
    array = np.array(array, np.float64, order="C")
    if not np.isfinite(array).all():
        message = "must be finite numbers"
        raise ValueError(message)
    array.flags.writeable = False
    return array


def _written(value: Any) -> Any:
    """Return weights as they stand in YAML."""
    if not isinstance(value, np.ndarray):
        return value
    if np.array_equal(value, np.trunc(value)) and np.abs(value).max() < 2**53:
        return value.astype(np.int64).tolist()
    return value.tolist()


_SCHEMA: dict[str, Any] = {
    "description": f"{_ACCEPTED[0].upper()}{_ACCEPTED[1:]}.",
    "oneOf": [
        *(
            {
                "type": "object",
                "properties": {name: {"type": ["number", "array"]}},
                "required": [name],
                "additionalProperties": False,
            }
            for name in _MAKERS
        ),
        {"type": "array"},
        {"enum": list(_NAMED)},
        {"type": "string", "pattern": r"\.npy$"},
    ],
}
# A mapping once checked, where a maker was given: how many axes it has, the image says.
Weights = Annotated[
    np.ndarray | str,
    PlainValidator(_checked),
    PlainSerializer(_written),
    WithJsonSchema(_SCHEMA),
]


def _kernel(p: SimpleNamespace) -> np.ndarray:
    kernel = make_weights(p.weights, p.ndim)
    if kernel.ndim != p.ndim:
        message = (
            f"weights must have {p.ndim} ax{'e' if p.ndim > 1 else 'i'}s (the image's spatial "
            f"axes), got {kernel.ndim} from {shown(_written(p.weights))}"
        )
        raise ValueError(message)
    return kernel


def _reach(shape: tuple[int, ...], origin: tuple[int, ...]) -> Halo:
    for n, shift in zip(shape, origin, strict=True):
        if not -(n // 2) <= shift <= (n - 1) // 2:
            message = (
                f"origin must be within {-(n // 2)} and {(n - 1) // 2} for {n} weights, got {shift}"
            )
            raise ValueError(message)
    return window_halo(shape, origin)


def _halo(p: SimpleNamespace) -> Halo:
    return _reach(_kernel(p).shape, p.origin)


def _flipped_halo(p: SimpleNamespace) -> Halo:
    # Flipped, an even window has its middle on the other side.
    return tuple((after, before) for before, after in _halo(p))


class _Same:
    """Checked weights, the same if they are one object: the planner asks often, they are large."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def __hash__(self) -> int:
        return id(self.weights)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.weights is self.weights


@functools.lru_cache(maxsize=8)
def _memory_of(held: _Same, ndim: int) -> int:
    return correlation.memory(correlation.choose(make_weights(held.weights, ndim)))


def _prepared(kernel: np.ndarray) -> dict[str, Any]:
    way = correlation.choose(kernel)
    work: Any = way.plan
    if way.tiles is not None:
        work = fourier.fourier_plan([kernel], way.tiles)
    return {"work": work, "how": way.how, "cost": way.cost}


def _prepare(p: SimpleNamespace) -> dict[str, Any]:
    return _prepared(_kernel(p))


def _prepare_flipped(p: SimpleNamespace) -> dict[str, Any]:
    return _prepared(np.flip(_kernel(p)))


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    # Flipped weights take as much.
    return _memory_of(_Same(p.weights), p.ndim)


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    cost: float = 0.4 + prepared["cost"]
    return cost


def _tile(p: SimpleNamespace, prepared: Mapping[str, Any]) -> tuple[int, ...] | None:
    work = prepared["work"]
    return work.core if isinstance(work, fourier.Plan) else None


@image_filter(halo=_halo, prepare=_prepare, memory=_memory, cost=_cost, tile=_tile)
def correlate(
    block: np.ndarray,
    *,
    weights: Weights,
    origin: Origin = 0,
    work,
) -> np.ndarray:
    """Sum the pixels of a window, each times its weight.

    ``sum over j of weights[j] * x[p + j - n//2 - origin]``, in float64. How is chosen from the
    weights alone, for speed: axis by axis where they are an outer product, or a sum of a few;
    weight by weight, zeros left out; or by Fourier transforms in tiles. Reference:
    ``scipy.ndimage.correlate`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    weights : array, str or mapping
        An array or nested lists, finite, with the image's spatial axes and at most 1001 weights a
        side; the path of a ``.npy`` file; ``'sharpen'`` or ``'emboss'`` (3 x 3); or a maker:
        ``{'box': side}``, ``{'disk': radius}``, ``{'ball': radius}`` or ``{'gaussian': sigma}``
        (cut off at 4 sigma), of sum 1, sizes in pixels, box and gaussian also one for each axis;
        ``{'laplacian': 4}`` or ``{'laplacian': 8}``, the neighbours less the pixel so many times.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``; a positive one looks
        further back.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If the weights are none, or they or the origin do not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.correlate(np.array([1.0, 2.0, 4.0, 8.0]), weights=[-1, 0, 1], mode="nearest")
    array([1., 3., 6., 4.])
    """
    return correlation.correlate(block, work)


@image_filter(halo=_flipped_halo, prepare=_prepare_flipped, memory=_memory, cost=_cost, tile=_tile)
def convolve(
    block: np.ndarray,
    *,
    weights: Weights,
    origin: Origin = 0,
    work,
) -> np.ndarray:
    """Convolve with weights: a sum over a window whose weights are flipped along every axis.

    ``sum over j of weights[j] * x[p - j + n//2 + origin]``, in float64; computed as `correlate`
    is. Reference: ``scipy.ndimage.convolve`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    weights : array, str or mapping
        As for `correlate`: an array or nested lists, the path of a ``.npy`` file, ``'sharpen'``,
        ``'emboss'``, or a maker such as ``{'gaussian': 2.0}``.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``; a positive one looks
        further ahead.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If the weights are none, or they or the origin do not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.convolve(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), weights=[1, 2, 3])
    array([0., 1., 2., 3., 0.])
    """
    return correlation.correlate(block, work)

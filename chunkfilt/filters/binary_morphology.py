"""Binary morphology: erosion, dilation, and what is made of them, on masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from chunkfilt.filters.declare import composite_filter, image_filter
from chunkfilt.filters.params import Footprint, Origin
from chunkfilt.filters.window import window_reach
from chunkfilt.grid import Halo
from chunkfilt.kernels.morphology import Step, binary_memory, binary_steps, make_step

__all__ = [
    "binary_closing",
    "binary_dilation",
    "binary_erosion",
    "binary_hit_or_miss",
    "binary_opening",
]


# Every step is prepared by itself.
_MOST_STEPS = 1 << 16


def _counted(iterations: int) -> int:
    if iterations < 1:
        message = (
            "must be >= 1 (repeating until nothing changes, as scipy does for less, depends on "
            "pixels at any distance: no block could be computed by itself)"
        )
        raise ValueError(message)
    if iterations > _MOST_STEPS:
        message = f"must be <= {_MOST_STEPS}"
        raise ValueError(message)
    return iterations


Iterations = Annotated[
    int, AfterValidator(_counted), WithJsonSchema({"type": "integer", "minimum": 1})
]
Border = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if isinstance(value, bool) else value),
    Field(ge=0, le=1),
]


def _truth(p: SimpleNamespace, dtypes: Any) -> np.dtype:
    return np.dtype(bool)


def _border(p: SimpleNamespace) -> tuple[str, float]:
    return "constant", p.border_value


def _cells(structure: np.ndarray | None, ndim: int) -> np.ndarray:
    """Return the structure, or the pixel and its neighbours along each axis."""
    if structure is not None:
        return structure
    return np.abs(np.indices((3,) * ndim) - 1).sum(axis=0) <= 1


def _single_reach(cells: np.ndarray, origin: tuple[int, ...]) -> Halo:
    window = SimpleNamespace(ndim=cells.ndim, size=None, footprint=cells, origin=origin)
    return window_reach(window)


def _fewer(cells: np.ndarray, centre: tuple[int, ...], times: int, grow: bool) -> list[Step] | None:
    """Return steps that do as much as `times` of a structure; None where the image's edge matters.

    It does not if the structure holds, with a pixel, all those nearer to the centre along each
    axis: a way from pixel to pixel that leaves the image can then be moved back, coordinate by
    coordinate, and what lies beyond the edge need not be kept as it was. (An erosion is the
    dilation of what is not set.)
    """
    for axis, at in enumerate(centre):
        rise = np.diff(cells.astype(np.int8), axis=axis).swapaxes(0, axis)
        if (rise[:at] < 0).any() or (rise[at:] > 0).any():
            return None
    before = ((0, 1),) * (3 - cells.ndim)
    if cells.all():
        window = tuple(times * (n - 1) + 1 for n in cells.shape)
        box = (*before, *((0, n) for n in window))
        return [Step((box,), window, tuple(times * c for c in centre), grow)]
    step = make_step(cells, centre, grow)
    if not np.array_equal(cells, _cells(None, cells.ndim)):
        return [step] * times
    # Moved along each axis by `far`, both ways, the pixels at most `reach` steps away cover those
    # up to `reach + far`: each is near enough to the move along its largest coordinate.
    steps, reach = [step], 1
    while reach < times:
        far = min(reach if cells.ndim == 2 else (reach + 1) // 2, times - reach)
        tips = [far * at for at in np.argwhere(cells) if (at != 1).any()]
        moves = tuple((*before, *((int(i), 1) for i in at)) for at in tips)
        steps.append(Step(moves, (2 * far + 1,) * cells.ndim, (far,) * cells.ndim, grow))
        reach += far
    return steps


class _Rules(NamedTuple):
    """What the declaration of an erosion or a dilation answers."""

    halo: Callable[[SimpleNamespace], Halo]
    prepare: Callable[[SimpleNamespace], dict[str, Any]]
    memory: Callable[[SimpleNamespace, tuple[int, ...], np.dtype], int]


def _rules(grow: bool) -> _Rules:

    def single(p: SimpleNamespace) -> Halo:
        around = _single_reach(_cells(p.structure, p.ndim), p.origin)
        return tuple((after, before) for before, after in around) if grow else around

    def halo(p: SimpleNamespace) -> Halo:
        return tuple((p.iterations * a, p.iterations * b) for a, b in single(p))

    def prepare(p: SimpleNamespace) -> dict[str, Any]:
        cells = _cells(p.structure, p.ndim)
        cells, centre = np.flip(cells) if grow else cells, tuple(a for a, _ in single(p))
        return {
            "steps": [make_step(cells, centre, grow)] * p.iterations,
            "fewer": _fewer(cells, centre, p.iterations, grow),
            "before": [a for a, _ in halo(p)],
        }

    def memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
        lost = tuple(a + b for a, b in halo(p))
        grown = tuple(n + m for n, m in zip(core[1:], lost, strict=True))
        # Beside the bits, which pixels are free to change.
        return 2 * core[0] * math.prod(grown) + binary_memory((1, *grown), lost)

    return _Rules(halo, prepare, memory)


_ERODE, _DILATE = _rules(grow=False), _rules(grow=True)


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: to make bits of pixels and back, and of every step."""
    steps = prepared.get("fewer") or prepared["steps"]
    return 0.15 + len(steps) * (0.03 + 0.004 * len(steps[0].boxes))


def _take_steps(
    block: np.ndarray,
    mask: np.ndarray | None,
    steps: list[Step],
    fewer: list[Step] | None,
    before: list[int],
    within: tuple[tuple[int, ...], tuple[int, ...]],
) -> np.ndarray:
    """Take the steps; what lies outside the image, or under no mask, keeps its value in each."""
    if mask is None and (fewer or len(steps) == 1):
        return binary_steps(block, fewer or steps)
    inside = [
        slice(min(max(b - o, 0), n), min(max(b - o + length, 0), n))
        for o, length, b, n in zip(*within, before, block.shape[1:], strict=True)
    ]
    whole = all(s == slice(0, n) for s, n in zip(inside, block.shape[1:], strict=True))
    if whole and mask is None:
        return binary_steps(block, steps)
    free = np.zeros(block.shape, bool)
    place = (slice(None), *inside)
    free[place] = True if mask is None else mask[place] != 0
    return binary_steps(block, steps, free)


@image_filter(
    halo=_ERODE.halo,
    prepare=_ERODE.prepare,
    memory=_ERODE.memory,
    dtype=_truth,
    edge=_border,
    cost=_cost,
)
def binary_erosion(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    structure: Footprint | None = None,
    iterations: Iterations = 1,
    border_value: Border = 0,
    origin: Origin = 0,
    steps,
    fewer,
    before,
    origin_px,
    shape_px,
) -> np.ndarray:
    """Erode a mask: keep the pixels around which the whole structure is set.

    Reference: ``scipy.ndimage.binary_erosion``, as many times as `iterations` says; what is not
    zero is set.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    mask : image, optional
        Pixels where it is 0 keep their values.
    structure : array of bool, optional
        The neighbours that have to be set; default the pixel and those next to it along each axis.
    iterations : int, default 1
        Number of erosions, ``>= 1``.
    border_value : int, default 0
        What lies beyond the image's edge at each of them, 0 or 1.
    origin : int or sequence of int, default 0
        Shift of the structure in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape; dtype bool.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.binary_erosion(np.array([1, 1, 1, 1, 0]))
    array([False,  True,  True, False, False])
    """
    return _take_steps(block, mask, steps, fewer, before, (origin_px, shape_px))


@image_filter(
    halo=_DILATE.halo,
    prepare=_DILATE.prepare,
    memory=_DILATE.memory,
    dtype=_truth,
    edge=_border,
    cost=_cost,
)
def binary_dilation(
    block: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    structure: Footprint | None = None,
    iterations: Iterations = 1,
    border_value: Border = 0,
    origin: Origin = 0,
    steps,
    fewer,
    before,
    origin_px,
    shape_px,
) -> np.ndarray:
    """Dilate a mask: set the pixels that the structure, put on any set pixel, covers.

    Reference: ``scipy.ndimage.binary_dilation``, as many times as `iterations` says; what is not
    zero is set.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    mask : image, optional
        Pixels where it is 0 keep their values.
    structure : array of bool, optional
        What a pixel grows to; default the pixel and those next to it along each axis.
    iterations : int, default 1
        Number of dilations, ``>= 1``.
    border_value : int, default 0
        What lies beyond the image's edge at each of them, 0 or 1.
    origin : int or sequence of int, default 0
        Shift of the structure in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape; dtype bool.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.binary_dilation(np.array([0, 0, 1, 0, 0]))
    array([False,  True,  True,  True, False])
    """
    return _take_steps(block, mask, steps, fewer, before, (origin_px, shape_px))


@composite_filter(mode=None)
def binary_opening(
    image: Any,
    mask: Any = None,
    *,
    structure: Footprint | None = None,
    iterations: Iterations = 1,
    border_value: Border = 0,
    origin: Origin = 0,
    apply,
) -> Any:
    """Open a mask: erode it, then dilate it; parts smaller than the structure go.

    Reference: ``scipy.ndimage.binary_opening``: `iterations` erosions, then as many dilations.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape; what is not zero is set.
    mask : image, optional
        Pixels where it is 0 keep their values.
    structure : array of bool, optional
        Default: the pixel and those next to it along each axis.
    iterations : int, default 1
        Number of erosions, and of dilations, ``>= 1``.
    border_value : int, default 0
        What lies beyond the image's edge at each of them, 0 or 1.
    origin : int or sequence of int, default 0
        Shift of the structure in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape; dtype bool.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.binary_opening(np.array([0, 1, 0, 1, 1, 1, 0]))
    array([False, False, False,  True,  True,  True, False])
    """
    given = {
        "structure": structure,
        "iterations": iterations,
        "border_value": border_value,
        "origin": origin,
    }
    return apply(binary_dilation, apply(binary_erosion, image, mask, **given), mask, **given)


@composite_filter(mode=None)
def binary_closing(
    image: Any,
    mask: Any = None,
    *,
    structure: Footprint | None = None,
    iterations: Iterations = 1,
    border_value: Border = 0,
    origin: Origin = 0,
    apply,
) -> Any:
    """Close a mask: dilate it, then erode it; gaps smaller than the structure are filled.

    Reference: ``scipy.ndimage.binary_closing``: `iterations` dilations, then as many erosions.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape; what is not zero is set.
    mask : image, optional
        Pixels where it is 0 keep their values.
    structure : array of bool, optional
        Default: the pixel and those next to it along each axis.
    iterations : int, default 1
        Number of dilations, and of erosions, ``>= 1``.
    border_value : int, default 0
        What lies beyond the image's edge at each of them, 0 or 1.
    origin : int or sequence of int, default 0
        Shift of the structure in pixels, ``-(n//2) <= origin <= (n-1)//2``.

    Returns
    -------
    image
        Same shape; dtype bool.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.binary_closing(np.array([0, 1, 1, 0, 1, 1, 0]))
    array([False,  True,  True,  True,  True,  True, False])
    """
    given = {
        "structure": structure,
        "iterations": iterations,
        "border_value": border_value,
        "origin": origin,
    }
    return apply(binary_erosion, apply(binary_dilation, image, mask, **given), mask, **given)


def _both_halos(p: SimpleNamespace) -> list[Halo]:
    """Return how far the structure that must be set, and that which must not, reach."""
    hit = _cells(p.structure1, p.ndim)
    miss = ~hit if p.structure2 is None else p.structure2
    origin2 = p.origin1 if p.origin2 is None else p.origin2
    return [_single_reach(hit, p.origin1), _single_reach(miss, origin2)]


def _hit_or_miss_reach(p: SimpleNamespace) -> Halo:
    hit, miss = _both_halos(p)
    return tuple((max(a[0], b[0]), max(a[1], b[1])) for a, b in zip(hit, miss, strict=True))


def _hit_and_miss(p: SimpleNamespace) -> dict[str, Any]:
    """Return both structures within one window, each as a step of its own."""
    around = _hit_or_miss_reach(p)
    hit = _cells(p.structure1, p.ndim)
    miss = ~hit if p.structure2 is None else p.structure2
    steps = []
    for cells, reach, grow in zip((hit, miss), _both_halos(p), (False, True), strict=True):
        margins = [(w - b, v - a) for (w, v), (b, a) in zip(around, reach, strict=True)]
        steps.append(make_step(np.pad(cells, margins), tuple(b for b, _ in around), grow))
    return {"steps": steps}


@image_filter(
    halo=_hit_or_miss_reach,
    prepare=_hit_and_miss,
    dtype=_truth,
    edge=lambda p: ("constant", 0),
    cost=_cost,
)
def binary_hit_or_miss(
    block: np.ndarray,
    *,
    structure1: Footprint | None = None,
    structure2: Footprint | None = None,
    origin1: Origin = 0,
    origin2: Origin | None = None,
    steps,
) -> np.ndarray:
    """Find a pattern in a mask: one structure is set around a pixel, and nothing of the other.

    Reference: ``scipy.ndimage.binary_hit_or_miss``; beyond the image's edge nothing is set.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape; what is not zero is set.
    structure1 : array of bool, optional
        The neighbours that have to be set; default the pixel and those next to it along each axis.
    structure2 : array of bool, optional
        The neighbours that must not be set; default those that are not in `structure1`.
    origin1 : int or sequence of int, default 0
        Shift of `structure1` in pixels, ``-(n//2) <= origin <= (n-1)//2``.
    origin2 : int or sequence of int, optional
        Shift of `structure2` in pixels; default that of `structure1`.

    Returns
    -------
    image
        Same shape; dtype bool.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.binary_hit_or_miss(np.array([0, 1, 1, 0, 1]), structure1=[0, 1, 1])
    array([False,  True, False, False, False])
    """
    hit, miss = (binary_steps(block, [step]) for step in steps)
    return np.greater(hit, miss, out=hit)

"""What the filters of grey morphology share: structures with heights, and which way they lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from chunkfilt.filters.window import settle_window, window_reach
from chunkfilt.grid import Halo

__all__ = [
    "Heights",
    "both_cost",
    "both_memory",
    "both_reach",
    "settle_both",
    "settle_structure",
    "structure_cost",
    "structure_memory",
    "structure_reach",
    "turn_structure",
    "turned_reach",
]

_LARGEST = 1001


def _heights(value: Any) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    real = array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
    if not real or array.ndim == 0 or array.size == 0 or max(array.shape) > _LARGEST:
        message = f"must be an array of finite numbers, at most {_LARGEST} pixels a side"
        raise ValueError(message)
    array.flags.writeable = False
    return array


Heights = Annotated[
    np.ndarray,
    PlainValidator(_heights),
    PlainSerializer(lambda array: array.tolist()),
    WithJsonSchema({"type": "array", "description": "Nested lists of heights."}),
]


def _window(p: SimpleNamespace) -> SimpleNamespace:
    """Return what describes the window as size, footprint and origin, after checking it."""
    structure, footprint = p.structure, p.footprint
    if structure is None:
        return p
    if p.size is not None:
        message = "takes size or structure, got both: leave one out"
        raise ValueError(message)
    if structure.ndim != p.ndim:
        message = (
            f"structure must have {p.ndim} axes (the image's spatial axes), got {structure.ndim}"
        )
        raise ValueError(message)
    if footprint is not None and footprint.shape != structure.shape:
        message = (
            f"footprint and structure must have one shape, got {footprint.shape} and "
            f"{structure.shape}"
        )
        raise ValueError(message)
    cells = np.ones(structure.shape, bool) if footprint is None else footprint
    return SimpleNamespace(ndim=p.ndim, size=None, footprint=cells, origin=p.origin)


def structure_reach(p: SimpleNamespace) -> Halo:
    """Return the halo of the window."""
    return window_reach(_window(p))


def turned_reach(p: SimpleNamespace) -> Halo:
    """Return the halo of a window turned round: its origin negated, one less for even sizes."""
    return tuple((after, before) for before, after in structure_reach(p))


def settle_structure(p: SimpleNamespace) -> dict[str, Any]:
    """Settle the window, a footprint or the size of a box, and heights if it is not flat."""
    settled = settle_window(_window(p))
    window = settled["window"] if settled["cells"] is None else settled["cells"]
    return {"window": window, "heights": p.structure}


def turn_structure(p: SimpleNamespace) -> dict[str, Any]:
    """Settle the structure turned round, as a dilation sees it."""
    return {name: _turned(part) for name, part in settle_structure(p).items()}


def _turned(part: Any) -> Any:
    return np.flip(part) if isinstance(part, np.ndarray) else part


def structure_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel: of taps, if not flat; of the runs of a footprint; of a box."""
    cells = prepared["window"]
    boxed = isinstance(cells, tuple)
    if prepared["heights"] is not None:
        return 0.3 + 0.04 * (math.prod(cells) if boxed else int(cells.sum()))
    return 0.5 if boxed else 0.5 + 0.05 * len(cells)


def structure_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of turned pixels and of a float's NaN, for a structure with heights."""
    grown = math.prod(
        n + sum(around) for n, around in zip(core[1:], structure_reach(p), strict=True)
    )
    return (2 * dtype.itemsize + 1) * core[0] * grown if p.structure is not None else 0


def both_reach(p: SimpleNamespace) -> Halo:
    """Return the halo of a window and of the same turned round."""
    return tuple((max(around),) * 2 for around in structure_reach(p))


def settle_both(p: SimpleNamespace) -> dict[str, Any]:
    """Settle the dilation and the erosion: of what part of the block, with what structure."""
    around = both_reach(p)
    parts = []
    for reach in (turned_reach(p), structure_reach(p)):
        along = zip(around, reach, strict=True)
        parts.append((slice(None), *(slice(w - b, (a - w) or None) for (w, _), (b, a) in along)))
    return {"parts": parts, "structures": [turn_structure(p), settle_structure(p)]}


def both_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel of a dilation, an erosion and their difference."""
    return 0.5 + 2 * structure_cost(p, prepared["structures"][0])


def both_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of a dilation and an erosion, and of what each works in."""
    return structure_memory(p, core, dtype) + 2 * math.prod(core) * dtype.itemsize

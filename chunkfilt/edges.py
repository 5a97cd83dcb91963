"""What lies beyond the image's edge: one table for all modes, and the one routine that uses it.

| mode       | beyond the edge of ``a b c d`` |
|------------|--------------------------------|
| `reflect`  | ``b a | a b c d | d c``        |
| `mirror`   | ``c b | a b c d | c b``        |
| `nearest`  | ``a a | a b c d | d d``        |
| `constant` | ``k k | a b c d | k k``        |
| `wrap`     | ``c d | a b c d | a b``        |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chunkfilt.grid import Region, Runs, merge_runs

__all__ = ["MODES", "gather", "mode_name", "needed_runs", "positions", "source_index"]

MODES = ("reflect", "mirror", "nearest", "constant", "wrap")
_SYNONYMS = {"grid-mirror": "reflect", "grid-wrap": "wrap", "grid-constant": "constant"}


def mode_name(mode: str) -> str:
    """Return the mode by its own name; scipy's ``grid-*`` synonyms are understood."""
    return _SYNONYMS.get(mode, mode)


def source_index(start: int, stop: int, n: int, mode: str) -> np.ndarray:
    """Give, for coordinates `start` to `stop`, the pixel of an axis of `n` each one shows.

    Coordinates that show no pixel (``constant`` beyond the edge) give -1.

    >>> source_index(-2, 6, 4, "reflect")
    array([1, 0, 0, 1, 2, 3, 3, 2])
    >>> source_index(-2, 6, 4, "constant")
    array([-1, -1,  0,  1,  2,  3, -1, -1])
    """
    at = np.arange(start, stop, dtype=np.intp)
    if mode == "constant" or n == 0:
        return np.where((at >= 0) & (at < n), at, -1)
    if mode == "nearest":
        return np.clip(at, 0, n - 1)
    if mode == "wrap":
        return at % n
    if mode == "reflect":
        at %= 2 * n
        return np.where(at < n, at, 2 * n - 1 - at)
    if mode == "mirror":
        if n == 1:
            return np.zeros_like(at)
        at %= 2 * n - 2
        return np.where(at < n, at, 2 * n - 2 - at)
    message = f"mode must be one of {', '.join(MODES)}, got {mode!r}"
    raise ValueError(message)


def needed_runs(start: int, stop: int, n: int, mode: str) -> Runs:
    """Return the pixels inside an axis of `n` that coordinates `start` to `stop` show.

    >>> needed_runs(-2, 3, 10, "wrap")
    ((0, 3), (8, 10))
    """
    if stop <= start or n == 0:
        return ()
    if start >= 0 and stop <= n:
        return ((start, stop),)
    if mode == "wrap":
        if stop - start >= n:
            return ((0, n),)
        first, last = start % n, start % n + stop - start
        return ((first, last),) if last <= n else merge_runs(((0, last - n), (first, n)))
    # In the other modes neighbouring coordinates show neighbouring pixels, so there is one run;
    # only those beyond the edge, which are few, are looked at one by one.
    beyond = [
        source_index(a, b, n, mode) for a, b in ((start, min(stop, 0)), (max(start, n), stop))
    ]
    inside = [max(start, 0), min(stop, n) - 1] if start < n and stop > 0 else []
    shown = np.concatenate([*beyond, np.array(inside, np.intp)])
    shown = shown[shown >= 0]
    return ((int(shown.min()), int(shown.max()) + 1),) if shown.size else ()


def gather(
    data: np.ndarray,
    runs: Sequence[Runs],
    wanted: Region,
    shape: Sequence[int],
    mode: str,
    cval: Any = 0,
) -> np.ndarray:
    """Take the region `wanted`, extended beyond the edge, out of `data` packed by `runs`.

    `shape` is the image's own.  Away from the edge the result is a view; at the edge there is one
    copy per axis that reaches beyond it.
    """
    missing: list[tuple[int, np.ndarray]] = []
    # The Ellipsis keeps the result an array where the image has no axes.
    window: list[Any] = [slice(None)] * data.ndim + [...]
    takes: list[tuple[int, np.ndarray, slice]] = []
    for axis, (along, n) in enumerate(zip(runs, shape, strict=True)):
        start, stop = wanted.start[axis], wanted.stop[axis]
        if len(along) == 1 and along[0][0] <= start and stop <= along[0][1]:
            window[axis] = slice(start - along[0][0], stop - along[0][0])
            continue
        index = source_index(start, stop, n, mode)
        absent = index < 0
        if absent.any():
            missing.append((axis, absent))
        inside = slice(max(start, 0) - start, max(min(stop, n), start, 0) - start)
        takes.append((axis, positions(along, index), inside))
    out: np.ndarray = data[tuple(window)]
    for axis, position, inside in takes:
        # An axis on which every coordinate lies beyond the edge has no pixel to take from.
        if out.shape[axis] == 0:
            widened = [(0, 0)] * out.ndim
            widened[axis] = (0, 1)
            out = np.pad(out, widened)
        out = _take(out, position, inside, axis)
    for axis, absent in missing:
        out[(slice(None),) * axis + (absent,)] = cval
    return out


def _take(data: np.ndarray, position: np.ndarray, inside: slice, axis: int) -> np.ndarray:
    """Take positions along an axis; those `inside` the image follow one another.

    They are copied as they lie, which is several times as fast as taking them one by one.
    """
    first, last = inside.start, min(inside.stop, len(position))
    if last - first < 2:
        return np.take(data, position, axis=axis)
    whole = (slice(None),) * axis + (slice(position[first], position[last - 1] + 1),)
    pieces = [
        np.take(data, position[:first], axis=axis),
        data[whole],
        np.take(data, position[last:], axis=axis),
    ]
    return np.concatenate([piece for piece in pieces if piece.shape[axis]], axis=axis)


def positions(runs: Runs, index: np.ndarray) -> np.ndarray:
    """Return where global indices stand in an axis packed by `runs` (0 for those that are -1)."""
    if not runs:
        return np.zeros_like(index)
    starts = np.array([a for a, _ in runs])
    offsets = np.concatenate(([0], np.cumsum([b - a for a, b in runs])[:-1]))
    which = np.searchsorted(starts, index, side="right") - 1
    return np.where(index < 0, 0, offsets[which] + index - starts[which])

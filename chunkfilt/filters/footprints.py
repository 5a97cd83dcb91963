"""Footprints: boolean arrays that say which pixels of a window count.

Radii may be fractions; half-widths are rounded down.  In YAML: ``footprint: {disk: 5}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["ball", "disk", "ellipse", "ring"]

# Pixels a side, and in all.
_LARGEST, _MOST = 1001, 1 << 24


def disk(r: float) -> np.ndarray:
    """Return a disk of radius `r` pixels as a boolean array.

    Parameters
    ----------
    r : float
        Radius in pixels, ``>= 0``; pixels with ``y*y + x*x <= r*r`` are in.

    Returns
    -------
    ndarray of bool, shape ``(2*floor(r) + 1,) * 2``

    Raises
    ------
    ValueError
        If `r` is negative or above 500.

    Examples
    --------
    >>> disk(1).astype(int)
    array([[0, 1, 0],
           [1, 1, 1],
           [0, 1, 0]])
    """
    y, x = _axes(("r", r), ("r", r))
    return np.asarray(y * y + x * x <= r * r)


def ball(r: float) -> np.ndarray:
    """Return a ball of radius `r` voxels as a boolean array.

    Parameters
    ----------
    r : float
        Radius in voxels, ``>= 0``; voxels with ``z*z + y*y + x*x <= r*r`` are in.

    Returns
    -------
    ndarray of bool, shape ``(2*floor(r) + 1,) * 3``

    Raises
    ------
    ValueError
        If `r` is negative, or 128 or more: the ball would have more than 2**24 voxels.

    Examples
    --------
    >>> int(ball(1).sum())
    7
    """
    z, y, x = _axes(("r", r), ("r", r), ("r", r))
    return np.asarray(z * z + y * y + x * x <= r * r)


def ellipse(ry: float, rx: float) -> np.ndarray:
    """Return an ellipse with half-axes `ry` and `rx` as a boolean array.

    Parameters
    ----------
    ry, rx : float
        Half-axes in pixels, ``>= 0``; pixels with ``y*y*rx*rx + x*x*ry*ry <= rx*rx*ry*ry``
        are in.

    Returns
    -------
    ndarray of bool, shape ``(2*floor(ry) + 1, 2*floor(rx) + 1)``

    Raises
    ------
    ValueError
        If a half-axis is negative or above 500.

    Examples
    --------
    >>> ellipse(1, 2).astype(int)
    array([[0, 0, 1, 0, 0],
           [1, 1, 1, 1, 1],
           [0, 0, 1, 0, 0]])
    """
    y, x = _axes(("ry", ry), ("rx", rx))
    return np.asarray(y * y * rx * rx + x * x * ry * ry <= rx * rx * ry * ry)


def ring(r0: float, r1: float) -> np.ndarray:
    """Return a ring from radius `r0` to radius `r1` as a boolean array.

    Parameters
    ----------
    r0, r1 : float
        Inner and outer radius in pixels, ``0 <= r0 <= r1``; pixels with
        ``r0*r0 <= y*y + x*x <= r1*r1`` are in.

    Returns
    -------
    ndarray of bool, shape ``(2*floor(r1) + 1,) * 2``

    Raises
    ------
    ValueError
        If a radius is negative or above 500, or ``r0 > r1``, or no pixel lies in the ring.

    Examples
    --------
    >>> ring(1, 1).astype(int)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 1, 0]])
    """
    if r0 > r1:
        message = f"ring: r0 must be <= r1, got r0={r0!r}, r1={r1!r}"
        raise ValueError(message)
    _axes(("r0", r0))
    y, x = _axes(("r1", r1), ("r1", r1))
    square = y * y + x * x
    inside = np.asarray((r0 * r0 <= square) & (square <= r1 * r1))
    if not inside.any():
        message = f"ring: no pixel lies between r0={r0!r} and r1={r1!r}: widen the ring"
        raise ValueError(message)
    return inside


MAKERS: dict[str, Callable[..., np.ndarray]] = {
    "disk": disk,
    "ball": ball,
    "ellipse": ellipse,
    "ring": ring,
}


def make_footprint(value: Any) -> np.ndarray:
    """Return a footprint from an array, nested lists of 0 and 1, or ``{maker: radius}``."""
    if isinstance(value, dict):
        if len(value) != 1 or next(iter(value)) not in MAKERS:
            message = f"must be an array of 0 and 1 or one of {', '.join(MAKERS)}"
            raise ValueError(message)
        ((name, radii),) = value.items()
        arguments = radii if isinstance(radii, (list, tuple)) else [radii]
        try:
            return MAKERS[name](*arguments)
        except TypeError:
            message = f"must give {name} its radius in pixels, as numbers"
            raise ValueError(message) from None
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    boolean = array.dtype.kind in "biuf" and bool(np.isin(array, (0, 1)).all())
    if not boolean or array.ndim == 0 or not array.any() or max(array.shape) > _LARGEST:
        message = (
            f"must be an array of 0 and 1 with at least one 1 and at most {_LARGEST} pixels a side"
        )
        raise ValueError(message)
    return array.astype(bool)


def describe_footprint(footprint: np.ndarray) -> Any:
    """Return a footprint as it stands in YAML: its maker where one gives it, else 0s and 1s."""
    half = [n // 2 for n in footprint.shape]
    if footprint.ndim == 2:
        candidates = [{"disk": half[0]}, {"ellipse": half}]
    else:
        candidates = [{"ball": half[0]}] if footprint.ndim == 3 else []
    for candidate in candidates:
        if np.array_equal(make_footprint(candidate), footprint):
            return candidate
    return footprint.astype(int).tolist()


def _axes(*radii: tuple[str, float]) -> tuple[np.ndarray, ...]:
    """Return open coordinate grids that reach ``floor(r)`` to either side of the centre."""
    for name, r in radii:
        if isinstance(r, bool) or not isinstance(r, (int, float, np.number)):
            message = f"{name} must be a number of pixels, got {r!r}"
            raise ValueError(message)  # noqa: TRY004 - a parameter's error like the others
        if not 0 <= r <= _LARGEST // 2:
            message = f"{name} must be >= 0 and <= {_LARGEST // 2} pixels, got {r!r}"
            raise ValueError(message)
    if math.prod(2 * math.floor(r) + 1 for _, r in radii) > _MOST:
        message = f"radii of {', '.join(f'{r:.5g}' for _, r in radii)} give more than 2**24 pixels"
        raise ValueError(message)
    spans = [np.arange(-math.floor(r), math.floor(r) + 1) for _, r in radii]
    return tuple(np.ix_(*spans))

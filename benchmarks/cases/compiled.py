"""A function of a user's own for `generic`, compiled."""

from __future__ import annotations

import numba

__all__ = ["spread"]


@numba.njit
def spread(pixels):
    """Return the mean distance of the pixels from the one in the middle."""
    middle, total = pixels[pixels.size // 2], 0.0
    for value in pixels:
        total += abs(value - middle)
    return total / pixels.size

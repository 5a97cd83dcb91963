"""Weighted smoothing: the Gaussian and its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.params import NonNegative, Order, PerAxis, Sigma
from chunkfilt.grid import Halo
from chunkfilt.kernels import real_dtype, separable, valid_sums

__all__ = ["gaussian"]

# As in scipy: an axis with a sigma this small is left alone.
_NO_SIGMA = 1e-15
_LARGEST_RADIUS = 1 << 16
Radius = Annotated[int, Field(ge=0), PerAxis()]


def _radii(p: SimpleNamespace) -> tuple[int, ...]:
    """Return the radius per axis; an axis that is left alone (sigma 0, order 0) has none."""
    reach = [int(p.truncate * s + 0.5) for s in p.sigma] if p.radius is None else p.radius
    return tuple(int(r) if s > _NO_SIGMA else 0 for r, s in zip(reach, p.sigma, strict=True))


def _halo(p: SimpleNamespace) -> Halo:
    for sigma, order in zip(p.sigma, p.order, strict=True):
        if order and sigma <= _NO_SIGMA:
            message = f"order {order} needs sigma > 0 on its axis, got sigma {sigma!r}"
            raise ValueError(message)
    radii = _radii(p)
    if max(radii) > _LARGEST_RADIUS:
        message = (
            f"the Gaussian would reach {max(radii):.3g} pixels, at most {_LARGEST_RADIUS} are "
            "possible: lower sigma, truncate or radius"
        )
        raise ValueError(message)
    return tuple((r, r) for r in radii)


def gaussian_weights(sigma: float, order: int, radius: int) -> np.ndarray:
    """Return the 1-D correlation weights of a Gaussian's derivative of the given order.

    ``g(x) = exp(-x*x / (2 sigma**2))``, normalised to sum 1 over ``-radius..radius``, times the
    polynomial ``q`` of its derivative: ``q' - q x / sigma**2`` repeated `order` times.
    """
    if sigma <= _NO_SIGMA:
        return np.ones(1)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 / (sigma * sigma) * x * x)
    weights /= weights.sum()
    q = np.polynomial.Polynomial([1.0])
    slope = np.polynomial.Polynomial([0.0, -1.0 / (sigma * sigma)])
    for _ in range(order):
        q = q.deriv() + q * slope
    # A derivative is a convolution: correlation sees the weights reversed.
    return (weights * q(x))[::-1]


def _weights(p: SimpleNamespace) -> dict[str, Any]:
    axes = zip(p.sigma, p.order, _radii(p), strict=True)
    return {"terms": (tuple(gaussian_weights(s, o, r) for s, o, r in axes),)}


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel, as measured."""
    once = 0.9 + 0.02 * sum(len(weights) for term in prepared["terms"] for weights in term)
    return 3 * once if p.nan_policy == "omit" else once


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return valid_sums.smooth_memory(core, tuple(2 * radius + 1 for radius in _radii(p)))


def _check(p: SimpleNamespace, dtypes: Sequence[Any]) -> None:
    if any(p.order) and (p.nan_policy == "omit" or len(dtypes) > 1):
        given = "a mask" if len(dtypes) > 1 else "nan_policy 'omit'"
        message = (
            f"a derivative needs all pixels of its window, got order {max(p.order)} with {given}: "
            "fill the missing pixels first (fill_gaps), or take order 0"
        )
        raise ValueError(message)


@image_filter(halo=_halo, prepare=_weights, memory=_memory, cost=_cost, check=_check, omits=True)
def gaussian(
    block: np.ndarray,
    *,
    sigma: Sigma = 1.0,
    order: Order = 0,
    truncate: NonNegative = 4.0,
    radius: Radius | None = None,
    terms,
    valid,
) -> np.ndarray:
    """Smooth with a Gaussian, or take a derivative of one.

    Correlation along each axis with ``exp(-x*x / (2 sigma**2))``, normalised to sum 1, over
    ``-radius..radius``, in float64. Reference: ``scipy.ndimage.gaussian_filter`` on float64. Where
    pixels are left out, the weights of the others are scaled to sum 1; a derivative needs them all.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    sigma : float or sequence of float, default 1.0
        Standard deviation in pixels, ``>= 0``, for all spatial axes or for each; an axis with 0
        is left alone.
    order : int or sequence of int, default 0
        Derivative along the axis, 0 to 3.
    truncate : float, default 4.0
        Cut the Gaussian off at this many standard deviations, ``>= 0``.
    radius : int or sequence of int, optional
        Cut it off at this many pixels instead; default ``int(truncate * sigma + 0.5)``.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64. NaN
        where no pixel of the window counts.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes, or if `order` is above 0
        and a mask or ``nan_policy='omit'`` leaves pixels out.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.gaussian(np.array([0, 0, 1, 0, 0.]), sigma=1).round(2)
    array([0.06, 0.24, 0.4 , 0.24, 0.06])
    """
    if valid is None:
        return separable.separable(block, terms)
    if not np.any(order):
        return valid_sums.valid_separable(block, valid, terms[0])
    # Nodata, then: it makes unknown every derivative whose window holds it.
    seen = np.where(valid, block, np.nan).astype(real_dtype(block.dtype), copy=False)
    return separable.separable(seen, terms)

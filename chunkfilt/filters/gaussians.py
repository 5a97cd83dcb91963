"""What Gaussians of one or two widths tell: blobs, edges, and a sharper image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.derivatives import fringe_memory, fringe_of
from chunkfilt.filters.params import NonNegative, PerAxis, Sigma
from chunkfilt.filters.smooth import gaussian_weights
from chunkfilt.grid import Halo
from chunkfilt.kernels import correlation, separable, stepwise

__all__ = [
    "difference_of_gaussians",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "unsharp_mask",
]

_LARGEST_RADIUS = 1 << 16
_TRUNCATE = 4.0
Width = Annotated[float, Field(gt=0, allow_inf_nan=False), PerAxis()]
Amount = Annotated[float, Field(allow_inf_nan=False)]


def _radii(sigmas: Sequence[float], truncate: float) -> tuple[int, ...]:
    reach = [truncate * sigma + 0.5 for sigma in sigmas]
    if max(reach) >= _LARGEST_RADIUS + 1:
        message = (
            f"the Gaussian would reach {max(reach):.3g} pixels, at most {_LARGEST_RADIUS} are "
            "possible: lower its width or truncate"
        )
        raise ValueError(message)
    return tuple(int(r) for r in reach)


def _halo(p: SimpleNamespace) -> Halo:
    return tuple((r, r) for r in _radii(p.sigma, p.truncate))


def _derivatives(p: SimpleNamespace, order: int) -> tuple[stepwise.Passes, ...]:
    """Return, for each axis, the passes of a Gaussian that takes a derivative along it."""
    radii = _radii(p.sigma, p.truncate)

    def along(axis: int, derived: int) -> np.ndarray:
        return gaussian_weights(p.sigma[axis], order * (axis == derived), radii[axis])

    axes = range(p.ndim)
    return tuple(tuple((axis, along(axis, derived)) for axis in axes) for derived in axes)


def _term(passes: stepwise.Passes) -> separable.Term:
    return tuple(weights for _, weights in passes)


def _bends(p: SimpleNamespace) -> dict[str, Any]:
    every = _derivatives(p, 2)
    plan = separable.Plan(tuple(map(_term, every)), None)
    return {"plans": [plan], "fringe": fringe_of(p, (every,))}


def _slopes(p: SimpleNamespace) -> dict[str, Any]:
    every = _derivatives(p, 1)
    plans = [separable.Plan((_term(passes),), None) for passes in every]
    return {"plans": plans, "fringe": fringe_of(p, tuple((passes,) for passes in every))}


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel, as measured."""
    plans = prepared["plans"]
    terms = sum(len(plan.terms) for plan in plans)
    cost = correlation.passes_cost(plans[0].window, terms) + 0.4 + 0.4 * (len(plans) > 1)
    return cost if prepared.get("fringe") is None else cost + 3.0


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    window = tuple(before + after + 1 for before, after in _halo(p))
    return separable.working_memory(window, p.ndim) + fringe_memory(p, core)


@image_filter(halo=_halo, prepare=_bends, memory=_memory, cost=_cost)
def gaussian_laplace(
    block: np.ndarray,
    *,
    sigma: Width = 1.0,
    truncate: NonNegative = _TRUNCATE,
    plans,
    fringe,
    origin_px,
    shape_px,
) -> np.ndarray:
    """Sum the second derivatives of a Gaussian along all axes: blobs and edges of one size.

    Reference: ``scipy.ndimage.gaussian_laplace`` on float64; dark blobs come out positive.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    sigma : float or sequence of float, default 1.0
        Standard deviation in pixels, ``> 0``, for all spatial axes or for each.
    truncate : float, default 4.0
        Cut the Gaussian off at this many standard deviations, ``>= 0``.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.gaussian_laplace(np.array([0, 0, 1, 0, 0.0]), sigma=1).round(2)
    array([ 0.2,  0. , -0.4,  0. ,  0.2])
    """
    return stepwise.correlate(block, plans, fringe, origin_px, shape_px)


@image_filter(halo=_halo, prepare=_slopes, memory=_memory, cost=_cost)
def gaussian_gradient_magnitude(
    block: np.ndarray,
    *,
    sigma: Width = 1.0,
    truncate: NonNegative = _TRUNCATE,
    plans,
    fringe,
    origin_px,
    shape_px,
) -> np.ndarray:
    """Compute how steep the image is, smoothed with a Gaussian.

    The root of the sum over axes of the squares of a Gaussian's derivatives. Reference:
    ``scipy.ndimage.gaussian_gradient_magnitude`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    sigma : float or sequence of float, default 1.0
        Standard deviation in pixels, ``> 0``, for all spatial axes or for each.
    truncate : float, default 4.0
        Cut the Gaussian off at this many standard deviations, ``>= 0``.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.gaussian_gradient_magnitude(np.arange(20.0), sigma=1)[8:12].round(2)
    array([1., 1., 1., 1.])
    """
    found = stepwise.correlate(block, plans, fringe, origin_px, shape_px)
    return np.abs(found) if len(plans) == 1 else found


def _wide(p: SimpleNamespace) -> tuple[float, ...]:
    """Return the larger sigma along each axis."""
    wide = tuple(1.6 * low for low in p.low_sigma) if p.high_sigma is None else p.high_sigma
    if any(high < low for low, high in zip(p.low_sigma, wide, strict=True)):
        message = (
            f"high_sigma must be >= low_sigma along every axis, got {list(wide)} and "
            f"{list(p.low_sigma)}"
        )
        raise ValueError(message)
    return tuple(wide)


def _wide_halo(p: SimpleNamespace) -> Halo:
    return tuple((r, r) for r in _radii(_wide(p), p.truncate))


def _smooth(sigmas: Sequence[float], truncate: float, halo: Halo) -> list[np.ndarray]:
    """Return the weights of a Gaussian along each axis, with zeros up to the halo."""
    weights = []
    for sigma, radius, (reach, _) in zip(sigmas, _radii(sigmas, truncate), halo, strict=True):
        one = gaussian_weights(sigma, 0, radius)
        weights.append(np.pad(one, reach - len(one) // 2))
    return weights


def _difference(p: SimpleNamespace) -> dict[str, Any]:
    halo = _wide_halo(p)
    plus, minus = (_smooth(s, p.truncate, halo) for s in (p.low_sigma, _wide(p)))
    minus[0] = -minus[0]
    return {"plans": [separable.Plan((tuple(plus), tuple(minus)), None)]}


def _pair_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    halo = _wide_halo(p) if hasattr(p, "low_sigma") else _mask_halo(p)
    return separable.working_memory(tuple(sum(reach) + 1 for reach in halo), 2)


@image_filter(halo=_wide_halo, prepare=_difference, memory=_pair_memory, cost=_cost, mode="nearest")
def difference_of_gaussians(
    block: np.ndarray,
    *,
    low_sigma: Sigma = 1.0,
    high_sigma: Sigma | None = None,
    truncate: NonNegative = _TRUNCATE,
    plans,
) -> np.ndarray:
    """Keep what is between two sizes: a Gaussian less a wider one.

    Reference: ``skimage.filters.difference_of_gaussians`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    low_sigma : float or sequence of float, default 1.0
        Standard deviation of the narrow Gaussian in pixels, ``>= 0``, for all spatial axes or for
        each; 0 leaves an axis as it is.
    high_sigma : float or sequence of float, optional
        Of the wide one, ``>= low_sigma``; default ``1.6 * low_sigma``.
    truncate : float, default 4.0
        Cut the Gaussians off at this many standard deviations, ``>= 0``.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.difference_of_gaussians(np.array([0, 0, 0, 1, 0, 0, 0.0]), low_sigma=1).round(2)
    array([-0.04, -0.06,  0.04,  0.15,  0.04, -0.06, -0.04])
    """
    return separable.magnitude(block, plans)


def _mask_halo(p: SimpleNamespace) -> Halo:
    return tuple((r, r) for r in _radii(p.radius, _TRUNCATE))


def _sharper(p: SimpleNamespace) -> dict[str, Any]:
    halo = _mask_halo(p)
    itself = _smooth([0.0] * p.ndim, _TRUNCATE, halo)
    smooth = _smooth(p.radius, _TRUNCATE, halo)
    itself[0], smooth[0] = itself[0] * (1.0 + p.amount), smooth[0] * -p.amount
    return {"plans": [separable.Plan((tuple(itself), tuple(smooth)), None)]}


@image_filter(halo=_mask_halo, prepare=_sharper, memory=_pair_memory, cost=_cost)
def unsharp_mask(
    block: np.ndarray, *, radius: Sigma = 1.0, amount: Amount = 1.0, plans
) -> np.ndarray:
    """Sharpen: add what a Gaussian takes away.

    ``x + amount * (x - gaussian(x))``, the Gaussian cut off at 4 sigma; nothing is clipped.
    Reference: ``skimage.filters.unsharp_mask`` with ``preserve_range`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    radius : float or sequence of float, default 1.0
        Standard deviation of the Gaussian in pixels, ``>= 0``, for all spatial axes or for each.
    amount : float, default 1.0
        How much of the detail is added; a negative amount smooths.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.unsharp_mask(np.array([0, 0, 1, 1.0]), radius=1).round(2)
    array([-0.06, -0.3 ,  1.3 ,  1.06])
    """
    return separable.magnitude(block, plans)

"""Local thresholds: a level for every pixel from the pixels around it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.params import PerAxis, Positive, Sigma
from chunkfilt.filters.smooth import gaussian_weights
from chunkfilt.grid import Halo
from chunkfilt.kernels import box, local_threshold, real_dtype, separable, valid_sums
from chunkfilt.kernels.extremes import extreme_filter
from chunkfilt.kernels.rank import median_rank, rank_filter, rank_memory
from chunkfilt.kernels.valid import valid_memory, valid_rank

__all__ = ["threshold_local", "threshold_niblack", "threshold_sauvola"]

# scikit-image cuts its Gaussian off at so many standard deviations.
_TRUNCATE = 4.0
_NO_SIGMA = 1e-15
_LARGEST_WINDOW = (1 << 20) - 1


def _odd(size: int) -> int:
    if size % 2 == 0:
        message = "must be odd"
        raise ValueError(message)
    return size


OddSize = Annotated[int, Field(ge=1, le=_LARGEST_WINDOW), AfterValidator(_odd), PerAxis()]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Method = Literal["gaussian", "mean", "median"]


def _around(size: tuple[int, ...]) -> Halo:
    return tuple((n // 2, n // 2) for n in size)


def _sigmas(p: SimpleNamespace) -> tuple[float, ...]:
    """Return the Gaussian's standard deviations: a sixth of the block, by default."""
    given = p.sigma or tuple((n - 1) / 6 for n in p.block_size)
    return tuple(float(sigma) for sigma in given)


def _radii(p: SimpleNamespace) -> tuple[int, ...]:
    return tuple(int(_TRUNCATE * s + 0.5) if s > _NO_SIGMA else 0 for s in _sigmas(p))


def _local_halo(p: SimpleNamespace) -> Halo:
    if p.method != "gaussian":
        if p.sigma is not None:
            message = f"sigma is for method 'gaussian', got method {p.method!r}: leave it out"
            raise ValueError(message)
        return _around(p.block_size)
    radii = _radii(p)
    if max(radii) > _LARGEST_WINDOW // 2:
        message = f"the Gaussian would reach {max(radii):.3g} pixels: lower block_size or sigma"
        raise ValueError(message)
    return tuple((r, r) for r in radii)


def _local_prepare(p: SimpleNamespace) -> dict[str, Any]:
    if p.method != "gaussian":
        return {"window": p.block_size, "terms": None}
    axes = zip(_sigmas(p), _radii(p), strict=True)
    terms = (tuple(gaussian_weights(s, 0, r) for s, r in axes),)
    return {"window": p.block_size, "terms": terms}


def _local_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel, as measured."""
    times = 2.5 if p.nan_policy == "omit" else 1.0
    if p.method == "gaussian":
        return times * (0.9 + 0.02 * sum(len(weights) for weights in prepared["terms"][0]))
    if p.method == "mean":
        return times * 1.5
    pixels = math.prod(p.block_size)
    return 0.8 + min(0.05 * pixels**1.2, 40.0 + pixels / max(p.block_size[-1], 1))


def _local_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of what the offset is subtracted from, in float64, and the kernel's own."""
    wide = 8 * math.prod(core)
    size = tuple(before + after + 1 for before, after in _local_halo(p))
    if p.method == "median":
        cells = np.ones(size, bool)
        plain = rank_memory(core[1:], cells, median_rank(cells.size), dtype)
        own = plain + valid_memory(core, cells, dtype.itemsize, ranks=True)
        return 2 * wide + cells.size + own
    if p.method == "mean":
        own = valid_sums.measure_memory(core, size, dtype, box=True)
    else:
        own = valid_sums.smooth_memory(core, size)
    grown = math.prod(n + w - 1 for n, w in zip(core[1:], size, strict=True))
    return own + (2 * wide + 8 * core[0] * grown if p.offset else 0)


@image_filter(
    halo=_local_halo,
    prepare=_local_prepare,
    cost=_local_cost,
    memory=_local_memory,
    omits=True,
    version=2,
)
def threshold_local(
    block: np.ndarray,
    *,
    block_size: OddSize = 3,
    method: Method = "gaussian",
    offset: Finite = 0.0,
    sigma: Sigma | None = None,
    window,
    terms,
    valid,
) -> np.ndarray:
    """Compute a threshold for every pixel from its neighbourhood.

    The weighted mean, mean or median of the pixels around it, less an offset, in float64. The
    binary image is ``image > threshold_local(image, ...)``. Reference:
    ``skimage.filters.threshold_local`` on float64. Where pixels are left out, it is the mean or
    median of those that count, and their weights are scaled to sum 1.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    block_size : int or sequence of int, default 3
        Window in pixels, odd, ``>= 1``, for all spatial axes or for each.
    method : {'gaussian', 'mean', 'median'}, default 'gaussian'
        What of the neighbourhood; the Gaussian is cut off at four standard deviations, beyond
        the window.
    offset : float, default 0.0
        Subtracted from it, in units of the image.
    sigma : float or sequence of float, optional
        The Gaussian's standard deviation in pixels; default ``(block_size - 1) / 6``.

    Returns
    -------
    image
        The thresholds: same shape; float32 for bool, 8- and 16-bit integers, float16 and
        float32, else float64. NaN where no pixel of the window counts.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.threshold_local(np.array([1, 2, 9, 4]), block_size=3, method="median", offset=0.5)
    array([0.5, 1.5, 3.5, 3.5])
    """
    result = real_dtype(block.dtype)
    if method == "median":
        found = _median(block, window, valid)
    else:
        # With an offset nearly the mean's size float32 would keep few of the difference's digits.
        found = _average(block, window, terms, valid, np.dtype(np.float64) if offset else result)
    if not offset:
        return found.astype(result, copy=False)
    return np.subtract(found, offset, dtype=np.float64).astype(result, copy=False)


def _median(block: np.ndarray, window: tuple[int, ...], valid: np.ndarray | None) -> np.ndarray:
    """Return the median of windows, or of their pixels that count: NaN where there is none."""
    cells = np.ones(window, bool)
    if valid is None:
        return rank_filter(block, cells, median_rank(cells.size))
    ranks = median_rank(np.arange(cells.size + 1))
    found = valid_rank(block, cells, ranks, valid, block.dtype.type(0))
    return np.where(extreme_filter(valid, window, True), found, np.nan)


def _average(
    block: np.ndarray,
    window: tuple[int, ...],
    terms: Any,
    valid: np.ndarray | None,
    dtype: np.dtype,
) -> np.ndarray:
    """Return the mean of windows, weighted where there are `terms`, in float32 or float64."""
    if terms is not None and valid is None:
        return separable.separable(block, terms, dtype)
    seen = block.astype(dtype) if dtype != real_dtype(block.dtype) else block
    if valid is None:
        return box.box_mean(seen, window)
    if terms is None:
        return valid_sums.valid_mean(seen, valid, window)
    return valid_sums.valid_separable(seen, valid, terms[0])


def _window_halo(p: SimpleNamespace) -> Halo:
    return _around(p.window_size)


def _spread_cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    """Return nanoseconds per pixel, as measured: a wider window costs hardly more."""
    return 14.0 if p.nan_policy == "omit" else 3.0


def _spread_memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return local_threshold.threshold_memory(core, p.window_size)


def _window(p: SimpleNamespace) -> dict[str, Any]:
    return {"window": p.window_size}


@image_filter(
    halo=_window_halo,
    prepare=_window,
    cost=_spread_cost,
    memory=_spread_memory,
    mode="mirror",
    omits=True,
    version=2,
)
def threshold_niblack(
    block: np.ndarray, *, window_size: OddSize = 15, k: Finite = 0.2, window, valid
) -> np.ndarray:
    """Compute Niblack's threshold for every pixel.

    ``m - k * s`` of the mean m and the standard deviation s of the window, of those of its pixels
    that count where some are left out, each in float64 and without cancellation.
    The binary image is ``image > threshold_niblack(image, ...)``.
    Reference: ``skimage.filters.threshold_niblack`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    window_size : int or sequence of int, default 15
        Window in pixels, odd, ``>= 1``, for all spatial axes or for each.
    k : float, default 0.2
        How many standard deviations below the mean.

    Returns
    -------
    image
        The thresholds: same shape; float32 for bool, 8- and 16-bit integers, float16 and
        float32, else float64. NaN where no pixel of the window counts.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.threshold_niblack(np.array([1.0, 3.0, 1.0, 3.0]), window_size=1)
    array([1., 3., 1., 3.])
    """
    return local_threshold.spread_threshold(block, window, (1.0, 0.0, -k), valid)


def half_range(dtype: np.dtype) -> float:
    """Return half of the range of a dtype's values, of floats -1 to 1.

    >>> half_range(np.dtype("uint8")), half_range(np.dtype("float32"))
    (127.5, 1.0)
    """
    if dtype.kind == "b":
        return 0.5
    if dtype.kind == "f":
        return 1.0
    limits = np.iinfo(dtype)
    return (int(limits.max) - int(limits.min)) / 2


def _range(p: SimpleNamespace) -> dict[str, Any]:
    return {"window": p.window_size, "half": half_range(p.image_dtype) if p.r is None else p.r}


@image_filter(
    halo=_window_halo,
    prepare=_range,
    cost=_spread_cost,
    memory=_spread_memory,
    mode="mirror",
    omits=True,
    version=2,
)
def threshold_sauvola(
    block: np.ndarray,
    *,
    window_size: OddSize = 15,
    k: Finite = 0.2,
    r: Positive | None = None,
    window,
    half,
    valid,
) -> np.ndarray:
    """Compute Sauvola's threshold for every pixel.

    ``m * (1 + k * (s / r - 1))`` of the mean m and the standard deviation s of the window, of
    those of its pixels that count where some are left out, each in float64 and without
    cancellation. The binary image is
    ``image > threshold_sauvola(image, ...)``. Reference: ``skimage.filters.threshold_sauvola``
    on float64, with the `r` of the image's own dtype.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    window_size : int or sequence of int, default 15
        Window in pixels, odd, ``>= 1``, for all spatial axes or for each.
    k : float, default 0.2
        How much a small deviation lowers the threshold.
    r : float, optional
        The largest standard deviation, ``> 0``; default half of the dtype's range: 127.5 for
        uint8, 32767.5 for uint16, 1 for floats.

    Returns
    -------
    image
        The thresholds: same shape; float32 for bool, 8- and 16-bit integers, float16 and
        float32, else float64. NaN where no pixel of the window counts.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.threshold_sauvola(np.array([4, 4, 4, 4], dtype="uint8"), window_size=3, k=0.5)
    array([2., 2., 2., 2.], dtype=float32)
    """
    weights = (1.0 - k, k / half, 0.0)
    return local_threshold.spread_threshold(block, window, weights, valid)

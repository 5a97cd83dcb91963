"""What users write today where it is more than one function of NumPy, SciPy or scikit-image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.peers import gabor_kernel

Weights = Sequence[float]


# Windows.


def footprint_mean(image: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Return the mean under a footprint."""
    from scipy import ndimage

    return ndimage.correlate(image, footprint / footprint.sum())


def window_sum(image: np.ndarray, size: int) -> np.ndarray:
    """Return the sum of a window."""
    from scipy import ndimage

    return ndimage.uniform_filter(image, size) * size**image.ndim


def variance(image: np.ndarray, size: int) -> np.ndarray:
    """Return the mean of squares less the squared mean."""
    from scipy import ndimage

    mean = ndimage.uniform_filter(image, size)
    return ndimage.uniform_filter(image * image, size) - mean * mean


def deviation(image: np.ndarray, size: int) -> np.ndarray:
    """Return the root of the variance, which may come out below zero."""
    return np.sqrt(np.maximum(variance(image, size), 0))


def span(image: np.ndarray, **window: Any) -> np.ndarray:
    """Return the largest pixel less the smallest."""
    from scipy import ndimage

    return ndimage.maximum_filter(image, **window) - ndimage.minimum_filter(image, **window)


def generic(image: np.ndarray, function: str, size: int) -> np.ndarray:
    """Return what a function gives for every window, called by SciPy."""
    from pydoc import locate

    from scipy import ndimage

    return ndimage.generic_filter(image, locate(function.replace(":", ".")), size)


def medians(rows: np.ndarray) -> np.ndarray:
    """Return the median of every row: for ``generic(vectorized=True)``."""
    return np.median(rows, axis=1)


# Gaps.


def fill_nearest(image: np.ndarray, max_distance: float) -> np.ndarray:
    """Return the nearest valid pixel where one is missing."""
    from scipy import ndimage

    far, (rows, columns) = ndimage.distance_transform_edt(np.isnan(image), return_indices=True)
    return np.where(far <= max_distance, image[rows, columns], np.nan)


def fill_weighted(image: np.ndarray, max_distance: float, power: float = 0.0) -> np.ndarray:
    """Return the weighted mean of the valid pixels around where one is missing."""
    from scipy import ndimage

    y, x = np.ogrid[-max_distance : max_distance + 1, -max_distance : max_distance + 1]
    far = np.hypot(y, x)
    # Only pixels that are missing take part, which the middle never does.
    far[max_distance, max_distance] = np.inf
    weights = np.where(far <= max_distance, far**-power, 0.0)
    missing = np.isnan(image)
    total = ndimage.correlate(np.where(missing, 0.0, image), weights, mode="constant")
    count = ndimage.correlate((~missing).astype(np.float64), weights, mode="constant")
    with np.errstate(invalid="ignore"):
        return np.where(missing, total / count, image)


# Slopes.


def gradient(image: np.ndarray) -> np.ndarray:
    """Return the slope along every axis."""
    return np.stack(np.gradient(image))


def hessian(image: np.ndarray) -> np.ndarray:
    """Return the slopes of the slopes: of a matrix that is symmetric the upper triangle."""
    down, across = np.gradient(image)
    return np.stack([*np.gradient(down), np.gradient(across, axis=1)])


# Gabor filters.


def gabor(image: np.ndarray, **wave: float) -> np.ndarray:
    """Return the real part of a Gabor filter's response."""
    from scipy import ndimage

    return ndimage.convolve(image, gabor_kernel(**wave).real)


def gabor_magnitude(image: np.ndarray, part: str = "magnitude", **wave: float) -> np.ndarray:
    """Return the magnitude of a Gabor filter's response."""
    from skimage import filters

    return np.hypot(*filters.gabor(image, **wave, mode="reflect"))


def gabor_bank(image: np.ndarray, frequencies: Weights, thetas: Weights) -> np.ndarray:
    """Return the magnitudes of a bank."""
    return np.stack(
        [
            np.stack([gabor_magnitude(image, frequency=f, theta=theta) for f in frequencies])
            for theta in thetas
        ]
    )


# Pixel by pixel.


def saturate(image: np.ndarray, dtype: str) -> np.ndarray:
    """Return integers, rounded where they were floats, within the dtype's range."""
    ends = np.iinfo(dtype)
    whole = np.rint(image) if image.dtype.kind == "f" else image
    return np.clip(whole, ends.min, ends.max).astype(dtype)


def masked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the pixels under a mask, and zero elsewhere; NaN where they are floats."""
    return np.where(mask, image, image.dtype.type(np.nan if image.dtype.kind == "f" else 0))


def or_zero(condition: np.ndarray, image: np.ndarray, other: int) -> np.ndarray:
    """Return the pixels where a condition holds, and a number elsewhere."""
    return np.where(condition, image, image.dtype.type(other))


def weighted_channels(image: np.ndarray, weights: Weights) -> np.ndarray:
    """Return the sum of the channels, each times its weight."""
    return np.tensordot(weights, image, 1)


# With dask, where it is not a function mapped over blocks.


def lazy_gradient(image: Any) -> Any:
    """Return the slope along every axis."""
    import dask.array

    return dask.array.stack(dask.array.gradient(image))


def lazy_hessian(image: Any) -> Any:
    """Return the slopes of the slopes."""
    import dask.array

    down, across = dask.array.gradient(image)
    return dask.array.stack([*dask.array.gradient(down), dask.array.gradient(across, axis=1)])


def lazy_gabor_bank(image: Any, frequencies: Weights, thetas: Weights) -> Any:
    """Return the magnitudes of a bank, each of its own sweep."""
    import dask.array

    def one(frequency: float, theta: float) -> Any:
        wave = {"frequency": frequency, "theta": theta}
        halo = max(gabor_kernel(**wave).shape) // 2
        return _overlapped(lambda block: gabor_magnitude(block, **wave), image, halo)

    rows = [dask.array.stack([one(f, theta) for f in frequencies]) for theta in thetas]
    return dask.array.stack(rows)


def _overlapped(function: Callable[..., Any], image: Any, halo: int) -> Any:
    return image.map_overlap(
        function, depth=halo, boundary="none", dtype=image.dtype, meta=image._meta
    )


def lazy_channels(image: Any, weights: Weights) -> Any:
    """Return the sum of the channels, each times its weight."""
    import dask.array

    return dask.array.tensordot(np.asarray(weights), image, 1)


def lazy_equalize(image: Any) -> Any:
    """Return the shares of the pixels that are not brighter: counts of all levels, looked up."""
    import dask.array

    levels = 1 << 8 * image.dtype.itemsize
    counts, _ = dask.array.histogram(image, bins=levels, range=(0, levels))
    cumulated = np.cumsum(counts.compute())
    shares = cumulated / cumulated[-1]
    return image.map_blocks(lambda block: shares[block], dtype=shares.dtype)

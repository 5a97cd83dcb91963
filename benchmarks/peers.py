"""What users write today for each job, with dask-image, scipy's FFT, scikit-image and libvips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.jobs import ANGLES, FEATURE_WAVE, FREQUENCIES, LONG_WAVE, WAVE

__all__ = ["by_dask_image", "by_fft", "by_libvips", "by_scikit_image", "disk", "gabor_kernel"]

BINS = 256


def gabor_kernel(
    frequency: float, theta: float, sigma_x: float | None = None, sigma_y: float | None = None
) -> np.ndarray:
    """Return a complex kernel to convolve with, as scikit-image defines it.

    Written out, so that no peer has to import more than it uses.
    """
    # The default bandwidth is one octave.
    default = np.sqrt(np.log(2) / 2) / np.pi * 3 / frequency
    wide, long = sigma_x or default, sigma_y or default
    cos, sin = np.cos(theta), np.sin(theta)
    half_x = int(np.ceil(max(abs(3 * wide * cos), abs(3 * long * sin), 1)))
    half_y = int(np.ceil(max(abs(3 * long * cos), abs(3 * wide * sin), 1)))
    y, x = np.mgrid[-half_y : half_y + 1, -half_x : half_x + 1]
    along, across = x * cos + y * sin, -x * sin + y * cos
    envelope = np.exp(-0.5 * ((along / wide) ** 2 + (across / long) ** 2))
    return envelope * np.exp(2j * np.pi * frequency * along) / (2 * np.pi * wide * long)


def disk(radius: int) -> np.ndarray:
    """Return a disk as a footprint."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return y * y + x * x <= radius * radius


# dask-image, and dask's own functions where it has none.


def by_dask_image(job: str, image: Any) -> list[Any]:
    """Return a job's outputs as lazy arrays."""
    from dask_image import ndfilters

    def real(wave: Mapping[str, float]) -> Callable[[Any], Any]:
        weights = gabor_kernel(**wave).real.astype("float32")
        return lambda image: ndfilters.convolve(image.astype("float32"), weights)

    def features(image: Any) -> list[Any]:
        response = real(FEATURE_WAVE)(image)
        return [ndfilters.uniform_filter(response, size=15), _variance(response, 15)]

    def mean(image: Any) -> Any:
        return ndfilters.uniform_filter(image.astype("float32"), size=5)

    def gaussian(image: Any) -> Any:
        return ndfilters.gaussian_filter(image.astype("float32"), sigma=2)

    code = {
        "mean": mean,
        "mean_3d": mean,
        "variance": partial(_variance, size=15),
        "gaussian": gaussian,
        "gaussian_3d": gaussian,
        "maximum": partial(ndfilters.maximum_filter, size=15),
        "median": partial(ndfilters.median_filter, size=5),
        "median_disk": partial(ndfilters.median_filter, footprint=disk(7)),
        "median_3d": partial(ndfilters.median_filter, size=3),
        "gabor": real(WAVE),
        "gabor_unequal": real(LONG_WAVE),
        "gabor_features": features,
        "equalize": _equalize_integers,
        "chain": lambda image: _equalize_floats(_variance(gaussian(image), 15)),
    }
    made = code[job](image)
    return made if isinstance(made, list) else [made]


def _variance(image: Any, size: int) -> Any:
    from dask_image import ndfilters

    # Squares of 16-bit integers need float64: in float32 the difference is noise.
    image = image.astype("float64")
    mean = ndfilters.uniform_filter(image, size=size)
    return ndfilters.uniform_filter(image * image, size=size) - mean * mean


def _equalize_integers(image: Any) -> Any:
    import dask.array

    counts, _ = dask.array.histogram(image, bins=1 << 16, range=(0, 1 << 16))
    cumulated = np.cumsum(counts.compute())
    shares = cumulated / cumulated[-1]
    return image.map_blocks(lambda block: shares[block], dtype=shares.dtype)


def _equalize_floats(image: Any) -> Any:
    import dask
    import dask.array

    image = image.astype("float32")
    ends = tuple(map(float, dask.compute(image.min(), image.max())))
    counts, edges = dask.array.histogram(image, bins=BINS, range=ends)
    cumulated = np.cumsum(counts.compute())
    shares, centres = cumulated / cumulated[-1], (edges[:-1] + edges[1:]) / 2
    return image.map_blocks(
        lambda block: np.interp(block, centres, shares).astype("float32"), dtype="float32"
    )


# scipy.signal in dask.array.map_overlap.


def by_fft(job: str, image: Any) -> list[Any]:
    """Return a job's outputs as lazy arrays, convolved by FFT in float32."""
    import dask.array

    if job in ("gabor", "gabor_unequal"):
        kernel = gabor_kernel(**{"gabor": WAVE, "gabor_unequal": LONG_WAVE}[job])
        return [_convolve(image, kernel.real.astype("float32"))]
    if job == "gabor_features":
        from dask_image import ndfilters

        response = _convolve(image, gabor_kernel(**FEATURE_WAVE).real.astype("float32"))
        return [ndfilters.uniform_filter(response, size=15), _variance(response, 15)]
    rows = [[_magnitude(image, f, theta) for f in FREQUENCIES] for theta in ANGLES]
    return [dask.array.stack([dask.array.stack(row) for row in rows])]


def _magnitude(image: Any, frequency: float, theta: float) -> Any:
    kernel = gabor_kernel(frequency, theta).astype("complex64")
    return abs(_convolve(image, kernel))


def _convolve(image: Any, kernel: np.ndarray) -> Any:
    from scipy.signal import oaconvolve

    # In blocks of this size as fast as fftconvolve for real kernels, faster for complex ones.
    return image.astype("float32").map_overlap(
        lambda block: oaconvolve(block, kernel, mode="valid"),
        depth=tuple(n // 2 for n in kernel.shape),
        boundary="reflect",
        trim=False,
        chunks=image.chunks,
        meta=np.empty((0, 0), kernel.dtype),
    )


# Whole images in memory.


def by_scikit_image(job: str, image: np.ndarray) -> np.ndarray:
    """Return a job's output."""
    from skimage import exposure

    assert job == "equalize"
    return exposure.equalize_hist(image)


# libvips, which streams.


def by_libvips(job: str, source: str) -> Any:
    """Return a job's output as an image of libvips, to be computed as it is saved."""
    import pyvips

    def load() -> Any:
        return pyvips.Image.tiffload(source, access="sequential")

    def separable(image: Any, weights: Sequence[float]) -> Any:
        mask = pyvips.Image.new_from_array([list(weights)], scale=sum(weights))
        return image.convsep(mask, precision="float")

    image = load()
    if job == "mean":
        return separable(image, [1.0] * 5)
    if job == "gaussian":
        # gaussblur leaves out more of the tails than scipy.ndimage and chunkfilt do.
        return separable(image, [np.exp(-x * x / 8) for x in range(-8, 9)])
    if job == "variance":
        wide, ones = image.cast("double"), [1.0] * 15
        mean = separable(wide, ones)
        return (separable(wide * wide, ones) - mean * mean).cast("float")
    if job == "maximum":
        return image.rank(15, 15, 15 * 15 - 1)
    if job == "median":
        return image.rank(5, 5, 5 * 5 // 2)
    if job == "gabor":
        # libvips correlates: the kernel is turned round.
        weights = gabor_kernel(**WAVE).real[::-1, ::-1]
        return image.conv(pyvips.Image.new_from_array(weights.tolist()), precision="float")
    # What hist_equal does, but to the shares themselves; the image is read once for the counts.
    counts = load().hist_find().hist_cum().cast("double")
    return image.maplut((counts / (image.width * image.height)).copy_memory())

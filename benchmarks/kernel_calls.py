"""The calls that compute a kernel's result: by chunkfilt, by SciPy and by OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.jobs import ANGLES, FREQUENCIES, LONG_WAVE, WAVE
from benchmarks.kernels import KERNELS, OURS, SCIPY
from benchmarks.peers import disk, gabor_kernel

__all__ = ["call_of"]

Call = Callable[[], Any]
# The kernels of whole-image values have no halo, and so no block: the public functions.
BY_FUNCTION = ("equalize", "histogram")


def call_of(who: str, name: str, image: np.ndarray) -> Call | None:
    """Return what computes a kernel's result, or None where there is nothing of the kind."""
    if who == OURS:
        return _by_function(name, image) if name in BY_FUNCTION else _on_block(name, image)
    return (_by_scipy if who == SCIPY else _by_opencv)(name, image)


def _by_function(name: str, image: np.ndarray) -> Call:
    import chunkfilt

    function, params = getattr(chunkfilt, KERNELS[name].filter), KERNELS[name].params
    if name == "histogram":
        return lambda: function(image, **params).counts
    return lambda: function(image, **params)


def _on_block(name: str, image: np.ndarray) -> Call:
    """Return the kernel's own call on a block that has its halo."""
    import chunkfilt.filters  # noqa: F401 - declares them
    from chunkfilt.engine.bind import bind
    from chunkfilt.engine.evaluate import compute_box
    from chunkfilt.engine.graph import Source
    from chunkfilt.filters.filter import find_filter
    from chunkfilt.grid import ImageSpec, Region

    spec = ImageSpec(image.shape, image.dtype, ("y", "x"), (0, 1))
    node: Any = bind(find_filter(KERNELS[name].filter), [Source(spec, None)], KERNELS[name].params)
    block, core = np.pad(image, node.halo, mode="symmetric"), Region.whole(node.spec.shape)
    return lambda: compute_box(node, core, [block], {})


def _waves() -> list[np.ndarray]:
    return [gabor_kernel(f, theta) for theta in ANGLES for f in FREQUENCIES]


def _stacked(pairs: list[Any]) -> np.ndarray:
    planes = np.stack([np.hypot(real, imag) for real, imag in pairs])
    return planes.reshape(len(ANGLES), len(FREQUENCIES), *planes.shape[1:])


def _by_scipy(name: str, image: np.ndarray) -> Call | None:
    from scipy import ndimage

    kind, _, size = name.partition("_")
    if kind == "mean":
        return lambda: ndimage.uniform_filter(image, int(size), output="float32")
    if kind == "variance":

        def variance() -> np.ndarray:
            wide = image.astype("float64")
            mean = ndimage.uniform_filter(wide, int(size))
            spread = ndimage.uniform_filter(wide * wide, int(size)) - mean * mean
            return spread.astype("float32")

        return variance
    if kind == "gaussian":
        return lambda: ndimage.gaussian_filter(image, 2.0, output="float32")
    if kind == "maximum":
        return lambda: ndimage.maximum_filter(image, int(size))
    if kind == "median":
        return lambda: ndimage.median_filter(image, int(size))
    if kind == "disk":
        return lambda: ndimage.median_filter(image, footprint=disk(int(size)))
    if name in ("gabor", "gabor_unequal"):
        weights = gabor_kernel(**(WAVE if name == "gabor" else LONG_WAVE)).real
        return lambda: ndimage.convolve(image, weights, output="float32")
    if name == "gabor_bank":

        def part(weights: np.ndarray) -> np.ndarray:
            return ndimage.convolve(image, weights, output="float32")

        waves = _waves()
        return lambda: _stacked([(part(k.real), part(k.imag)) for k in waves])
    if name == "equalize":
        from skimage import exposure

        return lambda: exposure.equalize_hist(image)
    return lambda: ndimage.histogram(image, image.min(), image.max(), 256)


def _by_opencv(name: str, image: np.ndarray) -> Call | None:
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    kind, _, size = name.partition("_")
    edge = cv2.BORDER_REFLECT
    if kind == "mean":
        window = (int(size), int(size))
        return lambda: cv2.boxFilter(image, cv2.CV_32F, window, borderType=edge)
    if kind == "variance":
        window = (int(size), int(size))

        def variance() -> np.ndarray:
            mean = cv2.boxFilter(image, cv2.CV_64F, window, borderType=edge)
            squares = cv2.sqrBoxFilter(image, cv2.CV_64F, window, borderType=edge)
            return (squares - mean * mean).astype("float32")

        return variance
    if kind == "gaussian":
        taps = cv2.getGaussianKernel(17, 2.0, cv2.CV_32F)
        return lambda: cv2.sepFilter2D(image, cv2.CV_32F, taps, taps, borderType=edge)
    if kind == "maximum":
        return lambda: cv2.dilate(image, np.ones((int(size), int(size)), np.uint8))
    if name in ("median_3", "median_5"):
        return lambda: cv2.medianBlur(image, int(size))

    def part(weights: np.ndarray) -> np.ndarray:
        flipped = np.ascontiguousarray(weights[::-1, ::-1], np.float32)
        return cv2.filter2D(image, cv2.CV_32F, flipped, borderType=edge)

    if name in ("gabor", "gabor_unequal"):
        wave = gabor_kernel(**(WAVE if name == "gabor" else LONG_WAVE))
        return lambda: part(wave.real)
    if name == "gabor_bank":
        waves = _waves()
        return lambda: _stacked([(part(k.real), part(k.imag)) for k in waves])
    if name == "histogram":

        def histogram() -> np.ndarray:
            low, high, *_ = cv2.minMaxLoc(image)
            return cv2.calcHist([image], [0], None, [256], [low, high]).ravel()

        return histogram
    return None

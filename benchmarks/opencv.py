"""What OpenCV has of the filters: every function returns a call on one thread, or None.

It takes uint8, uint16 and float32, gives float32 for measures, and repeats no pixel at the edge
where scipy.ndimage does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from benchmarks.peers import gabor_kernel

Call = Callable[[], Any]

cv2.setNumThreads(1)
EDGE = cv2.BORDER_REFLECT
REAL = cv2.CV_32F


def median(image: np.ndarray, size: int) -> Call | None:
    """Return the median of 3 x 3 or 5 x 5; of wider windows for bytes alone."""
    if size > 5 and image.dtype != np.uint8:
        return None
    return lambda: cv2.medianBlur(image, size)


def _morphology(operation: int) -> Callable[..., Call]:
    def made(image: np.ndarray, size: int = 0, footprint: np.ndarray | None = None) -> Call:
        cells = np.ones((size, size)) if footprint is None else footprint
        return lambda: cv2.morphologyEx(image, operation, cells.astype(np.uint8), borderType=EDGE)

    return made


erosion, dilation = _morphology(cv2.MORPH_ERODE), _morphology(cv2.MORPH_DILATE)
opening, closing = _morphology(cv2.MORPH_OPEN), _morphology(cv2.MORPH_CLOSE)
white_tophat, black_tophat = _morphology(cv2.MORPH_TOPHAT), _morphology(cv2.MORPH_BLACKHAT)
gradient = _morphology(cv2.MORPH_GRADIENT)


def mean(image: np.ndarray, size: int) -> Call:
    """Return the mean of a square."""
    return lambda: cv2.boxFilter(image, REAL, (size, size), borderType=EDGE)


def variance(image: np.ndarray, size: int) -> Call:
    """Return the variance in a square, from moments in float64."""
    window = (size, size)

    def call() -> np.ndarray:
        means = cv2.boxFilter(image, cv2.CV_64F, window, borderType=EDGE)
        squares = cv2.sqrBoxFilter(image, cv2.CV_64F, window, borderType=EDGE)
        return (squares - means * means).astype(np.float32)

    return call


def gaussian(image: np.ndarray, sigma: float) -> Call:
    """Return the image smoothed with a Gaussian, cut off at four sigma."""
    taps = cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma, REAL)
    return lambda: cv2.sepFilter2D(image, REAL, taps, taps, borderType=EDGE)


def sobel(image: np.ndarray, axis: int) -> Call:
    """Return slopes with the Sobel weights."""
    return lambda: cv2.Sobel(image, REAL, axis, 1 - axis, borderType=EDGE)


def prewitt(image: np.ndarray, axis: int) -> Call:
    """Return slopes with the Prewitt weights."""
    slope, smooth = np.array([-1.0, 0.0, 1.0]), np.ones(3)
    along, down = (smooth, slope) if axis == 0 else (slope, smooth)
    return lambda: cv2.sepFilter2D(image, REAL, along, down, borderType=EDGE)


def laplace(image: np.ndarray) -> Call:
    """Return the sum of second differences."""
    return lambda: cv2.Laplacian(image, REAL, borderType=EDGE)


def correlate(image: np.ndarray, weights: np.ndarray) -> Call:
    """Return the weighted sum of a window, by DFT where it is wide."""
    taps = np.ascontiguousarray(weights, np.float32)
    return partial(cv2.filter2D, image, REAL, taps, borderType=EDGE)


def convolve(image: np.ndarray, weights: np.ndarray) -> Call:
    """Return the weighted sum of a window, the weights flipped."""
    return correlate(image, weights[::-1, ::-1])


def gabor(image: np.ndarray, **wave: float) -> Call:
    """Return the real part of a Gabor filter's response."""
    return convolve(image, gabor_kernel(**wave).real)

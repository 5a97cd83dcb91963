"""Filters that add up the pixels of a window: means, Gaussians, slopes, weights, thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.cases.case import CLOSE, REALS, Case
from benchmarks.jobs import ANGLES, FREQUENCIES, LONG_WAVE, WAVE

__all__ = ["CASES"]


def _measure(
    filter_: str, params: Mapping[str, Any], reference: str, halo: int, **more: Any
) -> Case:
    """Return a case whose reference gets float64."""
    given = {"kinds": REALS, "wide": True, "tolerance": CLOSE, **more}
    return Case(filter_, params, reference, halo=halo, **given)


def _boxes() -> Iterator[Case]:
    mean, variance = "ndimage.uniform_filter", "uniform_filter of x and of x * x"
    for size in (5, 31):
        yield _measure("mean", {"size": size}, mean, size // 2, opencv="mean")
    yield _measure(
        "mean",
        {"footprint": {"disk": 7}},
        "own.footprint_mean",
        7,
        side=512,
        beside="scipy.ndimage.correlate",
    )
    for size in (5, 31):
        yield _measure(
            "sum",
            {"size": size},
            "own.window_sum",
            size // 2,
            gives="float64",
            beside="scipy.ndimage.uniform_filter * count",
        )
    for size in (5, 31):
        yield _measure(
            "variance",
            {"size": size},
            "own.variance",
            size // 2,
            beside=variance,
            opencv="variance",
        )
        yield _measure("std", {"size": size}, "own.deviation", size // 2, beside=variance)


def _gaussians() -> Iterator[Case]:
    yield _measure("gaussian", {"sigma": 2.0}, "ndimage.gaussian_filter", 8, opencv="gaussian")
    yield _measure("gaussian", {"sigma": 10.0}, "ndimage.gaussian_filter", 40, opencv="gaussian")
    yield _measure("gaussian", {"sigma": 2.0, "order": (0, 1)}, "ndimage.gaussian_filter", 8)
    yield _measure("gaussian_laplace", {"sigma": 2.0}, "ndimage.gaussian_laplace", 8)
    yield _measure(
        "gaussian_gradient_magnitude",
        {"sigma": 2.0},
        "ndimage.gaussian_gradient_magnitude",
        8,
    )
    yield _measure(
        "difference_of_gaussians",
        {"low_sigma": 1.5, "high_sigma": 3.0},
        "skimage.filters.difference_of_gaussians",
        12,
    )
    radius = {"radius": 2.0, "amount": 1.5}
    yield _measure(
        "unsharp_mask",
        radius,
        "skimage.filters.unsharp_mask",
        8,
        theirs={**radius, "preserve_range": True},
    )


def _slopes() -> Iterator[Case]:
    for name in ("sobel", "prewitt"):
        yield _measure(name, {"axis": 0}, f"ndimage.{name}", 1, opencv=name)
    yield _measure("scharr", {}, "skimage.filters.scharr", 1)
    yield _measure("scharr", {"axis": 0}, "skimage.filters.scharr", 1)
    yield _measure("laplace", {}, "ndimage.laplace", 1, opencv="laplace")
    yield _measure(
        *("gradient", {}, "own.gradient", 1), beside="numpy.gradient", lazily="own.lazy_gradient"
    )
    yield _measure(
        "hessian",
        {},
        "own.hessian",
        2,
        beside="numpy.gradient of numpy.gradient",
        lazily="own.lazy_hessian",
    )


_rng = np.random.default_rng(1)
SMALL = _rng.normal(size=(3, 3)).round(2)
DENSE = _rng.normal(size=(15, 15)).round(2)


def _weights() -> Iterator[Case]:
    for name in ("correlate", "convolve"):
        reference = f"ndimage.{name}"
        yield _measure(name, {"weights": SMALL}, reference, 1, opencv=name)
        yield _measure(name, {"weights": DENSE}, reference, 7, side=512, opencv=name)
        yield _measure(name, {"weights": {"gaussian": 1.75}}, reference, 7, side=512, opencv=name)
        yield _measure(name, {"weights": {"disk": 15}}, reference, 15, side=256, opencv=name)


def _waves() -> Iterator[Case]:
    both = "skimage.filters.gabor"
    yield _measure(
        "gabor",
        WAVE,
        "own.gabor",
        15,
        side=512,
        beside="scipy.ndimage.convolve",
        tolerance=1e-5,
        opencv="gabor",
    )
    yield _measure(
        "gabor",
        LONG_WAVE,
        "own.gabor",
        18,
        side=512,
        beside="scipy.ndimage.convolve",
        tolerance=1e-5,
        opencv="gabor",
    )
    yield _measure(
        "gabor",
        {**WAVE, "part": "magnitude"},
        "own.gabor_magnitude",
        15,
        side=512,
        beside=both,
        tolerance=1e-5,
    )
    yield _measure(
        "gabor_bank",
        {"frequencies": FREQUENCIES, "thetas": ANGLES},
        "own.gabor_bank",
        34,
        side=128,
        own_side=1024,
        beside=f"{both}, 24 times",
        lazily="own.lazy_gabor_bank",
        tolerance=1e-5,
    )


def _thresholds() -> Iterator[Case]:
    name = "threshold_local"
    for size in (15, 51):
        for method in ("gaussian", "mean"):
            # The Gaussian's sigma is a sixth of the window, cut off at four of it.
            halo = size if method == "gaussian" else size // 2
            given = {"block_size": size, "method": method}
            yield _measure(name, given, f"skimage.filters.{name}", halo)
    for size, side in ((15, 256), (51, 96)):
        given = {"block_size": size, "method": "median", "offset": 100.0}
        yield _measure(name, given, f"skimage.filters.{name}", size // 2, side=side)
    for size in (15, 51):
        given = {"window_size": size}
        for name in ("threshold_niblack", "threshold_sauvola"):
            reference = f"skimage.filters.{name}"
            if name.endswith("sauvola"):
                given = {**given, "r": 20000.0}
            yield _measure(name, given, reference, size // 2 + 1)


def _functions() -> Iterator[Case]:
    compiled = "benchmarks.cases.compiled:spread"
    yield _measure(
        "generic",
        {"function": compiled, "size": 5},
        "own.generic",
        2,
        side=256,
        beside="scipy.ndimage.generic_filter",
    )
    yield _measure(
        "generic",
        {"function": "benchmarks.references:medians", "size": 3, "vectorized": True},
        "own.generic",
        1,
        theirs={"function": "numpy:median", "size": 3},
        side=128,
        own_side=512,
        beside="scipy.ndimage.generic_filter of numpy.median",
    )


CASES = (
    *_boxes(),
    *_gaussians(),
    *_slopes(),
    *_weights(),
    *_waves(),
    *_thresholds(),
    *_functions(),
)

"""Each kernel alone on one thread, in memory, beside SciPy and OpenCV."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.jobs import ANGLES, FREQUENCIES, LONG_WAVE, WAVE
from benchmarks.measure import child, measure, pin, say
from benchmarks.sources import make_base

__all__ = ["KERNELS", "main", "measure_kernel"]

DTYPES = ("float32", "uint16")
OURS, SCIPY, OPENCV = DONE_BY = ("chunkfilt", "scipy", "opencv")
EDGE = 48  # pixels a side that are not compared

SAME = "all give float32"
SELECTION = "the input's dtype; OpenCV fills edges in another way"
MOMENTS = "float32 from moments in float64; chunkfilt: two-pass quality, or exact integers"
BY_DFT = "float32; OpenCV by DFT in float32"


@dataclass(frozen=True)
class Kernel:
    """One kernel: the filter of chunkfilt and its parameters, and what is compared.

    `sides` holds the largest image by contestant: slow ones get a smaller one.
    """

    title: str
    filter: str
    params: Mapping[str, Any]
    note: str
    sides: Mapping[str, int] = field(default_factory=dict)


KERNELS = {
    "mean_5": Kernel("mean 5 x 5", "mean", {"size": 5}, SAME),
    "mean_15": Kernel("mean 15 x 15", "mean", {"size": 15}, SAME),
    "variance_5": Kernel("variance 5 x 5", "variance", {"size": 5}, MOMENTS),
    "variance_15": Kernel("variance 15 x 15", "variance", {"size": 15}, MOMENTS),
    "gaussian_2": Kernel("Gaussian, sigma 2", "gaussian", {"sigma": 2.0}, f"{SAME}, 17 taps"),
    "maximum_15": Kernel("maximum 15 x 15", "maximum", {"size": 15}, SELECTION),
    "median_3": Kernel("median 3 x 3", "median", {"size": 3}, SELECTION, {SCIPY: 2048}),
    "median_5": Kernel("median 5 x 5", "median", {"size": 5}, SELECTION, {SCIPY: 1024}),
    "median_7": Kernel("median 7 x 7", "median", {"size": 7}, "OpenCV: uint8 alone", {SCIPY: 1024}),
    "disk_7": Kernel(
        "median, disk of radius 7",
        "median",
        {"footprint": {"disk": 7}},
        "OpenCV: squares alone",
        {SCIPY: 1024},
    ),
    "gabor": Kernel("Gabor, equal sigmas", "gabor", WAVE, BY_DFT, {SCIPY: 1024}),
    "gabor_unequal": Kernel(
        "Gabor, unequal sigmas at an angle", "gabor", LONG_WAVE, BY_DFT, {SCIPY: 1024}
    ),
    "gabor_bank": Kernel(
        "Gabor bank, 4 frequencies x 6 angles",
        "gabor_bank",
        {"frequencies": FREQUENCIES, "thetas": ANGLES},
        f"magnitudes, {BY_DFT}",
        {OURS: 2048, OPENCV: 2048, SCIPY: 256},
    ),
    "equalize": Kernel(
        "histogram equalisation",
        "equalize_hist",
        {},
        "skimage.exposure in SciPy's place; OpenCV: uint8 alone",
    ),
    "histogram": Kernel(
        "histogram of 256 bins",
        "histogram",
        {"nbins": 256},
        "from minimum to maximum, found first; OpenCV leaves the maximum out",
    ),
}


def main(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Measure every kernel in a process of its own; return the findings and the table."""
    base = make_base(folder, options.size)
    pin(1)
    found = []
    for name, kernel in KERNELS.items():
        sides = {one: min(options.size, kernel.sides.get(one, options.size)) for one in DONE_BY}
        say(name)
        asked = {"base": str(base), "name": name, "sides": sides, "rounds": options.rounds}
        told = measure(child("kernels.measure_kernel", **asked)).told
        found += [
            {"kernel": name, "title": kernel.title, "dtype": dtype, **told[dtype]}
            for dtype in DTYPES
        ]
    return {"kernels": found}, _markdown(found)


def _markdown(found: list[dict[str, Any]]) -> str:
    rows = []
    for one in found:
        speed, ratios, apart = one["mpx_per_s"], one["ratios"], one["differences"]
        rows.append(
            [
                *(one["title"], one["dtype"]),
                *(f"{speed[name]:.1f}" if name in speed else "-" for name in DONE_BY),
                *(f"{ratios[name]:.2f}" if name in ratios else "-" for name in DONE_BY[1:]),
                *(f"{apart[name]:.0e}" if name in apart else "-" for name in DONE_BY[1:]),
                KERNELS[one["kernel"]].note,
            ]
        )
    columns = (
        *("kernel", "dtype", "chunkfilt, Mpx/s", "SciPy, Mpx/s", "OpenCV, Mpx/s"),
        *("/ SciPy", "/ OpenCV", "from SciPy", "from OpenCV", "what is compared"),
    )
    return (
        "One thread, arrays in memory, medians; how many times as fast as each chunkfilt is, and "
        "how far its result is from theirs, away from the edge, over the largest value. SciPy and "
        "OpenCV extend the edge themselves, chunkfilt's block has its halo, as it has in a run.\n\n"
        + report.table(columns, rows)
    )


# In a process of its own.


def measure_kernel(base: str, name: str, sides: Mapping[str, int], rounds: int) -> dict[str, Any]:
    """Return Mpx/s of each contestant, the ratios and how far the results are apart, by dtype."""
    import zarr

    largest = max(sides.values())
    mosaic = zarr.open_array(base, mode="r")[:largest, :largest]
    return {dtype: _measure(mosaic.astype(dtype), name, sides, rounds) for dtype in DTYPES}


def _measure(mosaic: Any, name: str, sides: Mapping[str, int], rounds: int) -> dict[str, Any]:
    import statistics
    import time

    import numpy as np

    from benchmarks.kernel_calls import call_of

    calls, results = {}, {}
    common = slice(0, min(sides.values()))
    for who in DONE_BY:
        call = call_of(who, name, np.ascontiguousarray(mosaic[: sides[who], : sides[who]]))
        if call is not None:
            calls[who] = call
            # Compiles, and touches all that is touched later.
            result = call()
            window = (..., common, common) if result.ndim > 1 else ...
            results[who] = result[window].astype("float64")
    seconds: dict[str, list[float]] = {who: [] for who in calls}
    for _ in range(rounds):
        for who, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[who].append(time.perf_counter() - started)
    rates = {who: [sides[who] ** 2 / 1e6 / s for s in taken] for who, taken in seconds.items()}
    others = [who for who in calls if who != OURS]
    return {
        "sides": {who: sides[who] for who in calls},
        "mpx_per_s": {who: statistics.median(own) for who, own in rates.items()},
        "ratios": {
            who: statistics.median(a / b for a, b in zip(rates[OURS], rates[who], strict=True))
            for who in others
        },
        "differences": {who: _apart(results[OURS], results[who]) for who in others},
    }


def _apart(ours: Any, theirs: Any) -> float:
    """Return the largest difference over the largest value, away from the edge."""
    if ours.ndim > 1:
        inner = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))
        ours, theirs = ours[inner], theirs[inner]
    return float(abs(ours - theirs).max() / abs(theirs).max())

"""Filters that order the pixels of a window: ranks, extremes, grey and binary morphology."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.cases.case import ORDER, REALS, WINDOWS, Case

__all__ = ["CASES"]

DISK_7 = {"footprint": {"disk": 7}}
CROSS: dict[str, Any] = {}
# Heights of a structure that is not flat, symmetric and not.
_y, _x = np.mgrid[-2:3, -2:3]
HILL = 40 * (8 - _y * _y - _x * _x) + 7 * _x

RANKS = (
    Case(
        "median",
        {"size": 5},
        "ndimage.median_filter",
        kinds=WINDOWS,
        target=ORDER,
        side=512,
        halo=2,
        opencv="median",
    ),
    Case("median", {"size": 3}, "ndimage.median_filter", kinds=WINDOWS, side=1024, halo=1),
    Case("median", DISK_7, "ndimage.median_filter", kinds=WINDOWS, target=ORDER, side=256, halo=7),
    Case(
        "percentile",
        {"percentile": 25.0, "size": 7},
        "ndimage.percentile_filter",
        kinds=WINDOWS,
        target=ORDER,
        side=512,
        halo=3,
    ),
    Case(
        "percentile",
        {"percentile": 90.0, **DISK_7},
        "ndimage.percentile_filter",
        kinds=REALS,
        target=ORDER,
        side=256,
        halo=7,
    ),
    Case(
        "rank",
        {"rank": 3, "size": 5},
        "ndimage.rank_filter",
        kinds=WINDOWS,
        target=ORDER,
        side=512,
        halo=2,
    ),
    Case(
        "rank",
        {"rank": -20, "size": 15},
        "ndimage.rank_filter",
        kinds=REALS,
        target=ORDER,
        side=256,
        halo=7,
    ),
)


def _sized(filter_: str, reference: str, sizes: tuple[int, ...], **more: Any) -> list[Case]:
    return [
        Case(filter_, {"size": n}, reference, kinds=WINDOWS, target=ORDER, halo=n // 2, **more)
        for n in sizes
    ]


def _disked(filter_: str, reference: str, **more: Any) -> Case:
    return Case(filter_, DISK_7, reference, kinds=WINDOWS, target=ORDER, side=512, halo=7, **more)


def _extremes() -> list[Case]:
    found = []
    for name, opencv in (("maximum", "dilation"), ("minimum", "erosion")):
        reference = f"ndimage.{name}_filter"
        found += _sized(name, reference, (5, 15, 101), opencv=opencv)
        found.append(_disked(name, reference, opencv=opencv))
    span, beside = "own.span", "maximum_filter less minimum_filter"
    found += _sized("range", span, (5, 15, 101), beside=beside, opencv="gradient")
    return [*found, _disked("range", span, beside=beside, opencv="gradient")]


# By how many windows each reaches: two where it is an erosion of a dilation, or the reverse.
GREY = {
    "erosion": ("grey_erosion", 1),
    "dilation": ("grey_dilation", 1),
    "opening": ("grey_opening", 2),
    "closing": ("grey_closing", 2),
    "white_tophat": ("white_tophat", 2),
    "black_tophat": ("black_tophat", 2),
    "morphological_gradient": ("morphological_gradient", 1),
}


def _grey(filter_: str) -> list[Case]:
    name, times = GREY[filter_]
    reference, opencv = f"ndimage.{name}", filter_.removeprefix("morphological_")
    common: dict[str, Any] = {"target": ORDER, "opencv": opencv}
    return [
        *(
            Case(filter_, {"size": n}, reference, kinds=WINDOWS, halo=n // 2 * times, **common)
            for n in (5, 31)
        ),
        Case(filter_, DISK_7, reference, kinds=WINDOWS, side=512, halo=7 * times, **common),
        Case(
            filter_,
            {"structure": HILL},
            reference,
            kinds=REALS,
            target=ORDER,
            side=512,
            halo=2 * times,
        ),
    ]


def _binary(name: str, reach: int) -> list[Case]:
    reference = f"ndimage.{name}"
    common: dict[str, Any] = {"kinds": ("mask",)}
    square = {"structure": np.ones((31, 31), bool)}
    return [
        Case(name, CROSS, reference, halo=reach, **common),
        Case(name, {"structure": {"disk": 7}}, reference, target=ORDER, halo=7 * reach, **common),
        Case(name, square, reference, target=ORDER, side=1024, halo=15 * reach, **common),
        # A window of 11 x 11, as a scan of steps.
        Case(name, {"iterations": 5}, reference, target=ORDER, halo=5 * reach, **common),
    ]


CORNER = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
AROUND = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], bool)

CASES = (
    *RANKS,
    *_extremes(),
    *(case for name in GREY for case in _grey(name)),
    *_binary("binary_erosion", 1),
    *_binary("binary_dilation", 1),
    *_binary("binary_opening", 2),
    *_binary("binary_closing", 2),
    Case(
        "binary_hit_or_miss",
        {"structure1": CORNER, "structure2": AROUND},
        "ndimage.binary_hit_or_miss",
        kinds=("mask",),
        halo=1,
    ),
    Case(
        "equalize_local",
        {"footprint": {"disk": 10}},
        "skimage.filters.rank.equalize",
        kinds=("uint8",),
        side=512,
        halo=10,
    ),
    Case(
        "equalize_local",
        {"footprint": {"disk": 10}},
        "skimage.filters.rank.equalize",
        side=256,
        halo=10,
    ),
)

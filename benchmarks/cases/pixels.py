"""Filters that take pixel by pixel: arithmetic, comparisons, tones; and what fills gaps."""

from __future__ import annotations

from benchmarks.cases.case import CLOSE, INTEGERS, Case

__all__ = ["CASES"]

ARITHMETIC = (
    Case("abs", {}, "numpy.abs", kinds=("int16", "float32")),
    Case("add", {}, "numpy.add", kinds=("uint16", "float32"), others=("turned uint16",)),
    Case("subtract", {}, "numpy.subtract", kinds=("float32",), others=("turned float32",)),
    Case("subtract", {}, "numpy.subtract", kinds=("uint16",), others=(1000,)),
    Case("multiply", {}, "numpy.multiply", kinds=("float32",), others=("turned float32",)),
    Case(
        "divide",
        {},
        "numpy.divide",
        kinds=("uint16", "float32"),
        others=("turned uint16",),
        tolerance=CLOSE,
    ),
    Case("power", {}, "numpy.power", kinds=("unit",), others=(2.2,), tolerance=CLOSE),
    Case("sqrt", {}, "numpy.sqrt", kinds=("uint16", "unit"), tolerance=CLOSE),
    Case("exp", {}, "numpy.exp", kinds=("unit",), tolerance=CLOSE),
    Case("log", {}, "numpy.log", kinds=("unit", "uint16"), tolerance=CLOSE),
)

COMPARED = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
LOGIC = (
    *(
        Case(name, {}, f"numpy.{name}", kinds=(kind,), others=(f"turned {kind}",))
        for name in COMPARED
        for kind in ("uint16", "float32")
    ),
    *(
        Case(name, {}, f"numpy.{name}", kinds=("mask",), others=("turned mask",))
        for name in ("logical_and", "logical_or", "logical_xor")
    ),
    Case("logical_not", {}, "numpy.logical_not", kinds=("mask",)),
)

POINTWISE = (
    Case(
        "cast",
        {"dtype": "uint8"},
        "own.saturate",
        kinds=("float32", "uint16"),
        beside="numpy: rint, clip, astype",
    ),
    Case(
        "clip",
        {"min": 9000, "max": 40000},
        "numpy.clip",
        theirs={"a_min": 9000, "a_max": 40000},
        kinds=("uint16", "float32"),
    ),
    Case(
        "mask",
        {},
        "own.masked",
        kinds=("uint16", "float32"),
        others=("turned mask",),
        beside="numpy.where",
    ),
    Case("where", {}, "numpy.where", kinds=("mask",), others=("uint16", "turned uint16")),
    Case("where", {}, "own.or_zero", kinds=("mask",), others=("uint16", 0), beside="numpy.where"),
)

RGB = {"weights": "rgb2gray"}
TONES = (
    Case(
        "mix_channels",
        RGB,
        "own.weighted_channels",
        theirs={"weights": (0.2125, 0.7154, 0.0721)},
        kinds=("channels",),
        wide=True,
        tolerance=CLOSE,
        lazily="own.lazy_channels",
        beside="numpy.tensordot",
    ),
    Case(
        "equalize_hist",
        {},
        "skimage.exposure.equalize_hist",
        kinds=INTEGERS,
        lazily="own.lazy_equalize",
    ),
    Case(
        "equalize_hist",
        {},
        "skimage.exposure.equalize_hist",
        kinds=("float32",),
        wide=True,
        tolerance=CLOSE,
    ),
)

REACH = {"max_distance": 10}
GAPS = (
    Case(
        "fill_gaps",
        {**REACH, "method": "nearest"},
        "own.fill_nearest",
        theirs=REACH,
        kinds=("gaps",),
        halo=10,
        beside="scipy.ndimage.distance_transform_edt",
    ),
    *(
        Case(
            "fill_gaps",
            {**REACH, "method": method},
            "own.fill_weighted",
            theirs={**REACH, "power": power},
            kinds=("gaps",),
            wide=True,
            tolerance=CLOSE,
            side=512,
            halo=10,
            beside="scipy.ndimage.correlate, twice",
        )
        for method, power in (("mean", 0.0), ("idw", 2.0))
    ),
)

CASES = (*ARITHMETIC, *LOGIC, *POINTWISE, *TONES, *GAPS)

"""Values of the whole image: extrema, histogram, counts of every level."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from chunkfilt.errors import InputError
from chunkfilt.filters.declare import value_filter
from chunkfilt.kernels import histogram as counting

__all__ = [
    "Extrema",
    "Histogram",
    "UniqueCounts",
    "extrema",
    "histogram",
    "unique_counts",
]

MAX_LEVELS = 1 << 20
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bins = Annotated[int, Field(ge=1, le=MAX_LEVELS)]


class Extrema(NamedTuple):
    """Smallest and largest pixel, in the image's dtype."""

    min: np.ndarray
    max: np.ndarray


class Histogram(NamedTuple):
    """Counts of uniform bins, and the bins' edges."""

    counts: np.ndarray
    bin_edges: np.ndarray


class UniqueCounts(NamedTuple):
    """The levels that occur, ascending, and how often; one array per batch index."""

    values: np.ndarray
    counts: np.ndarray


class PartialExtrema(NamedTuple):
    """Extrema of the finite pixels so far, and the numbers of finite and other pixels."""

    min: np.ndarray
    max: np.ndarray
    finite: np.ndarray
    nonfinite: np.ndarray


def find_extrema(block: np.ndarray, kept: np.ndarray | None) -> PartialExtrema:
    """Return the extrema of a block, of the pixels kept only."""
    found = counting.extremes(block, kept)
    return PartialExtrema(found.minimum, found.maximum, found.count, found.nonfinite)


def merge_extrema(a: PartialExtrema, b: PartialExtrema) -> PartialExtrema:
    """Join the extrema of two parts."""
    return PartialExtrema(
        np.minimum(a.min, b.min),
        np.maximum(a.max, b.max),
        a.finite + b.finite,
        a.nonfinite + b.nonfinite,
    )


def check_finite(name: str, nonfinite: np.ndarray, count: np.ndarray) -> None:
    """Refuse an image with pixels that are not finite, or with none at all."""
    if nonfinite.any():
        message = (
            f"{name}: the image holds {int(nonfinite.sum())} NaN or infinite pixels: leave them "
            "out with mask=, or replace them first"
        )
        raise InputError(message)
    _check_some(name, count)


def _check_some(name: str, count: np.ndarray) -> None:
    if not count.all():
        message = f"{name}: no pixel is left to measure (empty mask)"
        raise InputError(message)


def _finish_extrema(partial: PartialExtrema, p: SimpleNamespace) -> Extrema:
    check_finite("extrema", partial.nonfinite, partial.finite)
    return Extrema(partial.min, partial.max)


@value_filter(combine=merge_extrema, finalize=_finish_extrema)
def extrema(block: np.ndarray, mask: Any = None) -> PartialExtrema:
    """Find the smallest and the largest pixel of the whole image.

    Parameters
    ----------
    image : image
        Bool, integer or float, finite.
    mask : image, optional
        Pixels where it is 0 are left out.

    Returns
    -------
    Extrema
        ``min`` and ``max`` in the image's dtype, one for each batch index.

    Raises
    ------
    InputError
        If a pixel is NaN or infinite, or none is left.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> low, high = cf.extrema(np.array([3, -1, 2]))
    >>> int(low), int(high)
    (-1, 3)
    """
    return find_extrema(block, None if mask is None else mask != 0)


def _histogram_values(p: SimpleNamespace, dtypes: Any) -> dict[str, Any]:
    return {"extrema": (extrema, {})} if p.range is None else {}


def _check_range(p: SimpleNamespace, dtypes: Any) -> None:
    if p.range is not None and p.range[0] > p.range[1]:
        message = f"range must be (low, high) with low <= high, got {p.range}"
        raise ValueError(message)


def _add_histograms(a: Histogram, b: Histogram) -> Histogram:
    return Histogram(a.counts + b.counts, a.bin_edges)


def _histogram_bytes(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return int(core[0] * p.nbins * 16)


@value_filter(
    combine=_add_histograms,
    values=_histogram_values,
    memory=_histogram_bytes,
    check=_check_range,
)
def histogram(
    block: np.ndarray,
    mask: Any = None,
    *,
    nbins: Bins = 256,
    range: tuple[Finite, Finite] | None = None,  # noqa: A002 - numpy.histogram's name
    extrema,
) -> Histogram:
    """Count the pixels of the whole image in uniform bins.

    The counts of ``numpy.histogram`` on float64, exactly.

    Parameters
    ----------
    image : image
        Bool, integer or float, finite (with `range`, NaN is left out).
    mask : image, optional
        Pixels where it is 0 are left out.
    nbins : int, default 256
        Number of bins, 1 to 2**20.
    range : (float, float), optional
        The outer edges; pixels beyond are left out. Default: the image's extrema, which costs
        one more sweep over it.

    Returns
    -------
    Histogram
        ``counts`` (int64, `nbins`) and ``bin_edges`` (float64, `nbins` + 1), for each batch
        index.

    Raises
    ------
    InputError
        If a pixel is NaN or infinite and no `range` is given, or the range cannot be cut into
        so many bins.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.histogram(np.array([0.0, 1.0, 1.5, 2.0]), nbins=2).counts
    array([1, 3])
    """
    rows = len(block)
    low, high = (
        (extrema.min, extrema.max)
        if range is None
        else (np.full(rows, range[0]), np.full(rows, range[1]))
    )
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if len(low) != rows:
        low, high = np.full(rows, low[0]), np.full(rows, high[0])
    try:
        counts = counting.count_bins(block, low, high, nbins, None if mask is None else mask != 0)
    except ValueError as error:
        message = f"histogram: {error}"
        raise InputError(message) from None
    widen = np.where(low == high, 0.5, 0.0)
    return Histogram(counts, np.linspace(low - widen, high + widen, nbins + 1, axis=-1))


def _dense(dtype: np.dtype) -> tuple[int, int] | None:
    """Return the range of levels of a small integer dtype, None for a wide one."""
    if dtype.kind == "b":
        return 0, 1
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.itemsize <= 2 else None


def _objects(rows: list[np.ndarray]) -> np.ndarray:
    out = np.empty(len(rows), dtype=object)
    out[:] = rows
    return out


def _add_counts(a: UniqueCounts, b: UniqueCounts) -> UniqueCounts:
    if a.values.dtype != object:
        return UniqueCounts(a.values, a.counts + b.counts)
    values, counts = [], []
    for row in zip(a.values, a.counts, b.values, b.counts, strict=True):
        merged, where = np.unique(np.concatenate((row[0], row[2])), return_inverse=True)
        total = np.zeros(merged.size, np.int64)
        np.add.at(total, where, np.concatenate((row[1], row[3])))
        values.append(_few(merged))
        counts.append(total)
    return UniqueCounts(_objects(values), _objects(counts))


def _few(values: np.ndarray) -> np.ndarray:
    if values.size > MAX_LEVELS:
        message = (
            f"the image holds more than {MAX_LEVELS} different levels: use nbins= to count them "
            "in bins"
        )
        raise InputError(message)
    return values


def _present(partial: UniqueCounts, p: SimpleNamespace) -> UniqueCounts:
    """Keep the levels that occur, row by row."""
    _check_some("unique_counts", np.array([counts.sum() for counts in partial.counts]))
    if partial.values.dtype == object:
        return partial
    kept = [counts > 0 for counts in partial.counts]
    both = list(zip(partial.values, partial.counts, kept, strict=True))
    return UniqueCounts(_objects([v[k] for v, _, k in both]), _objects([c[k] for _, c, k in both]))


def _integers_only(p: SimpleNamespace, dtypes: Any) -> None:
    if dtypes[0].kind == "f":
        message = f"takes bool and integers, got dtype {dtypes[0].name}: use histogram"
        raise ValueError(message)


def _counts_bytes(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    levels = _dense(dtype)
    return core[0] * 16 * (MAX_LEVELS if levels is None else levels[1] - levels[0] + 1)


@value_filter(combine=_add_counts, finalize=_present, memory=_counts_bytes, check=_integers_only)
def unique_counts(block: np.ndarray, mask: Any = None) -> UniqueCounts:
    """Count every level that occurs in an image of integers.

    Reference: ``numpy.unique_counts``.

    Parameters
    ----------
    image : image
        Bool or integer, at most 2**20 different levels.
    mask : image, optional
        Pixels where it is 0 are left out.

    Returns
    -------
    UniqueCounts
        ``values`` (ascending, the image's dtype) and ``counts`` (int64), for each batch index.

    Raises
    ------
    InputError
        If there are more than 2**20 levels.
    ParameterError
        If the image is of floats.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> values, counts = cf.unique_counts(np.array([7, 3, 7]))
    >>> values, counts
    (array([3, 7]), array([1, 2]))
    """
    kept = None if mask is None else mask != 0
    levels = _dense(block.dtype)
    if levels is not None:
        values = np.arange(levels[0], levels[1] + 1).astype(block.dtype)
        counts = counting.count_levels(block, *levels, kept)
        return UniqueCounts(np.broadcast_to(values, counts.shape), counts)
    rows = [row if kept is None else row[kept[i]] for i, row in enumerate(block)]
    both = [np.unique(row, return_counts=True) for row in rows]
    return UniqueCounts(_objects([_few(v) for v, _ in both]), _objects([c for _, c in both]))

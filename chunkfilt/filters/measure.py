"""Values of the whole image: extrema, histogram, counts of every level, statistics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from chunkfilt.errors import InputError
from chunkfilt.filters.declare import value_filter
from chunkfilt.kernels import histogram as counting
from chunkfilt.kernels import moments as summing

__all__ = [
    "Extrema",
    "Histogram",
    "Statistics",
    "UniqueCounts",
    "extrema",
    "histogram",
    "statistics",
    "unique_counts",
]

MAX_LEVELS = 1 << 20
_DIGIT = 16
Percent = Annotated[float, Field(ge=0, le=100)]
Percentiles = Annotated[tuple[Percent, ...], Field(max_length=32)]
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


class Statistics(NamedTuple):
    """Statistics of all pixels; percentiles in the order asked for."""

    pixels: np.ndarray
    min: np.ndarray
    max: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    std: np.ndarray
    percentiles: np.ndarray


class _Digits(NamedTuple):
    """A step of exact selection: counts of the next digit, and what is known of each rank."""

    counts: np.ndarray
    prefixes: np.ndarray
    ranks: np.ndarray


class _Extremes(NamedTuple):
    min: np.ndarray
    max: np.ndarray
    finite: np.ndarray
    nonfinite: np.ndarray


def _extremes(block: np.ndarray, kept: np.ndarray | None) -> _Extremes:
    found = counting.extremes(block, kept)
    return _Extremes(found.minimum, found.maximum, found.count, found.nonfinite)


def _merge_extremes(a: _Extremes, b: _Extremes) -> _Extremes:
    return _Extremes(
        np.minimum(a.min, b.min),
        np.maximum(a.max, b.max),
        a.finite + b.finite,
        a.nonfinite + b.nonfinite,
    )


def _check_finite(name: str, nonfinite: np.ndarray, count: np.ndarray) -> None:
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


def _finish_extrema(partial: _Extremes, p: SimpleNamespace) -> Extrema:
    _check_finite("extrema", partial.nonfinite, partial.finite)
    return Extrema(partial.min, partial.max)


@value_filter(combine=_merge_extremes, finalize=_finish_extrema)
def extrema(block: np.ndarray, mask: Any = None) -> _Extremes:
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
    return _extremes(block, None if mask is None else mask != 0)


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


def _steps(dtype: np.dtype) -> int:
    """Return the digits of 16 bits in a pixel's key."""
    return max(dtype.itemsize * 8 // _DIGIT, 1)


def _digit(dtype: np.dtype, step: int) -> tuple[int, int]:
    """Return place and width of a digit, from the most significant one."""
    bits = min(dtype.itemsize * 8, _DIGIT)
    return dtype.itemsize * 8 - (step + 1) * bits, bits


def _count_digits(block: np.ndarray, mask: Any, step: int, previous: _Digits | None) -> _Digits:
    rows = len(block)
    prefixes = np.zeros((rows, 1), np.uint64) if previous is None else previous.prefixes
    ranks = np.zeros((rows, 1), np.int64) if previous is None else previous.ranks
    if len(prefixes) != rows:
        prefixes, ranks = np.repeat(prefixes, rows, 0), np.repeat(ranks, rows, 0)
    kept = None if mask is None else mask != 0
    shift, bits = _digit(block.dtype, step)
    return _Digits(counting.digit_counts(block, shift, bits, prefixes, kept), prefixes, ranks)


def _add_digits(a: _Digits, b: _Digits) -> _Digits:
    return _Digits(a.counts + b.counts, a.prefixes, a.ranks)


def _narrow(digits: _Digits, percentiles: tuple[float, ...], bits: int, first: bool) -> _Digits:
    """Return the ranks' longer prefixes, and the ranks among the pixels that have them.

    Each percentile needs two neighbouring ranks, between which it is interpolated.
    """
    counts, prefixes, ranks = digits
    if first:
        total = counts.sum(axis=(1, 2))
        place = np.asarray(percentiles)[None, :] / 100 * np.maximum(total - 1, 0)[:, None]
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(total - 1, 0)[:, None])
        ranks = np.stack((low, high), axis=2).reshape(len(counts), -1)
        counts = np.broadcast_to(counts, (len(counts), ranks.shape[1], counts.shape[2]))
        prefixes = np.broadcast_to(prefixes, ranks.shape)
    below = np.cumsum(counts, axis=2)
    digit = np.minimum((below <= ranks[:, :, None]).sum(axis=2), counts.shape[2] - 1)
    before = np.take_along_axis(below, np.maximum(digit - 1, 0)[:, :, None], axis=2)[:, :, 0]
    left = ranks - np.where(digit > 0, before, 0)
    longer = (prefixes << np.uint64(bits)) | digit.astype(np.uint64)
    return _Digits(np.zeros((len(counts), 0), np.int64), longer, left)


def _finish_digits(partial: _Digits, p: SimpleNamespace) -> _Digits:
    return _narrow(partial, p.percentiles, _DIGIT, p.step == 0)


def _digit_values(p: SimpleNamespace, dtypes: Any) -> dict[str, Any]:
    if p.step == 0:
        return {}
    return {"previous": (_digits, {"percentiles": p.percentiles, "step": p.step - 1})}


def _digit_bytes(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    return core[0] * (1 << _DIGIT) * 8 * 2 * max(len(p.percentiles), 1)


@value_filter(
    combine=_add_digits, finalize=_finish_digits, values=_digit_values, memory=_digit_bytes
)
def _digits(
    block: np.ndarray, mask: Any = None, *, percentiles: Percentiles, step: int, previous
) -> _Digits:
    """Narrow the pixels at given percentiles down by one more digit of 16 bits."""
    return _count_digits(block, mask, step, previous)


def _statistics_values(p: SimpleNamespace, dtypes: Any) -> dict[str, Any]:
    steps = _steps(dtypes[0])
    if not p.percentiles or steps == 1:
        return {}
    return {"previous": (_digits, {"percentiles": p.percentiles, "step": steps - 2})}


class _Sums(NamedTuple):
    moments: summing.Moments
    extremes: _Extremes
    digits: _Digits


def _add_sums(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(
        summing.combine(a.moments, b.moments),
        _merge_extremes(a.extremes, b.extremes),
        _add_digits(a.digits, b.digits),
    )


def _finish_statistics(partial: _Sums, p: SimpleNamespace) -> Statistics:
    extremes = partial.extremes
    _check_finite("statistics", extremes.nonfinite, extremes.finite)
    total = summing.finalize(partial.moments)
    found = np.zeros((len(total.count), 0))
    if p.percentiles:
        dtype = extremes.min.dtype
        bits = min(dtype.itemsize * 8, _DIGIT)
        keys = _narrow(partial.digits, p.percentiles, bits, _steps(dtype) == 1).prefixes
        pixels = counting.key_to_value(keys, dtype).astype(np.float64)
        low, high = pixels[:, 0::2], pixels[:, 1::2]
        place = np.asarray(p.percentiles)[None, :] / 100 * (total.count[:, None] - 1)
        share = place - np.floor(place)
        # As numpy interpolates: from the nearer end, so that both ends are met exactly.
        found = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    return Statistics(
        total.count,
        extremes.min,
        extremes.max,
        total.mean,
        total.variance,
        np.sqrt(total.variance),
        found,
    )


@value_filter(
    combine=_add_sums,
    finalize=_finish_statistics,
    values=_statistics_values,
    memory=_digit_bytes,
)
def statistics(
    block: np.ndarray, mask: Any = None, *, percentiles: Percentiles = (), previous
) -> _Sums:
    """Compute count, extrema, mean, variance and percentiles of the whole image.

    Sums are exact and rounded once, so they depend neither on order nor on blocks. Percentiles
    are exact too, with NumPy's linear interpolation; for dtypes of 32 bits they cost one more
    sweep over the image, for 64 bits three.

    Parameters
    ----------
    image : image
        Bool, integer or float, finite.
    mask : image, optional
        Pixels where it is 0 are left out.
    percentiles : sequence of float, default none
        Percentiles wanted, 0 to 100, at most 32.

    Returns
    -------
    Statistics
        ``pixels`` (their number), ``min``, ``max``, ``mean``, ``variance``, ``std`` and
        ``percentiles``, for each batch index.

    Raises
    ------
    InputError
        If a pixel is NaN or infinite, or none is left.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> found = cf.statistics(np.array([1, 2, 3, 10]), percentiles=[50])
    >>> float(found.mean), float(found.variance), found.percentiles
    (4.0, 12.5, array([2.5]))
    """
    kept = None if mask is None else mask != 0
    rows = len(block)
    digits = _Digits(*(np.zeros((rows, 0), np.int64),) * 3)
    if percentiles:
        digits = _count_digits(block, mask, _steps(block.dtype) - 1, previous)
    return _Sums(summing.moments(block, kept), _extremes(block, kept), digits)

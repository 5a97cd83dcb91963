"""Statistics of the whole image, exact whatever the order: moments, extrema, percentiles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import value_filter
from chunkfilt.filters.measure import PartialExtrema, check_finite, find_extrema, merge_extrema
from chunkfilt.kernels import histogram as counting
from chunkfilt.kernels import moments as summing

__all__ = ["Statistics", "statistics"]

_DIGIT = 16
Percent = Annotated[float, Field(ge=0, le=100)]
Percentiles = Annotated[tuple[Percent, ...], Field(max_length=32)]


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
    extremes: PartialExtrema
    digits: _Digits


def _add_sums(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(
        summing.combine(a.moments, b.moments),
        merge_extrema(a.extremes, b.extremes),
        _add_digits(a.digits, b.digits),
    )


def _finish_statistics(partial: _Sums, p: SimpleNamespace) -> Statistics:
    extremes = partial.extremes
    check_finite("statistics", extremes.nonfinite, extremes.finite)
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
    return _Sums(summing.moments(block, kept), find_extrema(block, kept), digits)

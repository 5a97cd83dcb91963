"""Gabor filters: the response to a wave of one frequency and direction under a Gaussian."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.params import Positive
from chunkfilt.grid import Halo
from chunkfilt.kernels import correlation, fourier, real_dtype, separable

__all__ = ["gabor", "gabor_bank"]

Part = Literal["real", "imag", "magnitude"]
Many = Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
Frequencies = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)]
_LARGEST_HALF = 500
_SHAPE = ("bandwidth", "sigma_x", "sigma_y", "n_stds", "offset", "part")
# Nanoseconds of one core: a response among several, cut out of the block and put into its place.
_PLACE = 1.5


def gabor_kernel(
    frequency: float,
    theta: float,
    sigma_x: float,
    sigma_y: float,
    n_stds: float,
    offset: float,
) -> np.ndarray:
    """Return the complex Gabor kernel, to be convolved.

    ``exp(-(xr**2/sx**2 + yr**2/sy**2)/2 + i(2 pi f xr + offset)) / (2 pi sx sy)`` with
    ``xr = x cos t + y sin t`` and ``yr = -x sin t + y cos t``.
    """
    cos, sin = math.cos(theta), math.sin(theta)
    half_y, half_x = _half_widths(theta, sigma_x, sigma_y, n_stds)
    y, x = np.ix_(np.arange(-half_y, half_y + 1.0), np.arange(-half_x, half_x + 1.0))
    along, across = x * cos + y * sin, -x * sin + y * cos
    # Sigmas whose squares are 0 or infinite are an error, not a kernel of NaN.
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        envelope = np.exp(-0.5 * (along**2 / sigma_x**2 + across**2 / sigma_y**2))
        wave = np.exp(1j * (2 * np.pi * frequency * along + offset))
        return np.asarray(envelope * wave / (2 * np.pi * sigma_x * sigma_y))


def _half_widths(theta: float, sx: float, sy: float, n: float) -> tuple[int, int]:
    cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
    half_x = math.ceil(max(n * sx * cos, n * sy * sin, 1))
    half_y = math.ceil(max(n * sy * cos, n * sx * sin, 1))
    if max(half_x, half_y) > _LARGEST_HALF:
        message = (
            f"the kernel would reach {max(half_x, half_y):.6g} pixels, at most {_LARGEST_HALF} are "
            "possible: raise frequency or bandwidth, or lower sigma or n_stds"
        )
        raise ValueError(message)
    return half_y, half_x


def _sigmas(p: SimpleNamespace, frequency: float) -> tuple[float, float]:
    """Return sigma_x and sigma_y; by default those of the bandwidth in octaves."""
    octave: float = 2.0**p.bandwidth
    ratio = (octave + 1) / (octave - 1)
    default = math.sqrt(math.log(2) / 2) / math.pi * ratio / frequency
    return p.sigma_x or default, p.sigma_y or default


def _need_plane(p: SimpleNamespace) -> None:
    if p.ndim != 2:
        message = f"works along 2 spatial axes, got {p.ndim}: name them with axes="
        raise ValueError(message)


def _halo(p: SimpleNamespace) -> Halo:
    _need_plane(p)
    half_y, half_x = _half_widths(p.theta, *_sigmas(p, p.frequency), p.n_stds)
    return ((half_y, half_y), (half_x, half_x))


class _Work(NamedTuple):
    """How to compute the responses to some kernels, each of one or two parts.

    Either each by itself (`direct`: what it leaves out of the block's halo, and its plans), or all
    in tiles (`plan`), which share a transform of the image. Never some of each: a run would have
    to load, and a machine's first run to compile, the code of both.
    """

    reach: tuple[int, int]
    direct: tuple[tuple[tuple[int, int], tuple[separable.Plan, ...]], ...]
    plan: fourier.Plan | None
    responses: int
    cost: float
    memory: int


def _kernels(p: SimpleNamespace, frequency: float, theta: float) -> list[np.ndarray]:
    """Return what the part asked for takes, flipped for a correlation."""
    kernel = gabor_kernel(frequency, theta, *_sigmas(p, frequency), p.n_stds, p.offset)
    flipped = kernel[::-1, ::-1]
    parts = {"real": [flipped.real], "imag": [flipped.imag]}
    return parts.get(p.part, [flipped.real, flipped.imag])


def _work(p: SimpleNamespace) -> _Work:
    """Return how to compute what the parameters ask for, the same object for the same ones."""
    bank = hasattr(p, "thetas")
    pairs = itertools.product(p.thetas, p.frequencies) if bank else [(p.theta, p.frequency)]
    return _chosen(tuple(pairs), tuple(getattr(p, name) for name in _SHAPE))


@functools.lru_cache(maxsize=4)
def _chosen(pairs: tuple[tuple[float, float], ...], shape: tuple[Any, ...]) -> _Work:
    """Choose from the weights alone what takes the least time."""
    p = SimpleNamespace(**dict(zip(_SHAPE, shape, strict=True)))
    cells = [_kernels(p, frequency, theta) for theta, frequency in pairs]
    sizes = [cell[0].shape for cell in cells]
    window = (max(size[0] for size in sizes), max(size[1] for size in sizes))
    margins = [((window[0] - ky) // 2, (window[1] - kx) // 2) for ky, kx in sizes]
    plans = [tuple(separable.convolve_plan(kernel) for kernel in cell) for cell in cells]
    costs = [sum(map(correlation.plan_cost, plan)) for plan in plans]
    reach = (window[0] // 2, window[1] // 2)
    cost = sum(costs) + (_PLACE * len(cells) if len(cells) > 1 else 0.0)
    tiles = correlation.tiles_instead(window, len(cells) * len(cells[0]), cost)
    if tiles is None:
        direct = tuple(zip(margins, plans, strict=True))
        return _Work(reach, direct, None, len(cells), 1.0 + cost, 0)
    widened = [
        np.pad(kernel, [(margin, margin) for margin in margins[i]])
        for i, cell in enumerate(cells)
        for kernel in cell
    ]
    plan = fourier.fourier_plan(widened, tiles)
    return _Work(reach, (), plan, len(cells), 1.0 + tiles.cost, tiles.memory)


def _prepare(p: SimpleNamespace) -> dict[str, Any]:
    return {"work": _work(p)}


def _tile(p: SimpleNamespace, prepared: Mapping[str, Any]) -> tuple[int, ...] | None:
    plan = prepared["work"].plan
    return None if plan is None else plan.core


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    cost: float = prepared["work"].cost
    return cost


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    work = _work(p)
    if work.plan is not None or work.responses == 1:
        return work.memory
    # A response by itself takes a copy of what it needs of the block, and is copied itself.
    inner = (core[1] + 2 * work.reach[0]) * (core[2] + 2 * work.reach[1]) * dtype.itemsize
    return core[0] * (inner + core[1] * core[2] * real_dtype(dtype).itemsize)


def _responses(block: np.ndarray, work: _Work, part: Part) -> np.ndarray:
    """Return all responses, `(batch, responses, y, x)`."""
    if work.plan is not None:
        return fourier.correlate(block, work.plan, 2 if part == "magnitude" else 1)
    core = [n - 2 * half for n, half in zip(block.shape[1:], work.reach, strict=True)]
    out = np.empty((len(block), work.responses, *core), real_dtype(block.dtype))
    for i, ((top, left), plans) in enumerate(work.direct):
        rows, columns = block.shape[1] - top, block.shape[2] - left
        inner = np.ascontiguousarray(block[:, top:rows, left:columns])
        found = separable.gabor(inner, plans[0], plans[-1], part)
        if work.responses == 1:
            return found[:, None]
        out[:, i] = found
    return out


@image_filter(halo=_halo, prepare=_prepare, memory=_memory, cost=_cost, tile=_tile, version=2)
def gabor(
    block: np.ndarray,
    *,
    frequency: Positive = 0.1,
    theta: float = 0.0,
    bandwidth: Positive = 1.0,
    sigma_x: Positive | None = None,
    sigma_y: Positive | None = None,
    n_stds: Positive = 3.0,
    offset: float = 0.0,
    part: Part = "real",
    work,
) -> np.ndarray:
    """Filter with a Gabor kernel: texture of one frequency and direction.

    Convolution with ``exp(-(xr**2/sx**2 + yr**2/sy**2)/2 + i(2 pi f xr + offset)) /
    (2 pi sx sy)``, ``xr = x cos t + y sin t``, ``yr = -x sin t + y cos t``. Reference:
    ``skimage.filters.gabor`` on float64.

    Parameters
    ----------
    image : image
        Bool, integer or float; two spatial axes.
    frequency : float, default 0.1
        Frequency of the wave in cycles per pixel, ``> 0``.
    theta : float, default 0.0
        Direction of the wave in radians; 0 runs along the last axis.
    bandwidth : float, default 1.0
        Bandwidth in octaves, ``> 0``; sets the sigmas that are not given.
    sigma_x, sigma_y : float, optional
        Standard deviations in pixels along and across the wave, ``> 0``.
    n_stds : float, default 3.0
        The kernel reaches this many standard deviations, ``> 0``.
    offset : float, default 0.0
        Phase of the wave in radians.
    part : {'real', 'imag', 'magnitude'}, default 'real'
        Which part of the complex response.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range, the kernel is too large or the image has other than two
        spatial axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> stripes = np.tile([0.0, 1.0], (8, 4))
    >>> cf.gabor(stripes, frequency=0.5, part="magnitude", mode="wrap")[0, :2].round(1)
    array([0.5, 0.5])
    """
    return _responses(block, work, part)[:, 0]


def _bank_halo(p: SimpleNamespace) -> Halo:
    _need_plane(p)
    halves = [_half_widths(t, *_sigmas(p, f), p.n_stds) for t in p.thetas for f in p.frequencies]
    half_y, half_x = (max(h[i] for h in halves) for i in (0, 1))
    return ((half_y, half_y), (half_x, half_x))


def _bank_leading(p: SimpleNamespace) -> tuple[tuple[str, int], ...]:
    return (("orientation", len(p.thetas)), ("frequency", len(p.frequencies)))


@image_filter(
    halo=_bank_halo,
    leading=_bank_leading,
    prepare=_prepare,
    memory=_memory,
    cost=_cost,
    tile=_tile,
    version=2,
)
def gabor_bank(
    block: np.ndarray,
    *,
    frequencies: Frequencies = (0.05, 0.1, 0.2, 0.4),
    thetas: Many = (0.0, math.pi / 6, math.pi / 3, math.pi / 2, 2 * math.pi / 3, 5 * math.pi / 6),
    bandwidth: Positive = 1.0,
    sigma_x: Positive | None = None,
    sigma_y: Positive | None = None,
    n_stds: Positive = 3.0,
    offset: float = 0.0,
    part: Part = "magnitude",
    work,
) -> np.ndarray:
    """Filter with a bank of Gabor kernels: every direction with every frequency.

    One `gabor` for each pair, as further axes of the result.

    Parameters
    ----------
    image : image
        Bool, integer or float; two spatial axes.
    frequencies : sequence of float, default (0.05, 0.1, 0.2, 0.4)
        Frequencies in cycles per pixel, ``> 0``, 1 to 64 of them.
    thetas : sequence of float, default six directions from 0, 30 degrees apart
        Directions in radians, 1 to 64 of them.
    bandwidth : float, default 1.0
        Bandwidth in octaves, ``> 0``; sets the sigmas that are not given.
    sigma_x, sigma_y : float, optional
        Standard deviations in pixels along and across the wave, ``> 0``.
    n_stds : float, default 3.0
        The kernels reach this many standard deviations, ``> 0``.
    offset : float, default 0.0
        Phase of the waves in radians.
    part : {'real', 'imag', 'magnitude'}, default 'magnitude'
        Which part of the complex responses.

    Returns
    -------
    image
        Shape ``(orientation, frequency)`` in front of the spatial axes; float32 for bool, 8- and
        16-bit integers, float16 and float32, else float64.

    Raises
    ------
    ParameterError
        If a parameter is out of range, a kernel is too large or the image has other than two
        spatial axes.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> cf.gabor_bank(np.zeros((8, 8)), frequencies=[0.2, 0.4], thetas=[0.0, 0.8, 1.6]).shape
    (3, 2, 8, 8)
    """
    out = _responses(block, work, part)
    return out.reshape(len(block), len(thetas), len(frequencies), *out.shape[2:])

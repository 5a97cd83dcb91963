"""Correlation with kernels of any make by Fourier transforms, in tiles anchored to the image.

The pixels are cut into tiles of a fixed core; each is transformed with its halo, multiplied with
the kernels' spectra and transformed back.  A result depends on the pixels of its tile alone, so a
block of whole tiles has no say in it.

A tile of real pixels takes half the work of a complex one.  Its right half counts as the imaginary
part of its left half; after the transform down the columns the two come apart by symmetry, and
what is transposed for the transform along the rows holds frequencies 0 to T/2 only.  The first and
the last of those are real and share a column as real and imaginary part.

Rounding is relative to the largest pixel of a tile.  Where a tile holds NaN, infinities or pixels
of very different size, each size is transformed by itself, and reaches the windows that hold such
a pixel and no others: which ones, a transform counts exactly.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chunkfilt.kernels import _fft
from chunkfilt.kernels._common import as4d, core_shape, jit, real_dtype
from chunkfilt.kernels._rows import EPSILON

__all__ = ["Layout", "Plan", "correlate", "fourier_plan", "layout"]

# Lengths of transforms, and nanoseconds of one core per pair of pixels and kernel, forth and back.
# Rows a power of two apart compete for the same places in the cache: threes keep them off.
_LENGTHS = {
    48: 9.0,
    64: 6.6,
    96: 5.8,
    144: 5.8,
    192: 5.4,
    288: 6.3,
    432: 7.2,
    576: 7.5,
    864: 9.0,
    1296: 11.0,
    1728: 16.0,
}
_MORE = 0.5  # of that for every further kernel of the same tile
_RANGE = 30  # powers of two between pixels that may be transformed together
_BLOCK = 2048  # pixels of a side of a usual block: tiles that stick out of it cost time
_SMALLEST = 16  # pixels of a side of a core
_PER_KERNEL = ("kernels", "re", "im", "edge_re", "edge_im")


class Layout(NamedTuple):
    """How an image is cut into tiles.

    Attributes
    ----------
    core : tuple of int
        Rows and columns of the image that a tile gives.
    length : tuple of int
        Rows and columns that are transformed.
    cost : float
        Nanoseconds per pixel on one core, roughly.
    memory : int
        Bytes of working memory.
    """

    core: tuple[int, int]
    length: tuple[int, int]
    cost: float
    memory: int


class Plan(NamedTuple):
    """How to correlate with several kernels of one window.

    Attributes
    ----------
    core : tuple of int
        Rows and columns of the image that a tile gives.
    kernels : ndarray of float64
        The kernels, `(count, ky, kx)`.
    down, along : Transform
        Down the columns of a tile and along its rows.
    re, im : ndarray of float64
        Spectra of the kernels, `(count, frequencies along, half the frequencies down)`.
    edge_re, edge_im : ndarray of float64
        What the column shared by two frequencies takes besides.
    """

    core: tuple[int, int]
    kernels: NDArray[np.float64]
    down: _fft.Transform
    along: _fft.Transform
    re: NDArray[np.float64]
    im: NDArray[np.float64]
    edge_re: NDArray[np.float64]
    edge_im: NDArray[np.float64]


def layout(window: tuple[int, int], kernels: int = 1) -> Layout:
    """Choose the tiles that take the least time per pixel.

    Parameters
    ----------
    window : tuple of int
        Rows and columns of the kernels.
    kernels : int
        How many there are.

    Returns
    -------
    Layout
        The same for the same arguments, always.

    Raises
    ------
    ValueError
        If the kernels are too large for the longest transform.

    Examples
    --------
    >>> layout((37, 37)).length
    (192, 192)
    """
    found = [
        _laid((core_y, core_x), (ty, tx), kernels)
        for ty in _LENGTHS
        for core_y in _cores(ty, window[0])
        for tx in _LENGTHS
        for core_x in _cores(tx, window[1])
    ]
    if not found:
        raise ValueError(f"kernels of {window} are too large for tiles of {max(_LENGTHS)}")
    return min(found, key=lambda one: one.cost)


def _cores(length: int, window: int) -> list[int]:
    """Return the cores to try: the largest, and one that blocks are a multiple of."""
    most = length - window + 1
    return [most, 1 << (most.bit_length() - 1)] if most >= _SMALLEST else []


def _laid(core: tuple[int, int], length: tuple[int, int], kernels: int) -> Layout:
    points = math.prod(length) // 2
    spent = points * (_LENGTHS[length[0]] + _LENGTHS[length[1]]) / 2 * (1 + _MORE * (kernels - 1))
    for n in core:
        spent *= (1.0 if _BLOCK % n == 0 else 1 + (n - 1) / _BLOCK) / n
    # The buffers of a tile, and what mending one takes.
    return Layout(core, length, spent, 16 * points * ((2 if kernels == 1 else 5) + 14))


def fourier_plan(kernels: Sequence[ArrayLike], tiles: Layout | None = None) -> Plan:
    """Compute what correlating with some kernels takes.

    Parameters
    ----------
    kernels : sequence of array_like
        Of one shape, `(ky, kx)`, as for a correlation. Weights up to 2.2e-16 in size are none.
    tiles : Layout, optional
        From `layout`, which is the default.

    Returns
    -------
    Plan
        For `correlate`. Pickles.

    Raises
    ------
    ValueError
        If the kernels are not 2-D, finite and of one shape, or the tiles too small for them.

    Examples
    --------
    >>> plan = fourier_plan([np.ones((1, 2))])
    >>> correlate(np.array([[[1.0, 2.0, 3.0]]]), plan).round(9)
    array([[[[3., 5.]]]])
    """
    every = np.stack([np.asarray(kernel, np.float64) for kernel in kernels])
    if every.ndim != 3 or not np.isfinite(every).all():
        raise ValueError("fourier_plan needs 2-D kernels of finite weights")
    every[np.abs(every) <= EPSILON] = 0.0
    window = every.shape[1], every.shape[2]
    chosen = layout(window, len(every)) if tiles is None else tiles
    if any(c + k - 1 > n for c, k, n in zip(chosen.core, window, chosen.length, strict=True)):
        raise ValueError(f"tiles of {chosen.length} for a core of {chosen.core} and {window}")
    down, along = (_fft.transform(n) for n in chosen.length)
    return Plan(chosen.core, every, down, along, *_spectra(every, down, along))


def _spectra(
    kernels: NDArray[np.float64], down: _fft.Transform, along: _fft.Transform
) -> tuple[NDArray[np.float64], ...]:
    """Return the kernels' spectra."""
    ky, kx = kernels.shape[1:]
    length, half = (down.row.size, along.row.size), down.row.size // 2
    main = np.empty((len(kernels), length[1], half), np.complex128)
    edge = np.empty(main.shape[:2], np.complex128)
    for i, kernel in enumerate(kernels):
        placed = np.zeros(length)
        placed[:ky, :kx] = kernel[::-1, ::-1]
        placed = np.roll(placed, (1 - ky, 1 - kx), (0, 1))
        # Half of it, since taking the halves of a tile apart doubles them.
        found = np.fft.rfft2(placed.T) * (0.5 / placed.size)
        main[i] = found[:, :half]
        main[i, :, 0] += found[:, half]
        edge[i] = found[:, 0] - found[:, half]
    return main.real.copy(), main.imag.copy(), edge.real.copy(), edge.imag.copy()


@jit
def _load(z, view, at, rows, columns):
    """Lay a tile out as complex numbers, its left half and its right; zero where it ends."""
    b, y0, x0 = at
    half = z.shape[2]
    for part in range(2):
        count = min(max(columns - part * half, 0), half)
        for y in range(rows):
            row = view[b, 0, y0 + y, x0 + part * half :]
            for x in range(count):
                z[part, y, x] = row[x]
            z[part, y, count:] = 0.0
        z[part, rows:] = 0.0


@jit
def _uneven(bits):
    """Whether pixels, given by their bits, are too different in size to be added up."""
    top, low = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
    for i in range(bits.size):
        size = bits[i] & np.uint64(0x7FFFFFFFFFFFFFFF)
        top = max(top, size)
        # Zeros are of no size: less one they come last.
        low = min(low, size - np.uint64(1))
    if top == 0:
        return False
    largest, smallest = np.int64(top >> np.uint64(52)), np.int64(low >> np.uint64(52))
    return not 120 < largest < 1900 or largest - smallest > _RANGE


@jit
def _split(z, row, g):
    """Take the two real columns in each complex one apart, transposed."""
    wide, half = z.shape[2], g.shape[2]
    zr, zi, gr, gi = z[0], z[1], g[0], g[1]
    for k0 in range(0, half, 8):
        for c0 in range(0, wide, 32):
            for k in range(max(k0, 1), min(k0 + 8, half)):
                a, b = row[k], row[2 * half - k]
                for c in range(c0, min(c0 + 32, wide)):
                    ar, ai, br, bi = zr[a, c], zi[a, c], zr[b, c], zi[b, c]
                    gr[c, k], gi[c, k] = ar + br, ai - bi
                    gr[c + wide, k], gi[c + wide, k] = ai + bi, br - ar
    first, last = row[0], row[half]
    for c in range(wide):
        gr[c, 0], gi[c, 0] = zr[first, c], zr[last, c]
        gr[c + wide, 0], gi[c + wide, 0] = zi[first, c], zi[last, c]


@jit
def _product(g, plan, i, h):
    """Multiply a tile's spectrum with that of kernel i, in the order of frequencies."""
    columns, half = g.shape[1], g.shape[2]
    row = plan.along.row
    for m in range(columns):
        r = row[m]
        for k in range(half):
            a, b, c, d = g[0, r, k], g[1, r, k], plan.re[i, m, k], plan.im[i, m, k]
            h[0, m, k], h[1, m, k] = a * c - b * d, a * d + b * c
        r = row[columns - m if m else 0]
        a, b, c, d = g[0, r, 0], -g[1, r, 0], plan.edge_re[i, m], plan.edge_im[i, m]
        h[0, m, 0] += a * c - b * d
        h[1, m, 0] += a * d + b * c


@jit
def _join(h, row, z):
    """Undo `_split`; columns come as a transform leaves them, frequencies leave in order."""
    wide, half = z.shape[2], h.shape[2]
    zr, zi, hr, hi = z[0], z[1], h[0], h[1]
    for c0 in range(0, wide, 8):
        for k0 in range(0, half, 32):
            for c in range(c0, min(c0 + 8, wide)):
                a, b = row[c], row[c + wide]
                for k in range(max(k0, 1), min(k0 + 32, half)):
                    ar, ai, br, bi = hr[a, k], hi[a, k], hr[b, k], hi[b, k]
                    zr[k, c], zi[k, c] = ar - bi, ai + br
                    zr[2 * half - k, c], zi[2 * half - k, c] = ar + bi, br - ai
    for c in range(wide):
        a, b = row[c], row[c + wide]
        zr[0, c], zi[0, c] = hr[a, 0], hr[b, 0]
        zr[half, c], zi[half, c] = hi[a, 0], hi[b, 0]


@jit
def _store(out, at, rows, columns, z, row):
    """Store a tile's response, or the magnitude of two."""
    b, cell, y0, x0 = at
    half, last = z.shape[3], z.shape[0] - 1
    for side in range(2):
        x1 = x0 + side * half
        count = min(columns - side * half, half)
        for y in range(rows):
            r = row[y]
            if last == 0:
                for x in range(count):
                    out[b, cell, y0 + y, x1 + x] = z[0, side, r, x]
            else:
                for x in range(count):
                    v, w = z[0, side, r, x], z[last, side, r, x]
                    out[b, cell, y0 + y, x1 + x] = np.sqrt(v * v + w * w)


@jit
def _tiles(view, out, plan, buffers, checked, uneven):
    """Correlate all tiles but those that must not be added up, which are marked."""
    _, _, height, width = out.shape
    z, g, h, answer = buffers
    parts = answer.shape[0]
    core_y, core_x = plan.core
    halo_y, halo_x = plan.kernels.shape[1] - 1, plan.kernels.shape[2] - 1
    for b in range(uneven.shape[0]):
        for ty in range(uneven.shape[1]):
            for tx in range(uneven.shape[2]):
                y0, x0 = ty * core_y, tx * core_x
                rows, columns = min(core_y, height - y0), min(core_x, width - x0)
                _load(z, view, (b, y0, x0), rows + halo_y, columns + halo_x)
                if checked and _uneven(z.reshape(-1).view(np.uint64)):
                    uneven[b, ty, tx] = True
                    continue
                _fft.forward(z[0], z[1], plan.down)
                _split(z, plan.down.row, g)
                _fft.forward(g[0], g[1], plan.along)
                for i in range(out.shape[1]):
                    for part in range(parts):
                        found = answer[part]
                        _product(g, plan, i * parts + part, h)
                        _fft.forward(h[1], h[0], plan.along)
                        _join(h, plan.along.row, found)
                        _fft.forward(found[1], found[0], plan.down)
                    _store(out, (b, i, y0, x0), rows, columns, answer, plan.down.row)


def _run(block: NDArray[Any], out: NDArray[Any], plan: Plan, parts: int) -> NDArray[np.bool_]:
    """Correlate block by tiles; return which tiles were left out."""
    view = as4d(block)
    count = [-(-n // core) for n, core in zip(out.shape[2:], plan.core, strict=True)]
    uneven = np.zeros((len(out), *count), bool)
    down, along = plan.down.row.size, plan.along.row.size
    z, g = np.empty((2, down, along // 2)), np.empty((2, along, down // 2))
    if len(plan.kernels) == 1:
        # Nothing is needed again: two buffers are enough, and stay in the cache.
        h, answer = z.reshape(g.shape), g.reshape(1, *z.shape)
    else:
        h, answer = np.empty_like(g), np.empty((parts, *z.shape))
    checked = view.dtype.kind == "f" or view.dtype.itemsize == 8
    _tiles(view, out, plan, (z, g, h, answer), checked, uneven)
    return uneven


def _response(pixels: NDArray[np.float64], plan: Plan) -> NDArray[np.float64]:
    """Return the response of a tile, whose pixels are of much the same size, to one kernel."""
    core = core_shape(pixels[None], plan.kernels.shape[1:])[1:]
    out = np.empty((1, 1, *core))
    _run(pixels[None], out, plan, 1)
    found: NDArray[np.float64] = out[0, 0]
    return found


def _size_by_size(
    pixels: NDArray[np.float64], plan: Plan, taps: Plan, signs: Plan
) -> NDArray[np.float64]:
    """Return the response of any tile to one kernel, as summing tap by tap would give it.

    Pixels of one size reach the windows that have such a pixel under a weight: elsewhere their
    response is nothing but rounding.
    """
    wild = ~np.isfinite(pixels)
    left = np.where(wild, 0.0, pixels)
    total = np.zeros(core_shape(pixels[None], plan.kernels.shape[1:])[1:])
    while left.any():
        largest = np.abs(left).max()
        scale = int(np.frexp(largest)[1])
        here = np.abs(left) >= np.ldexp(largest, -_RANGE)
        response = _response(np.ldexp(np.where(here, left, 0.0), -scale), plan)
        left[here] = 0.0
        if left.any():
            response[_response(here.astype(np.float64), taps) < 0.5] = 0.0
        total += np.ldexp(response, scale)
    if wild.any():
        hit = np.rint(_response(wild.astype(np.float64), taps))
        signed = np.where(np.isinf(pixels), np.sign(pixels), 0.0)
        balance = np.rint(_response(signed, signs)) if signed.any() else np.zeros_like(hit)
        total[hit > 0] = np.nan
        # Infinities of one sign, and nothing else that is wild.
        same = (hit > 0) & (np.abs(balance) == hit)
        total[same] = np.copysign(np.inf, balance[same])
    return total


def _mend(
    block: NDArray[Any], out: NDArray[Any], plans: Sequence[Plan], uneven: NDArray[np.bool_]
) -> None:
    """Compute one result, of one or two kernels, over the tiles that were left out."""
    core, window = plans[0].core, plans[0].kernels.shape[1:]
    trios = [
        (plan, _of_kernels(plan, plan.kernels != 0), _of_kernels(plan, np.sign(plan.kernels)))
        for plan in plans
    ]
    for b, *index in np.argwhere(uneven):
        start = [i * n for i, n in zip(index, core, strict=True)]
        ends = zip(start, core, out.shape[1:], strict=True)
        stop = [min(a + n, last) for a, n, last in ends]
        seen = tuple(slice(a, z + k - 1) for a, z, k in zip(start, stop, window, strict=True))
        with np.errstate(all="ignore"):
            pixels = block[(b, *seen)].astype(np.float64)
            found = [_size_by_size(pixels, *trio) for trio in trios]
            one = found[0] if len(found) == 1 else np.sqrt(found[0] ** 2 + found[1] ** 2)
            out[(b, *(slice(a, z) for a, z in zip(start, stop, strict=True)))] = one


def _one_kernel(plan: Plan, i: int) -> Plan:
    return plan._replace(**{name: getattr(plan, name)[i : i + 1] for name in _PER_KERNEL})


def _of_kernels(plan: Plan, weights: NDArray[Any]) -> Plan:
    kernels = weights.astype(np.float64)
    spectra = _spectra(kernels, plan.down, plan.along)
    return Plan(plan.core, kernels, plan.down, plan.along, *spectra)


def correlate(block: NDArray[Any], plan: Plan, parts: int = 1) -> NDArray[Any]:
    """Correlate with planned kernels.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, y, x)`, extended by the halo; any real dtype. Its core begins where a tile
        of the image does, and ends where one does or where the image ends.
    plan : Plan
        From `fourier_plan`.
    parts : {1, 2}
        2 to take the kernels two by two, and give the root of the sum of their squares.

    Returns
    -------
    ndarray
        Shape `(batch, results, *core)`, float32 for inputs up to 16 bits and float32, else
        float64. NaN and infinities reach exactly the outputs that have such a pixel under a weight
        above 2.2e-16.

    Raises
    ------
    ValueError
        If the kernels do not fit the block.

    Examples
    --------
    >>> plan = fourier_plan([np.ones((3, 3))])
    >>> correlate(np.ones((1, 3, 4)), plan).round(9)
    array([[[[9., 9.]]]])
    """
    if parts not in (1, 2) or len(plan.kernels) % parts:
        raise ValueError(f"{len(plan.kernels)} kernels do not make up results of {parts} parts")
    batch, *core = core_shape(block, plan.kernels.shape[1:])
    out = np.empty((batch, len(plan.kernels) // parts, *core), real_dtype(block.dtype))
    uneven = _run(block, out, plan, parts)
    if uneven.any():
        for i in range(out.shape[1]):
            plans = [_one_kernel(plan, k) for k in range(i * parts, (i + 1) * parts)]
            _mend(block, out[:, i], plans, uneven)
    return out

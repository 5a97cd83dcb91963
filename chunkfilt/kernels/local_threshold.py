"""Mean and standard deviation of a window in one sweep, joined into a threshold.

The loops along columns and rows are those of the variances: exact sums for small integers, means
and squared deviations for floats and wide integers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import _rows
from chunkfilt.kernels._common import as4d, core_shape, jit, pad3, real_dtype
from chunkfilt.kernels._spread import _along_row, _column
from chunkfilt.kernels._squares import _move, _windows
from chunkfilt.kernels._sums import aligned, axis_of, layout
from chunkfilt.kernels._tiles import in_tiles, seen_by, tile_sides
from chunkfilt.kernels.extremes import extreme_filter
from chunkfilt.kernels.valid_sums import valid_mean, valid_variance

__all__ = ["spread_threshold", "threshold_memory"]

Weights = tuple[float, float, float]

_MOST = 5  # parts that the loops of `_spread` join at once
_STRIP = 1400  # columns of a strip, as there
_TILE, _ROW = 1 << 18, 1024  # pixels of a tile where some do not count, and of its rows
_ROWS = 3_000_000  # bytes of rows in the making, roughly


@jit
def _join(target, mean, deviation, weights):
    """Store `mean * (w0 + w1 * deviation) + w2 * deviation`."""
    for k in range(target.size):
        s = deviation[k]
        target[k] = mean[k] * (weights[0] + weights[1] * s) + weights[2] * s


@jit
def _measure(mean, deviation, a, a2, count):
    """Turn exact sums of pixels and of squares into means and standard deviations."""
    for k in range(mean.size):
        s = np.int64(a[k])
        mean[k] = np.float64(s) / count
        deviation[k] = np.sqrt(np.float64(np.int64(count) * np.int64(a2[k]) - s * s)) / count


@jit
def _exact(
    flat, shape, out, window, levels, parts, rows, rows2, found, at, width, tile_y, tile_x, weights
):
    """Thresholds of small integers, from exact sums as the window moves."""
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps, count = (depth, sy * sx, sx), depth * wy * wx
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        column, column2 = rows[: nx + wx - 1], rows2[: nx + wx - 1]
        mean, deviation = found[0, :nx], found[1, :nx]
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    column[:] = 0
                    column2[:] = 0
                    origin = ((b * sz + z) * sy + y0) * sx + x0
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        y = y0 + t - wy + 1
                        _rows.fetch(flat, origin + (t + 1) * sx, nx + wx - 1)
                        _move(column, column2, flat, origin, t, wy, steps)
                        if y >= y0:
                            a = _windows(rows, at, width, levels, parts, wx, nx)
                            a2 = _windows(rows2, at, width, levels, parts, wx, nx)
                            _measure(mean, deviation, a, a2, count)
                            _join(out[b, z, y, x0 : x0 + nx], mean, deviation, weights)


@jit
def _joined(
    flat, shape, out, window, levels_y, parts_y, levels_x, parts_x, ring, ring2, rows, rows2,
    found, at, counts, width, spare, tile_y, tile_x, weights,
):  # fmt: skip
    """Thresholds of floats and wide integers, from means and squared deviations."""
    batch, nz, height, length = out.shape
    depth, wy, wx = window
    _, sz, sy, sx = shape
    steps, count = (depth, sy * sx, sx), depth * wy * wx
    last = levels_x.shape[0] * width  # where the loop along the row leaves the means
    for x0 in range(0, length, tile_x):
        nx = min(tile_x, length - x0)
        n = nx + wx - 1
        deviation = found[1, :nx]
        for b in range(batch):
            for y0 in range(0, height, tile_y):
                for z in range(nz):
                    origin = ((b * sz + z) * sy + y0) * sx + x0
                    for t in range(min(tile_y, height - y0) + wy - 1):
                        y = y0 + t - wy + 1
                        _rows.fetch(flat, origin + (t + 1) * sx, n)
                        _column(
                            rows[:n], rows2[:n], flat, ring, ring2, at, counts, origin, t,
                            levels_y, parts_y, steps, spare,
                        )  # fmt: skip
                        if y >= y0:
                            _along_row(
                                deviation, rows, rows2, at, counts, width, levels_x, parts_x, wx,
                                depth * wy, float(count), True,
                            )  # fmt: skip
                            mean = rows[last : last + nx]
                            _join(out[b, z, y, x0 : x0 + nx], mean, deviation, weights)


def spread_threshold(
    block: NDArray[Any],
    size: tuple[int, ...],
    weights: Weights,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Compute `m * (w0 + w1 * s) + w2 * s` of the mean m and the standard deviation s of windows.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    size : tuple of int
        The window's length along each spatial axis.
    weights : tuple of float
        w0, w1, w2.
    valid : ndarray of bool, optional
        The shape of the block: which pixels count; default all. Where those of a window do, its
        result is the same, to the last bit.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64; joined
        in float64. NaN where the window holds a NaN or an infinity that counts, or nothing does.

    Raises
    ------
    ValueError
        If the window does not fit the block.

    Examples
    --------
    >>> spread_threshold(np.array([[1.0, 3.0, 7.0]]), (2,), (1.0, 0.0, -1.0))
    array([[1., 3.]])
    """
    shape = core_shape(block, size)
    if valid is not None:
        return in_tiles(
            block, valid, size, real_dtype(block.dtype), tile_sides(shape, size, _TILE, _ROW),
            lambda part: spread_threshold(part, size, weights),
            lambda part, kept: _partly(part, kept, size, weights),
        )  # fmt: skip
    view, window = as4d(block), pad3(size, 1)
    out = np.empty((shape[0], *pad3(shape[1:], 1)), real_dtype(block.dtype))
    kind, work, work2 = _rows.variance_dtypes(block.dtype, window[0] * window[1] * window[2])
    if out.size and kind == _rows.SQUARES:
        _run_exact(view, out, window, np.dtype(work), np.dtype(work2), weights)
    elif out.size:
        _run_joined(view, out, window, weights)
    return out.reshape(shape)


def _partly(
    block: NDArray[Any], valid: NDArray[np.bool_], size: tuple[int, ...], weights: Weights
) -> NDArray[Any]:
    """Compute the thresholds of windows of which some pixels do not count."""
    wide = block.astype(np.float64)
    mean = valid_mean(wide, valid, size)
    deviation = valid_variance(wide, valid, size, sqrt=True)
    with np.errstate(over="ignore", invalid="ignore"):
        found = mean * (weights[0] + weights[1] * deviation) + weights[2] * deviation
        out = found.astype(real_dtype(block.dtype), copy=False)
    whole = extreme_filter(valid, size, False)
    if whole.any():
        filled = np.where(valid, block, block.dtype.type(0))
        np.copyto(out, spread_threshold(filled, size, weights), where=whole)
    return out


def threshold_memory(core: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Return the bytes that thresholds take at most, beside block and result.

    Parameters
    ----------
    core : tuple of int
        Shape of the result, `(batch, *core)`.
    size : tuple of int
        The window's length along each spatial axis.

    Returns
    -------
    int
        Bytes of what is computed for a tile, and of rows in the making.

    Examples
    --------
    >>> threshold_memory((1, 9, 9), (3, 3))
    3007744
    """
    return _ROWS + 64 * seen_by(tile_sides(core, size, _TILE, _ROW), size)


def _run_exact(
    view: NDArray[Any],
    out: NDArray[Any],
    window: tuple[int, int, int],
    work: np.dtype[Any],
    work2: np.dtype[Any],
    weights: Weights,
) -> None:
    axes = (axis_of(window[0]), axis_of(window[1]), axis_of(window[2]))
    pair = work.itemsize + work2.itemsize
    tile_y, tile_x = layout(out.shape, axes, 0, pair, view.itemsize)
    width = -(-(tile_x + window[2] - 1) // 16) * 16
    length = (len(axes[2].levels) + 1) * width
    _exact(
        view.reshape(-1), view.shape, out, window, *axes[2][1:], aligned(length, work),
        aligned(length, work2), np.empty((2, tile_x)), np.empty(max(window[2], 8), np.int64),
        width, tile_y, tile_x, weights,
    )  # fmt: skip


def _run_joined(
    view: NDArray[Any],
    out: NDArray[Any],
    window: tuple[int, int, int],
    weights: Weights,
) -> None:
    # Rows are laid out as `run_spread` lays out its own.
    work = np.dtype(np.float64)
    axes = (axis_of(window[0], _MOST), axis_of(window[1], _MOST), axis_of(window[2], _MOST))
    levels_y, parts_y = axes[1][1:]
    base = window[1] if window[0] > 1 else 0
    levels_y[:, 2] += base
    levels_y[0, 2:] = 0, window[1]
    ring_rows = base + int(levels_y[1:, 3].sum())
    tile_y, tile_x = layout(out.shape, axes, ring_rows, 2 * work.itemsize, view.itemsize)
    tile_x = min(tile_x, max(_STRIP, 2 * window[2]))
    width = -(-(tile_x + window[2] - 1) // 16) * 16
    places = max(window[0], window[1], window[2], 8)
    ring_size = (ring_rows + 4 + window[0] // _MOST) * width
    rows_size = (len(axes[2].levels) + 3) * width
    _joined(
        view.reshape(-1), view.shape, out, window, levels_y, parts_y, *axes[2][1:],
        aligned(ring_size, work), aligned(ring_size, work), aligned(rows_size, work),
        aligned(rows_size, work), np.empty((2, tile_x)), np.empty(places, np.int64),
        np.empty(places), width, ring_rows * width, tile_y, tile_x, weights,
    )  # fmt: skip

"""Correlation with kernels that come apart into passes along the axes: Gaussian, Gabor, others."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from chunkfilt.kernels._common import pad3, real_dtype
from chunkfilt.kernels._rows import EPSILON
from chunkfilt.kernels._sweep import CACHE, Plan, Term, run
from chunkfilt.kernels._weigh import ROWS, WHOLE

__all__ = [
    "Plan",
    "Term",
    "convolve_plan",
    "correlate_plan",
    "decompose",
    "gabor",
    "magnitude",
    "separable",
    "working_memory",
]


def _dense(terms: Sequence[Term]) -> NDArray[np.float64]:
    total = np.zeros(tuple(len(weights) for weights in terms[0]))
    for term in terms:
        product = np.ones(())
        for weights in term:
            product = np.multiply.outer(product, weights)
        total += product
    return total


def separable(
    block: NDArray[Any],
    terms: Sequence[Sequence[ArrayLike]],
    out_dtype: DTypeLike | None = None,
    dense: ArrayLike | None = None,
) -> NDArray[Any]:
    """Correlate with a sum of outer products of 1-D weights.

    `sum over terms, j, i of wy[j] * wx[i] * block[y + j, x + i]`, in float64, cast once. Weights
    up to 2.2e-16 in size are skipped, and the pixels under them with any NaN.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    terms : sequence of terms
        Each one 1-D weight array per spatial axis, of the same lengths in all terms.
    out_dtype : dtype, optional
        Of the result; float32 for inputs up to 16 bits and float32, else float64.
    dense : array_like, optional
        The kernel that the terms add up to. With it, NaN and infinities reach exactly the outputs
        that have such a pixel under one of its weights above 2.2e-16. By default the kernel of
        several terms is their sum, and one term spreads NaN as one pass after the other does.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`.

    Raises
    ------
    ValueError
        If there are no terms, their lengths differ, or they do not fit the block.

    Examples
    --------
    >>> separable(np.array([[1.0, 2.0, 3.0, 5.0]]), (([-1.0, 0.0, 1.0],),))
    array([[2., 3.]])
    """
    kernels = tuple(tuple(np.asarray(w, np.float64) for w in term) for term in terms)
    lengths = {tuple(w.size for w in term) for term in kernels}
    if len(lengths) != 1 or any(w.ndim != 1 for term in kernels for w in term):
        raise ValueError("separable needs terms of 1-D weights, of the same lengths in all terms")
    window = lengths.pop()
    several = _dense(kernels) if len(kernels) > 1 else None
    full = several if dense is None else np.asarray(dense, np.float64)
    if full is not None and full.shape != window:
        raise ValueError(f"dense weights of shape {full.shape} for terms of {window}")
    dtype = np.dtype(out_dtype) if out_dtype is not None else real_dtype(block.dtype)
    return run(block, window, [Plan(kernels, full)], dtype)


def decompose(weights: ArrayLike, rtol: float = 1e-12) -> tuple[Term, ...]:
    """Take a 2-D kernel apart into the fewest separable terms, by its singular values.

    Parameters
    ----------
    weights : array_like
        Shape `(ky, kx)`.
    rtol : float
        Singular values below this share of the largest are dropped.

    Returns
    -------
    tuple of Term
        Pairs `(wy, wx)` of float64 weights, largest first; in each the entry of `wy` largest in
        size is positive. Empty for a kernel of zeros.

    Raises
    ------
    ValueError
        If the kernel is not 2-D, or not finite.

    Examples
    --------
    >>> len(decompose([[1, 2, 1], [2, 4, 2], [1, 2, 1]]))
    1
    """
    kernel = np.asarray(weights, np.float64)
    if kernel.ndim != 2 or not np.isfinite(kernel).all():
        raise ValueError("decompose needs a 2-D kernel of finite weights")
    columns, values, rows = np.linalg.svd(kernel, full_matrices=False)
    terms: list[Term] = []
    for i in np.flatnonzero((values > 0) & (values >= rtol * values[:1].max(initial=0))):
        column, row = columns[:, i], rows[i]
        sign = np.copysign(math.sqrt(values[i]), column[np.argmax(np.abs(column))])
        terms.append((column * sign, row * sign))
    return tuple(terms)


def convolve_plan(weights: ArrayLike) -> Plan:
    """Decide from the weights alone how to correlate with a 2-D kernel.

    Separable terms where `terms * (ky + kx)` is below the number of weights above 2.2e-16 in size,
    else the dense kernel.

    Parameters
    ----------
    weights : array_like
        Shape `(ky, kx)`, as for a correlation.

    Returns
    -------
    Plan
        For `correlate_plan` and `gabor`. Pickles.

    Raises
    ------
    ValueError
        If the kernel is not 2-D, or not finite.

    Examples
    --------
    >>> len(convolve_plan(np.ones((5, 5))).terms), len(convolve_plan(np.eye(5)).terms)
    (1, 0)
    """
    dense = np.array(weights, np.float64)
    terms = decompose(dense)
    direct = int((np.abs(dense) > EPSILON).sum())
    return Plan(terms if len(terms) * sum(dense.shape) < direct else (), dense)


def correlate_plan(
    block: NDArray[Any], plan: Plan, out_dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Correlate with a planned kernel.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, y, x)`, extended by the halo; any real dtype.
    plan : Plan
        From `convolve_plan`.
    out_dtype : dtype, optional
        Of the result; float32 for inputs up to 16 bits and float32, else float64.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`. NaN and infinities reach exactly the outputs that have such a pixel
        under a weight above 2.2e-16.

    Raises
    ------
    ValueError
        If the kernel does not fit the block.

    Examples
    --------
    >>> correlate_plan(np.ones((1, 3, 4)), convolve_plan(np.ones((3, 3))))
    array([[[9., 9.]]])
    """
    dtype = np.dtype(out_dtype) if out_dtype is not None else real_dtype(block.dtype)
    return run(block, plan.window, [plan], dtype)


def gabor(
    block: NDArray[Any], real: Plan, imag: Plan, part: Literal["real", "imag", "magnitude"]
) -> NDArray[Any]:
    """Correlate with a complex kernel given by its two parts.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, y, x)`, extended by the halo; any real dtype.
    real, imag : Plan
        Of the kernel's parts, already flipped for a correlation, from `convolve_plan`.
    part : {"real", "imag", "magnitude"}
        What to return; the magnitude is `sqrt(re * re + im * im)` in float64, cast once.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64.

    Raises
    ------
    ValueError
        If the part is unknown, the shapes of the two differ, or they do not fit the block.

    Examples
    --------
    >>> plan = convolve_plan(np.ones((1, 2)))
    >>> gabor(np.array([[[1.0, 2.0, 3.0]]]), plan, plan, "real")
    array([[[3., 5.]]])
    """
    if part not in ("real", "imag", "magnitude"):
        raise ValueError(f"part must be real, imag or magnitude, not {part!r}")
    if real.window != imag.window:
        raise ValueError("the real and the imaginary kernel must have the same shape")
    plans = {"real": [real], "imag": [imag], "magnitude": [real, imag]}[part]
    return run(block, real.window, plans, real_dtype(block.dtype))


def magnitude(block: NDArray[Any], plans: Sequence[Plan]) -> NDArray[Any]:
    """Correlate with a few kernels, and take the root of the sum of the squares.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype.
    plans : sequence of Plan
        One to three, of kernels of one shape. A single one gives its sums as they are.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64; squared
        and added in float64, cast once.

    Raises
    ------
    ValueError
        If there are other than one to three plans, their shapes differ, or do not fit the block.

    Examples
    --------
    >>> slope, height = convolve_plan([[-1.0, 1.0]]), convolve_plan([[1.0, 0.0]])
    >>> magnitude(np.array([[[3.0, 7.0]]]), [slope, height])
    array([[[5.]]])
    """
    windows = {plan.window for plan in plans}
    if not 1 <= len(plans) <= 3 or len(windows) != 1:
        raise ValueError("a magnitude takes one to three kernels of the same shape")
    return run(block, windows.pop(), list(plans), real_dtype(block.dtype))


def working_memory(window: tuple[int, ...], terms: int, dense: int = 0) -> int:
    """Return what correlating takes beside the block and the result.

    Parameters
    ----------
    window : tuple of int
        The kernels' length along each axis.
    terms : int
        How many separable terms there are, in all kernels together.
    dense : int
        How many dense weights.

    Returns
    -------
    int
        Bytes of rings and tables, at most; whatever the block.

    Examples
    --------
    >>> working_memory((17, 17), 1) < 1e6
    True
    """
    depth, height, length = pad3(window, 1)
    rows = (height + ROWS - 1) * terms
    width = min(max(CACHE // (8 * max(rows, 1)), 256), 2048) + length + 2 * WHOLE
    return 48 * dense + 8 * width * (rows + depth + 1)

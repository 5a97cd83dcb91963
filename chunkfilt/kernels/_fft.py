"""Fourier transforms along the first axis of planes: in place, radices 4, 3 and 2, float64.

Every butterfly acts on whole rows, so that the innermost loop runs along contiguous columns and
vectorises.  The frequencies end in the order of reversed digits; whoever takes them from there
looks up their rows, so that nothing has to be sorted.  With real and imaginary part in each other's
place the same transform goes back, but for a factor of the length.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit

__all__ = ["Transform", "forward", "transform"]

_HALF_ROOT_3 = np.sqrt(0.75)


class Transform(NamedTuple):
    """What a transform of one length takes.

    Attributes
    ----------
    radices : ndarray of int64
        Of the stages; their product is the length.
    re, im : ndarray of float64
        The factors that each stage multiplies with, one stage after the other.
    row : ndarray of int64
        Where frequency k stands after the transform.
    """

    radices: NDArray[np.int64]
    re: NDArray[np.float64]
    im: NDArray[np.float64]
    row: NDArray[np.int64]


def transform(length: int) -> Transform:
    """Return what a transform of `length` takes, a product of twos and threes."""
    left, radices = length, []
    for radix in (4, 3, 2):
        while left % radix == 0 and left > 1:
            radices.append(radix)
            left //= radix
    if left != 1:
        raise ValueError(f"a transform's length is a product of twos and threes, not {length}")
    factors, size = [np.zeros(0, np.complex128)], length
    row, weight = np.zeros(length, np.int64), 1
    for radix in radices:
        step = size // radix
        factors.append(np.exp(-2j * np.pi / size * np.outer(np.arange(step), np.arange(1, radix))))
        row += np.arange(length) // weight % radix * step
        size, weight = step, weight * radix
    every = np.concatenate([factor.ravel() for factor in factors])
    return Transform(np.array(radices, np.int64), every.real.copy(), every.imag.copy(), row)


# In the stages the arrays are (groups, radix, rows of a part, columns); the factors of a row of the
# parts stand one after the other, from `first`.


@jit
def _stage2(re, im, fr, fi, first):
    for g in range(re.shape[0]):
        for j in range(re.shape[2]):
            ur, ui = fr[first + j], fi[first + j]
            for i in range(re.shape[3]):
                ar, ai = re[g, 0, j, i], im[g, 0, j, i]
                br, bi = re[g, 1, j, i], im[g, 1, j, i]
                re[g, 0, j, i], im[g, 0, j, i] = ar + br, ai + bi
                br, bi = ar - br, ai - bi
                re[g, 1, j, i], im[g, 1, j, i] = br * ur - bi * ui, br * ui + bi * ur


@jit
def _stage3(re, im, fr, fi, first):
    for g in range(re.shape[0]):
        for j in range(re.shape[2]):
            at = first + 2 * j
            ur, vr = fr[at], fr[at + 1]
            ui, vi = fi[at], fi[at + 1]
            for i in range(re.shape[3]):
                ar, ai = re[g, 0, j, i], im[g, 0, j, i]
                br, bi = re[g, 1, j, i], im[g, 1, j, i]
                cr, ci = re[g, 2, j, i], im[g, 2, j, i]
                sr, si = br + cr, bi + ci
                dr, di = _HALF_ROOT_3 * (bi - ci), _HALF_ROOT_3 * (cr - br)
                re[g, 0, j, i], im[g, 0, j, i] = ar + sr, ai + si
                ar, ai = ar - 0.5 * sr, ai - 0.5 * si
                br, bi, cr, ci = ar + dr, ai + di, ar - dr, ai - di
                re[g, 1, j, i], im[g, 1, j, i] = br * ur - bi * ui, br * ui + bi * ur
                re[g, 2, j, i], im[g, 2, j, i] = cr * vr - ci * vi, cr * vi + ci * vr


@jit
def _stage4(re, im, fr, fi, first):
    for g in range(re.shape[0]):
        for j in range(re.shape[2]):
            at = first + 3 * j
            ur, vr, wr = fr[at], fr[at + 1], fr[at + 2]
            ui, vi, wi = fi[at], fi[at + 1], fi[at + 2]
            for i in range(re.shape[3]):
                ar, ai = re[g, 0, j, i], im[g, 0, j, i]
                br, bi = re[g, 1, j, i], im[g, 1, j, i]
                cr, ci = re[g, 2, j, i], im[g, 2, j, i]
                dr, di = re[g, 3, j, i], im[g, 3, j, i]
                pr, pi, qr, qi = ar + cr, ai + ci, ar - cr, ai - ci
                sr, si, tr, ti = br + dr, bi + di, bi - di, dr - br
                re[g, 0, j, i], im[g, 0, j, i] = pr + sr, pi + si
                br, bi, cr, ci, dr, di = qr + tr, qi + ti, pr - sr, pi - si, qr - tr, qi - ti
                re[g, 1, j, i], im[g, 1, j, i] = br * ur - bi * ui, br * ui + bi * ur
                re[g, 2, j, i], im[g, 2, j, i] = cr * vr - ci * vi, cr * vi + ci * vr
                re[g, 3, j, i], im[g, 3, j, i] = dr * wr - di * wi, dr * wi + di * wr


@jit
def forward(re, im, plan):
    """Transform along the first axis, in place; frequency k ends in row `plan.row[k]`."""
    size, first = re.shape[0], 0
    for radix in plan.radices:
        step = size // radix
        shape = (re.shape[0] // size, radix, step, re.shape[1])
        a, b = re.reshape(shape), im.reshape(shape)
        if radix == 4:
            _stage4(a, b, plan.re, plan.im, first)
        elif radix == 3:
            _stage3(a, b, plan.re, plan.im, first)
        else:
            _stage2(a, b, plan.re, plan.im, first)
        size, first = step, first + step * (radix - 1)

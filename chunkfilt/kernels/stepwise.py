"""Passes one after the other over an image whose edge is extended anew before each of them.

In one go the edge is extended once. For most modes that is the same: what a pass makes of an
extended line is its result, extended. A constant stays what it is only under weights of sum 1;
after a derivative it is zero, and the next pass of a function that goes step by step takes the
constant again. The difference depends on the place alone, and is added here.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels import separable
from chunkfilt.kernels._common import core_shape, real_dtype

__all__ = ["Fringe", "Passes", "correlate"]

Passes = tuple[tuple[int, NDArray[np.float64]], ...]


class Fringe(NamedTuple):
    """What it takes to extend an edge by a constant at each step.

    Attributes
    ----------
    cval : float
        The constant.
    steps : tuple
        For each kernel, for each of its terms, the passes in order: the axis, and the weights.
    """

    cval: float
    steps: tuple[tuple[Passes, ...], ...]


def correlate(
    block: NDArray[Any],
    plans: Sequence[separable.Plan],
    fringe: Fringe | None,
    start: Sequence[int],
    shape: Sequence[int],
) -> NDArray[Any]:
    """Correlate with a kernel, or with two or three for the root of the sum of their squares.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo once; any real dtype.
    plans : sequence of Plan
        Of kernels of one shape with a pixel in their middle.
    fringe : Fringe or None
        The passes that the kernels stand for, where the constant matters to them.
    start, shape : sequence of int
        The core's first pixel in the image, and the image's pixels along each axis.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64.

    Raises
    ------
    ValueError
        If the kernels do not fit the block.

    Examples
    --------
    >>> slope, smooth = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
    >>> plan, passes = separable.convolve_plan(np.outer(slope, smooth)), ((0, slope), (1, smooth))
    >>> correlate(np.full((1, 3, 5), 5.0), [plan], Fringe(5.0, ((passes,),)), (0, 0), (1, 3))
    array([[[5., 0., 5.]]])
    """
    if fringe is None:
        return separable.magnitude(block, plans)
    core = core_shape(block, plans[0].window)[1:]
    parts = []
    for plan, terms in zip(plans, fringe.steps, strict=True):
        part = separable.correlate_plan(block, plan, np.float64)
        for passes in terms:
            part += _beyond(passes, fringe.cval, start, core, shape)
        parts.append(part)
    if len(parts) > 1:
        parts = [np.sqrt(functools.reduce(np.add, [part * part for part in parts]))]
    return parts[0].astype(real_dtype(block.dtype), copy=False)


def _beyond(
    passes: Passes,
    cval: float,
    start: Sequence[int],
    core: Sequence[int],
    shape: Sequence[int],
) -> NDArray[np.float64]:
    """Return what a constant that is taken anew at each pass adds to a core; it broadcasts."""
    total, share = np.zeros(()), 1.0
    for axis, weights in passes:
        # The weights whose pixels lie inside the image come one after the other.
        sums = np.concatenate([[0.0], np.cumsum(weights)])
        first = start[axis] + np.arange(core[axis]) - len(weights) // 2
        low, high = (np.clip(end - first, 0, len(weights)) for end in (0, shape[axis]))
        inside, line = sums[high] - sums[low], [1] * len(core)
        line[axis] = -1
        outside = (sums[-1] - sums[high]) + sums[low]
        total = total * inside.reshape(line) + cval * (1.0 - share) * outside.reshape(line)
        share *= float(sums[-1])
    return total

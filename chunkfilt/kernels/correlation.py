"""The way to correlate with a kernel, chosen from its weights alone: what takes the least time.

A kernel that is an outer product goes axis by axis; one that is a sum of a few of them goes as that
sum; else its weights are taken one by one, those that are zero left out, or, for large kernels of
two axes, the image goes through Fourier transforms in tiles.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chunkfilt.kernels import _sweep, fourier, separable
from chunkfilt.kernels._common import real_dtype
from chunkfilt.kernels._rows import EPSILON
from chunkfilt.kernels.separable import Plan, Term

__all__ = ["Way", "choose", "correlate", "memory", "passes_cost", "plan_cost", "tiles_instead"]

# Tiles must save some time: they take longer where pixels are NaN.
_WORTH = 1.15
# Nanoseconds of one core: a tap of a pass, a weight of a dense kernel.
_TAP, _WEIGHT = 0.033, 0.045
# What passes take before the first tap, and for each plane of a volume's window.
_PASSES, _PLANE = 0.5, 0.3
_ROUNDING = 1e-12  # of the largest weight: what terms may leave out


class Way(NamedTuple):
    """How to correlate with one kernel.

    Attributes
    ----------
    plan : Plan
        The terms, or the dense weights.
    tiles : Layout or None
        The tiles of Fourier transforms to use instead.
    cost : float
        Nanoseconds per pixel on one core, roughly, beside loading and storing it.
    how : str
        The same in words, for people.
    """

    plan: Plan
    tiles: fourier.Layout | None
    cost: float
    how: str


def choose(weights: ArrayLike) -> Way:
    """Choose how to correlate with a kernel, from its weights alone.

    Parameters
    ----------
    weights : array_like
        One to three axes, as for a correlation.

    Returns
    -------
    Way
        The same for the same weights, always.

    Raises
    ------
    ValueError
        If there are other than one to three axes, or a weight is not finite.

    Examples
    --------
    >>> choose(np.ones((5, 5))).how, choose([[0, 1], [1, 0]]).how
    ('separable', '2 weights')
    """
    kernel = np.asarray(weights, np.float64, order="C")
    if not 1 <= kernel.ndim <= 3 or not np.isfinite(kernel).all():
        raise ValueError("weights must be finite, along one to three axes")
    return _chosen(kernel.shape, kernel.tobytes())


def plan_cost(plan: Plan) -> float:
    """Return nanoseconds per pixel of a planned kernel, on one core.

    Parameters
    ----------
    plan : Plan
        Terms or dense weights.

    Returns
    -------
    float
        Roughly, beside loading and storing the pixel.

    Examples
    --------
    >>> plan_cost(separable.convolve_plan(np.eye(10))) > plan_cost(separable.convolve_plan([[1]]))
    True
    """
    if plan.dense is None or plan.terms:
        return _TAP * sum(len(weights) for term in plan.terms for weights in term)
    return _WEIGHT * _count(plan.dense)


def passes_cost(window: tuple[int, ...], terms: int) -> float:
    """Return nanoseconds per pixel of some separable terms, on one core.

    Parameters
    ----------
    window : tuple of int
        The kernel's length along each axis.
    terms : int
        How many there are.

    Returns
    -------
    float
        Roughly, what the passes take by themselves included.

    Examples
    --------
    >>> passes_cost((9, 9), 1) < plan_cost(Plan((), np.ones((9, 9))))
    True
    """
    planes = window[0] if len(window) == 3 else 0
    return _PASSES + _PLANE * planes + _TAP * terms * sum(window)


def tiles_instead(window: tuple[int, ...], kernels: int, cost: float) -> fourier.Layout | None:
    """Return the tiles that Fourier transforms would take, where those save time.

    Parameters
    ----------
    window : tuple of int
        The kernels' length along each axis.
    kernels : int
        How many there are.
    cost : float
        Nanoseconds per pixel of the other way, for all of them.

    Returns
    -------
    Layout or None
        None where the other way is as good, or the kernels are not 2-D.

    Raises
    ------
    ValueError
        If the kernels are too large for the longest transform.

    Examples
    --------
    >>> tiles_instead((3, 3), 1, 0.4) is None, tiles_instead((41, 41), 1, 75.0) is None
    (True, False)
    """
    if len(window) != 2:
        return None
    tiles = fourier.layout((window[0], window[1]), kernels)
    return None if _WORTH * tiles.cost >= cost else tiles


def memory(way: Way) -> int:
    """Return bytes of working memory.

    Parameters
    ----------
    way : Way
        From `choose`.

    Returns
    -------
    int
        Whatever the block.

    Examples
    --------
    >>> memory(choose(np.ones((31, 31)))) < 4e6
    True
    """
    if way.tiles is not None:
        return way.tiles.memory
    dense = 0 if way.plan.dense is None else way.plan.dense.size
    return separable.working_memory(way.plan.window, len(way.plan.terms), dense)


def correlate(block: NDArray[Any], plan: Plan | fourier.Plan) -> NDArray[Any]:
    """Correlate with a kernel, the way that was chosen for it.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`, extended by the halo; any real dtype. For a plan of Fourier
        tiles its core begins where a tile does, and ends where one does or where the image ends.
    plan : Plan
        Of a `Way`, or of `fourier_plan` for its tiles.

    Returns
    -------
    ndarray
        Shape `(batch, *core)`, float32 for inputs up to 16 bits and float32, else float64. NaN and
        infinities reach exactly the outputs that have such a pixel under a weight above 2.2e-16.

    Raises
    ------
    ValueError
        If the kernel does not fit the block.

    Examples
    --------
    >>> correlate(np.array([[1.0, 2.0, 4.0]]), choose([1.0, -1.0]).plan)
    array([[-1., -2.]])
    """
    if isinstance(plan, fourier.Plan):
        return fourier.correlate(block, plan)[:, 0]
    return _sweep.run(block, plan.window, [plan], real_dtype(block.dtype))


def _count(dense: NDArray[np.float64]) -> int:
    return int((np.abs(dense) > EPSILON).sum())


def _in_words(plan: Plan) -> str:
    if plan.terms:
        many = len(plan.terms)
        return "separable" if many == 1 else f"{many} separable terms"
    assert plan.dense is not None
    count = _count(plan.dense)
    return f"{count} weight{'s' * (count != 1)}"


@functools.lru_cache(maxsize=8)
def _chosen(shape: tuple[int, ...], raw: bytes) -> Way:
    plan = _plan(np.frombuffer(raw).reshape(shape))
    cost = passes_cost(shape, len(plan.terms)) if plan.terms else plan_cost(plan)
    tiles = tiles_instead(shape, 1, cost)
    if tiles is not None:
        rows, columns = tiles.length
        return Way(plan, tiles, tiles.cost, f"Fourier tiles of {rows} x {columns}")
    return Way(plan, None, cost, _in_words(plan))


def _plan(kernel: NDArray[np.float64]) -> Plan:
    """Return terms where they take less time than the weights one by one, else those."""
    dense = Plan((), kernel)
    if passes_cost(kernel.shape, 1) >= plan_cost(dense):
        return dense
    product = _product(kernel)
    if product is not None:
        support = functools.reduce(np.multiply.outer, [np.abs(w) > EPSILON for w in product])
        # Where the product has the kernel's zeros, NaN goes where it should by itself.
        exact = np.array_equal(support, np.abs(kernel) > EPSILON)
        return Plan((product,), None if exact else kernel)
    terms = _terms(kernel, _ROUNDING * float(np.abs(kernel).max(initial=0.0)))
    return (
        Plan(terms, kernel) if passes_cost(kernel.shape, len(terms)) < plan_cost(dense) else dense
    )


def _product(kernel: NDArray[np.float64]) -> Term | None:
    """Return 1-D weights whose outer product a kernel is, if there are any.

    They are lines of the kernel through its largest weight, so zeros stay zeros.
    """
    pivot = np.unravel_index(np.argmax(np.abs(kernel)), kernel.shape)
    largest = kernel[pivot]
    if largest == 0:
        return None
    lines = []
    for axis in range(kernel.ndim):
        line: list[Any] = list(pivot)
        line[axis] = slice(None)
        lines.append(kernel[tuple(line)])
    term = (*(line / largest for line in lines[:-1]), lines[-1].copy())
    product = functools.reduce(np.multiply.outer, term)
    return term if np.abs(product - kernel).max() <= _ROUNDING * abs(largest) else None


def _terms(kernel: NDArray[np.float64], least: float) -> tuple[Term, ...]:
    """Take a kernel apart by its singular values, less those below `least`, axis by axis."""
    if kernel.ndim == 1:
        return ((kernel,),)
    flat = kernel.reshape(len(kernel), -1)
    # The Frobenius norm, for it costs nothing: no less than the largest singular value.
    size = max(float(np.linalg.norm(flat)), least)
    found: list[Term] = []
    for along, rest in separable.decompose(flat, least / size if size else 1.0):
        inner = _terms(rest.reshape(kernel.shape[1:]), least / float(np.abs(along).max()))
        found += [(along, *term) for term in inner]
    return tuple(found)

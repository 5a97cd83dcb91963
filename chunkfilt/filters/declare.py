"""The filter declaration: a decorated kernel from which everything else about a filter follows.

The decorator reads the function's signature:

* positional parameters are the input blocks: the first is the image, those with the default
  ``None`` are optional further images;
* keyword parameters with an annotation are the filter's own parameters, in YAML and Python alike;
* keyword parameters without annotation and default are given by the engine: ``origin_px`` and
  ``shape_px`` (the core's first pixel and the image's pixels along the spatial axes), ``result``
  (the dtype the node must have), whatever ``values=`` and ``prepare=`` name, and with ``omits=``
  ``valid`` (True where a pixel of the block counts, None where all do) and ``missing`` (what to
  give where no pixel of a window counts, in the block's dtype).

The rules (``halo=``, ``dtype=``, ...) are pure functions of the parameters, seen as the
attributes of `p` (per-axis ones expanded, ``p.ndim`` spatial axes, the image's ``p.shape_px``
pixels along them and its ``p.image_dtype``), and of the input dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.filters.filter import Filter, Kind, Omits, Rules, make_filter, real_like, same, total
from chunkfilt.grid import Halo

__all__ = ["composite_filter", "image_filter", "real_like", "same", "value_filter"]


def image_filter(
    *,
    halo: Callable[[SimpleNamespace], Halo] | None = None,
    dtype: Callable[[SimpleNamespace, Sequence[np.dtype]], np.dtype] = real_like,
    leading: Callable[[SimpleNamespace], tuple[tuple[str, int], ...]] | None = None,
    values: Callable[[SimpleNamespace, Sequence[np.dtype]], Mapping[str, Any]] | None = None,
    prepare: Callable[[SimpleNamespace], Mapping[str, Any]] | None = None,
    memory: Callable[[SimpleNamespace, tuple[int, ...], np.dtype], int] | None = None,
    cost: Callable[[SimpleNamespace, Mapping[str, Any]], float] | None = None,
    tile: Callable[[SimpleNamespace, Mapping[str, Any]], tuple[int, ...] | None] | None = None,
    check: Callable[[SimpleNamespace, Sequence[np.dtype]], None] | None = None,
    edge: Callable[[SimpleNamespace], tuple[str, float]] | None = None,
    omits: Omits = False,
    selection: bool = False,
    mode: str = "reflect",
    version: int = 1,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Filter]:
    """Declare a filter whose result is an image; the decorated function is its kernel.

    Parameters
    ----------
    halo : callable, optional
        ``halo(p)`` gives ``((before, after), ...)`` in pixels for each spatial axis.  Without
        it the filter is pointwise: it takes no ``mode`` and no ``cval``.
    dtype : callable, default `real_like`
        ``dtype(p, dtypes)`` gives the result's dtype; the engine does the final cast.
    leading : callable, optional
        ``leading(p)`` names further axes of the result: ``(("orientation", 6),)``.
    values : callable, optional
        ``values(p, dtypes)`` names whole-image values the kernel takes as keywords:
        ``{"histogram": (histogram, {"nbins": p.nbins})}``.
    prepare : callable, optional
        ``prepare(p)`` computes keywords once, when the filter meets an image (weights, say).
    memory : callable, optional
        ``memory(p, core_shape, dtype)`` gives the kernel's working memory in bytes.
    cost : callable, optional
        ``cost(p, prepared)`` gives nanoseconds per pixel on one core, roughly, for the planner;
        default 3.
    tile : callable, optional
        ``tile(p, prepared)`` gives the pixels of a tile along each spatial axis, where the kernel
        works in tiles counted from the image's first pixel, or None.  The core it is given then
        begins where a tile does, and ends where one does or where the image ends.
    check : callable, optional
        ``check(p, dtypes)`` raises ``ValueError`` where parameters do not go together.
    edge : callable, optional
        ``edge(p)`` gives ``(mode, cval)``; the filter then takes neither from its user.
    omits : bool or 'always', default False
        The kernel can leave pixels out: the filter takes ``nan_policy`` and, last, an optional
        image ``mask``.  With ``'always'`` NaN is always left out, and missing pixels are what the
        filter is about: those of the input may come out with a value.
    selection : bool, default False
        The result holds input pixels, so ``cval`` must be representable in the input's dtype.
    mode : str, default "reflect"
        The default mode.
    version : int, default 1
        Raise it when the same parameters come to give other pixels.
    name : str, optional
        The filter's name; default the function's.

    Returns
    -------
    callable
        The decorator.
    """
    rules = Rules(
        halo=halo,
        dtype=dtype,
        leading=leading,
        values=values,
        prepare=prepare,
        memory=memory,
        cost=cost,
        tile=tile,
        check=check,
        edge=edge,
        omits=omits,
        selection=selection,
        mode=mode,
        version=version,
    )
    kind: Kind = "pointwise" if halo is None else "neighbourhood"
    return lambda function: make_filter(function, kind, rules, name or function.__name__, True)


def composite_filter(
    *,
    check: Callable[[SimpleNamespace, Sequence[np.dtype]], None] | None = None,
    omits: bool = False,
    pointwise: bool = False,
    mode: str | None = "reflect",
    version: int = 1,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Filter]:
    """Declare a filter written with other filters; the edge is extended at each of its steps.

    The decorated function takes images and parameters as a kernel does, and ``apply`` (an
    `Apply`): ``return apply(dilation, apply(erosion, image, size=size), size=size)``.  What it
    returns is the last step's result.

    Parameters
    ----------
    check : callable, optional
        As in `image_filter`.
    omits : bool, default False
        The steps take ``nan_policy``.
    pointwise : bool, default False
        No step has a neighbourhood: the filter takes no ``mode``, ``cval`` and ``axes``.
    mode : str or None, default "reflect"
        The default mode; None where the filter takes neither ``mode`` nor ``cval``.
    version, name
        As in `image_filter`.

    Returns
    -------
    callable
        The decorator.
    """
    rules = Rules(check=check, omits=omits, mode=None if pointwise else mode, version=version)
    kind: Kind = "composite"
    return lambda function: make_filter(
        function, kind, rules, name or function.__name__, True, axes=not pointwise
    )


def value_filter(
    *,
    combine: Callable[[Any, Any], Any] = total,
    finalize: Callable[[Any, SimpleNamespace], Any] | None = None,
    values: Callable[[SimpleNamespace, Sequence[np.dtype]], Mapping[str, Any]] | None = None,
    memory: Callable[[SimpleNamespace, tuple[int, ...], np.dtype], int] | None = None,
    check: Callable[[SimpleNamespace, Sequence[np.dtype]], None] | None = None,
    version: int = 1,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Filter]:
    """Declare a filter whose result is a value of the whole image.

    The decorated function computes a block's partial: an array, or a (named) tuple of arrays,
    with one row per batch index.  ``combine(a, b)`` joins two partials of the same batch
    indices (default: their sum), always in the order of the blocks; ``finalize(partial, p)``
    turns the last one into the value, again with one row per batch index.

    Parameters
    ----------
    combine, finalize : callable, optional
        As above.
    values, memory, check, version, name
        As in `image_filter`.

    Returns
    -------
    callable
        The decorator.
    """
    rules = Rules(
        values=values,
        memory=memory,
        check=check,
        combine=combine,
        finalize=finalize,
        version=version,
    )
    return lambda function: make_filter(function, "value", rules, name or function.__name__, True)

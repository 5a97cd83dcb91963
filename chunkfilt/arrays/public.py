"""The public functions: one filter, and whatever kind of array its user has."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import chunkfilt.filters  # noqa: F401 - declares every filter
from chunkfilt.arrays.image import Image, apply
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source, Value, plain_axes
from chunkfilt.engine.values import lay_rows
from chunkfilt.errors import InputError
from chunkfilt.filters import declare
from chunkfilt.filters.docstrings import full_docstring
from chunkfilt.filters.filter import Filter, load_plugins, registered
from chunkfilt.grid import ImageSpec, Region
from chunkfilt.runtime.compute import compute, values_of
from chunkfilt.runtime.options import RunOptions

__all__ = ["functions", "image_filter", "public", "value_filter"]

_SMALL = 1 << 20


class _ArrayReader:
    """Reads regions of an array in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read(self, region: Region) -> np.ndarray:
        """Return a view of the region."""
        return self.array[region.slices]


def public(declared: Filter) -> Callable[..., Any]:
    """Return the function on images that users call, with the filter's full signature."""

    def function(*inputs: Any, **params: Any) -> Any:
        images = _sort_inputs(declared, inputs, params)
        if any(isinstance(one, Image) for one in images):
            return apply(declared, images, params)
        if any(_is_dask(one) for one in images):
            from chunkfilt.arrays.dask_arrays import apply_dask

            return apply_dask(declared, images, params)
        return _apply_numpy(declared, images, params)

    functools.update_wrapper(function, declared.function)
    function.__name__ = declared.name
    function.__doc__ = full_docstring(declared)
    function.__signature__ = _signature(declared)  # type: ignore[attr-defined]
    function.__annotations__ = {}
    function.filter = declared  # type: ignore[attr-defined]
    del function.__wrapped__  # type: ignore[attr-defined]
    return function


@functools.cache
def _function(declared: Filter) -> Callable[..., Any]:
    return public(declared)


def functions() -> dict[str, Callable[..., Any]]:
    """Return the public function of every declared filter, by name."""
    load_plugins()
    return {name: _function(declared) for name, declared in registered().items()}


def image_filter(**rules: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a filter of one's own; the decorated function is its kernel.

    The result is called like every other filter (on NumPy arrays, dask arrays, lazy images),
    and its name may be used in YAML by the same process.

    Parameters
    ----------
    **rules
        As `chunkfilt.filters.declare.image_filter`: ``halo``, ``dtype``, ``leading``,
        ``values``, ``prepare``, ``memory``, ``check``, ``selection``, ``mode``, ``version``,
        ``name``.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> @cf.image_filter(halo=lambda p: ((1, 0),) * p.ndim)
    ... def slope(block, *, step: float = 1.0):
    ...     return (block[:, 1:] - block[:, :-1].astype("float64")) / step
    >>> slope(np.array([1, 4, 9, 16]))
    array([0., 3., 5., 7.])
    """
    decorate = declare.image_filter(**rules)
    return lambda function: _function(decorate(function))


def value_filter(**rules: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a whole-image value of one's own; the decorated function gives a block's partial.

    Parameters
    ----------
    **rules
        As `chunkfilt.filters.declare.value_filter`: ``combine``, ``finalize``, ``values``,
        ``memory``, ``check``, ``version``, ``name``.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> @cf.value_filter()
    ... def bright(block, *, above: float = 0.0):
    ...     return (block > above).reshape(len(block), -1).sum(axis=1)
    >>> int(bright(np.array([1, 4, 9]), above=3.0))
    2
    """
    decorate = declare.value_filter(**rules)
    return lambda function: _function(decorate(function))


def _sort_inputs(declared: Filter, inputs: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Return the images in the filter's order, taking those given by name out of `params`."""
    if len(inputs) > len(declared.inputs):
        message = (
            f"{declared.name} takes {' and '.join(declared.inputs)} by position, got "
            f"{len(inputs)} things: give parameters by name"
        )
        raise InputError(message)
    return [*inputs, *(params.pop(name, None) for name in declared.inputs[len(inputs) :])]


def _apply_numpy(declared: Filter, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    nodes: list[Any] = []
    for one in inputs:
        if one is None or isinstance(one, (int, float, np.generic)):
            nodes.append(one)
            continue
        array = np.asarray(one)
        spec = ImageSpec(array.shape, array.dtype, plain_axes(array.ndim), tuple(range(array.ndim)))
        nodes.append(Source(spec, _ArrayReader(array)))
    node = bind(declared, nodes, params)
    if isinstance(node, Value):
        options = _options(node.image.spec.size)
        return lay_rows(values_of([node], options=options)[node], node.table_shape)
    return compute({"": node}, options=_options(node.spec.size))[0][""]


def _options(size: int) -> RunOptions:
    """Return all cores for an image worth it, none for a small one."""
    return RunOptions(scheduler="threads" if size > _SMALL else "serial")


def _is_dask(array: Any) -> bool:
    # Without importing dask: an array can only be dask's if dask has been imported.
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(array, module.Array)


def _signature(declared: Filter) -> inspect.Signature:
    """Return names and defaults; the types stand in the docstring and in ``__init__.pyi``."""
    kinds = inspect.Parameter
    parameters = [
        kinds(
            name,
            kinds.POSITIONAL_OR_KEYWORD,
            default=kinds.empty if i < declared.required else None,
        )
        for i, name in enumerate(declared.inputs)
    ]
    for name, field in declared.model.model_fields.items():
        default = kinds.empty if field.is_required() else field.default
        parameters.append(kinds(name, kinds.KEYWORD_ONLY, default=default))
    return inspect.Signature(parameters)

"""A filter meets its inputs: every parameter, axis and dtype is checked, weights are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.engine.graph import (
    MAX_SPATIAL,
    Filtered,
    Operand,
    Value,
    Written,
    crop,
    is_image,
)
from chunkfilt.engine.missing import block_dtype_of, nodata_of
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters.filter import Apply, Filter
from chunkfilt.grid import Halo, ImageSpec

__all__ = ["bind"]


def bind(
    declared: Filter, inputs: Sequence[Operand], params: Mapping[str, Any]
) -> Filtered | Value:
    """Bind a filter to its inputs; every parameter is checked here.

    Parameters
    ----------
    declared : Filter
        The filter.
    inputs : sequence of nodes
        As many as the filter takes; ``None`` for an optional one that is left out.  A pointwise
        filter of several images takes numbers for all but one of them.
    params : mapping
        Parameters by name; defaults are filled in.

    Returns
    -------
    Filtered or Value
        The new node.

    Raises
    ------
    InputError
        If a parameter, the number of inputs, an axis or a dtype does not fit.
    """
    checked = declared.validate(params)
    given = [*inputs, *[None] * (len(declared.inputs) - len(inputs))]
    _check_inputs(declared, inputs, given)
    first = next(node for node in given if is_image(node)).spec
    spatial = _spatial_axes(declared, first, checked.get("axes"))
    resolved = declared.resolve(checked, len(spatial))
    resolved.image_dtype = first.dtype
    resolved.shape_px = tuple(first.shape[axis] for axis in spatial)
    dtypes = [one.spec.dtype if is_image(one) else one for one in given if one is not None]
    if declared.rules.check is not None:
        _ask(declared, declared.rules.check, resolved, dtypes)
    if declared.kind == "composite":
        return _bind_composite(declared, tuple(given), checked, len(spatial))
    common: dict[str, Any] = {
        "filter": declared,
        "params": checked,
        "resolved": resolved,
        "inputs": tuple(given),
        "spatial": spatial,
        "values": _bind_values(declared, resolved, checked, given, dtypes),
    }
    if declared.kind == "value":
        _refuse_missing(declared, first)
        return Value(**common, block_dtype=first.dtype)
    halo = _halo_of(declared, resolved, spatial, first.ndim)
    mode, cval = checked.get("mode", "reflect"), checked.get("cval", 0.0)
    if declared.rules.edge is not None:
        mode, cval = _ask(declared, declared.rules.edge, resolved)
    cval, block_dtype = _edge_value(declared, mode, cval, first.dtype, halo)
    leading = declared.rules.leading(resolved) if declared.rules.leading else ()
    at = spatial[0] if spatial else first.ndim
    dtype = np.dtype(checked.get("dtype") or _ask(declared, declared.rules.dtype, resolved, dtypes))
    moved = [axis + len(leading) * (axis >= at) for axis in range(first.ndim)]
    if first.nodata is not None:
        block_dtype = block_dtype_of(declared, resolved, dtypes, block_dtype)
    spec = ImageSpec(
        (*first.shape[:at], *(n for _, n in leading), *first.shape[at:]),
        dtype,
        _insert_names(first.axes, at, [name for name, _ in leading]),
        tuple(moved[axis] for axis in first.spatial),
        (*(moved[axis] for axis in first.leading), *range(at, at + len(leading))),
        nodata_of(dtype, [one.spec for one in given if is_image(one)]),
    )
    prepared = _ask(declared, declared.rules.prepare, resolved) if declared.rules.prepare else {}
    return Filtered(
        **common,
        spec=spec,
        halo=halo,
        mode=mode,
        cval=cval,
        block_dtype=block_dtype,
        leading=tuple(leading),
        prepared=prepared,
    )


def _halo_of(
    declared: Filter, resolved: SimpleNamespace, spatial: Sequence[int], ndim: int
) -> Halo:
    """Return the halo along every axis of the image: none along batch axes."""
    halo = [(0, 0)] * ndim
    if declared.rules.halo is not None:
        around = _ask(declared, declared.rules.halo, resolved)
        if len(around) != len(spatial):
            message = (
                f"{declared.name}: works along {len(around)} spatial axes, got {len(spatial)}: "
                "name them with axes="
            )
            raise ParameterError(message)
        for axis, beside in zip(spatial, around, strict=True):
            halo[axis] = beside
    return tuple(halo)


def _bind_composite(
    declared: Filter, given: tuple[Operand, ...], checked: Mapping[str, Any], ndim: int
) -> Filtered | Value:
    """Bind a composite's steps; the last of them remembers what it was written as."""
    first = next(one for one in given if is_image(one))

    def take(image: Any, axis: int | str, index: int) -> Any:
        along = _axis_number(declared, image.spec, axis)
        return crop(image, {along: (index, index + 1)}, [along])

    apply = Apply(checked, bind, take=take, ndim=ndim, dtype=first.spec.dtype)
    made = declared.expand(given, checked, apply)
    assert isinstance(made, (Filtered, Value))
    return replace(made, composite=Written(declared, checked, given))


def _refuse_missing(declared: Filter, spec: ImageSpec) -> None:
    if spec.nodata is not None and "mask" not in declared.inputs:
        message = (
            f"{declared.name} does not leave missing pixels out, and {spec.nodata} stands for "
            "them in this image: fill them first (fill_gaps)"
        )
        raise InputError(message)


def _check_inputs(declared: Filter, inputs: Sequence[Operand], given: Sequence[Operand]) -> None:
    missing = [name for name, one in zip(declared.inputs, given, strict=False) if one is None]
    images = [one for one in given if is_image(one)]
    if (
        len(inputs) > len(declared.inputs)
        or not images
        or any(name in declared.inputs[: declared.required] for name in missing)
    ):
        got = sum(one is not None for one in inputs)
        optional = declared.inputs[declared.required :]
        more = f" (optionally {', '.join(optional)})" if optional else ""
        message = (
            f"{declared.name} takes {' and '.join(declared.inputs[: declared.required])}{more} as "
            "input, "
            f"got {got} image{'s' * (got != 1)}"
        )
        raise InputError(message)
    numbers = declared.kind == "pointwise" and declared.required > 1
    for name, one in zip(declared.inputs, given, strict=True):
        if one is None or (numbers and not is_image(one)):
            continue
        if not is_image(one):
            message = f"{declared.name}: {name} must be an image, got {one!r}"
            raise InputError(message)
        spec = one.spec
        if spec.shape != images[0].spec.shape:
            message = (
                f"{declared.name}: {name} must have the shape of the first image, "
                f"{images[0].spec.shape}, got {spec.shape}"
            )
            raise InputError(message)
        if spec.dtype.kind not in "biuf" or spec.dtype.itemsize > 8:
            message = (
                f"{declared.name} takes bool, integer and float images, got dtype "
                f"{spec.dtype.name}: convert the input to one of those first"
            )
            raise InputError(message)


def _spatial_axes(
    declared: Filter, spec: ImageSpec, axes: Sequence[int | str] | None
) -> tuple[int, ...]:
    if axes is None:
        spatial = spec.spatial
    else:
        spatial = tuple(sorted({_axis_number(declared, spec, axis) for axis in axes}))
    if declared.kind != "neighbourhood" and "mode" not in declared.model.model_fields:
        return spatial
    if not 1 <= len(spatial) <= MAX_SPATIAL:
        message = (
            f"{declared.name} works along 1 to {MAX_SPATIAL} spatial axes, the image has "
            f"{len(spatial)} of {spec.ndim} (shape {spec.shape}): name them with axes="
        )
        raise InputError(message)
    return spatial


def _axis_number(declared: Filter, spec: ImageSpec, axis: int | str) -> int:
    if isinstance(axis, str) and axis in spec.axes:
        return spec.axes.index(axis)
    if isinstance(axis, int) and -spec.ndim <= axis < spec.ndim:
        return axis % spec.ndim
    message = (
        f"{declared.name}: axes must be among {', '.join(spec.axes)} or "
        f"{-spec.ndim} to {spec.ndim - 1}, got {axis!r}"
    )
    raise ParameterError(message)


def _bind_values(
    declared: Filter,
    resolved: SimpleNamespace,
    checked: Mapping[str, Any],
    given: Sequence[Operand],
    dtypes: Sequence[Any],
) -> dict[str, Value]:
    if declared.rules.values is None:
        return {}
    words = ("axes", "scope", "nan_policy")
    shared = {word: checked[word] for word in words if word in checked}
    bound: dict[str, Value] = {}
    for name, (wanted, params) in declared.rules.values(resolved, dtypes).items():
        node = bind(wanted.filter, given[: len(wanted.filter.inputs)], {**params, **shared})
        assert isinstance(node, Value)
        bound[name] = node
    return bound


def _edge_value(
    declared: Filter, mode: str, cval: float, dtype: np.dtype, halo: Sequence[tuple[int, int]]
) -> tuple[Any, np.dtype]:
    """Return `cval` as a scalar of the block's dtype, and that dtype.

    A measure may take a value that the input's dtype cannot hold; then all its blocks are
    float64, those away from the edge too, so that the result does not depend on the blocks.
    """
    if mode != "constant" or not any(map(sum, halo)):
        return dtype.type(0), dtype
    with np.errstate(all="ignore"):
        held = dtype.type(cval) if _fits(cval, dtype) else None
    if held is not None:
        return held, dtype
    if declared.rules.selection:
        message = f"{declared.name}: cval must be representable as {dtype.name}, got {cval!r}"
        raise ParameterError(message)
    return np.float64(cval), np.dtype(np.float64)


def _fits(cval: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return not math.isfinite(cval) or math.isfinite(dtype.type(cval))
    if dtype.kind == "b":
        return cval in (0, 1)
    limits = np.iinfo(dtype)
    return math.isfinite(cval) and cval == int(cval) and limits.min <= int(cval) <= limits.max


def _insert_names(axes: Sequence[str], at: int, names: Sequence[str]) -> tuple[str, ...]:
    fresh = []
    for name in names:
        free = name
        while free in axes or free in fresh:
            free += "_"
        fresh.append(free)
    return (*axes[:at], *fresh, *axes[at:])


def _ask(declared: Filter, rule: Any, *arguments: Any) -> Any:
    """Call a rule; its ValueError, or arithmetic gone wrong, becomes one that names the filter."""
    try:
        return rule(*arguments)
    except InputError:
        raise
    except ValueError as error:
        message = f"{declared.name}: {error}"
        raise ParameterError(message) from None
    except ArithmeticError as error:
        message = f"{declared.name}: a parameter is too large or too small to be used ({error})"
        raise ParameterError(message) from None

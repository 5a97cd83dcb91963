"""What a filter is: its name, kernel, parameters and rules, and where it is found by name."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticSerializationError

from chunkfilt.errors import InputError, ParameterError, nearest
from chunkfilt.filters.params import (
    Axes,
    DType,
    Mode,
    NanPolicy,
    PerAxis,
    Scope,
    expand,
    plain,
    problem,
)
from chunkfilt.grid import Halo
from chunkfilt.kernels import real_dtype

__all__ = [
    "Apply",
    "Filter",
    "Kind",
    "Omits",
    "Rules",
    "find_filter",
    "load_plugins",
    "make_filter",
    "real_like",
    "registered",
    "same",
    "total",
]

Kind = Literal["neighbourhood", "pointwise", "value", "composite"]
Omits = bool | Literal["always"]
_REGISTRY: dict[str, Filter] = {}


def same(p: SimpleNamespace, dtypes: Sequence[np.dtype]) -> np.dtype:
    """Keep the input's dtype (selections)."""
    return dtypes[0]


def real_like(p: SimpleNamespace, dtypes: Sequence[np.dtype]) -> np.dtype:
    """Give float32 for bool, 8- and 16-bit integers, float16 and float32, else float64."""
    return real_dtype(dtypes[0])


def total(a: Any, b: Any) -> Any:
    """Add two partials: what joins them where a declaration does not say."""
    return a + b


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a declaration answers beside its kernel; see `image_filter` and `value_filter`."""

    halo: Callable[[SimpleNamespace], Halo] | None = None
    dtype: Callable[[SimpleNamespace, Sequence[np.dtype]], np.dtype] = real_like
    leading: Callable[[SimpleNamespace], tuple[tuple[str, int], ...]] | None = None
    values: Callable[[SimpleNamespace, Sequence[np.dtype]], Mapping[str, Any]] | None = None
    prepare: Callable[[SimpleNamespace], Mapping[str, Any]] | None = None
    memory: Callable[[SimpleNamespace, tuple[int, ...], np.dtype], int] | None = None
    cost: Callable[[SimpleNamespace, Mapping[str, Any]], float] | None = None
    tile: Callable[[SimpleNamespace, Mapping[str, Any]], tuple[int, ...] | None] | None = None
    check: Callable[[SimpleNamespace, Sequence[np.dtype]], None] | None = None
    combine: Callable[[Any, Any], Any] = total
    finalize: Callable[[Any, SimpleNamespace], Any] | None = None
    edge: Callable[[SimpleNamespace], tuple[str, float]] | None = None
    omits: Omits = False
    selection: bool = False
    mode: str | None = "reflect"
    version: int = 1


class Apply:
    """What a composite binds its steps with: ``apply(filter, *images, **params)``.

    A step is given the composite's `mode`, `cval`, `axes` and `nan_policy`, where it takes them
    and is not given its own.

    Attributes
    ----------
    ndim : int
        Number of spatial axes.
    dtype : numpy.dtype
        Of the first image.
    take : callable
        ``take(image, axis, index)`` gives one index along an axis, by name or number, without
        that axis.
    """

    _SHARED = ("mode", "cval", "axes", "nan_policy")

    def __init__(
        self,
        params: Mapping[str, Any],
        step: Callable[[Filter, Sequence[Any], dict[str, Any]], Any],
        *,
        take: Callable[[Any, int | str, int], Any],
        ndim: int,
        dtype: np.dtype,
    ) -> None:
        self._params = {key: params[key] for key in self._SHARED if key in params}
        self._step, self.take, self.ndim, self.dtype = step, take, ndim, dtype

    def __call__(self, declared: Any, *images: Any, **params: Any) -> Any:
        """Return the step's result on images or numbers."""
        wanted: Filter = declared.filter
        fields = wanted.model.model_fields
        shared = {key: held for key, held in self._params.items() if key in fields}
        return self._step(wanted, images, {**shared, **params})


@dataclass(frozen=True, eq=False)
class Filter:
    """One declared operation: name, kernel, parameters and rules."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    rules: Rules
    inputs: tuple[str, ...]
    required: int
    own: tuple[str, ...]
    given: tuple[str, ...]
    model: type[BaseModel]

    def __repr__(self) -> str:
        return f"<{self.kind} filter {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        module = importlib.import_module(self.function.__module__)
        held = getattr(module, self.function.__name__, None)
        if self.function.__module__ != "__main__" and getattr(held, "filter", held) is self:
            return _by_reference, (self.function.__module__, self.function.__name__)
        axes = "axes" in self.model.model_fields
        return make_filter, (self.function, self.kind, self.rules, self.name, False, axes)

    @property
    def filter(self) -> Filter:
        """The declaration itself, so that a filter and its public function read alike."""
        return self

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Check parameters by name; return them all, defaults filled in.

        Raises
        ------
        ParameterError
            If one is unknown, of the wrong type or out of range.
        """
        try:
            model = self.model(**{key: plain(value) for key, value in params.items()})
        except ValidationError as error:
            raise self.explain(error) from None
        return {name: getattr(model, name) for name in type(model).model_fields}

    def explain(self, error: ValidationError) -> ParameterError:
        """Return the first of pydantic's complaints as one clear sentence."""
        first = error.errors()[0]
        where = [part for part in first["loc"] if part not in ("one", "many")]
        name = str(where[0]) if where else "parameters"
        if first["type"] == "extra_forbidden":
            known = list(self.model.model_fields)
            raised = f"has no parameter {name!r}{nearest(name, known)}; it takes {', '.join(known)}"
            return ParameterError(f"{self.name} {raised}", name)
        if first["type"] == "missing":
            return ParameterError(f"{self.name}: {name} is required")
        index = f"[{where[1]}]" if len(where) > 1 else ""
        return ParameterError(f"{self.name}: {name}{index} {problem(first)}", name)

    def resolve(self, params: Mapping[str, Any], ndim: int) -> SimpleNamespace:
        """Return validated parameters as the rules see them, for `ndim` spatial axes.

        Raises
        ------
        ParameterError
            If a per-axis parameter or a footprint does not fit the number of axes.
        """
        resolved = SimpleNamespace(ndim=ndim, **params)
        for name, field in self.model.model_fields.items():
            value = params[name]
            try:
                if _per_axis(field) and value is not None:
                    setattr(resolved, name, expand(value, ndim, name))
            except ValueError as error:
                message = f"{self.name}: {error}"
                raise ParameterError(message, name) from None
            if isinstance(value, np.ndarray) and value.dtype == bool and value.ndim != ndim:
                message = (
                    f"{self.name}: {name} must have {ndim} axes (the image's spatial axes), "
                    f"got {value.ndim}"
                )
                raise ParameterError(message, name)
        return resolved

    def expand(self, inputs: Sequence[Any], params: Mapping[str, Any], apply: Apply) -> Any:
        """Return what a composite's steps make of its inputs; `params` are validated ones.

        Raises
        ------
        ParameterError
            If a step refuses what it is given; the message names the composite.
        """
        own = {name: params[name] for name in self.own}
        try:
            made = self.function(*inputs, **own, apply=apply)
            if params.get("dtype") is not None:
                made = apply(find_filter("cast"), made, dtype=params["dtype"])
        except ParameterError as error:
            message = f"{self.name}: {str(error).partition(': ')[2] or error}"
            raise ParameterError(message, error.parameter) from None
        except ValueError as error:
            message = f"{self.name}: {error}"
            raise ParameterError(message) from None
        return made

    def dump(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as they stand in YAML."""
        fields = self.model.model_fields
        model = self.model.model_construct(**params)
        try:
            written = model.model_dump(mode="json", warnings=False)
        except PydanticSerializationError as error:
            message = f"{self.name}: {error.__cause__ or error}"
            raise InputError(message) from None
        defaults = self.model.model_construct().model_dump(mode="json", warnings=False)
        return {
            name: written[name]
            for name in fields
            if name not in defaults or written[name] != defaults[name]
        }


def registered() -> dict[str, Filter]:
    """Return every declared filter by name, in alphabetical order."""
    return dict(sorted(_REGISTRY.items()))


@functools.cache
def load_plugins() -> tuple[str, ...]:
    """Load the filters that other packages bring by the entry point ``chunkfilt.filters``."""
    points = importlib.metadata.entry_points(group="chunkfilt.filters")
    for point in points:
        point.load()
    return tuple(point.name for point in points)


def find_filter(name: str) -> Filter:
    """Return the declared filter of that name.

    Raises
    ------
    InputError
        If there is none; the message has the nearest name.
    """
    if name not in _REGISTRY:
        load_plugins()
    if name not in _REGISTRY:
        message = f"unknown filter {name!r}{nearest(name, _REGISTRY)}; see `chunkfilt filters`"
        raise InputError(message)
    return _REGISTRY[name]


def make_filter(
    function: Callable[..., Any],
    kind: Kind,
    rules: Rules,
    name: str,
    register: bool,
    axes: bool = True,
) -> Filter:
    """Return the filter that a function declares; `declare.py` has the decorators.

    Raises
    ------
    InputError
        If it is to be registered under a name that another function has.
    """
    signature = inspect.signature(function, eval_str=True)
    inputs: list[str] = []
    required = 0
    given: list[str] = []
    fields: dict[str, Any] = {}
    # A kernel calls its first input `block`; its user gives an image.
    unnamed = "image" not in signature.parameters
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            inputs.append("image" if unnamed and not inputs else parameter.name)
            required += parameter.default is inspect.Parameter.empty
        elif parameter.annotation is inspect.Parameter.empty:
            given.append(parameter.name)
        else:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
    own = tuple(fields)
    if rules.omits and kind != "composite" and "mask" not in inputs:
        inputs.append("mask")
    # What takes a mask of the pixels to count can leave out the missing ones, too.
    whole = "mask" in inputs and (kind == "value" or rules.values is not None)
    for key, field in _shared(kind, rules, axes, omits=whole or rules.omits is True).items():
        fields.setdefault(key, field)
    model = create_model(
        name,
        __config__=ConfigDict(
            extra="forbid",
            strict=True,
            arbitrary_types_allowed=True,
            protected_namespaces=(),
            # Built when a filter is first used: a run starts without those of all the others.
            defer_build=True,
        ),
        **fields,
    )
    declared = Filter(
        name, kind, function, rules, tuple(inputs), required, own, tuple(given), model
    )
    # A name with an underscore is a step of another filter, not one for users.
    if register and not name.startswith("_"):
        held = _REGISTRY.get(name)
        if held is not None and _home(held.function) != _home(function):
            message = f"a filter named {name!r} exists already, in {held.function.__module__}"
            raise InputError(message)
        _REGISTRY[name] = declared
    return declared


def _shared(kind: Kind, rules: Rules, axes: bool, omits: bool) -> dict[str, Any]:
    """Return the parameters that filters of a kind have in common."""
    shared: dict[str, Any] = {}
    if kind in ("neighbourhood", "composite") and rules.edge is None and rules.mode is not None:
        shared["mode"] = (Mode, rules.mode)
        shared["cval"] = (float, 0.0)
    if omits:
        shared["nan_policy"] = (NanPolicy, "propagate")
    if axes and (kind != "pointwise" or rules.values is not None):
        shared["axes"] = (Axes | None, None)
    if kind == "value" or rules.values is not None:
        shared["scope"] = (Scope, "batch")
    if kind != "value":
        shared["dtype"] = (DType | None, None)
    return shared


def _per_axis(field: Any) -> bool:
    parts = [*field.metadata, *get_args(field.annotation)]
    parts += [meta for part in get_args(field.annotation) for meta in get_args(part)]
    return any(isinstance(part, PerAxis) for part in parts)


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _by_reference(module: str, name: str) -> Filter:
    held = getattr(importlib.import_module(module), name)
    found: Filter = held.filter
    return found

"""The types of filter parameters: what is accepted, in one place.

A parameter annotated with ``PerAxis()`` takes one value for all spatial axes or a sequence with
one per spatial axis; the length is checked when the filter meets an image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import core_schema

from chunkfilt.edges import MODES, mode_name
from chunkfilt.filters.footprints import MAKERS, describe_footprint, make_footprint
from chunkfilt.words import shown

__all__ = [
    "Axes",
    "Ddof",
    "DType",
    "Footprint",
    "Mode",
    "NanPolicy",
    "NonNegative",
    "Order",
    "Origin",
    "PerAxis",
    "Positive",
    "Scope",
    "Sigma",
    "WindowSize",
    "full_path",
    "paths_from",
]


_FOLDER: ContextVar[Path | None] = ContextVar("chunkfilt_folder", default=None)


@contextlib.contextmanager
def paths_from(folder: Path) -> Iterator[None]:
    """Take relative paths among parameters from a folder: a job's own."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def full_path(path: str) -> Path:
    """Return the path of a file that a parameter names."""
    return (_FOLDER.get() or Path()) / path


class PerAxis:
    """Mark a parameter as one value, or one per spatial axis."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        one = handler(source)
        many = core_schema.tuple_variable_schema(one, min_length=1, max_length=8)
        return core_schema.tagged_union_schema(
            {"one": one, "many": many},
            discriminator=lambda value: "many" if isinstance(value, (tuple, list)) else "one",
        )


def _dtype(value: Any) -> np.dtype:
    try:
        dtype: np.dtype = np.dtype(value)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf" or value is None or dtype.itemsize > 8:
        message = "must be a bool, integer or float dtype such as 'uint8' or 'float32'"
        raise ValueError(message)
    return dtype


def _footprint(value: Any) -> np.ndarray:
    array = make_footprint(value)
    array.flags.writeable = False
    return array


def _axes(value: Any) -> tuple[int | str, ...]:
    items = (value,) if isinstance(value, (int, str)) else value
    if not isinstance(items, (tuple, list)) or not items:
        message = "must be an axis or a list of axes, by number or by name"
        raise ValueError(message)
    if any(isinstance(item, bool) or not isinstance(item, (int, str)) for item in items):
        message = "must be a list of axes, by number or by name"
        raise ValueError(message)
    return tuple(items)


_FOOTPRINT_SCHEMA: dict[str, Any] = {
    "description": "A maker such as {disk: 5}, or nested lists of 0 and 1.",
    "oneOf": [
        *(
            {
                "type": "object",
                "properties": {name: {"type": ["number", "array"]}},
                "required": [name],
                "additionalProperties": False,
            }
            for name in MAKERS
        ),
        {"type": "array"},
    ],
}

_LARGEST_WINDOW = 1 << 20

WindowSize = Annotated[int, Field(ge=1, le=_LARGEST_WINDOW), PerAxis()]
Origin = Annotated[int, Field(ge=-_LARGEST_WINDOW, le=_LARGEST_WINDOW), PerAxis()]
Sigma = Annotated[float, Field(ge=0, allow_inf_nan=False), PerAxis()]
Order = Annotated[int, Field(ge=0, le=3), PerAxis()]
Ddof = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scope = Literal["batch", "all"]
NanPolicy = Literal["propagate", "omit"]
Mode = Annotated[
    Literal["reflect", "mirror", "nearest", "constant", "wrap"],
    BeforeValidator(lambda mode: mode_name(mode) if isinstance(mode, str) else mode),
    WithJsonSchema({"enum": [*MODES, "grid-mirror", "grid-wrap", "grid-constant"]}),
]
DType = Annotated[
    np.dtype,
    PlainValidator(_dtype),
    PlainSerializer(lambda dtype: dtype.name),
    WithJsonSchema({"type": "string", "description": "A NumPy dtype, e.g. uint8 or float32."}),
]
Footprint = Annotated[
    np.ndarray,
    PlainValidator(_footprint),
    PlainSerializer(describe_footprint),
    WithJsonSchema(_FOOTPRINT_SCHEMA),
]
Axes = Annotated[
    tuple[int | str, ...],
    PlainValidator(_axes),
    WithJsonSchema({"type": ["array", "string", "integer"]}),
]

# pydantic's error types, in the words of this project
_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than_equal": lambda c: f"must be >= {c['ge']}",
    "greater_than": lambda c: f"must be > {c['gt']}",
    "less_than_equal": lambda c: f"must be <= {c['le']}",
    "less_than": lambda c: f"must be < {c['lt']}",
    "literal_error": lambda c: f"must be one of {c['expected']}",
    "enum": lambda c: f"must be one of {c['expected']}",
    "int_type": lambda c: "must be an integer",
    "int_from_float": lambda c: "must be an integer",
    "int_parsing": lambda c: "must be an integer",
    "float_type": lambda c: "must be a number",
    "float_parsing": lambda c: "must be a number",
    "bool_type": lambda c: "must be true or false",
    "string_type": lambda c: "must be a string",
    "finite_number": lambda c: "must be a finite number",
    "tuple_type": lambda c: "must be a list",
    "list_type": lambda c: "must be a list",
    "dict_type": lambda c: "must be a mapping",
    "too_short": lambda c: f"must have at least {c['min_length']} items",
    "too_long": lambda c: f"must have at most {c['max_length']} items",
    "value_error": lambda c: str(c["error"]),
}


def problem(error: Any) -> str:
    """Return one pydantic error as `must be ..., got ...`."""
    say = _WORDS.get(error["type"])
    text = say(error.get("ctx", {})) if say else error["msg"]
    return f"{text}, got {shown(error['input'])}"


def plain(value: Any) -> Any:
    """Return a parameter's value in plain Python types, sequences as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype != bool:
        return tuple(value.tolist())
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    return value


def expand(value: Any, ndim: int, name: str) -> tuple[Any, ...]:
    """Return a per-axis parameter as one value for each of `ndim` spatial axes."""
    if not isinstance(value, Sequence):
        return (value,) * ndim
    if len(value) != ndim:
        message = (
            f"{name} must be one value or {ndim} (one per spatial axis), got {len(value)}: "
            f"{shown(list(value))}"
        )
        raise ValueError(message)
    return tuple(value)

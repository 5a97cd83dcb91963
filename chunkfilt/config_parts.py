"""The parts of a job that are no steps: input, output, run; what each key accepts."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from chunkfilt.filters.params import DType, full_path
from chunkfilt.storage.zarr_output import make_compressor

__all__ = ["InputPart", "OutputPart", "RunPart", "parse_bytes"]

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*((?:[kKMGT]i?)?B?)\s*")
_LARGEST_SIZE = 1 << 60
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(value: Any) -> int:
    """Return a size such as ``400 MB`` or ``2 GiB`` in bytes.

    >>> parse_bytes("2 GiB"), parse_bytes("400 MB"), parse_bytes(1024)
    (2147483648, 400000000, 1024)
    """
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found:
        number, unit = found.groups()
        base = 1024 if "i" in unit else 1000
        size = float(number) * base ** _UNITS[unit.rstrip("B").rstrip("i").upper()]
        value = int(size) if size < _LARGEST_SIZE else 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST_SIZE:
        return value
    message = "must be a size such as '400 MB' or '2 GiB'"
    raise ValueError(message)


def _compressor(value: Any) -> Any:
    if value is not None:
        if not isinstance(value, (str, dict)) or (isinstance(value, dict) and len(value) != 1):
            message = "must be {zstd: LEVEL}, {blosc: {...}}, {gzip: LEVEL} or none"
            raise ValueError(message)
        make_compressor(value)
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        message = "must be a number"
        raise ValueError(message)  # noqa: TRY004 - a parameter's error like the others
    return value


def _names(value: Any) -> Any:
    """Accept axes as one word of letters, or as a list of names."""
    return list(value) if isinstance(value, str) else value


def _from_job(value: str) -> str:
    """Take a file's path from the job's folder."""
    return os.path.normpath(full_path(value))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


Size = Annotated[
    int,
    BeforeValidator(parse_bytes),
    WithJsonSchema({"type": ["string", "integer"], "description": "e.g. '400 MB' or '2 GiB'"}),
]
Names = Annotated[
    list[str],
    BeforeValidator(_names),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
# YAML's integers stay integers: a float would not hold all of them.
Nodata = Annotated[Any, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
Range = Annotated[list[int], Field(min_length=2, max_length=2)]
Lengths = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)]
Compressor = Annotated[
    Any, BeforeValidator(_compressor), WithJsonSchema({"type": ["string", "object", "null"]})
]

SchedulerFile = Annotated[str, AfterValidator(_from_job)]


class InputPart(_Part):
    """The image a job reads."""

    path: str
    array: str | None = None
    axes: Names | None = None
    spatial: Names | None = None
    nodata: Nodata | None = None
    missing: Literal["fill", "error"] = "fill"
    region: dict[str, Range] | None = None
    select: dict[str, int] | None = None


class OutputPart(_Part):
    """Where the result goes, and how it is stored."""

    path: str
    save: str | Annotated[list[str], Field(min_length=1)] | None = None
    format: Literal["zarr"] = "zarr"
    dtype: DType | None = None
    chunks: Lengths | None = None
    shards: Lengths | None = None
    compressor: Compressor = None
    overwrite: bool = False


class RunPart(_Part):
    """How the run is carried out."""

    scheduler: Literal["serial", "threads", "processes", "distributed"] = "threads"
    address: str | None = None
    scheduler_file: SchedulerFile | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    memory: Size | None = None

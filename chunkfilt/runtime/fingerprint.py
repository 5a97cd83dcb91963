"""What makes two runs the same: graph, filters' versions, inputs, the output's layout."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np
from pydantic_core import PydanticSerializationError

from chunkfilt.engine.graph import Crop, Filtered, Node, Source, is_image, topological
from chunkfilt.filters.filter import Filter
from chunkfilt.grid import Region
from chunkfilt.kernels.checksum import format_checksum, image_checksum
from chunkfilt.storage.stored import StoredImage
from chunkfilt.storage.zarr_output import ArrayLayout

__all__ = ["differences", "fingerprint"]

_LONG = 400  # letters of a parameter that is told by its digest
_EMPTY = CellType()


def fingerprint(outputs: Mapping[str, Node], layouts: Mapping[str, ArrayLayout]) -> dict[str, Any]:
    """Return all that the pixels of a run's outputs follow from, and how they are stored.

    Two runs with the same fingerprint give the same bytes, so that one may go on with what the
    other has stored. Paths, workers, memory and the machine are not part of it.
    """
    order = topological(outputs.values())
    numbers = {id(node): f"{number} {_word(node)}" for number, node in enumerate(order)}
    graph = {numbers[id(node)]: _described(node, numbers) for node in order}
    return {
        "graph": graph,
        "outputs": {name: numbers[id(node)] for name, node in outputs.items()},
        "storage": {name: _layout(layout) for name, layout in layouts.items()},
    }


def differences(held: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield in words what differs between two fingerprints.

    >>> list(differences({"graph": {"1 mean": {"size": 3}}}, {"graph": {"1 mean": {"size": 5}}}))
    ['graph: 1 mean: size was 3 and is 5']
    """
    if isinstance(held, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*held, *now]):
            inner = f"{where}: {key}" if where else str(key)
            if key not in now:
                yield f"{inner} is no longer there"
            elif key not in held:
                yield f"{inner} is new"
            else:
                yield from differences(held[key], now[key], inner)
    elif json.dumps(held) != json.dumps(now):
        yield f"{where} was {json.dumps(held)} and is {json.dumps(now)}"


def _word(node: Node) -> str:
    if isinstance(node, Source):
        return "input"
    return "crop" if isinstance(node, Crop) else node.filter.name


def _described(node: Node, numbers: Mapping[int, str]) -> dict[str, Any]:
    if isinstance(node, Source):
        return _source(node)
    if isinstance(node, Crop):
        box = {"start": list(node.start), "stop": list(node.stop), "dropped": list(node.dropped)}
        return {**box, "inputs": [numbers[id(node.inputs[0])]]}
    inputs = [numbers[id(one)] if is_image(one) else _plain(one) for one in node.inputs]
    params = _parameters(node.filter, node.params)
    if isinstance(node, Filtered) and any(isinstance(one, np.generic) for one in node.inputs):
        # As in the recorded job: YAML's numbers have no dtype of their own.
        params["dtype"] = node.spec.dtype.name
    return {
        "version": node.filter.rules.version,
        "spatial": list(node.spatial),
        "inputs": inputs,
        **{name: _short(held) for name, held in params.items()},
    }


def _source(node: Source) -> dict[str, Any]:
    spec = node.spec
    about = {
        "shape": list(spec.shape),
        "dtype": spec.dtype.str,
        "axes": list(spec.axes),
        "spatial": list(spec.spatial),
        "nodata": None if spec.nodata is None else repr(spec.nodata),
    }
    if isinstance(node.reader, StoredImage):
        return {**about, "files": node.reader.fingerprint(times=True)}
    whole = Region((0,) * spec.ndim, spec.shape)
    pixels = image_checksum(node.read(whole), whole.start, spec.shape)
    return {**about, "pixels": format_checksum(pixels)}


def _parameters(declared: Filter, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain data; functions by what they do."""
    told: dict[str, Any] = {}
    for name, value in params.items():
        inner = getattr(value, "py_func", value)
        if isinstance(inner, FunctionType | functools.partial):
            told[name] = _digest(_text(inner))
            continue
        try:
            told[name] = declared.model.model_construct(**{name: value}).model_dump(
                mode="json", warnings=False, include={name}
            )[name]
        except PydanticSerializationError:
            told[name] = _text(value)
    return told


def _layout(layout: ArrayLayout) -> dict[str, Any]:
    codec = layout.compressor
    return {
        "shape": list(layout.spec.shape),
        "dtype": layout.spec.dtype.str,
        "chunks": list(layout.chunks),
        "shards": None if layout.shards is None else list(layout.shards),
        "compressor": _short(codec.to_dict() if hasattr(codec, "to_dict") else codec),
    }


def _text(value: Any, within: tuple[Any, ...] = ()) -> str:
    """Return a text for a function, and what it holds, that is the same in every process."""
    inner = getattr(value, "py_func", value)
    if any(inner is one for one in within):
        return "itself"
    within = (*within, inner)
    if isinstance(inner, set | frozenset):
        return f"set({', '.join(sorted(_text(one, within) for one in inner))})"
    if isinstance(inner, np.ndarray):
        return f"{inner.dtype.str}{inner.shape}{_digest(repr(inner.tolist()))}"
    if isinstance(inner, FunctionType):
        cells = [cell.cell_contents for cell in inner.__closure__ or () if cell != _EMPTY]
        kept = sorted((inner.__kwdefaults__ or {}).items())
        parts = [inner.__code__, inner.__defaults__, kept, *cells]
    elif isinstance(inner, functools.partial):
        parts = [inner.func, inner.args, sorted(inner.keywords.items())]
    elif isinstance(inner, CodeType):
        parts = [inner.co_code.hex(), inner.co_names, *inner.co_consts]
    elif isinstance(inner, tuple | list):
        parts = list(inner)
    else:
        # Without the address that other objects are known by.
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(inner))
    return f"{type(inner).__name__}({', '.join(_text(one, within) for one in parts)})"


def _plain(operand: Any) -> Any:
    number = operand.item() if isinstance(operand, np.generic) else operand
    return number if number is None or isinstance(number, (int, float)) else repr(number)


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    text = json.dumps(value, sort_keys=True, default=repr)
    return value if len(text) <= _LONG else _digest(text)


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:32]}"

"""The way back from a graph to a YAML job, and the JSON Schema of jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.config import (
    SOURCE,
    VERSION,
    check_name,
    free_name,
)
from chunkfilt.config_parts import InputPart, OutputPart, RunPart
from chunkfilt.documents import too_long, write_yaml
from chunkfilt.engine.graph import Crop, ImageNode, Source, Value, is_image
from chunkfilt.errors import InputError
from chunkfilt.filters.filter import Filter, registered
from chunkfilt.filters.params import plain
from chunkfilt.storage.images import open_image
from chunkfilt.storage.paths import near_path
from chunkfilt.storage.stored import StoredImage

__all__ = ["dump_job", "job_schema", "to_document"]


def to_document(
    outputs: Mapping[str, ImageNode | Value],
    path: str,
    *,
    group: bool,
    relative_to: Path | None = None,
) -> dict[str, Any]:
    """Return the job that computes `outputs`, as plain data.

    Raises
    ------
    InputError
        If the graph cannot be written: images in memory, unregistered filters.
    """
    order: dict[int, Any] = {}
    for name, node in outputs.items():
        if name:
            try:
                check_name(name)
            except ValueError as error:
                raise InputError(str(error)) from None
        _collect(node, order)
    sources = [node for node in order.values() if isinstance(node, Source)]
    if not all(isinstance(node.reader, StoredImage) for node in sources):
        message = "a YAML job reads stored images; this graph has images in memory: save them first"
        raise InputError(message)
    names = _source_names(sources, outputs)
    writer = _Writer(outputs, names)
    for node in order.values():
        if not isinstance(node, Source):
            writer.add(node)
    saved = [writer.alias(node, name) for name, node in outputs.items()]
    further = {
        names[id(one)]: _input_document(one, relative_to)
        for one in sources
        if names[id(one)] != SOURCE
    }
    return {
        "version": VERSION,
        "input": _input_document(sources[0], relative_to),
        **({"images": further} if further else {}),
        "steps": writer.steps,
        "output": {"path": path, "save": saved if group else saved[0]},
    }


class _Writer:
    """Writes nodes down as steps, with no more names and inputs than a reader needs."""

    def __init__(
        self, outputs: Mapping[str, ImageNode | Value], sources: Mapping[int, str]
    ) -> None:
        self.steps: list[dict[str, Any]] = []
        self.names = dict(sources)
        self.wanted = {id(node): name for name, node in reversed(list(outputs.items())) if name}
        self.reserved = dict.fromkeys(outputs)
        self.taken: dict[str, None] = dict.fromkeys((SOURCE, *sources.values()))
        self.before = SOURCE

    def add(self, node: Any) -> None:
        """Write a node as the next step."""
        params, word = _written(node)
        given = _inputs(node)
        inputs = [
            self.names[id(one)] if is_image(one) else plain(one) for one in given if one is not None
        ]
        if any(isinstance(one, np.generic) for one in given):
            # YAML's numbers have no dtype of their own; the result's stands in for it.
            params = {**params, "dtype": node.spec.dtype.name}
        name = self.wanted.get(id(node)) or free_name(word, {**self.taken, **self.reserved})
        self._step(word, params, inputs, name)
        self.names[id(node)] = name
        if not isinstance(node, Value):
            self.before = name

    def alias(self, node: ImageNode | Value, name: str) -> str:
        """Return the name a node is saved under; a second name is a crop of nothing."""
        held = self.names[id(node)]
        if not name or held == name:
            return held
        if isinstance(node, Value):
            message = f"one value under two names, {held!r} and {name!r}: leave one out"
            raise InputError(message)
        self._step("crop", {}, [held], name)
        self.before = name
        return name

    def _step(self, word: str, params: Any, inputs: list[Any], name: str) -> None:
        entry: dict[str, Any] = {word: params}
        if inputs != [self.before]:
            entry["input"] = inputs[0] if len(inputs) == 1 else inputs
        if name != free_name(word, self.taken):
            entry["name"] = name
        self.taken[name] = None
        self.steps.append(entry)


def _source_names(sources: Sequence[Source], taken: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of every source: the first is the job's input, others by their files."""
    held: dict[Any, str] = {}
    names: dict[int, str] = {}
    for one in sources:
        path = Path(getattr(one.reader, "path", ""))
        more = (getattr(one.reader, name, None) for name in ("within", "missing"))
        key = (path, one.spec, *more)
        if key not in held:
            word = re.sub(r"\W", "_", path.stem).strip("_") or "image"
            held[key] = free_name(word, dict.fromkeys([*taken, *held.values()])) if held else SOURCE
        names[id(one)] = held[key]
    return names


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job, for editors."""
    steps: list[dict[str, Any]] = []
    shared = {
        "input": {"type": ["string", "number", "array"]},
        "name": {"type": "string"},
    }
    for name, declared in registered().items():
        schema = declared.model.model_json_schema()
        schema.pop("title", None)
        summary = (declared.function.__doc__ or "").splitlines()[0]
        steps.append(
            {
                "type": "object",
                "description": summary,
                "properties": {name: {**schema, "type": ["object", "null"]}, **shared},
                "required": [name],
                "additionalProperties": False,
            }
        )
    crop = {"type": "object", "properties": {"crop": {"type": "object"}, **shared}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chunkfilt job, version 1",
        "type": "object",
        "required": ["version", "input", "steps", "output"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION},
            "input": {"oneOf": [{"type": "string"}, InputPart.model_json_schema()]},
            "images": {
                "type": "object",
                "additionalProperties": {
                    "oneOf": [{"type": "string"}, InputPart.model_json_schema()]
                },
            },
            "steps": {
                "type": "array",
                "items": {
                    "oneOf": [
                        {"enum": list(registered())},
                        *steps,
                        {**crop, "required": ["crop"], "additionalProperties": False},
                    ]
                },
            },
            "output": {"oneOf": [{"type": "string"}, OutputPart.model_json_schema()]},
            "run": RunPart.model_json_schema(),
        },
    }


def dump_job(document: Mapping[str, Any]) -> str:
    """Return a job's plain data as YAML text.

    Raises
    ------
    InputError
        If it is longer than a job may be.
    """
    text = write_yaml(dict(document))
    if too_long(document, text):
        message = "the job would be too long to be read again: weights may stand in a .npy file"
        raise InputError(message)
    return text


def _collect(node: Any, order: dict[int, Any]) -> None:
    """Gather the nodes that are steps, inputs first; a filter's own values are none."""
    stack = [(node, False)]
    while stack:
        one, ready = stack.pop()
        if ready:
            order.setdefault(id(one), one)
        elif id(one) not in order:
            stack.append((one, True))
            stack.extend((needed, False) for needed in reversed(_inputs(one)) if is_image(needed))


def _inputs(node: Any) -> Sequence[Any]:
    """Return a node's inputs as they stand in YAML: a composite's own, not its last step's."""
    return node.inputs if isinstance(node, Source | Crop) else node.written.inputs


def _written(node: Any) -> tuple[Any, str]:
    """Return a node's parameters as they stand in YAML, and its word."""
    if isinstance(node, Crop):
        spec = node.inputs[0].spec
        box: dict[str, Any] = {}
        for axis, name in enumerate(spec.axes):
            start, stop = node.start[axis], node.stop[axis]
            if axis in node.dropped:
                box[name] = start
            elif (start, stop) != (0, spec.shape[axis]):
                box[name] = [start, stop]
        return box, "crop"
    declared: Filter = node.written.filter
    if registered().get(declared.name) is not declared:
        message = f"the filter {declared.name!r} is not registered: YAML cannot name it"
        raise InputError(message)
    return declared.dump(node.written.params), declared.name


def _input_document(source: Source, relative_to: Path | None) -> Any:
    reader = source.reader
    assert isinstance(reader, StoredImage)
    path = reader.path if relative_to is None else near_path(reader.path, relative_to)
    plain = open_image(reader.path, reader.within).spec
    more = {} if reader.within is None else {"array": reader.within}
    more |= {} if reader.missing == "fill" else {"missing": reader.missing}
    if plain == source.spec:
        return {"path": path, **more} if more else path
    names = source.spec.axes
    written: dict[str, Any] = {
        "path": path,
        "axes": list(names),
        "spatial": [names[a] for a in source.spec.spatial],
    }
    if source.spec.nodata != plain.nodata:
        written["nodata"] = source.spec.nodata
    return {**written, **more}

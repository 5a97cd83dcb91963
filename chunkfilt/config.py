"""A job: the YAML file, version 1, and the graph it stands for.

``load_job`` reads and checks a file; ``Job.build`` gives the graph.  The way back is
``config_document.py``: the graph and its file are the same thing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import chunkfilt.filters  # noqa: F401 - declares every filter
from chunkfilt.config_parts import InputPart, OutputPart, RunPart
from chunkfilt.documents import Document, read_yaml
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import ImageNode, Source, Value, crop_named, is_image
from chunkfilt.errors import InputError, ParameterError, nearest
from chunkfilt.filters.filter import find_filter
from chunkfilt.filters.params import paths_from, problem
from chunkfilt.runtime.executors import SCHEDULERS
from chunkfilt.runtime.layout import OutputOptions
from chunkfilt.runtime.options import RunOptions
from chunkfilt.storage.images import open_image
from chunkfilt.storage.paths import refuse_url
from chunkfilt.storage.zarr_output import (
    make_compressor,
)
from chunkfilt.words import shown

__all__ = ["Built", "Job", "load_job"]

VERSION = 1
SOURCE = "source"
_NAME = re.compile(r"\w([\w .-]{0,98}[\w-])?")
_RESERVED = (SOURCE, "tables", "zarr.json")


@dataclass(frozen=True)
class Step:
    """One step as written: a filter (or ``crop``), parameters, inputs, a name."""

    filter: str
    params: Mapping[str, Any]
    inputs: Sequence[str | float] | None
    name: str | None


@dataclass(frozen=True)
class Built:
    """What a job stands for: nodes by name, and where and how to compute them."""

    outputs: Mapping[str, ImageNode | Value]
    group: bool
    path: Path
    output: OutputOptions
    options: RunOptions
    nodes: Mapping[str, ImageNode | Value]


@dataclass(frozen=True)
class Job:
    """A checked YAML file."""

    document: Document
    input: InputPart
    images: Mapping[str, InputPart]
    steps: Sequence[Step]
    output: OutputPart
    run: RunPart
    folder: Path

    def build(self) -> Built:
        """Open the input and bind every step; no pixel is read.

        Raises
        ------
        ConfigError
            If anything does not fit, with line and column.
        """
        nodes: dict[str, ImageNode | Value] = {SOURCE: self._source(self.input, "input")}
        for name, part in self.images.items():
            nodes[name] = self._source(part, "images", name)
        image = last = SOURCE
        for number, step in enumerate(self.steps):
            name = step.name or free_name(step.filter, nodes)
            if name in nodes:
                message = f"the name {name!r} is taken by an earlier step or image"
                raise self.document.error(message, "steps", number, "name")
            nodes[name] = self._bind(number, step, nodes, image)
            last = name
            # A value is no image: the step after it goes on from the image before it.
            image = image if isinstance(nodes[name], Value) else name
        saved = self.output.save
        names = [last] if saved is None else [saved] if isinstance(saved, str) else saved
        outputs = {self._known(name, nodes, "output", "save"): nodes[name] for name in names}
        outputs = {name: self._cast(node) for name, node in outputs.items()}
        group = isinstance(saved, list) or any(isinstance(n, Value) for n in outputs.values())
        return Built(
            outputs,
            group,
            self._output_path(),
            self._output_options(),
            self._run_options(),
            nodes,
        )

    def _source(self, part: InputPart, *where: str) -> ImageNode:
        try:
            refuse_url(part.path)
            path = os.path.normpath(self.folder / part.path)
            held = open_image(
                path,
                part.array,
                axes=part.axes,
                spatial=part.spatial,
                nodata=part.nodata,
                missing=part.missing,
            )
        except InputError as error:
            raise self.document.error(str(error), *where, "path") from None
        node: ImageNode = Source(held.spec, held)
        for word, ranges in (("region", part.region), ("select", part.select)):
            try:
                node = crop_named(node, ranges) if ranges else node
            except InputError as error:
                raise self.document.error(str(error), *where, word) from None
        return node

    def _bind(
        self, number: int, step: Step, nodes: Mapping[str, Any], before: str
    ) -> ImageNode | Value:
        where = ("steps", number)
        inputs: list[Any] = []
        for one in [before] if step.inputs is None else step.inputs:
            node = nodes[self._known(one, nodes, *where, "input")] if isinstance(one, str) else one
            if isinstance(node, Value):
                message = f"{one!r} is a value of the whole image, {step.filter} takes images"
                raise self.document.error(message, *where, "input")
            inputs.append(node)
        if step.filter == "crop" and not (len(inputs) == 1 and is_image(inputs[0])):
            message = f"crop takes one image as input, got {shown(step.inputs)}"
            raise self.document.error(message, *where, "input")
        try:
            if step.filter == "crop":
                return crop_named(inputs[0], step.params)
            with paths_from(self.folder):
                return bind(find_filter(step.filter), inputs, step.params)
        except InputError as error:
            parameter = error.parameter if isinstance(error, ParameterError) else None
            path = (*where, step.filter, parameter) if parameter else (*where, step.filter)
            raise self.document.error(str(error), *path) from None

    def _known(self, name: str, nodes: Mapping[str, Any], *path: Any) -> str:
        if name not in nodes:
            known = ", ".join(nodes)
            message = (
                f"no step or image is called {name!r}{nearest(name, nodes)}; there are {known}"
            )
            raise self.document.error(message, *path)
        return name

    def _cast(self, node: ImageNode | Value) -> ImageNode | Value:
        dtype = self.output.dtype
        if dtype is None or isinstance(node, Value) or node.spec.dtype == dtype:
            return node
        return bind(find_filter("cast"), [node], {"dtype": dtype})

    def _output_path(self) -> Path:
        try:
            refuse_url(self.output.path, "output")
        except InputError as error:
            raise self.document.error(str(error), "output", "path") from None
        return Path(os.path.normpath(self.folder / self.output.path))

    def _run_options(self) -> RunOptions:
        try:
            return RunOptions(**self.run.model_dump())
        except InputError as error:
            # Each part is right by itself; it is where the scheduler is that does not go with them.
            place = "scheduler_file" if self.run.address is None else "address"
            raise self.document.error(str(error), "run", place) from None

    def _output_options(self) -> OutputOptions:
        part = self.output
        compressor = "input" if part.compressor is None else make_compressor(part.compressor)
        return OutputOptions(
            None if part.chunks is None else tuple(part.chunks),
            None if part.shards is None else tuple(part.shards),
            compressor,
            part.overwrite,
        )


def load_job(path: str | Path, changes: Sequence[str] = ()) -> Job:
    """Read and check a YAML job.

    Parameters
    ----------
    path : path
        The file.
    changes : sequence of str
        Changes by dotted path, ``steps.0.gaussian.sigma=3``; values are YAML.

    Raises
    ------
    InputError
        If the file is missing or wrong, with line and column, or a change does not fit.
    """
    file = Path(path)
    document = read_yaml(file)
    for change in changes:
        _set(document, change)
    return check_job(document, file.absolute().parent)


def check_job(document: Document, folder: Path) -> Job:
    """Check a document part by part; see `load_job`."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error("a job is a mapping with version, input, steps and output")
    parts = ("version", "input", "images", "steps", "output", "run")
    for key in data:
        if key not in parts:
            known = ", ".join(parts)
            message = f"unknown key {shown(key)}{nearest(str(key), parts)}; a job has {known}"
            raise document.error(message, key)
    for key in ("version", "input", "steps", "output"):
        if key not in data:
            raise document.error(f"{key} is missing")
    if data["version"] != VERSION or isinstance(data["version"], bool):
        message = f"version must be {VERSION}, got {shown(data['version'])}"
        raise document.error(message, "version")
    steps = data["steps"]
    if not isinstance(steps, list):
        message = f"steps must be a list of filters, got {shown(steps)}"
        raise document.error(message, "steps")
    short = {key: _short(data[key]) for key in ("input", "output")}
    run = {} if data.get("run") is None else data["run"]
    with paths_from(folder):
        checked = [_step(one, number, document) for number, one in enumerate(steps)]
        return Job(
            document,
            _part(InputPart, short["input"], document, "input"),
            _images(data.get("images"), document),
            checked,
            _part(OutputPart, short["output"], document, "output"),
            _part(RunPart, run, document, "run"),
            folder,
        )


def _images(written: Any, document: Document) -> dict[str, InputPart]:
    """Check the further images of a job, by name."""
    if written is None:
        return {}
    if not isinstance(written, dict):
        message = f"images must be a mapping of names to inputs, got {shown(written)}"
        raise document.error(message, "images")
    for name in written:
        try:
            check_name(name)
        except ValueError as error:
            raise document.error(f"images: {error}", "images") from None
    return {
        name: _part(InputPart, _short(one), document, "images", name)
        for name, one in written.items()
    }


def _part(model: type[Any], data: Any, document: Document, *where: str) -> Any:
    key = ".".join(where)
    if not isinstance(data, dict):
        message = f"{key} must be a mapping, got {shown(data)}"
        raise document.error(message, *where)
    try:
        return model(**{str(k): v for k, v in data.items()})
    except ValidationError as error:
        first = error.errors()[0]
        path = [
            part for part in first["loc"] if (isinstance(part, int) or part in _flat_keys(data))
        ]
        word = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = list(model.model_fields)
            message = (
                f"unknown key {shown(word)}{nearest(word, known)}; {key} has {', '.join(known)}"
            )
        elif first["type"] == "missing":
            message = f"{key} needs {word}"
        elif word == "scheduler":
            message = (
                f"scheduler must be one of {', '.join(SCHEDULERS)}, got {shown(first['input'])}"
            )
        else:
            message = f"{key}.{'.'.join(map(str, path))} {problem(first)}"
        raise document.error(message, *where, *path) from None


def _flat_keys(data: Mapping[Any, Any]) -> set[Any]:
    keys = set(data)
    for value in data.values():
        if isinstance(value, dict):
            keys |= _flat_keys(value)
    return keys


def _step(written: Any, number: int, document: Document) -> Step:
    where = ("steps", number)
    if isinstance(written, str):
        written = {written: None}
    if not isinstance(written, dict):
        message = f"a step is a filter's name, or a mapping with one, got {shown(written)}"
        raise document.error(message, *where)
    filters = [key for key in written if key not in ("input", "name")]
    if len(filters) != 1:
        message = f"a step has one filter beside input and name, got {filters or 'none'}"
        raise document.error(message, *where)
    word = str(filters[0])
    params = written[word] if word in written else written[filters[0]]
    params = {} if params is None else params
    if not isinstance(params, dict):
        message = f"{word}: parameters must be a mapping such as {{size: 5}}, got {shown(params)}"
        raise document.error(message, *where, word)
    if word != "crop":
        try:
            find_filter(word).validate({str(k): v for k, v in params.items()})
        except ParameterError as error:
            raise document.error(str(error), *where, word, error.parameter) from None
        except InputError as error:
            raise document.error(str(error), *where, word) from None
    name = written.get("name")
    if name is not None:
        try:
            check_name(name)
        except ValueError as error:
            raise document.error(str(error), *where, "name") from None
    inputs = written.get("input")
    listed = inputs if isinstance(inputs, list) or inputs is None else [inputs]
    for one in listed or []:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            message = (
                f"input must be a step's name, a number, or a list of them, got {shown(inputs)}"
            )
            raise document.error(message, *where, "input")
    return Step(word, {str(k): v for k, v in params.items()}, listed, name)


def _short(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def check_name(name: Any) -> None:
    """Refuse what cannot name a step and an array of the output."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
        message = (
            "name must be a word of letters, digits, '_', '-', '.' and spaces that begins with a "
            f"letter or digit and is none of {', '.join(_RESERVED)}, got {shown(name)}"
        )
        raise ValueError(message)


def free_name(word: str, taken: Mapping[str, Any]) -> str:
    """Return a word, with a number where it is taken."""
    name, number = word, 2
    while name in taken:
        name, number = f"{word}_{number}", number + 1
    return name


def _set(document: Document, change: str) -> None:
    """Apply ``a.b.0.c=value`` to a document's data."""
    from chunkfilt.documents import parse_yaml

    path, equals, text = change.partition("=")
    if not equals or not path:
        message = f"--set takes PATH=VALUE such as steps.0.gaussian.sigma=3, got {change!r}"
        raise InputError(message)
    value = parse_yaml(text.encode(), f"--set {path}").data
    here = document.data
    if isinstance(here, dict):
        # A path alone is short for a mapping with that path.
        here.update({key: _short(here[key]) for key in ("input", "output") if key in here})
        if isinstance(here.get("steps"), list):
            # A filter's name alone is short for a mapping with its defaults.
            here["steps"] = [{one: {}} if isinstance(one, str) else one for one in here["steps"]]
    *parents, last = path.split(".")
    for part in parents:
        here = _enter(here, part, change)
    if isinstance(here, list):
        _enter(here, last, change)
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        message = f"--set {change}: {path.rpartition('.')[0]} is no mapping"
        raise InputError(message)


def _enter(here: Any, part: str, change: str) -> Any:
    if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
        return here[int(part)]
    if isinstance(here, dict):
        if here.get(part) is None:
            here[part] = {}
        return here[part]
    message = f"--set {change}: there is no {part!r}"
    raise InputError(message)

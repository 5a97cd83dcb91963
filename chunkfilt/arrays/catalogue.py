"""The catalogue: every filter by family, and a page for each, from nothing but its declaration."""

from __future__ import annotations

import ast
import doctest
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from chunkfilt.arrays.public import functions
from chunkfilt.documents import write_yaml
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import demand
from chunkfilt.engine.graph import Source, Value, plain_axes
from chunkfilt.errors import InputError
from chunkfilt.filters.filter import Filter, find_filter, load_plugins, registered
from chunkfilt.filters.generic import allow_code
from chunkfilt.grid import ImageSpec

__all__ = ["entry", "example_of", "families", "page"]

# Large enough that no window of an example reaches the edge from the middle.
_SIDE = 1 << 14
_AROUND = "{} before and {} after"
_NOTHING = _AROUND.format(0, 0)
_DTYPES = ("bool", "uint8", "int16", "uint16", "int32", "float32", "float64")


def families() -> dict[str, dict[str, str]]:
    """Return every filter's summary by name, by the family it belongs to.

    A family is the module that declares its filters; it is called by what the module says of
    itself before the colon.
    """
    load_plugins()
    found: dict[str, dict[str, str]] = {}
    for name, declared in registered().items():
        text = inspect.getdoc(sys.modules[declared.function.__module__]) or ""
        family = text.partition("\n")[0].partition(":")[0].rstrip(".")
        found.setdefault(family or declared.function.__module__, {})[name] = summary(declared)
    return dict(sorted(found.items()))


def summary(declared: Filter) -> str:
    """Return the first line of a filter's docstring."""
    return (inspect.getdoc(declared.function) or declared.name).partition("\n")[0]


def example_of(declared: Filter) -> tuple[str, dict[str, Any], list[Any]]:
    """Return the call of a filter in its docstring's example: text, parameters, further inputs.

    Parameters that are no plain values are left out. An input that is an array is called by its
    name in the declaration.
    """
    text = inspect.getdoc(declared.function) or ""
    for example in doctest.DocTestParser().get_examples(text):
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"cf.{declared.name}":
                params = {k: v for k, v in _literals(node) if k not in declared.inputs}
                return ast.unparse(node), params, _operands(declared, node)
    return f"cf.{declared.name}(image)", {}, []


def entry(name: str) -> dict[str, Any]:
    """Return what there is to know of a filter, as plain data.

    Raises
    ------
    InputError
        If there is no such filter.
    """
    declared = find_filter(name)
    call, params, further = example_of(declared)
    step: Any = {name: params}
    if further:
        step["input"] = ["source", *further]
    return {
        "name": name,
        "kind": declared.kind,
        "summary": summary(declared),
        "inputs": list(declared.inputs),
        "parameters": declared.model.model_json_schema().get("properties", {}),
        "reads": _reads(declared, params),
        "gives": _gives(declared, params),
        "python": call,
        "yaml": write_yaml({"steps": [step]}).partition("\n")[2].rstrip(),
        "document": functions()[name].__doc__,
    }


def page(name: str) -> str:
    """Return a filter's page, as text.

    Raises
    ------
    InputError
        If there is no such filter.
    """
    held = entry(name)
    signature = getattr(functions()[name], "__signature__", "")
    gives = [f"{', '.join(taken)}: {given}" for given, taken in held["gives"].items()]
    sections = [
        f"{name}{signature}",
        held["document"].strip(),
        f"Reads\n-----\n{held['reads']}",
        "Dtypes\n------\n" + "\n".join(gives),
        "In YAML\n-------\nsteps:\n" + held["yaml"],
    ]
    return "\n\n".join(sections)


def _operands(declared: Filter, call: ast.Call) -> list[Any]:
    """Return the inputs after the first: numbers, or the names of images."""
    named = {one.arg: one.value for one in call.keywords}
    given = [*call.args[1:], *(named[n] for n in declared.inputs[len(call.args) :] if n in named)]
    held = []
    for name, value in zip(declared.inputs[1:], given, strict=False):
        try:
            number = ast.literal_eval(value)
        except ValueError:
            number = None
        held.append(number if isinstance(number, (int, float)) else name)
    return held


def _literals(call: ast.Call) -> Any:
    for keyword in call.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError:
            continue
        if keyword.arg is not None:
            yield keyword.arg, list(value) if isinstance(value, tuple) else value


def _bound(declared: Filter, params: Mapping[str, Any], dtype: str) -> Any:
    """Return the filter on images of the first number of axes that it takes; None if it takes none.

    Two axes come first: most images have them.
    """
    shapes = {2: (_SIDE,) * 2, 3: (_SIDE,) * 3, 1: (_SIDE,), 4: (3, _SIDE, _SIDE)}
    for ndim, shape in shapes.items():
        # The last one is an image with channels.
        axes = ("c", "y", "x") if ndim > len(shape) else plain_axes(ndim)
        spatial = tuple(i for i, n in enumerate(shape) if n == _SIDE)
        spec = ImageSpec(shape, np.dtype(dtype), axes, spatial)
        given = {key: value for key, value in params.items() if key != "axes"}
        count = declared.required
        try:
            with allow_code():
                return bind(declared, [Source(spec, None) for _ in range(count)], given)  # type: ignore[arg-type]
        except InputError:
            continue
    return None


def _reads(declared: Filter, params: Mapping[str, Any]) -> str:
    """Return what a pixel of the result takes, in words."""
    node = next((one for d in _DTYPES[::-1] if (one := _bound(declared, params, d))), None)
    if node is None:
        return "Depends on the image."
    if isinstance(node, Value):
        return "Every pixel of the image, once."
    middle = _SIDE // 2
    said: dict[str, list[str]] = {}
    order, runs = demand({node: [((middle, middle + 1),)] * node.spec.ndim})
    source = next(one for one in order if isinstance(one, Source))
    for axis, along, n in zip(source.spec.axes, runs[id(source)], source.spec.shape, strict=True):
        if n != _SIDE:
            continue
        before, after = middle - along[0][0], along[-1][1] - middle - 1
        said.setdefault(_AROUND.format(before, after), []).append(axis)
    if any(isinstance(one, Value) for one in order):
        return "Every pixel of the image, once for its values; then the pixel itself."
    if set(said) <= {_NOTHING}:
        return "The pixel itself."
    around = ", ".join(f"{words} along {' and '.join(along)}" for words, along in said.items())
    return f"Pixels around each, with the parameters of the example: {around}."


def _gives(declared: Filter, params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the dtypes of results, and of which images."""
    found: dict[str, list[str]] = {}
    for dtype in _DTYPES:
        node = _bound(declared, params, dtype)
        if node is None:
            found.setdefault("not taken", []).append(dtype)
        else:
            result = "a value" if isinstance(node, Value) else node.spec.dtype.name
            found.setdefault(result, []).append(dtype)
    return found

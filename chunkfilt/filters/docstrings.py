"""The docstring of a public function: the kernel's own, with the shared parameters written in."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from chunkfilt.filters.filter import Filter

__all__ = ["full_docstring"]

SHARED_DOCS = {
    "mode": (
        "mode : {'reflect', 'mirror', 'nearest', 'constant', 'wrap'}, default {default!r}",
        "What lies beyond the image's edge, in scipy.ndimage's words.",
    ),
    "cval": (
        "cval : float, default 0.0",
        "The value beyond the edge under ``mode='constant'``.",
    ),
    "nan_policy": (
        "nan_policy : {'propagate', 'omit'}, default 'propagate'",
        (
            "'propagate': a NaN reaches the pixels whose window holds it. 'omit': the pixels that "
            "are not NaN count; a pixel with none of them in its window is NaN."
        ),
    ),
    "mask": (
        "mask : image, optional",
        "Only pixels where it is not 0 count.",
    ),
    "axes": (
        "axes : int, str or sequence of them, optional",
        (
            "The spatial axes, by number or name; the others are batch axes, each index filtered "
            "on its own. Default: all axes of a plain array, the spatial ones of an image with "
            "named axes."
        ),
    ),
    "scope": (
        "scope : {'batch', 'all'}, default 'batch'",
        "Whether whole-image values are per batch index or over all of them.",
    ),
    "dtype": (
        "dtype : dtype, optional",
        (
            "Cast the result: integers round half to even and saturate, NaN becomes 0. Default: "
            "as said under Returns."
        ),
    ),
}


def full_docstring(declared: Filter) -> str:
    """Return the kernel's docstring with the shared parameters written in."""
    text = inspect.getdoc(declared.function) or declared.name
    own = inspect.signature(declared.function).parameters
    fields = declared.model.model_fields
    images = [_entry(name, None) for name in declared.inputs if _shared(name, own)]
    added = [_entry(name, fields[name].default) for name in fields if _shared(name, own)]
    head, separator, tail = text.partition("\nReturns\n")
    if not separator:
        return text
    lines = head.rstrip().splitlines()
    # Further images stand behind the first, in the order of the signature.
    at = next((i for i, line in enumerate(lines) if line.startswith("image")), len(lines)) + 1
    while at < len(lines) and (lines[at].startswith(" ") or not lines[at]):
        at += 1
    lines[at:at] = images
    described = "\n".join([*lines, *added])
    return f"{described}\n{separator}{tail}"


def _shared(name: str, own: Mapping[str, Any]) -> bool:
    return name in SHARED_DOCS and name not in own


def _entry(name: str, default: Any) -> str:
    """Return a shared parameter's paragraph."""
    head, body = SHARED_DOCS[name]
    told = textwrap.indent(textwrap.fill(body, 92), "    ")
    return head.replace("{default!r}", repr(default)) + "\n" + told

"""Filters for images larger than memory: the same answer as filtering the whole image.

Every filter is a function on images: NumPy arrays are filtered at once, dask arrays and the
lazy images of `chunkfilt.open` stay lazy.  Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Everything but the filters, by the module it lives in; the filters are found by name.
_HOMES = {
    "Image": "chunkfilt.arrays.image",
    "LazyValue": "chunkfilt.arrays.image",
    "allow_code": "chunkfilt.filters.generic",
    "ball": "chunkfilt.filters.footprints",
    "disk": "chunkfilt.filters.footprints",
    "ellipse": "chunkfilt.filters.footprints",
    "from_yaml": "chunkfilt.arrays.api",
    "image_filter": "chunkfilt.arrays.public",
    "open": "chunkfilt.arrays.api",
    "plan": "chunkfilt.arrays.api",
    "preview": "chunkfilt.arrays.api",
    "ring": "chunkfilt.filters.footprints",
    "run_yaml": "chunkfilt.arrays.api",
    "save": "chunkfilt.arrays.api",
    "to_yaml": "chunkfilt.arrays.api",
    "value_filter": "chunkfilt.arrays.public",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "__all__":
        found = sorted([*_HOMES, *_filters(), "__version__"])
    elif name.startswith("_") or name not in _filters():
        message = f"module 'chunkfilt' has no attribute {name!r}"
        raise AttributeError(message)
    else:
        found = _filters()[name]
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _filters() -> dict[str, Any]:
    functions: dict[str, Any] = importlib.import_module("chunkfilt.arrays.public").functions()
    return functions

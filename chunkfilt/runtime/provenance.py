"""What a run records: versions, the input's fingerprint, checksums; times only beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunkfilt.engine.graph import Filtered, Node, Source, Value, topological
from chunkfilt.storage.zarr_store import ZarrImage

__all__ = ["fingerprint", "machine", "record"]

_PACKAGES = ("chunkfilt", "numpy", "scipy", "numba", "zarr", "zarrs", "dask")


def fingerprint(image: ZarrImage) -> str:
    """Return a digest of an input: its metadata, and the checksum of the run that wrote it."""
    digest = hashlib.sha256()
    for name in ("zarr.json", ".zarray"):
        file = Path(image.path) / name
        if file.is_file():
            held = json.loads(file.read_bytes())
            held.pop("attributes", None)
            digest.update(json.dumps(held, sort_keys=True).encode())
    digest.update(json.dumps(image.record.get("checksums", {}), sort_keys=True).encode())
    return f"sha256:{digest.hexdigest()[:32]}"


def record(outputs: Mapping[str, Node], document: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what goes into the output's attributes: graph, versions, inputs."""
    order = topological(outputs.values())
    readers = [node.reader for node in order if isinstance(node, Source)]
    images = [reader for reader in readers if isinstance(reader, ZarrImage)]
    bound = [node for node in order if isinstance(node, Filtered | Value)]
    used = [one for node in bound for one in (node.filter, node.written.filter)]
    filters = {one.name: one.rules.version for one in used}
    return {
        "finished": False,
        "job": document,
        "inputs": {image.path: fingerprint(image) for image in images},
        "filters": filters,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def machine() -> dict[str, str]:
    """Return what the run ran on; for ``run.json`` only."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }

"""How outputs are stored: chunks, shards and compressor, as asked for or as the input has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chunkfilt.engine.graph import ImageNode, Source, topological
from chunkfilt.engine.plan import default_chunks
from chunkfilt.errors import InputError
from chunkfilt.storage.zarr_output import ArrayLayout, suitable_compressor

__all__ = ["OutputOptions", "layout_of"]


@dataclass(frozen=True)
class OutputOptions:
    """How the output is stored; `chunks` and `shards` are of the grid axes."""

    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    compressor: Any = "input"
    overwrite: bool = False


def layout_of(node: ImageNode, output: OutputOptions) -> tuple[ArrayLayout, str | None]:
    """Return how an image is stored, and a note where that was decided without being asked."""
    spec = node.spec
    origin = next((n for n in topological([node]) if isinstance(n, Source)), None)
    held = getattr(origin, "reader", None)
    chunks, note = default_chunks(
        spec, origin.spec if origin else None, getattr(held, "chunks", None)
    )
    if output.chunks is not None:
        chunks, note = _full(spec, output.chunks, "chunks"), None
    shards = None if output.shards is None else _full(spec, output.shards, "shards")
    if shards is not None and any(s % c for s, c in zip(shards, chunks, strict=True)):
        message = f"output shards must be whole multiples of its chunks {chunks}, got {shards}"
        raise InputError(message)
    compressor = output.compressor
    if isinstance(compressor, str) and compressor == "input":
        compressor = suitable_compressor(getattr(held, "compressor", "auto"), spec.dtype)
    return ArrayLayout(spec, chunks, shards, compressor), note


def _full(spec: Any, along_grid: Sequence[int], word: str) -> tuple[int, ...]:
    """Return chunks or shards of the grid axes with 1 for the leading axes."""
    if len(along_grid) != len(spec.grid) or any(n < 1 for n in along_grid):
        names = ", ".join(spec.axes[a] for a in spec.grid)
        message = (
            f"output {word} must be {len(spec.grid)} numbers >= 1 ({names}), got {list(along_grid)}"
        )
        raise InputError(message)
    full = [1] * spec.ndim
    for axis, n in zip(spec.grid, along_grid, strict=True):
        full[axis] = n
    return tuple(full)

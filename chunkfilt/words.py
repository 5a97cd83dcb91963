"""How things stand in messages and tables: bytes, shapes, values, long texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["brief", "format_bytes", "format_shape", "shown"]


def format_bytes(size: float) -> str:
    """Return bytes as people write them.

    >>> format_bytes(2 << 30), format_bytes(1536), format_bytes(10)
    ('2.0 GiB', '1.5 KiB', '10 B')
    """
    if size < 1024:
        return f"{int(size)} B"
    power = min(int(math.log(size, 1024)), 4)
    return f"{size / 1024**power:.1f} {'_KMGT'[power]}iB"


def format_shape(shape: Sequence[int], axes: Sequence[str]) -> str:
    """Return a shape with the names of its axes: ``512 y x 640 x``."""
    return " x ".join(f"{n} {a}" for a, n in zip(axes, shape, strict=True))


def shown(value: Any, width: int = 60) -> str:
    """Return a value as it may stand in a message: one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def brief(text: str, width: int = 100) -> str:
    """Return a text as it may stand in a message: one short line."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 23]}...{line[-20:]}"

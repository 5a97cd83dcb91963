"""Pictures: a plane of an image stretched to grey, with a caption that says what it shows."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt._optional import require
from chunkfilt.errors import StorageError

__all__ = ["Picture", "plane_index", "stretch"]

_STRIP, _CAPTION = 32, 20
_SMALLEST_SIDE = 256
_MISSING = (190, 60, 60)


class Picture:
    """A grey picture of a 2-D array, with a caption.

    Parameters
    ----------
    array : ndarray
        2-D (1-D is drawn as a strip); real numbers.
    caption : str
        What the picture shows; drawn beneath it.
    """

    def __init__(self, array: np.ndarray, caption: str) -> None:
        if array.ndim == 1:
            array = np.repeat(array[None], _STRIP, axis=0)
        self.array = array
        low, high = limits(array)
        self.caption = f"{caption}; black {_number(low)}, white {_number(high)}"
        self.grey = stretch(array, low, high)

    def png(self) -> bytes:
        """Return the picture as PNG bytes.

        Raises
        ------
        MissingDependency
            If Pillow is not installed.
        """
        pillow = require("PIL.Image", extra="show")
        draw_on = require("PIL.ImageDraw", extra="show")
        rgb = np.repeat(self.grey[:, :, None], 3, axis=2)
        if self.array.dtype.kind == "f":
            rgb[~np.isfinite(self.array)] = _MISSING
        # A small window is enlarged by whole numbers, so that its pixels stay square and sharp.
        factor = max(_SMALLEST_SIDE // max(*rgb.shape[:2], 1), 1)
        rgb = np.repeat(np.repeat(rgb, factor, axis=0), factor, axis=1)
        lines = _wrap(self.caption, max(rgb.shape[1] // 7, 24))
        height = rgb.shape[0] + _CAPTION * len(lines) + 6
        width = max(rgb.shape[1], 7 * max(map(len, lines)) + 8)
        page = pillow.new("RGB", (width, height), "white")
        page.paste(pillow.fromarray(rgb), (0, 0))
        draw = draw_on.Draw(page)
        font = require("PIL.ImageFont", extra="show").load_default(13)
        for number, line in enumerate(lines):
            draw.text((4, rgb.shape[0] + 4 + _CAPTION * number), line, fill="black", font=font)
        out = io.BytesIO()
        page.save(out, format="PNG")
        return out.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the picture as a PNG file and return its path."""
        place, png = Path(path), self.png()
        try:
            place.write_bytes(png)
        except (OSError, ValueError) as error:
            message = f"cannot write {place}: {getattr(error, 'strerror', None) or error}"
            raise StorageError(message) from None
        return place

    def _repr_png_(self) -> bytes:
        return self.png()

    def data_uri(self) -> str:
        """Return the picture for the ``src`` of an HTML image."""
        return "data:image/png;base64," + base64.b64encode(self.png()).decode()

    def __repr__(self) -> str:
        return f"<chunkfilt picture {self.array.shape[0]} x {self.array.shape[1]}: {self.caption}>"


def limits(array: np.ndarray) -> tuple[float, float]:
    """Return what is drawn black and white: the 1st and 99th percentile of the finite pixels."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite.astype(np.float64), (1, 99))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    return float(low), float(high)


def stretch(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the array as uint8, `low` black and `high` white."""
    span = high - low if high > low else 1.0
    scaled = (array.astype(np.float64) - low) / span
    return np.asarray(np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)


def plane_index(shape: Sequence[int], spatial: Sequence[int]) -> dict[int, int]:
    """Return the indices that leave the last two spatial axes: the middle, or the first.

    >>> plane_index((3, 9, 40, 50), (1, 2, 3))
    {0: 0, 1: 4}
    """
    shown = list(spatial)[-2:] or list(range(len(shape)))[-2:]
    return {
        axis: n // 2 if axis in spatial else 0 for axis, n in enumerate(shape) if axis not in shown
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def describe_box(axes: Sequence[str], start: Sequence[int], stop: Sequence[int]) -> str:
    """Return a box in words: ``y 0:512, x 0:512``."""
    return ", ".join(
        f"{name} {a}" if b == a + 1 else f"{name} {a}:{b}"
        for name, a, b in zip(axes, start, stop, strict=True)
    )


def table_html(rows: Sequence[tuple[str, Any]]) -> str:
    """Return pairs of a word and its figure as an HTML table."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(word)}</th>"
        f"<td style='text-align:left'>{html.escape(str(figure))}</td></tr>"
        for word, figure in rows
    )
    return f"<table>{cells}</table>"

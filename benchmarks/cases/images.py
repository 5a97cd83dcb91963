"""The images that filters are measured on, made of a mosaic of uint16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["KINDS", "image_of"]

# What a threshold near the mosaic's median leaves: textures of specks and holes.
LEVEL = 28000
MISSING = 0.05  # of the pixels of an image with gaps


def image_of(kind: str, mosaic: np.ndarray) -> np.ndarray:
    """Return an image of that kind; ``turned ...`` is one turned round, as a second image."""
    if kind.startswith("turned "):
        return np.ascontiguousarray(image_of(kind.removeprefix("turned "), mosaic)[::-1, ::-1])
    return KINDS[kind](mosaic)


def _gaps(mosaic: np.ndarray) -> np.ndarray:
    """Return floats of which some are NaN: half of them single pixels, half squares of 8 x 8."""
    rng = np.random.default_rng(0)
    rows, columns = mosaic.shape
    single = rng.random(mosaic.shape) < MISSING / 2
    coarse = rng.random((-(-rows // 8), -(-columns // 8))) < MISSING / 2
    squares = coarse.repeat(8, axis=0).repeat(8, axis=1)[:rows, :columns]
    image = mosaic.astype(np.float32)
    image[single | squares] = np.nan
    return image


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uint16": np.ascontiguousarray,
    "uint8": lambda mosaic: (mosaic >> 8).astype(np.uint8),
    "int16": lambda mosaic: (mosaic.astype(np.int32) - LEVEL).astype(np.int16),
    "float32": lambda mosaic: mosaic.astype(np.float32),
    # In 0 ... 1, and nowhere zero.
    "unit": lambda mosaic: (mosaic.astype(np.float32) + 1) / np.float32(65536),
    "mask": lambda mosaic: mosaic > LEVEL,
    "gaps": _gaps,
    # Along an axis c, which comes first.
    "channels": lambda mosaic: np.stack([mosaic, mosaic[::-1], mosaic[:, ::-1]]),
}

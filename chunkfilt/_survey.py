"""The scene of the demo's mosaic: land laid with photographs, and the camera that surveys it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt._optional import require
from chunkfilt.errors import MissingDependency

__all__ = ["FIELD", "MARGIN", "STRIDE", "TEXTURES", "WOBBLE", "Floats", "Survey", "read_photo"]

Floats = NDArray[np.float32]

FIELD = (512, 640)  # pixels of one camera field
STRIDE = (480, 600)  # from one field to the next; neighbours overlap
MARGIN = 16  # pixels by which the first field lies outside the mosaic
WOBBLE = 6  # pixels by which a field misses its place in the raster
_DRIFT = 2.0  # pixels by which its recorded place is wrong, so that seams do not quite fit
_PARCEL = (1000.0, 1250.0)  # mean pitch of the parcels of land
_RIVER = 9000.0  # from one river to the next
TEXTURES = ("brick", "grass", "gravel", "retina")


class _Sheet(NamedTuple):
    """A photograph laid over land without end: mirrored, turned, scaled, of some brightness."""

    photo: str
    step: float  # the photograph's pixels per image pixel
    level: float
    contrast: float
    y: float = 0.0
    x: float = 0.0
    angle: float = 0.4


_FOREST = (_Sheet("gravel", 0.70, 0.20, 0.08), _Sheet("gravel", 0.40, 0.26, 0.10))
_TOWN = (_Sheet("brick", 0.45, 0.42, 0.14), _Sheet("gravel", 0.90, 0.70, 0.10))
_FARMS = (
    _Sheet("grass", 0.75, 0.44, 0.10),
    _Sheet("grass", 0.95, 0.62, 0.08),
    _Sheet("grass", 0.40, 0.36, 0.09),
    _Sheet("brick", 0.80, 0.50, 0.11),
    _Sheet("retina", 0.65, 0.56, 0.07),
)
_TRACK = _Sheet("gravel", 1.30, 0.74, 0.06)
_BANK = _Sheet("gravel", 0.80, 0.66, 0.10)
_WATER = _Sheet("retina", 0.30, 0.12, 0.025)


def read_photo(name: str) -> Floats:
    """Read a photograph from the installed scikit-image, as grey values from 0 to 1."""
    folder = Path(require("skimage", extra="demo").__file__).parent / "data"
    found = [path for end in ("png", "jpg") if (path := folder / f"{name}.{end}").is_file()]
    if not found:
        raise MissingDependency(f"the installed scikit-image does not ship the photograph {name!r}")
    image = require("skimage.io", extra="demo").imread(found[0])
    if image.ndim == 3:
        image = image[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.asarray(image / 255, dtype=np.float32)


def _texture(name: str) -> Floats:
    """Return a photograph with mean 0 and standard deviation 1, free of extremes."""
    from scipy import ndimage

    image = read_photo(name)
    if name == "retina":
        image = image[830:1140, 480:1100]  # fine vessels: creeks, seen from above
        image = image - ndimage.gaussian_filter(image, 50)
    return np.asarray(np.clip((image - image.mean()) / image.std(), -2.5, 2.5), np.float32)


class Survey:
    """Camera fields over land without end: parcels, tracks between them, rivers."""

    def __init__(self, seed: int) -> None:
        self.photos = {name: _texture(name) for name in TEXTURES}
        self.phase: list[float] = np.random.default_rng([seed, 0]).uniform(0, 6.28, 13).tolist()
        self.parcel = lru_cache(maxsize=4096)(self._parcel)
        self.seed = seed

    def field(self, row: int, column: int) -> tuple[int, int, NDArray[np.uint16]]:
        """Take one field: the row and column of its first pixel, and its pixels."""
        rng = np.random.default_rng([self.seed, 1, row, column])
        miss_y, miss_x = rng.integers(-WOBBLE, WOBBLE + 1, 2).tolist()
        top, left = row * STRIDE[0] - MARGIN + miss_y, column * STRIDE[1] - MARGIN + miss_x
        drift_y, drift_x, tilt_y, tilt_x, gain = rng.uniform(-1, 1, 5).tolist()
        y = np.linspace(-1, 1, FIELD[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, FIELD[1], dtype=np.float32)[None, :]
        signal = self.land(top + _DRIFT * drift_y, left + _DRIFT * drift_x)
        signal *= (1.05 + 0.04 * tilt_y * y - 0.13 * y * y) + (0.04 * tilt_x * x - 0.13 * x * x)
        signal *= 46000 * (1 + 0.1 * gain)
        np.maximum(signal, 400, out=signal)
        noise = rng.standard_normal(FIELD, dtype=np.float32)
        noise *= np.sqrt(6 * signal + 3600)  # a photon is 6 counts; reading out adds 60 counts
        signal += noise
        signal += 900
        return top, left, np.clip(signal, 500, 60000, out=signal).astype(np.uint16)

    def land(self, top: float, left: float) -> Floats:
        """Return the brightness of the land, about 0 to 1, under one field."""
        p, (height, width) = self.phase, FIELD
        y = np.arange(height, dtype=np.float32)[:, None] + np.float32(top)
        x = np.arange(width, dtype=np.float32)[None, :] + np.float32(left)
        bent_y = y + (45 * np.sin(x / 310 + p[3]) + 20 * np.sin(x / 97 + p[4]))
        bent_x = x + (45 * np.sin(y / 370 + p[5]) + 20 * np.sin(y / 83 + p[6]))
        parcels = self._near(bent_y, bent_x)
        first = np.full(FIELD, np.inf, np.float32)
        second, owner = first.copy(), np.zeros(FIELD, np.int8)
        for k, parcel in enumerate(parcels):
            far = np.square(bent_y - parcel.y)
            far += np.square(bent_x - parcel.x)
            np.copyto(owner, k, where=far < first)
            np.minimum(second, np.maximum(far, first), out=second)
            np.minimum(first, far, out=first)
        land = np.zeros(FIELD, np.float32)
        for k, parcel in enumerate(parcels):
            self._lay(land, parcel, (owner == k).astype(np.float32), top, left)
        border = np.sqrt(second) - np.sqrt(first)
        river = self._river(y, x)
        self._lay(land, _TRACK, (18 - border) / 4, top, left)
        self._lay(land, _BANK, (57 - river) / 12, top, left)
        self._lay(land, _WATER, (6 - river) / 6, top, left)
        land *= 1 + 0.14 * np.sin(y / 1300 + p[7]) * np.sin(x / 1600 + p[8])
        return land

    def _parcel(self, row: int, column: int) -> _Sheet:
        """Draw one parcel of land: neighbours tend to be alike."""
        rng = np.random.default_rng([self.seed, 2, row + 16, column + 16])
        y = _PARCEL[0] * (row + rng.uniform(0.12, 0.88))
        x = _PARCEL[1] * (column + rng.uniform(0.12, 0.88))
        p = self.phase
        kind = np.sin(y / 1500 + p[0]) + np.sin(x / 1800 + p[1]) + np.sin((x + y) / 2700 + p[2])
        sheets = _FOREST if kind > 0.9 else _TOWN if kind < -1.5 else _FARMS
        sheet = sheets[rng.integers(len(sheets))]
        angle, step = rng.uniform(0, 6.28), sheet.step * rng.uniform(1, 1.4)
        level = sheet.level * rng.uniform(0.85, 1.15)
        return sheet._replace(y=y, x=x, angle=angle, step=step, level=level)

    def _near(self, y: Floats, x: Floats) -> list[_Sheet]:
        """Return the parcels that are nearest or second nearest to the pixels of a field."""
        y, x = y[::16, ::16], x[::16, ::16]
        rows = range(int(y.min() // _PARCEL[0]) - 2, int(y.max() // _PARCEL[0]) + 3)
        columns = range(int(x.min() // _PARCEL[1]) - 2, int(x.max() // _PARCEL[1]) + 3)
        parcels = [self.parcel(row, column) for row in rows for column in columns]
        far = np.stack([np.square(y - parcel.y) + np.square(x - parcel.x) for parcel in parcels])
        return [parcels[k] for k in np.unique(np.argsort(far, axis=0)[:2])]

    def _river(self, y: Floats, x: Floats) -> Floats:
        """Return how far each pixel is from the nearest river's water, in pixels."""
        p = self.phase
        middle = 900 * np.sin(y / 1700 + p[9]) + 260 * np.sin(y / 560 + p[10]) + 0.33 * _RIVER
        slope = 900 / 1700 * np.cos(y / 1700 + p[9]) + 260 / 560 * np.cos(y / 560 + p[10])
        off = x - middle
        off = np.abs(off - _RIVER * np.round(off / _RIVER)) / np.sqrt(1 + slope * slope)
        width = 100 + 26 * np.sin(y / 330 + p[11]) + 9 * np.sin(y / 71 + p[12])
        return np.asarray(off - width, np.float32)

    def _lay(self, land: Floats, sheet: _Sheet, alpha: Any, top: float, left: float) -> None:
        """Lay a sheet on one field's land where `alpha` is above 0, opaque from 1 on."""
        from scipy import ndimage

        where = alpha > 0
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        if not rows.size:
            return
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        photo = self.photos[sheet.photo]
        cos, sin = sheet.step * np.cos(sheet.angle), sheet.step * np.sin(sheet.angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        start = turn @ [top + rows[0] - sheet.y, left + columns[0] - sheet.x]
        start += np.array(photo.shape) / 2  # the photograph's centre lies on the sheet's
        shape = where[box].shape
        laid = ndimage.affine_transform(photo, turn, start, shape, np.float32, 1, "mirror")
        laid *= sheet.contrast
        laid += sheet.level
        laid -= land[box]
        laid *= np.clip(alpha[box], 0, 1)
        land[box] += laid

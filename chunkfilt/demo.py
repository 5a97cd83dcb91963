"""Make the demo's images from photographs and terrain that other packages ship.

Nothing is downloaded: scikit-image and matplotlib carry the files in their wheels.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt._optional import require
from chunkfilt.errors import MissingDependency, ParameterError, StorageError

__all__ = ["make_demo", "make_elevation", "make_mosaic", "make_stack"]

Floats = NDArray[np.float32]
PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]
Shape = tuple[int, ...]

_MADE_BY = "chunkfilt.demo"
_FIELD = (512, 640)  # pixels of one camera field
_STRIDE = (480, 600)  # from one field to the next; neighbours overlap
_MARGIN = 16  # pixels by which the first field lies outside the mosaic
_WOBBLE = 6  # pixels by which a field misses its place in the raster
_DRIFT = 2.0  # pixels by which its recorded place is wrong, so that seams do not quite fit
_PARCEL = (1000.0, 1250.0)  # mean pitch of the parcels of land
_RIVER = 9000.0  # from one river to the next
_TEXTURES = ("brick", "grass", "gravel", "retina")
_PICTURES = ("astronaut", "camera", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
_MOSAIC_SHAPE = (8192, 8192)


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


def _photo(name: str) -> Floats:
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

    image = _photo(name)
    if name == "retina":
        image = image[830:1140, 480:1100]  # fine vessels: creeks, seen from above
        image = image - ndimage.gaussian_filter(image, 50)
    return np.asarray(np.clip((image - image.mean()) / image.std(), -2.5, 2.5), np.float32)


class _Survey:
    """Camera fields over land without end: parcels, tracks between them, rivers."""

    def __init__(self, seed: int) -> None:
        self.photos = {name: _texture(name) for name in _TEXTURES}
        self.phase: list[float] = np.random.default_rng([seed, 0]).uniform(0, 6.28, 13).tolist()
        self.parcel = lru_cache(maxsize=4096)(self._parcel)
        self.seed = seed

    def field(self, row: int, column: int) -> tuple[int, int, NDArray[np.uint16]]:
        """Take one field: the row and column of its first pixel, and its pixels."""
        rng = np.random.default_rng([self.seed, 1, row, column])
        miss_y, miss_x = rng.integers(-_WOBBLE, _WOBBLE + 1, 2).tolist()
        top, left = row * _STRIDE[0] - _MARGIN + miss_y, column * _STRIDE[1] - _MARGIN + miss_x
        drift_y, drift_x, tilt_y, tilt_x, gain = rng.uniform(-1, 1, 5).tolist()
        y = np.linspace(-1, 1, _FIELD[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, _FIELD[1], dtype=np.float32)[None, :]
        signal = self.land(top + _DRIFT * drift_y, left + _DRIFT * drift_x)
        signal *= (1.05 + 0.04 * tilt_y * y - 0.13 * y * y) + (0.04 * tilt_x * x - 0.13 * x * x)
        signal *= 46000 * (1 + 0.1 * gain)
        np.maximum(signal, 400, out=signal)
        noise = rng.standard_normal(_FIELD, dtype=np.float32)
        noise *= np.sqrt(6 * signal + 3600)  # a photon is 6 counts; reading out adds 60 counts
        signal += noise
        signal += 900
        return top, left, np.clip(signal, 500, 60000, out=signal).astype(np.uint16)

    def land(self, top: float, left: float) -> Floats:
        """Return the brightness of the land, about 0 to 1, under one field."""
        p, (height, width) = self.phase, _FIELD
        y = np.arange(height, dtype=np.float32)[:, None] + np.float32(top)
        x = np.arange(width, dtype=np.float32)[None, :] + np.float32(left)
        bent_y = y + (45 * np.sin(x / 310 + p[3]) + 20 * np.sin(x / 97 + p[4]))
        bent_x = x + (45 * np.sin(y / 370 + p[5]) + 20 * np.sin(y / 83 + p[6]))
        parcels = self._near(bent_y, bent_x)
        first = np.full(_FIELD, np.inf, np.float32)
        second, owner = first.copy(), np.zeros(_FIELD, np.int8)
        for k, parcel in enumerate(parcels):
            far = np.square(bent_y - parcel.y)
            far += np.square(bent_x - parcel.x)
            np.copyto(owner, k, where=far < first)
            np.minimum(second, np.maximum(far, first), out=second)
            np.minimum(first, far, out=first)
        land = np.zeros(_FIELD, np.float32)
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


@contextmanager
def _creating(
    path: PathLike, shape: Shape, chunks: Shape, dtype: str, axes: str, about: Mapping[str, Any]
) -> Iterator[Any]:
    """Replace what an earlier call left, give an array to fill, then mark it complete."""
    import zarr

    if min(shape) < 1 or min(chunks) < 1:
        raise ParameterError(f"shape and chunks must be at least 1, got {shape} and {chunks}")
    place = Path(path)
    if place.exists():
        if not place.is_dir() or (_stored(place) is None and any(place.iterdir())):
            raise StorageError(f"{place} exists and is no image of the demo: choose another path")
        for part in sorted(place.iterdir(), key=lambda part: part.name == "zarr.json"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()  # the mark goes last
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.create_array(
            str(place),
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            dimension_names=tuple(axes),
            attributes={**about, "made_by": _MADE_BY, "complete": False},
        )
        yield array
        array.update_attributes({"complete": True})


def _stored(path: Path) -> dict[str, Any] | None:
    """Return the metadata of an image that this module made, or began to make, at a path."""
    try:
        metadata: dict[str, Any] = json.loads((path / "zarr.json").read_text("utf-8"))
        return metadata if metadata["attributes"]["made_by"] == _MADE_BY else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_mosaic(
    path: PathLike,
    *,
    shape: tuple[int, int] = _MOSAIC_SHAPE,
    chunks: int = 1024,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Make a large uint16 image, axes y x, tiled from the fields of a camera.

    The land under the camera is laid with photographs of brick, grass, gravel and a retina. Every
    field has uneven light, a gain and noise of its own, and later fields cover earlier ones. A
    larger shape continues a smaller one. Memory does not grow with the number of rows.

    Parameters
    ----------
    path : path-like
        Where the Zarr array goes; an image that this module made there before is replaced.
    shape : tuple of int
        Rows and columns, in pixels.
    chunks : int
        Rows and columns of a chunk; the pixels do not depend on it.
    seed : int
        Another seed is another land.
    progress : callable, optional
        Called with the rows done and the rows there are, after each row of chunks.

    Returns
    -------
    Path
        The path of the image.

    Raises
    ------
    MissingDependency
        If scikit-image is not installed.
    ParameterError, StorageError
        If the shape or the chunks are empty, or something else stands at the path.
    """
    about = {
        "title": "a mosaic of camera fields, made by chunkfilt's demo",
        "source": "photographs that scikit-image ships: " + ", ".join(_TEXTURES),
        "licence": "CC0 1.0, as scikit-image's documentation says of each photograph",
        "field_shape": list(_FIELD),
        "field_stride": list(_STRIDE),
        "seed": seed,
    }
    survey, rows = _Survey(seed), shape[0]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with pool, _creating(path, shape, (chunks, chunks), "uint16", "yx", about) as array:
        for top, band in _bands(survey, shape, chunks, pool):
            array[top : top + chunks] = band
            if progress is not None:
                progress(min(top + chunks, rows), rows)
    return Path(path)


def _bands(
    survey: _Survey, shape: tuple[int, int], height: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Put the fields together, and give the mosaic in bands of rows from the top down."""
    rows, columns = shape
    canvas = np.zeros((height + _FIELD[0] + 2 * _WOBBLE, columns), np.uint16)
    fields = range((columns + _MARGIN + _WOBBLE - 1) // _STRIDE[1] + 1)
    row = 0
    for top in range(0, rows, height):
        while row * _STRIDE[0] - _MARGIN - _WOBBLE < min(top + height, rows):
            for y, x, pixels in pool.map(partial(survey.field, row), fields):
                part = pixels[max(top - y, 0) :, max(-x, 0) :][:, : max(columns - max(x, 0), 0)]
                into = canvas[max(y - top, 0) :, max(x, 0) :]
                into[: part.shape[0], : part.shape[1]] = part
            row += 1
        yield top, canvas[: min(height, rows - top)]
        canvas[:-height] = canvas[height:].copy()


def make_elevation(path: PathLike, *, factor: int = 8, chunks: int = 512) -> Path:
    """Make a float32 image, axes y x, of the height of real terrain, in metres.

    Parameters
    ----------
    path : path-like
        Where the Zarr array goes; an image that this module made there before is replaced.
    factor : int
        How many pixels come from one of the source's 344 x 403, by cubic spline interpolation.
    chunks : int
        Rows and columns of a chunk.

    Returns
    -------
    Path
        The path of the image.

    Raises
    ------
    MissingDependency
        If matplotlib is not installed.
    ParameterError, StorageError
        If a number is below 1, or something else stands at the path.
    """
    from scipy import ndimage

    if factor < 1:
        raise ParameterError(f"factor must be at least 1, got {factor}")
    name = "jacksboro_fault_dem.npz"
    with require("matplotlib.cbook", extra="demo").get_sample_data(name) as terrain:
        heights = terrain["elevation"]
        west, east, one, other, dy, dx = (
            float(terrain[key]) for key in ("xmin", "xmax", "ymin", "ymax", "dy", "dx")
        )
    about = {
        "title": "terrain elevation, made by chunkfilt's demo",
        "source": f"matplotlib's sample data, {name}; enlarged {factor} times, cubic spline",
        "units": "m",
        "extent": {"west": west, "east": east, "south": min(one, other), "north": max(one, other)},
        "pixel_size_degrees": [dy / factor, dx / factor],
    }
    heights = ndimage.zoom(
        heights, factor, output=np.float32, order=3, mode="reflect", grid_mode=True
    )
    with _creating(path, heights.shape, (chunks, chunks), "float32", "yx", about) as array:
        array[:] = heights
    return Path(path)


def make_stack(path: PathLike, *, count: int = 60, seed: int = 0) -> Path:
    """Make a stack of small uint16 images, axes t c y x, cut from photographs.

    Parameters
    ----------
    path : path-like
        Where the Zarr array goes; an image that this module made there before is replaced.
    count : int
        How many images, each of one channel and 96 x 96 pixels.
    seed : int
        Another seed cuts elsewhere.

    Returns
    -------
    Path
        The path of the image.

    Raises
    ------
    MissingDependency
        If scikit-image is not installed.
    ParameterError, StorageError
        If the count is below 1, or something else stands at the path.
    """
    about = {
        "title": "a stack of small images, made by chunkfilt's demo",
        "source": "photographs that scikit-image ships: " + ", ".join(_PICTURES),
        "licence": "CC0 1.0 or public domain, as scikit-image's documentation says of each",
        "seed": seed,
    }
    photos = [_photo(name) for name in _PICTURES]
    with _creating(path, (count, 1, 96, 96), (16, 1, 96, 96), "uint16", "tcyx", about) as array:
        for start in range(0, count, 16):
            some = range(start, min(start + 16, count))
            array[start : start + 16] = np.stack([_cut(photos, seed, k) for k in some])[:, None]
    return Path(path)


def _cut(photos: list[Floats], seed: int, index: int) -> NDArray[np.uint16]:
    """Cut one image of the stack out of a photograph, at the busiest of a few places."""
    rng = np.random.default_rng([seed, 3, index])
    photo = photos[index % len(photos)]
    bin_ = int(rng.integers(1, 4))
    side = 96 * bin_
    places = rng.integers(0, np.array(photo.shape) - side + 1, (5, 2))
    parts = [photo[y : y + side, x : x + side] for y, x in places]
    part = max(parts, key=np.std).reshape(96, bin_, 96, bin_).mean(axis=(1, 3))
    signal = 400 + part * 42000 * rng.uniform(0.6, 1.3)
    noise = rng.standard_normal(part.shape) * np.sqrt(8 * signal + 3600)
    counts: NDArray[np.uint16] = np.clip(signal + noise + 900, 500, 60000).astype(np.uint16)
    return counts


def make_demo(
    folder: PathLike,
    *,
    shape: tuple[int, int] = _MOSAIC_SHAPE,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Make the demo's images in a folder, except those that are there already.

    Parameters
    ----------
    folder : path-like
        Made if missing; gets ``mosaic.zarr``, ``elevation.zarr`` and ``stack.zarr``.
    shape : tuple of int
        Rows and columns of the mosaic; a complete one of another shape is made anew.
    progress : callable, optional
        See `make_mosaic`.

    Returns
    -------
    dict of str to Path
        The paths of the images, by the names ``mosaic``, ``elevation`` and ``stack``.

    Raises
    ------
    MissingDependency
        If scikit-image or matplotlib is not installed.
    ParameterError, StorageError
        If the shape is empty, or something else stands at one of the paths.
    """
    makers: dict[str, Callable[[Path], Path]] = {
        "mosaic": partial(make_mosaic, shape=shape, progress=progress),
        "elevation": make_elevation,
        "stack": make_stack,
    }
    paths = {name: Path(folder) / f"{name}.zarr" for name in makers}
    for name, path in paths.items():
        stored = _stored(path) or {"attributes": {}}
        same = name != "mosaic" or stored.get("shape") == list(shape)
        if not (same and stored["attributes"].get("complete") is True):
            path.parent.mkdir(parents=True, exist_ok=True)
            makers[name](path)
    return paths

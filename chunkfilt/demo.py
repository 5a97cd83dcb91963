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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt._optional import require
from chunkfilt._survey import (
    FIELD,
    MARGIN,
    STRIDE,
    TEXTURES,
    WOBBLE,
    Floats,
    Survey,
    read_photo,
)
from chunkfilt.errors import ParameterError, StorageError

__all__ = ["make_demo", "make_elevation", "make_mosaic", "make_stack"]

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]
Shape = tuple[int, ...]

_MADE_BY = "chunkfilt.demo"
_PICTURES = ("astronaut", "camera", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
_MOSAIC_SHAPE = (8192, 8192)


@contextmanager
def _creating(
    path: PathLike, shape: Shape, chunks: Shape, dtype: str, axes: str, about: Mapping[str, Any]
) -> Iterator[Any]:
    """Replace what an earlier call left, give an array to fill, then mark it complete."""
    import zarr

    from chunkfilt.storage.paths import local_path

    if min(shape) < 1 or min(chunks) < 1:
        raise ParameterError(f"shape and chunks must be at least 1, got {shape} and {chunks}")
    place = local_path(path, "image")
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
        "source": "photographs that scikit-image ships: " + ", ".join(TEXTURES),
        "licence": "CC0 1.0, as scikit-image's documentation says of each photograph",
        "field_shape": list(FIELD),
        "field_stride": list(STRIDE),
        "seed": seed,
    }
    survey, rows = Survey(seed), shape[0]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with pool, _creating(path, shape, (chunks, chunks), "uint16", "yx", about) as array:
        for top, band in _bands(survey, shape, chunks, pool):
            array[top : top + chunks] = band
            if progress is not None:
                progress(min(top + chunks, rows), rows)
    return Path(path)


def _bands(
    survey: Survey, shape: tuple[int, int], height: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Put the fields together, and give the mosaic in bands of rows from the top down."""
    rows, columns = shape
    canvas = np.zeros((height + FIELD[0] + 2 * WOBBLE, columns), np.uint16)
    fields = range((columns + MARGIN + WOBBLE - 1) // STRIDE[1] + 1)
    row = 0
    for top in range(0, rows, height):
        while row * STRIDE[0] - MARGIN - WOBBLE < min(top + height, rows):
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
    photos = [read_photo(name) for name in _PICTURES]
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
    from chunkfilt.storage.paths import local_path

    place = local_path(folder, "the demo's folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the demo's folder {folder}: {error.strerror}") from None
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
            makers[name](path)
    return paths

"""The contestants other than chunkfilt, from store to store: each runs in its own process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.sources import zarr_codec

__all__ = ["copy", "dask_arrays", "in_memory", "libvips"]


def copy(workers: int, block: Sequence[int], stores: dict[str, Any]) -> dict[str, Any]:
    """Read, cast and write, with dask."""
    import dask.array

    started = time.perf_counter()
    held, made = open_stores(**stores)
    image = dask.array.from_zarr(held, chunks=tuple(block)).astype(made[0].dtype)
    shape = made[0].shape
    # Where the output has further axes, every plane is a copy.
    chunks = (*(1,) * (len(shape) - image.ndim), *image.chunks)
    store([dask.array.broadcast_to(image, shape, chunks=chunks)] * len(made), made, workers)
    return {"work": time.perf_counter() - started}


def dask_arrays(
    job: str, code: str, workers: int, block: Sequence[int], stores: dict[str, Any]
) -> dict[str, Any]:
    """Filter with dask arrays in blocks: with dask-image, or by FFT."""
    import dask
    import dask.array

    from benchmarks.peers import by_dask_image, by_fft

    write = {"dask-image": by_dask_image, "FFT": by_fft}[code]
    started = time.perf_counter()
    held, made = open_stores(**stores)
    image = dask.array.from_zarr(held, chunks=tuple(block))
    with dask.config.set(scheduler="threads", num_workers=workers):
        results = [one.astype(made[0].dtype) for one in write(job, image)]
    store(results, made, workers)
    return {"work": time.perf_counter() - started}


def in_memory(job: str, stores: dict[str, Any]) -> dict[str, Any]:
    """Filter the whole image in memory, with scikit-image."""
    from benchmarks.peers import by_scikit_image

    started = time.perf_counter()
    held, (made,) = open_stores(**stores)
    made[...] = by_scikit_image(job, np.asarray(held[...])).astype(made.dtype)
    return {"work": time.perf_counter() - started}


def libvips(job: str, source: str, target: str) -> dict[str, Any]:
    """Filter with libvips from TIFF to TIFF, uncompressed."""
    from benchmarks.peers import by_libvips

    started = time.perf_counter()
    by_libvips(job, source).tiffsave(target, bigtiff=True)
    return {"work": time.perf_counter() - started}


def open_stores(
    source: str,
    target: str,
    names: Sequence[str],
    leading: Sequence[int],
    dtype: str,
    codec: str,
    pipeline: str | None,
) -> tuple[Any, list[Any]]:
    """Open the input and create outputs like chunkfilt's: same chunks, same codec."""
    if pipeline is not None:
        zarr.config.set({"codec_pipeline.path": pipeline})
    held = zarr.open_array(source, mode="r")
    made = [
        zarr.create_array(
            str(Path(target) / name),
            shape=(*leading, *held.shape),
            chunks=(*(1,) * len(leading), *held.chunks),
            dtype=dtype,
            fill_value=0,
            compressors=zarr_codec(codec),
        )
        for name in names or ("",)
    ]
    return held, made


def store(results: Sequence[Any], made: Sequence[Any], workers: int) -> None:
    """Compute and write dask arrays."""
    import dask
    import dask.array

    with dask.config.set(scheduler="threads", num_workers=workers):
        dask.array.store(list(results), list(made), lock=False)


# Comparing what they wrote.


def compare(pairs: Sequence[tuple[str, str]], names: Sequence[str], margin: int) -> dict[str, Any]:
    """Return how far outputs are from chunkfilt's, as parts of the largest value.

    Parameters
    ----------
    pairs : sequence
        Paths of a contestant's output and of chunkfilt's.
    names : sequence of str
        The arrays within, where they are groups.
    margin : int
        Pixels at the edge that are left out for TIFF, whose edges are extended in another way.

    Raises
    ------
    SystemExit
        If two outputs are stored differently.
    """
    return {
        theirs: max(_difference(Path(theirs), Path(ours), name, margin) for name in names or ("",))
        for theirs, ours in pairs
    }


def _difference(theirs: Path, ours: Path, name: str, margin: int) -> float:
    second = zarr.open_array(str(ours / name), mode="r")
    if theirs.suffix == ".tif":
        with _tiff(theirs) as first:
            _check_alike(first, second, ("shape", "dtype"))
            return _worst(first, second, margin)
    first = zarr.open_array(str(theirs / name), mode="r")
    _check_alike(first, second, ("shape", "chunks", "shards", "dtype", "compressors"))
    for array in (first, second):
        if array.nchunks_initialized != array.nchunks:
            raise SystemExit(f"{array.store_path} is not complete")
    return _worst(first, second, 0)


@contextmanager
def _tiff(path: Path) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as file:
        yield zarr.open_array(file.aszarr(), mode="r")


def _check_alike(first: Any, second: Any, what: Sequence[str]) -> None:
    for name in what:
        held = [getattr(array, name) for array in (first, second)]
        if held[0] != held[1]:
            raise SystemExit(f"the outputs differ in {name}: {held[0]} and {held[1]}")


def _worst(first: Any, second: Any, margin: int, windows: int = 8, side: int = 512) -> float:
    """Return the largest difference over the largest value, in both corners and some windows."""
    sides = [min(side, n - 2 * margin) for n in first.shape]
    spans = [(margin, n - margin - own) for own, n in zip(sides, first.shape, strict=True)]
    rng = np.random.default_rng(0)
    corners = [[low for low, _ in spans], [high for _, high in spans]]
    corners += [[int(rng.integers(low, high + 1)) for low, high in spans] for _ in range(windows)]
    worst = largest = 0.0
    for corner in corners:
        box = tuple(slice(start, start + own) for start, own in zip(corner, sides, strict=True))
        theirs, ours = (np.asarray(array[box], np.float64) for array in (first, second))
        worst = max(worst, float(np.max(abs(theirs - ours))))
        largest = max(largest, float(np.max(abs(ours))))
    return worst / largest if largest else worst

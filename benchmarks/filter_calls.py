"""The calls that compute a case: by chunkfilt, by its reference, by dask from store to store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.cases.images import image_of
from benchmarks.peers import disk

__all__ = ["apart", "images_of", "lazy", "opencv", "ours", "reference"]

Call = Callable[[], Any]
# Names that stand for modules in the table of cases.
SHORT = {"ndimage": "scipy.ndimage", "own": "benchmarks.references"}


def images_of(case: Case, kind: str, mosaic: np.ndarray) -> list[Any]:
    """Return a case's images, and numbers, for a mosaic."""
    return [image_of(one, mosaic) if isinstance(one, str) else one for one in (kind, *case.others)]


def ours(case: Case, images: Sequence[Any]) -> tuple[Call, Call]:
    """Return what plans a case in memory, and what computes it as a run does, block by block."""
    import chunkfilt.filters  # noqa: F401 - declares them
    from chunkfilt.engine.bind import bind
    from chunkfilt.filters.filter import find_filter
    from chunkfilt.filters.generic import allow_code
    from chunkfilt.runtime.compute import plan_in_memory
    from chunkfilt.runtime.executors import make_executor
    from chunkfilt.runtime.options import RunOptions
    from chunkfilt.runtime.passes import run_passes
    from chunkfilt.runtime.progress import silent
    from chunkfilt.runtime.tasks import ArrayStore

    with allow_code():
        node: Any = bind(find_filter(case.filter), [_source(one) for one in images], case.params)
    options = RunOptions(scheduler="serial")

    def plan() -> Any:
        return plan_in_memory({"": node}, options)

    steps, executor = plan().steps, make_executor("serial", 1, memory=1 << 62)

    def call() -> Any:
        result = np.empty(node.spec.shape, node.spec.dtype)
        run_passes(steps, {"": ArrayStore(result)}, executor, silent)
        return result

    return plan, call


def _source(image: Any) -> Any:
    from chunkfilt.engine.graph import Source
    from chunkfilt.grid import ImageSpec

    if not isinstance(image, np.ndarray):
        return image
    axes, spatial = ("c", "y", "x")[-image.ndim :], (image.ndim - 2, image.ndim - 1)
    return Source(ImageSpec(image.shape, image.dtype, axes, spatial), _Held(image))


class _Held:
    """Pixels in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def read(self, region: Any) -> np.ndarray:
        """Return a view of a region."""
        return self.pixels[region.slices]


def reference(case: Case, images: Sequence[Any]) -> Call:
    """Return what computes a case's reference, as its users call it."""
    function = _resolved(case, images[0].dtype)
    return lambda: function(*images)


def _resolved(case: Case, dtype: Any) -> Callable[..., Any]:
    """Return the reference as a function of images alone."""
    function, params = _found(case.reference), _theirs(case)
    if case.reference == "skimage.filters.rank.equalize":
        params = {name: value.astype(np.uint8) for name, value in params.items()}

    def call(image: np.ndarray, *others: Any) -> Any:
        with warnings.catch_warnings():
            # Of more levels than scikit-image's rank filters are made for.
            warnings.simplefilter("ignore")
            return function(image.astype(np.float64) if case.wide else image, *others, **params)

    return call


def _found(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(SHORT.get(module, module)), attribute)


def _theirs(case: Case) -> dict[str, Any]:
    """Return the reference's parameters, with the arrays that chunkfilt makes of a few words."""
    given = case.params if case.theirs is None else case.theirs
    return {name: _array(name, value) for name, value in given.items()}


def _array(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    ((maker, size),) = value.items()
    if name != "weights":
        return disk(size)
    if maker == "disk":
        return disk(size) / disk(size).sum()
    radius = int(4 * size + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / size) ** 2)
    return np.outer(taps, taps) / taps.sum() ** 2


def opencv(case: Case, images: Sequence[Any]) -> Call | None:
    """Return what computes a case with OpenCV, or None where it has nothing of the kind."""
    if not case.opencv:
        return None
    try:
        from benchmarks import opencv as calls
    except ImportError:
        return None
    return getattr(calls, case.opencv)(images[0], **_theirs(case))


def lazy(case: Case, images: Sequence[Any]) -> Any:
    """Return a case's reference as a dask array, in the dtype that chunkfilt stores.

    Parameters
    ----------
    case : Case
        What to compute.
    images : sequence
        Dask arrays of one chunking, and numbers.
    """
    import dask.array

    final = np.dtype(case.gives) if case.wide else None
    if case.lazily:
        image = images[0].astype(np.float64) if case.wide else images[0]
        made = _found(case.lazily)(image, **_theirs(case))
        return made if final is None else made.astype(final)
    function = _resolved(case, images[0].dtype)

    def filtered(*blocks: Any) -> Any:
        made = function(*blocks)
        return made if final is None else made.astype(final)

    probe = [np.ones((64, 64), one.dtype) if hasattr(one, "chunks") else one for one in images]
    dtype = filtered(*probe).dtype
    meta = np.empty((0, 0), dtype)
    if not case.halo:
        return dask.array.map_blocks(filtered, *images, dtype=dtype, meta=meta)
    # At the image's edge the function itself extends, in its own mode.
    return dask.array.map_overlap(
        filtered, *images, depth=case.halo, boundary="none", dtype=dtype, meta=meta
    )


def apart(case: Case, ours: Any, theirs: Any) -> float:
    """Return the largest difference over the reference's largest value; NaN are equal to NaN."""
    first, second = (np.asarray(one, np.float64) for one in (ours, theirs))
    if first.shape != second.shape:
        raise SystemExit(f"{case.filter}: shapes {first.shape} and {second.shape}")
    missing = np.isnan(second)
    if not np.array_equal(missing, np.isnan(first)):
        return float("inf")
    scale = np.max(np.abs(second), initial=0.0, where=~missing)
    worst = np.max(np.abs(first - second), initial=0.0, where=~missing)
    return float(worst / scale) if scale else float(worst)

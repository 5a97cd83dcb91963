"""What the comparison of every filter runs in processes of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.cases import Case, by_filter
from benchmarks.cases.images import image_of
from benchmarks.filter_calls import apart, images_of, lazy, opencv, ours, reference
from benchmarks.filters import OPENCV, OURS, REFERENCE, stored
from benchmarks.measure import pin
from benchmarks.sources import CODECS, zarr_codec

__all__ = ["compare", "measure_filter", "save_by_dask", "save_ours", "write_images"]

Call = Callable[[], Any]
SHORTEST = 0.02  # seconds: shorter calls are timed several at a time
PLANS = 5


# One thread, arrays in memory.


def measure_filter(base: str, name: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """Return what is found of every case of a filter, on every kind of image."""
    pin(1)
    cases = by_filter()[name]
    side = min(size, max(case.own_side for case in cases))
    mosaic = zarr.open_array(base, mode="r")[:side, :side]
    return [
        {"filter": name, "case": number, "kind": kind, **_measure(case, kind, mosaic, rounds)}
        for number, case in enumerate(cases)
        for kind in case.kinds
    ]


def _measure(case: Case, kind: str, mosaic: np.ndarray, rounds: int) -> dict[str, Any]:
    own = min(case.own_side, len(mosaic))
    theirs = min(case.side, own)
    large, small = (
        images_of(case, kind, np.ascontiguousarray(mosaic[:n, :n])) for n in (own, theirs)
    )
    plan, call = ours(case, large)
    calls = {OURS: call, REFERENCE: reference(case, small)}
    # Compiles, and touches all that is touched later.
    difference = apart(case, ours(case, small)[1](), calls[REFERENCE]())
    call()
    sides = {OURS: own, REFERENCE: theirs}
    beside = opencv(case, large)
    if beside is not None:
        beside()
        calls[OPENCV], sides[OPENCV] = beside, own
    rates: dict[str, list[float]] = {who: [] for who in calls}
    for number in range(rounds):
        order = list(calls)
        for who in order[number % len(order) :] + order[: number % len(order)]:
            rates[who].append(sides[who] ** 2 / 1e6 / _seconds(calls[who]))
    return {
        "sides": sides,
        "mpx_per_s": {who: statistics.median(own) for who, own in rates.items()},
        "ratios": {
            who: statistics.median(a / b for a, b in zip(rates[OURS], rates[who], strict=True))
            for who in calls
            if who != OURS
        },
        "plan_ms": 1e3 * min(_seconds(plan, 0.0) for _ in range(PLANS)),
        "difference": difference,
    }


def _seconds(call: Call, shortest: float = SHORTEST) -> float:
    """Return what a call takes, on average where it is short."""
    started, count = time.perf_counter(), 0
    while True:
        call()
        count += 1
        passed = time.perf_counter() - started
        if passed >= shortest:
            return passed / count


# From store to store.


def write_images(
    base: str, folder: str, codec: str, images: Sequence[tuple[str, int, int]]
) -> dict[str, Any]:
    """Write the images that are not there: each by its kind, side and chunks."""
    mosaic = zarr.open_array(base, mode="r")
    for kind, side, chunks in images:
        path = stored(Path(folder), kind, side, chunks, codec)
        if path.exists() and zarr.open_array(str(path), mode="r").attrs.get("complete"):
            continue
        pixels = image_of(kind, np.ascontiguousarray(mosaic[:side, :side]))
        made = zarr.create_array(
            str(path),
            shape=pixels.shape,
            chunks=(*(1,) * (pixels.ndim - 2), chunks, chunks),
            dtype=pixels.dtype,
            fill_value=0,
            compressors=zarr_codec(codec),
            dimension_names="cyx"[-pixels.ndim :],
            overwrite=True,
        )
        made[...] = pixels
        made.update_attributes({"complete": True})
    return {}


def save_ours(
    name: str,
    images: Sequence[Any],
    warm: Sequence[Any],
    target: str,
    codec: str,
    workers: int,
    memory: str | None,
) -> dict[str, Any]:
    """Filter a stored image with chunkfilt, after a small one."""
    import chunkfilt

    case, options = by_filter()[name][0], {} if memory is None else {"memory": memory}

    def save(inputs: Sequence[Any], path: str) -> None:
        opened = [chunkfilt.open(one) if isinstance(one, str) else one for one in inputs]
        with chunkfilt.allow_code():
            image = getattr(chunkfilt, name)(*opened, **case.params)
        image.save(
            path,
            workers=workers,
            compressor=CODECS[codec],
            progress=False,
            overwrite=True,
            **options,
        )

    return _after_warming(save, images, warm, target)


def save_by_dask(
    name: str, images: Sequence[Any], warm: Sequence[Any], target: str, codec: str, workers: int
) -> dict[str, Any]:
    """Filter a stored image with the reference on dask's blocks, after a small one."""
    import dask
    import dask.array

    case = by_filter()[name][0]

    def save(inputs: Sequence[Any], path: str) -> None:
        opened = [
            dask.array.from_zarr(zarr.open_array(one, mode="r")) if isinstance(one, str) else one
            for one in inputs
        ]
        with dask.config.set(scheduler="threads", num_workers=workers):
            image = lazy(case, opened)
            made = zarr.create_array(
                path,
                shape=image.shape,
                chunks=(*(1,) * (image.ndim - 2), *opened[0].chunksize[-2:]),
                dtype=image.dtype,
                fill_value=0,
                compressors=zarr_codec(codec),
                overwrite=True,
            )
            dask.array.store(image, made, lock=False)

    return _after_warming(save, images, warm, target)


def _after_warming(
    save: Callable[[Sequence[Any], str], None],
    images: Sequence[Any],
    warm: Sequence[Any],
    target: str,
) -> dict[str, Any]:
    """Return what the pass over the images takes, everything loaded and compiled before it."""
    if warm:
        save(warm, f"{target}.warm")
    started, used = time.perf_counter(), time.process_time()
    save(images, target)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}


def compare(name: str, ours: str, theirs: str) -> dict[str, Any]:
    """Return how far two outputs are apart, but for the edges that one of them has alone."""
    case = by_filter()[name][0]
    first, second = (zarr.open_array(path, mode="r") for path in (ours, theirs))
    if first.dtype != second.dtype or first.chunks[:-2] != second.chunks[:-2]:
        raise SystemExit(f"{name}: {first} and {second} are not stored alike")
    side = second.shape[-1]
    window = (..., *2 * (slice(0, side - (case.halo if first.shape != second.shape else 0)),))
    return {"difference": apart(case, first[window], second[window])}

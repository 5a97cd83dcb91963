"""What is measured: every job as chunkfilt's YAML, its contestants, their images and targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.sources import CODECS, Image, Kind

__all__ = ["JOBS", "OPPONENT", "Entry", "Job", "entries_of", "job_text"]

COPY, OURS, PLAIN = "copy", "chunkfilt", "chunkfilt uncompressed"
DASK, DASK_TUNED = "dask-image", "dask-image tuned"
FFT, FFT_TUNED = "FFT", "FFT tuned"
SKIMAGE, VIPS = "scikit-image", "libvips"

NEEDS = {DASK: "dask_image", DASK_TUNED: "dask_image", SKIMAGE: "skimage", VIPS: "pyvips"}
NEEDS |= {PLAIN: "pyvips"}
OTHERS = (COPY, DASK, DASK_TUNED, FFT, FFT_TUNED, SKIMAGE, VIPS)
# The chunkfilt run that a contestant is compared with, where it is not the one of the same codec.
OPPONENT = {VIPS: PLAIN}

ANGLES = [0.0, 0.5236, 1.0472, 1.5708, 2.0944, 2.618]
FREQUENCIES = [0.05, 0.1, 0.2, 0.4]
WAVE = {"frequency": 0.15, "theta": 0.6, "sigma_x": 5.0, "sigma_y": 5.0}
LONG_WAVE = {"frequency": 0.15, "theta": 0.5, "sigma_x": 3.0, "sigma_y": 6.0}
FEATURE_WAVE = {"frequency": 0.15, "theta": 1.5708}
BOTH = (DASK, DASK_TUNED)


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes
    ----------
    title : str
        For people.
    steps : sequence
        As in a YAML job.
    dtype : str
        Of the output.
    peers : tuple of str
        Who else does it.
    targets : mapping
        How many times as fast as a contestant chunkfilt is to be, at least.
    sides : mapping
        The largest mosaic, by contestant: slow ones get a smaller one; "" stands for the others.
    save : tuple of str
        The steps whose results are stored, where it is not the last one alone.
    leading : tuple of int
        Axes that the output has before those of the image.
    """

    title: str
    steps: Sequence[Mapping[str, Any]]
    dtype: str
    peers: tuple[str, ...]
    targets: Mapping[str, float]
    sides: Mapping[str, int] = field(default_factory=dict)
    kind: Kind = "mosaic"
    save: tuple[str, ...] = ()
    leading: tuple[int, ...] = ()


def _slow(side: int, *contestants: str) -> dict[str, int]:
    return dict.fromkeys(contestants, side)


JOBS: dict[str, Job] = {
    "mean": Job(
        "mean 5 x 5",
        [{"mean": {"size": 5}}],
        "float32",
        (*BOTH, VIPS),
        {COPY: 0.8, DASK: 3, VIPS: 2},
    ),
    "variance": Job(
        "variance 15 x 15",
        [{"variance": {"size": 15}}],
        "float32",
        (*BOTH, VIPS),
        {COPY: 0.8, DASK: 3},
    ),
    "gaussian": Job(
        "Gaussian, sigma 2",
        [{"gaussian": {"sigma": 2}}],
        "float32",
        (*BOTH, VIPS),
        {COPY: 0.8, DASK: 3, VIPS: 2},
    ),
    "maximum": Job(
        "maximum 15 x 15",
        [{"maximum": {"size": 15}}],
        "uint16",
        (*BOTH, VIPS),
        {COPY: 0.8, DASK: 3},
        _slow(8192, VIPS),
    ),
    "median": Job(
        "median 5 x 5",
        [{"median": {"size": 5}}],
        "uint16",
        (*BOTH, VIPS),
        {COPY: 0.5, DASK: 15, VIPS: 8},
        _slow(4096, *BOTH, VIPS),
    ),
    "median_disk": Job(
        "median, disk of radius 7",
        [{"median": {"footprint": {"disk": 7}}}],
        "uint16",
        BOTH,
        {DASK: 20},
        _slow(2048, *BOTH),
    ),
    "gabor": Job(
        "Gabor, equal sigmas",
        [{"gabor": WAVE}],
        "float32",
        (*BOTH, FFT, FFT_TUNED, VIPS),
        {COPY: 0.4, DASK: 25, FFT: 3, VIPS: 25},
        _slow(4096, *BOTH, VIPS),
    ),
    "gabor_unequal": Job(
        "Gabor, unequal sigmas at an angle",
        [{"gabor": LONG_WAVE}],
        "float32",
        (*BOTH, FFT, FFT_TUNED),
        {FFT: 1.5},
        _slow(4096, *BOTH),
    ),
    "gabor_bank": Job(
        "Gabor bank, 4 frequencies x 6 angles",
        [{"gabor_bank": {"frequencies": FREQUENCIES, "thetas": ANGLES}}],
        "float32",
        (FFT, FFT_TUNED),
        {},
        {"": 4096},
        leading=(len(ANGLES), len(FREQUENCIES)),
    ),
    "gabor_features": Job(
        "Gabor, its mean and variance 15 x 15",
        [
            {"gabor": FEATURE_WAVE, "name": "g"},
            {"mean": {"size": 15}, "name": "g_mean"},
            {"variance": {"size": 15}, "input": "g", "name": "g_var"},
        ],
        "float32",
        (*BOTH, FFT, FFT_TUNED),
        {DASK: 25},
        _slow(4096, *BOTH),
        save=("g_mean", "g_var"),
    ),
    "equalize": Job(
        "histogram equalisation",
        [{"equalize_hist": {}}],
        "float64",
        (*BOTH, SKIMAGE, VIPS),
        {COPY: 0.6, SKIMAGE: 3, VIPS: 2},
        _slow(8192, SKIMAGE),
    ),
    "chain": Job(
        "Gaussian, variance, equalisation",
        [{"gaussian": {"sigma": 2}}, {"variance": {"size": 15}}, {"equalize_hist": {}}],
        "float32",
        BOTH,
        {},
    ),
    "mean_3d": Job(
        "volume: mean 5 x 5 x 5",
        [{"mean": {"size": 5}}],
        "float32",
        BOTH,
        {COPY: 0.8, DASK: 3},
        kind="volume",
    ),
    "gaussian_3d": Job(
        "volume: Gaussian, sigma 2",
        [{"gaussian": {"sigma": 2}}],
        "float32",
        BOTH,
        {COPY: 0.8, DASK: 3},
        kind="volume",
    ),
    "median_3d": Job(
        "volume: median 3 x 3 x 3",
        [{"median": {"size": 3}}],
        "uint16",
        BOTH,
        {DASK: 15},
        _slow(4096, *BOTH),
        kind="volume",
    ),
}


@dataclass(frozen=True)
class Entry:
    """One contestant of one job, and the image it works on."""

    job: str
    contestant: str
    image: Image

    @property
    def about(self) -> Job:
        """The job itself."""
        return JOBS[self.job]

    @property
    def target(self) -> str:
        """The name of what it writes."""
        suffix = "tif" if self.contestant == VIPS else "zarr"
        return f"out-{self.contestant.replace(' ', '-')}.{suffix}"


def entries_of(
    job: str, side: int, chunks: int, codec: str, contestants: Sequence[str] = ()
) -> list[Entry]:
    """Return the contestants of a job on a mosaic of at most `side`, chunkfilt last.

    Peers whose package is not installed are left out, and all that are not among `contestants`
    where some are named.
    """
    about = JOBS[job]
    others = [name for name in (COPY, *about.peers) if not contestants or name in contestants]
    entries = []
    for name in [*others, *([PLAIN] if VIPS in others else []), OURS]:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            continue
        own = min(side, about.sides.get(name, about.sides.get("", side)))
        used = "none" if name in (VIPS, PLAIN) else codec
        entries.append(Entry(job, name, Image(about.kind, own, min(chunks, own), used)))
    return entries


def job_text(entry: Entry, folder: Path, workers: int, memory: str | None) -> str:
    """Return a job's YAML, which is JSON, too."""
    about = entry.about
    output: dict[str, Any] = {
        "path": str(folder / entry.target),
        "compressor": CODECS[entry.image.codec],
    }
    run: dict[str, Any] = {"scheduler": "threads", "workers": workers}
    return json.dumps(
        {
            "version": 1,
            "input": str(entry.image.path(folder)),
            "steps": list(about.steps),
            "output": output | ({"save": list(about.save)} if about.save else {}),
            "run": run | ({"memory": memory} if memory else {}),
        },
        indent=2,
    )

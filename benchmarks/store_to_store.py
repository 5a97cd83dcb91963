"""Time filters from Zarr to Zarr: a copy, dask-image and chunkfilt side by side.

    python benchmarks/store_to_store.py --size 16384 --rounds 3 --markdown table.md

Every contestant of every job is a process of its own, and the contestants take turns, so that a
busy machine is busy for all of them. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

# Nothing heavy is imported here: a child's peak memory, as the kernel reports it, starts from its
# parent's.

COPY, PEER, OURS = "copy", "dask-image", "chunkfilt"
PACKAGES = ("chunkfilt", "dask", "dask-image", "numba", "numpy", "scipy", "zarr", "zarrs")
WARM_UP = 512  # pixels a side


@dataclass(frozen=True)
class Job:
    """One filter, as a step of chunkfilt; `peers` has what dask-image does for it."""

    step: str
    title: str
    dtype: str | None = None  # of the output, where the filter's own is not float32


JOBS = {
    "mean": Job("mean: {size: 5}", "mean 5 x 5"),
    "variance": Job("variance: {size: 15}", "variance 15 x 15"),
    "gaussian": Job("gaussian: {sigma: 2}", "Gaussian, sigma 2"),
    "maximum": Job("maximum: {size: 15}", "maximum 15 x 15", "float32"),
}


@dataclass(frozen=True)
class Measured:
    """One process, from its start to its end."""

    job: str
    contestant: str
    round: int
    wall: float  # seconds
    work: float  # seconds without the start-up: as the process itself tells
    cpu: float  # seconds of all its threads
    peak: int  # bytes, resident


# The children: each of these functions runs in a process of its own.


def make_source(path: str, size: int, chunks: int) -> dict[str, Any]:
    """Make the mosaic."""
    from chunkfilt.demo import make_mosaic

    make_mosaic(path, shape=(size, size), chunks=chunks)
    return {}


def copy(workers: int, side: int, stores: Any) -> dict[str, Any]:
    """Copy an image as float32, a block at a time for each thread."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    started = time.perf_counter()
    held, made = open_stores(**stores)
    rows, columns = held.shape
    side = max(side // held.chunks[0], 1) * held.chunks[0]

    def one(corner: tuple[int, int]) -> None:
        box = tuple(slice(start, start + side) for start in corner)
        made[box] = np.asarray(held[box]).astype(np.float32)

    corners = [(y, x) for y in range(0, rows, side) for x in range(0, columns, side)]
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, corners):
            pass
    return {"work": time.perf_counter() - started}


def dask_image(job: str, workers: int, side: int, stores: Any) -> dict[str, Any]:
    """Filter with dask-image, in chunks of `side` pixels."""
    import dask
    import dask.array

    apply = peers()[job]
    started = time.perf_counter()
    held, made = open_stores(**stores)
    image = dask.array.from_zarr(held, chunks=(side, side))
    result = apply(image).astype("float32")
    with dask.config.set(scheduler="threads", num_workers=workers):
        dask.array.store(result, made, lock=False)
    return {"work": time.perf_counter() - started}


def peers() -> dict[str, Callable[[Any], Any]]:
    """Return what a user of dask-image writes for each job."""
    from dask_image import ndfilters

    def variance(image: Any) -> Any:
        # Squares of 16-bit integers need float64: in float32 the difference is noise.
        image = image.astype("float64")
        mean = ndfilters.uniform_filter(image, size=15)
        return ndfilters.uniform_filter(image * image, size=15) - mean * mean

    return {
        "mean": lambda image: ndfilters.uniform_filter(image.astype("float32"), size=5),
        "variance": variance,
        "gaussian": lambda image: ndfilters.gaussian_filter(image.astype("float32"), sigma=2),
        "maximum": lambda image: ndfilters.maximum_filter(image, size=15),
    }


def open_stores(source: str, target: str, zstd: str | None, pipeline: str) -> tuple[Any, Any]:
    """Open the mosaic and create an output like chunkfilt's: same chunks, same codec."""
    import zarr
    from zarr.codecs import ZstdCodec

    if pipeline == "zarrs":
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    held = zarr.open_array(source, mode="r")
    codec: Any = held.compressors
    if zstd is not None:
        codec = None if zstd == "none" else ZstdCodec(level=int(zstd))
    made = zarr.create_array(
        target,
        shape=held.shape,
        chunks=held.chunks,
        dtype="float32",
        fill_value=0,
        compressors=codec,
    )
    return held, made


def compare(ours: str, theirs: str, windows: int, side: int, same_codec: bool) -> dict[str, Any]:
    """Return how far two outputs differ in some windows; stop if they are stored differently."""
    import numpy as np
    import zarr

    first, second = (zarr.open_array(path, mode="r") for path in (ours, theirs))
    stored = ("shape", "chunks", "shards", "dtype", *(["compressors"] if same_codec else []))
    for what in stored:
        held = [getattr(array, what) for array in (first, second)]
        if held[0] != held[1]:
            raise SystemExit(f"the outputs differ in {what}: {held[0]} and {held[1]}")
    for array in (first, second):
        if array.nchunks_initialized != array.nchunks:
            raise SystemExit(f"{array.store_path} is not complete")
    side = min(side, *first.shape)
    rng = np.random.default_rng(0)
    corners = [(0, 0), tuple(n - side for n in first.shape)]
    corners += [tuple(rng.integers(0, n - side + 1) for n in first.shape) for _ in range(windows)]
    worst = 0.0
    for corner in corners:
        box = tuple(slice(int(start), int(start) + side) for start in corner)
        a, b = (np.asarray(array[box], np.float64) for array in (first, second))
        scale = np.maximum(np.maximum(abs(a), abs(b)), np.finfo(np.float32).tiny)
        worst = max(worst, float(np.max(abs(a - b) / scale)))
    return {"difference": worst}


CHILDREN = {
    one.__name__: one for one in (make_source, copy, dask_image, compare)
}  # called by name, with arguments as JSON


# The parent: it starts processes, waits, and reports.


def child(name: str, *arguments: Any) -> list[str]:
    """Return the command that runs one of the functions above."""
    return [sys.executable, __file__, "--child", name, json.dumps(arguments)]


def measure(command: Sequence[str], folder: Path) -> tuple[float, float, int, dict[str, Any]]:
    """Run a command; return its seconds, those of its threads, its peak bytes and what it told.

    What a process tells is the last line it prints, as JSON.

    Raises
    ------
    SystemExit
        If it fails.
    """
    with tempfile.TemporaryFile("w+", dir=folder) as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().splitlines()
    if process.returncode:
        raise SystemExit("\n".join([f"failed: {' '.join(command)}", *lines[-30:]]))
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu = usage.ru_utime + usage.ru_stime
    return wall, cpu, peak, json.loads(lines[-1])


class Bench:
    """The contestants over one mosaic."""

    def __init__(self, folder: Path, size: int, options: argparse.Namespace) -> None:
        self.folder, self.size, self.options = folder, size, options
        self.chunks = min(options.chunks, size)
        self.source = folder / f"mosaic-{size}-{self.chunks}.zarr"
        sides = dict.fromkeys(
            min(side, size) // self.chunks * self.chunks or self.chunks
            for side in (self.chunks, *options.peer_chunks)
        )
        self.peers = {f"{PEER} {side}": side for side in sides}
        self.contestants = [COPY, *self.peers, OURS]

    def prepare(self) -> None:
        """Make the mosaic, unless it is there from an earlier run."""
        mark = self.source / "zarr.json"
        if mark.is_file() and json.loads(mark.read_text("utf-8"))["attributes"].get("complete"):
            return
        say(f"making {self.source}")
        measure(child("make_source", str(self.source), self.size, self.chunks), self.folder)

    def target(self, contestant: str) -> Path:
        """Return where a contestant writes."""
        return self.folder / f"{contestant.replace(' ', '-')}.zarr"

    def job_file(self, job: str) -> Path:
        """Write a job's YAML file."""
        zstd = self.options.zstd
        compressor = zstd if zstd in (None, "none") else f"{{zstd: {zstd}}}"
        lines = [
            "version: 1",
            f"input: {json.dumps(str(self.source))}",
            "steps:",
            f"  - {JOBS[job].step}",
            "output:",
            f"  path: {json.dumps(str(self.target(OURS)))}",
            *([f"  dtype: {JOBS[job].dtype}"] if JOBS[job].dtype else []),
            *([f"  compressor: {compressor}"] if compressor else []),
            "run:",
            "  scheduler: threads",
            f"  workers: {self.options.workers}",
            *([f"  memory: {self.options.memory}"] if self.options.memory else []),
        ]
        path = self.folder / f"{job}-{self.size}.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def command(self, job: str, contestant: str) -> list[str]:
        """Return the command of one contestant."""
        if contestant == OURS:
            path = str(self.job_file(job))
            return [sys.executable, "-m", "chunkfilt", "run", path, "--json"]
        workers = self.options.workers
        stores = {
            "source": str(self.source),
            "target": str(self.target(contestant)),
            "zstd": self.options.zstd,
            "pipeline": "zarrs" if contestant == COPY else self.options.peer_pipeline,
        }
        if contestant == COPY:
            return child("copy", workers, self.options.copy_block, stores)
        return child("dask_image", job, workers, self.peers[contestant], stores)

    def run(self, job: str, contestant: str, number: int) -> Measured:
        """Run one contestant, with nothing left of earlier outputs, in memory or to be written."""
        command = self.command(job, contestant)
        target = self.target(contestant)
        for place in (target, target.with_name(target.name + ".run")):
            shutil.rmtree(place, ignore_errors=True)
        os.sync()
        wall, cpu, peak, told = measure(command, self.folder)
        work = told["seconds"] if contestant == OURS else told["work"]
        return Measured(job, contestant, number, wall, work, cpu, peak)

    def plan(self, job: str) -> dict[str, Any]:
        """Return what chunkfilt plans for a job."""
        out = subprocess.run(
            [sys.executable, "-m", "chunkfilt", "plan", str(self.job_file(job)), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        made: dict[str, Any] = json.loads(out.stdout)
        return {key: made[key] for key in ("block", "blocks", "halo_cost", "memory", "peak")}

    def difference(self, contestant: str) -> float:
        """Return how far chunkfilt's output is from a peer's."""
        ours, theirs = str(self.target(OURS)), str(self.target(contestant))
        same = self.options.zstd is not None
        told = measure(child("compare", ours, theirs, 8, 512, same), self.folder)[-1]
        return float(told["difference"])


def run_all(bench: Bench, jobs: Sequence[str], rounds: int) -> Iterator[tuple[str, Any]]:
    """Yield what is found, each with its kind: differences, then times."""
    for job in jobs:
        for number in range(rounds):
            # Every round starts with another contestant: none always follows the same one.
            shift = number % len(bench.contestants)
            for contestant in bench.contestants[shift:] + bench.contestants[:shift]:
                found = bench.run(job, contestant, number)
                say(
                    f"{job}, round {number + 1} of {rounds}: {contestant} {found.wall:.1f} s, "
                    f"{found.peak / 1e6:.0f} MB"
                )
                yield "measured", found
        # Outputs of the last round; all rounds of a contestant give the same.
        yield "difference", (job, max(bench.difference(name) for name in bench.peers))


def summarize(bench: Bench, measured: Sequence[Measured], jobs: Sequence[str]) -> dict[str, Any]:
    """Return medians over the rounds, and medians of the ratios within each round."""
    pixels = bench.size**2 / 1e6
    summary: dict[str, Any] = {}
    for job in jobs:
        rounds = {
            name: [m for m in measured if (m.job, m.contestant) == (job, name)]
            for name in bench.contestants
        }
        rows = {
            name: {
                "wall_s": statistics.median(m.wall for m in found),
                "mpx_per_s": statistics.median(pixels / m.wall for m in found),
                "mpx_per_s_without_start_up": statistics.median(pixels / m.work for m in found),
                "cpu_s": statistics.median(m.cpu for m in found),
                "peak_mb": max(m.peak for m in found) / 1e6,
            }
            for name, found in rounds.items()
        }
        best = min(bench.peers, key=lambda name: rows[name]["wall_s"])
        ratios = {
            f"{OURS} / {word}": {
                "speed": ratio(rounds[name], rounds[OURS], "wall"),
                "speed_without_start_up": ratio(rounds[name], rounds[OURS], "work"),
                "cpu": ratio(rounds[name], rounds[OURS], "cpu"),
                "peak": ratio(rounds[OURS], rounds[name], "peak"),
            }
            for word, name in ((PEER, best), (COPY, COPY))
        }
        summary[job] = {"contestants": rows, "best_peer": best, "ratios": ratios}
    return summary


def ratio(over: Sequence[Measured], under: Sequence[Measured], what: str) -> float:
    """Return the median of a figure's ratio round by round."""
    pairs = zip(over, under, strict=True)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def machine() -> dict[str, Any]:
    """Return what this was measured on."""
    model, memory = platform.processor() or platform.machine(), 0
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/meminfo", "MemTotal")):
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except OSError:
            continue
        value = next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
        if key == "MemTotal" and value:
            memory = int(value.split()[0]) * 1024
        elif value:
            model = value
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    own, asked = report["machine"], report["asked"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    square = "{0} x {0}".format
    where = (
        f"{report['date']}, {own['cpu']}, {own['cores']} cores, {own['memory_gb']:.0f} GB, "
        f"{own['system']}, Python {own['python']}; {versions}."
    )
    codec = (
        "each one's default (the mosaic's zstd; chunkfilt: blosc lz4 bitshuffle for floats)"
        if asked["zstd"] is None
        else f"zstd {asked['zstd']} for all"
    )
    what = (
        f"{square(asked['size'])} uint16, chunks of {square(asked['chunks'])}, float32 out, "
        f"{asked['workers']} threads, rounds: {asked['rounds']}, compression: {codec}, "
        f"dask-image's codec pipeline: {asked['peer_pipeline']}. "
        "Mpx/s: median, in brackets without the start-up; peak: of the process, highest."
    )
    lines = [
        where,
        "",
        what,
        "",
        "| job | contestant | Mpx/s | wall, s | CPU, s | peak, MB |",
        "|---|---|---|---|---|---|",
    ]
    for job, found in report["summary"].items():
        for name, row in found["contestants"].items():
            lines.append(
                f"| {JOBS[job].title} | {name} | {row['mpx_per_s']:.0f} "
                f"({row['mpx_per_s_without_start_up']:.0f}) | {row['wall_s']:.1f} "
                f"| {row['cpu_s']:.1f} | {row['peak_mb']:.0f} |"
            )
    beside = (
        "chunkfilt beside dask-image (with the faster of its chunks) and the copy: how many times "
        "as fast (without the start-up), and how many times less CPU, medians of each round's "
        "ratio; peak and planned peak in MB; largest relative difference between both outputs."
    )
    columns = (
        *("job", "speed, dask-image", "CPU, dask-image", "speed, copy"),
        *("peak", "planned", "block", "error"),
    )
    lines += ["", beside, "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for job, found in report["summary"].items():
        peer, floor = (found["ratios"][f"{OURS} / {name}"] for name in (PEER, COPY))
        plan = report["plans"][job]
        lines.append(
            f"| {JOBS[job].title} | {peer['speed']:.2f} ({peer['speed_without_start_up']:.2f}) "
            f"| {peer['cpu']:.2f} "
            f"| {floor['speed']:.2f} ({floor['speed_without_start_up']:.2f}) "
            f"| {found['contestants'][OURS]['peak_mb']:.0f} | {plan['peak'] / 1e6:.0f} "
            f"| {' x '.join(map(str, plan['block']))} | {report['differences'][job]:.1e} |"
        )
    return "\n".join(lines) + "\n"


def say(line: str) -> None:
    """Print progress at once."""
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=16384, help="pixels a side (16384)")
    parser.add_argument("--chunks", type=int, default=1024, help="pixels a side (1024)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="threads of each contestant (2)")
    parser.add_argument(
        "--jobs", default="mean,variance", help=f"of {','.join(JOBS)} (mean,variance)"
    )
    parser.add_argument(
        "--peer-chunks",
        type=lambda text: [int(word) for word in text.split(",")],
        default=[2048],
        help="dask-image's chunks to try beside the stored ones (2048)",
    )
    parser.add_argument(
        "--peer-pipeline",
        choices=("zarrs", "zarr"),
        default="zarrs",
        help="dask-image's codec pipeline: chunkfilt's (zarrs), or zarr-python's default (zarr)",
    )
    parser.add_argument(
        "--zstd",
        help="level of every output's compressor, or none (default: each contestant's own default)",
    )
    parser.add_argument("--copy-block", type=int, default=4096, help="pixels a side (4096)")
    parser.add_argument("--memory", help="chunkfilt's budget, such as 700MB (its own default)")
    parser.add_argument("--folder", type=Path, help="keeps the mosaic for the next time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    options.jobs = options.jobs.split(",")
    unknown = [job for job in options.jobs if job not in JOBS]
    if unknown:
        parser.error(f"unknown job {unknown[0]!r}; there are {', '.join(JOBS)}")
    if min(options.size, options.chunks, options.rounds, options.workers) < 1:
        parser.error("size, chunks, rounds and workers must be at least 1")
    return options


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="store-to-store-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        small = min(options.size, WARM_UP)
        bench, warm = (Bench(folder, size, options) for size in (options.size, small))
        for one in (bench, warm):
            one.prepare()
        if hasattr(os, "sched_setaffinity"):
            # Codecs have threads of their own: what is asked for is the cores, too.
            cores = islice(sorted(os.sched_getaffinity(0)), options.workers)
            os.sched_setaffinity(0, set(cores))
        # Unmeasured: compiled code goes to the disk's cache, libraries into memory.
        for job in options.jobs if options.size > small else ():
            say(f"warming up: {job}")
            for contestant in warm.contestants:
                warm.run(job, contestant, 0)
        found: dict[str, list[Any]] = {"measured": [], "difference": []}
        for kind, one in run_all(bench, options.jobs, options.rounds):
            found[kind].append(one)
        report = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "versions": {name: version(name) for name in PACKAGES},
            "asked": {
                "size": bench.size,
                "chunks": bench.chunks,
                "rounds": options.rounds,
                "workers": options.workers,
                "memory": options.memory,
                "zstd": options.zstd,
                "peer_pipeline": options.peer_pipeline,
            },
            "summary": summarize(bench, found["measured"], options.jobs),
            "plans": {job: bench.plan(job) for job in options.jobs},
            "differences": dict(found["difference"]),
            "measured": [asdict(one) for one in found["measured"]],
        }
        for name in {*bench.contestants, *warm.contestants}:
            target = bench.target(name)
            for place in (target, target.with_name(target.name + ".run")):
                shutil.rmtree(place, ignore_errors=True)
    text = markdown(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*json.loads(sys.argv[3]))))
    else:
        main()

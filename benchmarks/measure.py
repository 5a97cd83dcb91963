"""Processes and what they take: seconds, memory, machine, versions.

Nothing heavy is imported here: a child's peak memory, as the kernel reports it, starts from its
parent's.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = ["Process", "Stopped", "about", "child", "measure", "pin", "say"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("chunkfilt", "numpy", "numba", "zarr", "zarrs", "dask", "dask-image", "scipy"),
    *("scikit-image", "pyvips", "pyvips-binary", "opencv-python-headless"),
)


class Stopped(Exception):  # noqa: N818 - others go on
    """A process failed, or was stopped at its time limit."""


@dataclass(frozen=True)
class Process:
    """One process, from its start to its end."""

    wall: float  # seconds
    cpu: float  # seconds of all its threads
    peak: int  # bytes, resident
    told: dict[str, Any]  # the last line it printed


def child(function: str, **arguments: Any) -> list[str]:
    """Return the command that calls ``module.function`` of this package in its own process."""
    return [sys.executable, "-m", "benchmarks.child", function, json.dumps(arguments)]


def measure(command: Sequence[str], limit: float | None = None) -> Process:
    """Run a command and return what it took.

    Raises
    ------
    Stopped
        If it fails, or is still running after `limit` seconds.
    """
    stopped = threading.Event()
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
        timer = threading.Timer(limit or 0.0, lambda: (stopped.set(), process.kill()))
        if limit is not None:
            timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().splitlines()
    if process.returncode and stopped.is_set():
        raise Stopped(f"stopped after {limit:g} s")
    if process.returncode:
        raise Stopped("\n".join([f"failed: {' '.join(command)}", *lines[-30:]]))
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Process(wall, usage.ru_utime + usage.ru_stime, peak, json.loads(lines[-1]))


def pin(workers: int) -> None:
    """Keep this process and its children to as many cores, and libvips to as many threads.

    Codecs have threads of their own: what is asked for is the cores, too.
    """
    os.environ["VIPS_CONCURRENCY"] = str(workers)
    # An installed package keeps its bytecode; the checkout shall too, wherever this runs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(islice(sorted(os.sched_getaffinity(0)), workers)))


def about() -> dict[str, Any]:
    """Return when and on what this is measured, and the versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "versions": versions,
    }


def _machine() -> dict[str, Any]:
    held = {
        key: next((line.split(":", 1)[1].strip() for line in _lines(path) if key in line), "")
        for path, key in (("/proc/cpuinfo", "model name"), ("/proc/meminfo", "MemTotal"))
    }
    memory = int((held["MemTotal"] or "0").split()[0]) * 1024
    return {
        "cpu": held["model name"] or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def say(line: str) -> None:
    """Print progress at once."""
    print(line, file=sys.stderr, flush=True)

"""Peak memory of ``chunkfilt run``: does it grow with the image, and does the plan hold?"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.jobs import JOBS, OURS, Entry, job_text
from benchmarks.measure import ROOT, pin, say
from benchmarks.sources import Image, make, make_base
from benchmarks.stores import Runner

__all__ = ["main"]

FLAT = 1.1  # the larger image's peak over the smaller one's


def main(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Measure every job on images of two sizes; return the findings and the table."""
    entries = [
        Entry(job, OURS, Image(JOBS[job].kind, side, min(options.chunks[0], side), options.codec))
        for job in options.jobs
        for side in _sides(job, options.size)
    ]
    base = make_base(folder, max(entry.image.side for entry in entries))
    make(folder, base, [(entry.image, False) for entry in entries])
    pin(options.workers)
    runner = Runner(folder, options.workers, options.memory)
    found = []
    for job in options.jobs:
        # Unmeasured: what is compiled goes to the disk's cache.
        runner.run(next(entry for entry in entries if entry.job == job))
        runs = [_run(runner, entry, options.rounds) for entry in entries if entry.job == job]
        growth = runs[1]["peak"] / runs[0]["peak"]
        within = all(one["peak"] <= one["planned"] for one in runs)
        row = {"job": job, "title": JOBS[job].title, "runs": runs, "growth": growth}
        found.append(row | {"flat": growth <= FLAT, "within_plan": within})
    return {"memory": found}, _markdown(found)


def _sides(job: str, side: int) -> tuple[int, int]:
    """Return the sides of two images: a mosaic four, a volume eight times as large as the first."""
    own = min(side, JOBS[job].sides.get("", side))
    return (own, 2 * own) if JOBS[job].kind == "mosaic" else (own // 2, own)


def _run(runner: Runner, entry: Entry, rounds: int) -> dict[str, Any]:
    """Return the highest peak of some runs, and the planned one."""
    peaks = []
    for _ in range(rounds):
        peaks.append(runner.run(entry)[0].peak)
        say(f"{entry.job}, side {entry.image.side}: {peaks[-1] / 1e6:.0f} MB")
    runner.remove(entry)
    return {
        "side": entry.image.side,
        "shape": entry.image.shape,
        "peak": max(peaks),
        "planned": _planned(runner, entry),
    }


def _planned(runner: Runner, entry: Entry) -> int:
    """Return the peak that ``chunkfilt plan`` says."""
    path = runner.folder / f"{entry.job}.yaml"
    path.write_text(job_text(entry, runner.folder, runner.workers, runner.memory), "utf-8")
    command = [sys.executable, "-m", "chunkfilt", "plan", str(path), "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(json.loads(out.stdout)["peak"])


def _markdown(found: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            one["title"],
            *(
                cell
                for run in one["runs"]
                for cell in (
                    report.by(run["shape"]),
                    f"{run['peak'] / 1e6:.0f}",
                    f"{run['planned'] / 1e6:.0f}",
                    f"{run['peak'] / run['planned']:.2f}",
                )
            ),
            f"{one['growth']:.2f}, {'met' if one['flat'] else '**missed**'}",
            "met" if one["within_plan"] else "**missed**",
        ]
        for one in found
    ]
    half = ("image", "peak, MB", "planned, MB", "peak / planned")
    columns = ("job", *half, *half, f"growth, <= {FLAT:g}", "peak <= planned")
    return (
        "The highest resident memory of the process on an image and on a larger one.\n\n"
        + report.table(columns, rows)
    )

"""From store to store: every job by a copy, by its peers and by chunkfilt, taking turns."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.jobs import (
    COPY,
    DASK,
    DASK_TUNED,
    FFT,
    FFT_TUNED,
    JOBS,
    OPPONENT,
    OURS,
    PLAIN,
    SKIMAGE,
    VIPS,
    Entry,
    entries_of,
    job_text,
)
from benchmarks.measure import Process, Stopped, child, measure, pin, say
from benchmarks.sources import Image, make, make_base

__all__ = ["Runner", "main"]

ZARRS = "zarrs.ZarrsCodecPipeline"
COPY_BLOCK, TUNED_BLOCK = 4096, 2048
WARM_SIDE, WARM_CHUNKS = 512, 256
EDGE = 32  # pixels that libvips fills in another way


@dataclass(frozen=True)
class Runner:
    """Runs contestants in a folder."""

    folder: Path
    workers: int = 2
    memory: str | None = None
    limit: float | None = None

    def run(self, entry: Entry) -> tuple[Process, float]:
        """Run one contestant, with nothing of earlier outputs left in memory or to be written.

        Returns
        -------
        Process, float
            What it took, and the seconds without its start-up.
        """
        self.remove(entry)
        command = self.command(entry)
        os.sync()
        found = measure(command, self.limit)
        return found, found.told["seconds" if entry.contestant in (OURS, PLAIN) else "work"]

    def command(self, entry: Entry) -> list[str]:
        """Return the command of one contestant."""
        image, target = entry.image, str(self.folder / entry.target)
        if entry.contestant in (OURS, PLAIN):
            path = self.folder / f"{entry.job}.yaml"
            path.write_text(job_text(entry, self.folder, self.workers, self.memory), "utf-8")
            return [sys.executable, "-m", "chunkfilt", "run", str(path), "--json"]
        if entry.contestant == VIPS:
            source = str(image.tiff(self.folder))
            return child("contestants.libvips", job=entry.job, source=source, target=target)
        stores = {
            "source": str(image.path(self.folder)),
            "target": target,
            "names": entry.about.save,
            "leading": entry.about.leading,
            "dtype": entry.about.dtype,
            "codec": image.codec,
            "pipeline": ZARRS if entry.contestant in (COPY, DASK_TUNED, FFT_TUNED) else None,
        }
        if entry.contestant == COPY:
            block = image.block(COPY_BLOCK if image.kind == "mosaic" else TUNED_BLOCK)
            return child("contestants.copy", workers=self.workers, block=block, stores=stores)
        if entry.contestant == SKIMAGE:
            return child("contestants.in_memory", job=entry.job, stores=stores)
        tuned = entry.contestant in (DASK_TUNED, FFT_TUNED)
        return child(
            "contestants.dask_arrays",
            job=entry.job,
            code=DASK if entry.contestant in (DASK, DASK_TUNED) else FFT,
            workers=self.workers,
            block=image.block(TUNED_BLOCK) if tuned else image.chunk_shape,
            stores=stores,
        )

    def differences(self, entries: Sequence[Entry]) -> dict[str, float]:
        """Return how far the peers' outputs of a job are from chunkfilt's, by contestant."""
        ours = {entry.contestant: entry for entry in entries if entry.contestant in (OURS, PLAIN)}
        # chunkfilt's output is of the larger image at first; then it is made anew for the others.
        peers = [e for e in entries if e.contestant not in (COPY, OURS, PLAIN)]
        by_side: dict[Image, list[Entry]] = {}
        for entry in sorted(peers, key=lambda one: -one.image.side):
            by_side.setdefault(entry.image, []).append(entry)
        found: dict[str, float] = {}
        for image, some in by_side.items():
            opponent = ours[OPPONENT.get(some[0].contestant, OURS)]
            if opponent.image != image:
                opponent = Entry(opponent.job, opponent.contestant, image)
                self.run(opponent)
            pairs = {
                str(self.folder / entry.target): str(self.folder / opponent.target)
                for entry in some
            }
            told = measure(
                child(
                    "contestants.compare",
                    pairs=list(pairs.items()),
                    names=opponent.about.save,
                    margin=min(EDGE, image.side // 4),
                )
            ).told
            found |= {e.contestant: told[str(self.folder / e.target)] for e in some}
        return found

    def plan(self, entry: Entry) -> dict[str, Any]:
        """Return what chunkfilt planned for its last run of an entry."""
        record = self.folder / f"{entry.target}.run" / "run.json"
        made: dict[str, Any] = json.loads(record.read_text("utf-8"))["plan"]
        return {key: made[key] for key in ("block", "blocks", "halo_cost", "memory", "peak")}

    def remove(self, entry: Entry) -> None:
        """Remove what an entry wrote."""
        target = self.folder / entry.target
        if target.suffix == ".tif":
            target.unlink(missing_ok=True)
        for place in (target, target.with_name(f"{target.name}.run")):
            shutil.rmtree(place, ignore_errors=True)


def rounds_of(runner: Runner, entries: Sequence[Entry], rounds: int) -> Iterator[dict[str, Any]]:
    """Run the contestants of a job in turns; yield a record of every run.

    Every round starts with another contestant, so that none always follows the same one; who is
    fails, or is stopped at the time limit, does not run again.

    Raises
    ------
    Stopped
        If it is chunkfilt that fails.
    """
    entries = list(entries)
    for number in range(rounds):
        shift = number % len(entries)
        for entry in entries[shift:] + entries[:shift]:
            image = entry.image
            row = {"contestant": entry.contestant, "round": number, "shape": image.shape}
            row |= {"megapixels": image.megapixels}
            where = f"{entry.job}, chunks {image.chunks}, round {number + 1}: {entry.contestant}"
            try:
                found, work = runner.run(entry)
            except Stopped as stopped:
                if entry.contestant == OURS:
                    raise
                say(f"{where} {stopped}")
                entries.remove(entry)
                continue
            say(f"{where} {found.wall:.1f} s, {found.peak / 1e6:.0f} MB")
            yield row | {"wall": found.wall, "work": work, "cpu": found.cpu, "peak": found.peak}


def compare(runner: Runner, entries: Sequence[Entry], rounds: int) -> dict[str, Any]:
    """Return all that is found about one job on one chunking."""
    measured = list(rounds_of(runner, entries, rounds))
    done = {row["contestant"] for row in measured if row["round"] == rounds - 1}
    ours = next(entry for entry in entries if entry.contestant == OURS)
    plan = runner.plan(ours)
    differences = runner.differences([entry for entry in entries if entry.contestant in done])
    for entry in entries:
        runner.remove(entry)
    return {
        "job": ours.job,
        "title": ours.about.title,
        "chunks": ours.image.chunks,
        "stopped": [entry.contestant for entry in entries if entry.contestant not in done],
        **report.summarize([row for row in measured if row["contestant"] in done], OPPONENT),
        "targets": dict(ours.about.targets),
        "exact": ours.about.dtype == "uint16",
        "differences": differences,
        "plan": plan,
        "measured": measured,
    }


def warm_up(folder: Path, base: Path, options: argparse.Namespace) -> None:
    """Run everything once on a small image: compiled code goes to the disk's cache."""
    runner = Runner(folder, options.workers)
    for job in options.jobs:
        say(f"warming up: {job}")
        entries = entries_of(job, WARM_SIDE, WARM_CHUNKS, options.codec, options.contestants)
        make(folder, base, [(e.image, e.contestant == VIPS) for e in entries])
        for entry in entries:
            runner.run(entry)
            runner.remove(entry)


def main(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Run the comparison; return the findings and the tables."""
    base = make_base(folder, options.size)
    table = [
        entries_of(job, options.size, chunks, options.codec, options.contestants)
        for chunks in options.chunks
        for job in options.jobs
    ]
    make(folder, base, [(e.image, e.contestant == VIPS) for row in table for e in row])
    pin(options.workers)
    if not options.small:
        warm_up(folder, base, options)
    runner = Runner(folder, options.workers, options.memory, options.limit)
    comparisons = [compare(runner, entries, options.rounds) for entries in table]
    found = {"comparisons": comparisons}
    return found, report.stores_markdown(comparisons, list(JOBS))

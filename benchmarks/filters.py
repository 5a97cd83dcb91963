"""Every filter beside its reference: on one thread in memory, and from store to store."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import Case, by_filter
from benchmarks.jobs import OURS
from benchmarks.measure import Stopped, child, measure, pin, say
from benchmarks.sources import make_base

__all__ = ["main", "markdown", "stored"]

DASK, REFERENCE, OPENCV = "dask", "reference", "opencv"
# How many times as large, a side, the images are from store to store.
OURS_LARGER, DASK_LARGER = 2, 4
WARM_SIDE = 512
AT_LEAST = 1.0  # times as fast as dask
# Libraries below NumPy have threads of their own, whatever cores they are kept to.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Row = Mapping[str, Any]


def main(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Measure every filter, in processes of their own; return the findings and the tables."""
    names = options.filters or list(by_filter())
    unknown = [name for name in names if name not in by_filter()]
    if unknown:
        raise Stopped(
            f"unknown {unknown[0]!r} among the filters; there are {', '.join(by_filter())}"
        )
    base = make_base(folder, options.size)
    pin(options.workers)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    runner, in_memory, from_store = Runner(folder, base, options), [], []
    for name in names:
        say(f"{name}: one thread")
        asked = {"base": str(base), "name": name, "size": options.size, "rounds": options.rounds}
        in_memory += measure(child("filter_runs.measure_filter", **asked), options.limit).told
        if not options.in_memory:
            from_store.append(runner.compare(name))
    return {"filters": in_memory, "stored": from_store}, markdown(in_memory, from_store)


@dataclass(frozen=True)
class Runner:
    """Runs the first case of a filter from store to store."""

    folder: Path
    base: Path
    options: argparse.Namespace

    def compare(self, name: str) -> dict[str, Any]:
        """Return what is found of a filter: both in turns, then how far they are apart."""
        case = by_filter()[name][0]
        cuts = {
            OURS: self._cut(OURS_LARGER * case.own_side),
            DASK: self._cut(DASK_LARGER * case.side),
        }
        warm = self._cut(min(WARM_SIDE, *(side // 2 for side, _ in cuts.values())))
        named = (case.kinds[0], *(one for one in case.others if isinstance(one, str)))
        images = [(kind, *cut) for kind in named for cut in (*cuts.values(), warm)]
        asked = {"base": str(self.base), "folder": str(self.folder), "images": images}
        measure(child("filter_runs.write_images", codec=self.options.codec, **asked))
        runs = {
            who: self._command(case, who, self._inputs(case, cut), self._inputs(case, warm))
            for who, cut in cuts.items()
        }
        rows = list(self._rounds(name, runs, {who: side for who, (side, _) in cuts.items()}))
        found = {"filter": name, "kind": case.kinds[0], **report.summarize(rows, {})}
        if DASK in found["ratios"]:
            paths = {"ours": str(self._target(OURS)), "theirs": str(self._target(DASK))}
            found |= measure(child("filter_runs.compare", name=name, **paths)).told
        for who in cuts:
            self._remove(who)
        return found

    def _cut(self, side: int) -> tuple[int, int]:
        """Return pixels a side of an image and of its chunks, of which there are four at least."""
        side = min(side, self.options.size)
        return side, min(self.options.chunks[0], max(side // 2, 1))

    def _inputs(self, case: Case, cut: tuple[int, int]) -> list[str | float]:
        return [
            str(stored(self.folder, one, *cut, self.options.codec)) if isinstance(one, str) else one
            for one in (case.kinds[0], *case.others)
        ]

    def _command(
        self, case: Case, who: str, images: Sequence[Any], warm: Sequence[Any]
    ) -> list[str]:
        asked = {"name": case.filter, "images": images, "warm": warm}
        asked |= {"target": str(self._target(who)), "codec": self.options.codec}
        asked |= {"workers": self.options.workers}
        if who == DASK:
            return child("filter_runs.save_by_dask", **asked)
        return child("filter_runs.save_ours", memory=self.options.memory, **asked)

    def _rounds(
        self, name: str, runs: Mapping[str, list[str]], sides: Mapping[str, int]
    ) -> Iterator[Row]:
        """Run both in turns, after chunkfilt once: what it compiles goes to the disk's cache."""
        left, rounds = dict(runs), self.options.rounds
        if not self.options.small:
            measure(runs[OURS], self.options.limit)
        for number in range(rounds):
            for who in list(left)[:: 1 if number % 2 else -1]:
                self._remove(who)
                os.sync()
                try:
                    found = measure(runs[who], self.options.limit)
                except Stopped as stopped:
                    if who == OURS:
                        raise
                    say(f"{name}: {who} {stopped}")
                    del left[who]
                    continue
                seconds, side = found.told["seconds"], sides[who]
                say(f"{name}, round {number + 1}: {who} {seconds:.2f} s")
                figures = {"megapixels": side * side / 1e6, "wall": seconds, "work": seconds}
                figures |= {"cpu": found.told["cpu"], "peak": found.peak}
                yield {"contestant": who, "round": number, "shape": (side, side), **figures}

    def _target(self, who: str) -> Path:
        return self.folder / f"out-filter-{who}.zarr"

    def _remove(self, who: str) -> None:
        target = self._target(who)
        for end in ("", ".run", ".warm", ".warm.run"):
            shutil.rmtree(target.with_name(target.name + end), ignore_errors=True)


def stored(folder: Path, kind: str, side: int, chunks: int, codec: str) -> Path:
    """Return where an image is kept."""
    return folder / f"filter-{kind.replace(' ', '-')}-{side}-{chunks}-{codec}.zarr"


def markdown(in_memory: Sequence[Row], from_store: Sequence[Row]) -> str:
    """Return both tables, each with what is below its target."""
    below = sorted((row for row in in_memory if _part(row) < 1), key=_part)
    lost = sorted((row for row in from_store if _gain(row) < AT_LEAST), key=_gain)
    stores = (
        "\nFrom store to store: chunkfilt beside the reference in `dask.array.map_overlap`, each "
        "in a process of its own that has filtered a small image before; CPU: how many times less "
        "chunkfilt takes; peak: resident, of the process.\n\n"
        f"{_store_table(from_store)}\n"
        f"{_said(len(from_store), [_lost(row) for row in lost])}"
    )
    return (
        "One thread, arrays in memory, medians of all rounds; how many times as fast as the "
        "reference, and as OpenCV, chunkfilt is, in Mpx/s of images of 2048 x 2048 (smaller for "
        "slow references), beside its target; the largest difference from the reference over its "
        "largest value. Planning, which comes once for an image, is not in Mpx/s but has a "
        "column; in brackets the ratio with it.\n\n"
        f"{_thread_table(in_memory)}\n"
        f"{_said(len(in_memory), [_missed(row) for row in below])}"
    ) + (stores if from_store else "")


def _case(row: Row) -> Case:
    return by_filter()[row["filter"]][row.get("case", 0)]


def _missed(row: Row) -> str:
    case = _case(row)
    reached = f"{row['ratios'][REFERENCE]:.2g} of {case.target:g}"
    return f"{row['filter']} {case.title} {row['kind']} ({reached})"


def _part(row: Row) -> float:
    """Return the part of its target that a case reaches."""
    reached: float = row["ratios"][REFERENCE] / _case(row).target
    return reached


def _lost(row: Row) -> str:
    return f"{row['filter']} ({_gain(row):.2f})"


def _with_plan(row: Row) -> float:
    """Return how many times as fast as the reference chunkfilt is, the plan included."""
    seconds = row["sides"][OURS] ** 2 / 1e6 / row["mpx_per_s"][OURS]
    ratio: float = row["ratios"][REFERENCE]
    return ratio * seconds / (seconds + row["plan_ms"] / 1e3)


def _gain(row: Row) -> float:
    """Return how many times as fast as dask chunkfilt is; where that was stopped, it is faster."""
    gain: float = row["ratios"].get(DASK, {}).get("speed", AT_LEAST)
    return gain


def _said(count: int, missed: Sequence[str]) -> str:
    """Return how many rows meet their target, and which do not, the worst first."""
    if not missed:
        return f"All {count} meet their target.\n"
    return f"{count - len(missed)} of {count} meet their target. Below it: {', '.join(missed)}.\n"


def _thread_table(found: Sequence[Row]) -> str:
    rows = []
    for row in found:
        case, speed, ratios = _case(row), row["mpx_per_s"], row["ratios"]
        verdict = "met" if _part(row) >= 1 else "**missed**"
        difference = f"{row['difference']:.0e}"
        rows.append(
            [
                *(row["filter"], case.title, row["kind"], case.peer),
                *(f"{speed[OURS]:.0f}", f"{speed[REFERENCE]:.3g}"),
                f"{ratios[REFERENCE]:.2f} ({_with_plan(row):.2f})",
                f">= {case.target:g}, {verdict}",
                f"{ratios[OPENCV]:.2f}" if OPENCV in ratios else "-",
                difference if row["difference"] <= case.tolerance else f"**{difference}**",
                f"{row['plan_ms']:.0f}",
            ]
        )
    columns = (
        *("filter", "parameters", "image", "reference", "chunkfilt, Mpx/s", "reference, Mpx/s"),
        *("/ reference", "target", "/ OpenCV", "difference", "plan, ms"),
    )
    return report.table(columns, rows)


def _store_table(found: Sequence[Row]) -> str:
    rows = []
    for row in found:
        held, ratios = row["contestants"], row["ratios"].get(DASK)
        figures = ["failed, or too slow", *[""] * 6]
        if ratios is not None:
            verdict = "met" if ratios["speed"] >= AT_LEAST else "**missed**"
            figures = [
                f"{held[DASK]['mpx_per_s']:.3g}",
                *(f"{ratios['speed']:.2f}", f">= {AT_LEAST:g}, {verdict}", f"{ratios['cpu']:.2f}"),
                *(f"{held[who]['peak_mb']:.0f}" for who in (OURS, DASK)),
                f"{row['difference']:.0e}",
            ]
        title = _case(row).title
        rows.append([row["filter"], title, row["kind"], f"{held[OURS]['mpx_per_s']:.0f}", *figures])
    columns = (
        *("filter", "parameters", "image", "chunkfilt, Mpx/s", "dask, Mpx/s", "/ dask", "target"),
        *("CPU", "chunkfilt, MB", "dask, MB", "difference"),
    )
    return report.table(columns, rows)

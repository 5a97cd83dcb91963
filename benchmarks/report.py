"""Findings as figures and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.jobs import OURS, PLAIN

__all__ = ["by", "heading", "rate", "ratio", "stores_markdown", "summarize", "table"]

Row = Mapping[str, Any]


def rate(row: Row, seconds: str = "wall") -> float:
    """Return Mpx/s of one run, so that images of different area can be compared."""
    return row["megapixels"] / row[seconds]


def ratio(ours: Sequence[Row], theirs: Sequence[Row], figure: Any) -> float:
    """Return the median of a figure's ratio, round by round."""
    other = {row["round"]: row for row in theirs}
    return statistics.median(figure(row) / figure(other[row["round"]]) for row in ours)


def summarize(measured: Sequence[Row], opponent: Mapping[str, str]) -> dict[str, Any]:
    """Return medians over the rounds, and medians of the ratios within each round.

    Parameters
    ----------
    measured : sequence
        One row for each run: contestant, round, megapixels, and what it took.
    opponent : mapping
        With whom a contestant is compared, where that is not `OURS`.
    """
    by_name: dict[str, list[Row]] = {}
    for row in measured:
        by_name.setdefault(row["contestant"], []).append(row)
    contestants = {
        name: {
            "shape": rows[0]["shape"],
            "megapixels": rows[0]["megapixels"],
            "mpx_per_s": statistics.median(map(rate, rows)),
            "mpx_per_s_without_start_up": statistics.median(rate(row, "work") for row in rows),
            "wall_s": statistics.median(row["wall"] for row in rows),
            "cpu_s": statistics.median(row["cpu"] for row in rows),
            "peak_mb": max(row["peak"] for row in rows) / 1e6,
        }
        for name, rows in by_name.items()
    }
    ratios = {}
    for name, rows in by_name.items():
        ours = by_name.get(opponent.get(name, OURS))
        if name in (OURS, PLAIN) or ours is None:
            continue
        ratios[name] = {
            "speed": ratio(ours, rows, rate),
            "speed_without_start_up": ratio(ours, rows, lambda row: rate(row, "work")),
            "cpu": ratio(ours, rows, lambda row: rate(row, "cpu")),
            "peak": ratio(ours, rows, lambda row: row["peak"]),
        }
    return {"contestants": contestants, "ratios": ratios}


def heading(found: Row, what: str) -> str:
    """Return where and with what the figures below it were measured."""
    own, asked = found["machine"], found["asked"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    given = ", ".join(f"{key} {_shown(value)}" for key, value in asked.items() if value)
    return (
        f"{what}. {found['date']}, {own['cpu']}, {own['cores']} cores, "
        f"{own['memory_gb']:.0f} GB, {own['system']}, Python {own['python']}; {versions}. "
        f"Asked: {given}.\n"
    )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def by(shape: Sequence[int]) -> str:
    """Return a shape for people."""
    return " x ".join(map(str, shape))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def stores_markdown(comparisons: Sequence[Row], order: Sequence[str]) -> str:
    """Return the comparison from store to store: every contestant, then chunkfilt beside them."""
    ordered = sorted(comparisons, key=lambda one: (order.index(one["job"]), one["chunks"]))
    contestants = table(
        ("job", "chunks", "contestant", "image", "Mpx/s", "wall, s", "CPU, s", "peak, MB"),
        [row for one in ordered for row in _contestant_rows(one)],
    )
    beside = table(
        (
            *("job", "chunks", "chunkfilt beside", "speed", "target", "CPU", "peak"),
            "difference",
        ),
        [row for one in ordered for row in _ratio_rows(one)],
    )
    plans = table(
        ("job", "chunks", "block", "halo cost", "planned, MB", "peak, MB"),
        [_plan_row(one) for one in ordered],
    )
    return (
        "Medians of all rounds; Mpx/s from the start of the process to its end, in brackets "
        "without its start-up; peak: resident, the highest.\n\n"
        f"{contestants}\n"
        "How many times as fast as the contestant chunkfilt is (in brackets without the "
        "start-up), in Mpx/s; how many times less CPU; its part of the contestant's peak; "
        "the largest difference between the outputs over the largest value. Medians of each "
        "round's ratio.\n\n"
        f"{beside}\n"
        "What chunkfilt planned.\n\n"
        f"{plans}"
    )


def _contestant_rows(one: Row) -> list[list[str]]:
    rows = [
        [
            *(one["title"], str(one["chunks"]), name, by(row["shape"])),
            f"{row['mpx_per_s']:.1f} ({row['mpx_per_s_without_start_up']:.1f})",
            *(f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}", f"{row['peak_mb']:.0f}"),
        ]
        for name, row in one["contestants"].items()
    ]
    return rows + [
        [one["title"], str(one["chunks"]), name, "failed, or too slow", *[""] * 4]
        for name in one["stopped"]
    ]


def _ratio_rows(one: Row) -> list[list[str]]:
    rows = []
    for name, row in one["ratios"].items():
        least = one["targets"].get(name)
        verdict = "" if least is None else "met" if row["speed"] >= least else "**missed**"
        rows.append(
            [
                *(one["title"], str(one["chunks"]), name),
                f"{row['speed']:.2f} ({row['speed_without_start_up']:.2f})",
                "" if least is None else f">= {least:g}, {verdict}",
                *(f"{row['cpu']:.2f}", f"{row['peak']:.2f}"),
                _difference(one["differences"].get(name), one["exact"]),
            ]
        )
    return rows


def _difference(difference: float | None, exact: bool) -> str:
    if difference is None:
        return ""
    return f"**{difference:.1e}**" if difference and exact else f"{difference:.1e}"


def _plan_row(one: Row) -> list[str]:
    plan = one["plan"]
    return [
        *(one["title"], str(one["chunks"]), by(plan["block"])),
        *(f"{plan['halo_cost']:.2f}", f"{plan['peak'] / 1e6:.0f}"),
        f"{one['contestants'][OURS]['peak_mb']:.0f}",
    ]

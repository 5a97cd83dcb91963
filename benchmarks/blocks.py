"""The planner's choice of block beside other blocks of whole chunks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.measure import child, measure, pin, say
from benchmarks.sources import CODECS, Image, make, make_base

__all__ = ["main", "shapes", "time_blocks"]

HALOS = (1, 20, 200)
SQUARES = (1024, 2048, 4096)
STRIPS = ((512, 1), (1024, 1), (2048, 1), (1024, 2), (2048, 2))  # rows, parts of the width


def main(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str]:
    """Time blocks for every chunk size and halo; return the findings and the table."""
    base = make_base(folder, options.size)
    images = [
        Image("mosaic", options.size, min(c, options.size), options.codec) for c in options.chunks
    ]
    make(folder, base, [(image, False) for image in images])
    pin(options.workers)
    found = []
    for image in images:
        for halo in HALOS:
            say(f"chunks {image.chunks}, halo {halo}")
            asked = child(
                "blocks.time_blocks",
                source=str(image.path(folder)),
                target=str(folder / "out-blocks.zarr"),
                halo=halo,
                compressor=CODECS[image.codec],
                blocks=shapes(image.side, image.chunks),
                workers=options.workers,
                memory=options.memory,
                rounds=options.rounds,
            )
            found.append({"chunks": image.chunks, "halo": halo, **measure(asked).told})
    return {"blocks": found}, _markdown(found, options.size**2 / 1e6)


def shapes(side: int, chunks: int) -> list[tuple[int, int]]:
    """Return squares and wide strips of whole chunks."""

    def whole(pixels: int) -> int:
        return min(-(-pixels // chunks), -(-side // chunks)) * chunks

    asked = [(square, square) for square in SQUARES]
    asked += [(rows, side // parts) for rows, parts in STRIPS]
    return list(dict.fromkeys((whole(rows), whole(columns)) for rows, columns in asked))


def _markdown(found: Sequence[dict[str, Any]], megapixels: float) -> str:
    rows = [
        [
            *(str(one["chunks"]), str(one["halo"]), report.by(one["planned"]["block"])),
            f"{megapixels / one['planned']['seconds']:.0f}",
            report.by(one["best"]["block"]),
            f"{megapixels / one['best']['seconds']:.0f}",
            f"{one['ratio']:.2f}",
            ", ".join(
                f"{report.by(other['block'])}: {megapixels / other['seconds']:.0f}"
                for other in one["others"]
            ),
        ]
        for one in found
    ]
    columns = (
        *("chunks", "halo", "planned block", "Mpx/s", "best block", "Mpx/s"),
        *("planned time / best", "all others, Mpx/s"),
    )
    return (
        "A mean whose window reaches as far as the halo; medians of runs in one process, which "
        "take turns, without its start-up. Blocks that do not fit the memory budget are left "
        f"out.\n\n{report.table(columns, rows)}"
    )


# In a process of its own.


def time_blocks(
    source: str,
    target: str,
    halo: int,
    compressor: Any,
    blocks: Sequence[tuple[int, int]],
    workers: int,
    memory: str | None,
    rounds: int,
) -> dict[str, Any]:
    """Return the seconds of a run with the planner's block and with others."""
    import os
    import shutil
    import statistics
    from functools import partial

    import chunkfilt
    from chunkfilt.errors import BudgetError
    from chunkfilt.runtime import run

    plan = run.make_plan
    image = chunkfilt.mean(chunkfilt.open(source), size=2 * halo + 1)
    options = {"compressor": compressor, "workers": workers}
    options |= {"memory": memory} if memory else {}

    def seconds(block: Sequence[int]) -> float:
        for path in (target, f"{target}.run"):
            shutil.rmtree(path, ignore_errors=True)
        os.sync()
        # The planner takes a block where it is given one; runs do not offer that to users.
        run.make_plan = partial(plan, block=tuple(block))
        return chunkfilt.save(image, target, **options, progress=False).seconds

    planned = chunkfilt.plan(image, **options).block
    taken: dict[tuple[int, ...], list[float]] = {tuple(planned): []}
    seconds(planned)  # unmeasured: compiles
    for block in map(tuple, blocks):
        try:
            seconds(block)
        except BudgetError:
            continue
        taken.setdefault(block, [])
    for number in range(rounds):
        order = list(taken)
        shift = number % len(order)
        for block in order[shift:] + order[:shift]:
            taken[block].append(seconds(block))
    rows = [{"block": b, "seconds": statistics.median(s)} for b, s in taken.items()]
    best = min(rows, key=lambda row: row["seconds"])
    for path in (target, f"{target}.run"):
        shutil.rmtree(path, ignore_errors=True)
    return {
        "planned": rows[0],
        "best": best,
        "ratio": rows[0]["seconds"] / best["seconds"],
        "others": rows[1:],
    }

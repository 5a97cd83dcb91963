"""The planner's choice of block and strip beside others of whole chunks."""

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
Cut = tuple[tuple[int, int], tuple[int, int]]  # a block, and the strip of it computed at a time
SQUARES = (1024, 2048, 4096)
WIDE = (1024, 2048)  # rows of blocks as wide as the image
WALKED = ((1, 2, 512), (1, 2, 1024), (1, 4, 1024), (1, 4, 2048), (2, 2, 1024), (1, 8, 1024))


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


def shapes(side: int, chunks: int) -> list[Cut]:
    """Return blocks of whole chunks: squares and wide ones in one go, tall ones in strips."""

    def whole(*pixels: int) -> tuple[int, int]:
        rows, columns = (min(-(-n // chunks), -(-side // chunks)) * chunks for n in pixels)
        return rows, columns

    found = [(whole(n, n), whole(n, n)) for n in SQUARES]
    found += [(whole(rows, side), whole(rows, side)) for rows in WIDE]
    for down, across, rows in WALKED:
        block = whole(side // down, side // across)
        if block[0] % whole(rows, 1)[0] == 0:
            found.append((block, (whole(rows, 1)[0], block[1])))
    return list(dict.fromkeys(found))


def _markdown(found: Sequence[dict[str, Any]], megapixels: float) -> str:
    rows = [
        [
            *(str(one["chunks"]), str(one["halo"]), _cut(one["planned"])),
            f"{megapixels / one['planned']['seconds']:.0f}",
            _cut(one["best"]),
            f"{megapixels / one['best']['seconds']:.0f}",
            f"{one['ratio']:.2f}",
            ", ".join(
                f"{_cut(other)}: {megapixels / other['seconds']:.0f}" for other in one["others"]
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


def _cut(row: dict[str, Any]) -> str:
    """Return a block and its strips in words."""
    block, strip = row["block"], row["strip"]
    return report.by(block) + ("" if strip == block else f" in {strip[0]}")


# In a process of its own.


def time_blocks(
    source: str,
    target: str,
    halo: int,
    compressor: Any,
    blocks: Sequence[Any],
    workers: int,
    memory: str | None,
    rounds: int,
) -> dict[str, Any]:
    """Return the seconds of a run with the planner's block and strip and with others."""
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

    def seconds(block: Sequence[int], strip: Sequence[int]) -> float:
        for path in (target, f"{target}.run"):
            shutil.rmtree(path, ignore_errors=True)
        os.sync()
        # The planner takes a block where it is given one; runs do not offer that to users.
        run.make_plan = partial(plan, block=tuple(block), strip=tuple(strip))
        return chunkfilt.save(image, target, **options, progress=False).seconds

    planned = chunkfilt.plan(image, **options)
    own = (tuple(planned.block), tuple(planned.strip))
    taken: dict[Any, list[float]] = {own: []}
    seconds(*own)  # unmeasured: compiles
    for block, strip in blocks:
        cut = (tuple(block), tuple(strip))
        try:
            seconds(*cut)
        except BudgetError:
            continue
        taken.setdefault(cut, [])
    for number in range(rounds):
        order = list(taken)
        shift = number % len(order)
        for block in order[shift:] + order[:shift]:
            taken[block].append(seconds(*block))
    rows = [
        {"block": list(block), "strip": list(strip), "seconds": statistics.median(found)}
        for (block, strip), found in taken.items()
    ]
    best = min(rows, key=lambda row: row["seconds"])
    for path in (target, f"{target}.run"):
        shutil.rmtree(path, ignore_errors=True)
    return {
        "planned": rows[0],
        "best": best,
        "ratio": rows[0]["seconds"] / best["seconds"],
        "others": rows[1:],
    }

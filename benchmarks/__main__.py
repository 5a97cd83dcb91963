"""The command line: ``python -m benchmarks [stores|kernels|filters|blocks|memory]``."""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.jobs import JOBS, OTHERS
from benchmarks.measure import Stopped, about
from benchmarks.sources import CODECS

TITLES = {
    "stores": "From store to store",
    "kernels": "Kernels alone, on one thread",
    "filters": "Every filter",
    "blocks": "The planner's blocks beside others",
    "memory": "Peak memory of `chunkfilt run`",
}
# What is asked for where nothing is given, and with --small.
DEFAULTS: dict[str, dict[str, Any]] = {
    "stores": {"size": 16384, "chunks": [512, 1024, 2048], "rounds": 3},
    "kernels": {"size": 4096, "rounds": 5},
    "filters": {"size": 4096, "chunks": [1024], "rounds": 3},
    "blocks": {"size": 8192, "chunks": [256, 512, 1024, 2048, 4096], "rounds": 3},
    "memory": {"size": 16384, "chunks": [1024], "rounds": 1},
}
SMALL: dict[str, dict[str, Any]] = {
    "stores": {"size": 512, "chunks": [128], "rounds": 1},
    "kernels": {"size": 128, "rounds": 1},
    "filters": {"size": 256, "chunks": [128], "rounds": 1},
    "blocks": {"size": 512, "chunks": [128], "rounds": 1},
    "memory": {"size": 256, "chunks": [128], "rounds": 1},
}

STORED = ("codec", "workers", "memory")  # of what reads and writes stores


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=TITLES, default="stores")
    parser.add_argument("--size", type=int, help="pixels a side of the mosaic, at most")
    parser.add_argument("--chunks", type=_numbers, help="pixels a side, such as 512,1024")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--jobs", type=_words, help=f"some of {','.join(JOBS)} (all)")
    parser.add_argument("--filters", type=_words, help="some of the filters (all)")
    parser.add_argument(
        "--contestants",
        type=_words,
        default=[],
        help=f"some of {','.join(OTHERS)} beside chunkfilt (all)",
    )
    parser.add_argument("--codec", choices=CODECS, default="lz4", help="of all stores (lz4)")
    parser.add_argument("--workers", type=int, default=2, help="threads of each contestant (2)")
    parser.add_argument("--memory", help="chunkfilt's budget, such as 700MB (its own default)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a process has (900)")
    parser.add_argument("--folder", type=Path, help="keeps the images for the next time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--in-memory", action="store_true", help="filters: leave the stores out")
    parser.add_argument("--small", action="store_true", help="tiny images: times mean nothing")
    options = parser.parse_args()
    for name, value in (SMALL if options.small else DEFAULTS)[options.what].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.jobs = options.jobs or list(JOBS)
    for what, known in (("jobs", JOBS), ("contestants", OTHERS)):
        unknown = [name for name in getattr(options, what) if name not in known]
        if unknown:
            parser.error(f"unknown {unknown[0]!r} among the {what}; there are {', '.join(known)}")
    if min(options.size, options.rounds, options.workers, *(options.chunks or [1])) < 1:
        parser.error("size, chunks, rounds and workers must be at least 1")
    return options


def main() -> None:
    """Run a benchmark and write what it found."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        run = import_module(f"benchmarks.{options.what}").main
        asked = [*DEFAULTS[options.what], "small", *STORED * (options.what != "kernels")]
        found = {**about(), "asked": {name: getattr(options, name) for name in asked}}
        try:
            result, text = run(options, folder)
        except Stopped as stopped:
            raise SystemExit(str(stopped)) from None
    found |= result
    text = report.heading(found, TITLES[options.what]) + "\n" + text
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Progress as events, and the ways to show them: a bar, plain lines, JSON lines."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

__all__ = [
    "BlockDone",
    "CompileStarted",
    "Event",
    "PassStarted",
    "Report",
    "RunFinished",
    "RunStopped",
    "bar",
    "json_lines",
    "lines",
    "silent",
    "suitable",
]


@dataclass(frozen=True)
class CompileStarted:
    """A kernel is not in this machine's cache: it is compiled, which takes some seconds, once."""


@dataclass(frozen=True)
class PassStarted:
    """A sweep over all blocks begins."""

    number: int
    passes: int
    computes: tuple[str, ...]
    blocks: int


@dataclass(frozen=True)
class BlockDone:
    """A block has been computed and, in the last pass, stored."""

    done: int
    blocks: int
    pixels: int
    seconds: float


@dataclass(frozen=True)
class RunFinished:
    """Everything is stored and the output is marked finished."""

    path: str
    seconds: float
    checksums: dict[str, str]


@dataclass(frozen=True)
class RunStopped:
    """A pass ended before its last block: an error, or someone stopped it."""

    reason: str


Event = CompileStarted | PassStarted | BlockDone | RunFinished | RunStopped
Report = Callable[[Event], None]
_COMPILING = "compiling kernels: once on this machine, some seconds for each filter"


def silent(event: Event) -> None:
    """Show nothing."""


def json_lines(stream: TextIO | None = None) -> Report:
    """Write one JSON object per event."""
    out = stream or sys.stdout

    def report(event: Event) -> None:
        record = {"event": type(event).__name__, **dataclasses.asdict(event)}
        print(json.dumps(record), file=out, flush=True)

    return report


def lines(stream: TextIO | None = None, every: float = 5.0) -> Report:
    """Write plain lines, at most one every few seconds: for logs."""
    out = stream or sys.stderr
    last = [0.0]

    def report(event: Event) -> None:
        if isinstance(event, CompileStarted):
            text = _COMPILING
        elif isinstance(event, PassStarted):
            text = f"pass {event.number} of {event.passes}: {', '.join(event.computes)}"
        elif isinstance(event, RunStopped):
            return
        elif isinstance(event, RunFinished):
            text = f"done in {event.seconds:.1f} s: {event.path}"
        elif event.done == event.blocks or time.monotonic() - last[0] >= every:
            rate = event.pixels / max(event.seconds, 1e-9) / 1e6
            text = f"block {event.done} of {event.blocks}, {rate:.0f} Mpx/s"
        else:
            return
        last[0] = time.monotonic()
        print(text, file=out, flush=True)

    return report


def bar() -> Report:
    """Draw a bar with rate and time left on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} blocks"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=False,
    )
    held: list[Any] = []

    def report(event: Event) -> None:
        if isinstance(event, CompileStarted):
            progress.console.print(_COMPILING)
        elif isinstance(event, PassStarted):
            name = f"pass {event.number}/{event.passes} {', '.join(event.computes)}"
            progress.start()
            held.append(progress.add_task(name, total=event.blocks, rate=""))
        elif isinstance(event, BlockDone):
            rate = f"{event.pixels / max(event.seconds, 1e-9) / 1e6:.0f} Mpx/s"
            progress.update(held[-1], completed=event.done, rate=rate)
            if event.done == event.blocks:
                progress.stop()
        else:
            progress.stop()

    return report


def suitable() -> Report:
    """Return a bar where a person watches a terminal, plain lines otherwise."""
    return bar() if sys.stderr.isatty() else lines()

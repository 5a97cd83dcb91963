"""Progress as events, and the ways to show them: a bar, plain lines, JSON lines, a log file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from chunkfilt.errors import StorageError
from chunkfilt.words import format_bytes

__all__ = [
    "BlockDone",
    "BlockFailed",
    "CompileStarted",
    "Event",
    "PassStarted",
    "Report",
    "RunFinished",
    "RunStarted",
    "RunStopped",
    "bar",
    "in_words",
    "json_lines",
    "lines",
    "log_lines",
    "silent",
    "suitable",
    "together",
]


@dataclass(frozen=True)
class CompileStarted:
    """A kernel is not in this machine's cache: it is compiled, which takes some seconds, once."""


@dataclass(frozen=True)
class RunStarted:
    """Everything is checked, and the run begins; `dashboard` is dask's, where there is one."""

    path: str
    blocks: int
    tasks: int
    passes: int
    workers: int
    planned_memory: int
    dashboard: str | None = None


@dataclass(frozen=True)
class PassStarted:
    """A sweep over all blocks begins; `resumed` of them were done before."""

    number: int
    passes: int
    computes: tuple[str, ...]
    blocks: int
    resumed: int = 0
    workers: int = 1


@dataclass(frozen=True)
class BlockDone:
    """A block has been computed and, where the pass writes, stored; or it has failed for good.

    `done` counts the blocks done, those of an earlier run included; `pixels`, `seconds` and
    `mpx_per_s` are of this run's part of the pass. `peak` is the most bytes any process has
    occupied.
    """

    done: int
    blocks: int
    pixels: int = 0
    seconds: float = 0.0
    mpx_per_s: float = 0.0
    resumed: int = 0
    failed: int = 0
    workers: int = 1
    peak: int = 0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest of the pass will take at this rate; None where nothing tells."""
        fresh = self.done - self.resumed
        left = self.blocks - self.done - self.failed
        return self.seconds / fresh * left if fresh else None


@dataclass(frozen=True)
class BlockFailed:
    """A block has been tried as often as it is worth: the others go on."""

    block: int
    region: str
    cause: str


@dataclass(frozen=True)
class RunFinished:
    """Everything is stored and the output is marked finished."""

    path: str
    seconds: float
    checksums: dict[str, str]
    blocks: int = 0
    resumed: int = 0
    pixels: int = 0
    peak: int = 0
    planned_memory: int = 0


@dataclass(frozen=True)
class RunStopped:
    """A pass ended before its last block: an error, or someone stopped it."""

    reason: str


Event = (
    CompileStarted | RunStarted | PassStarted | BlockDone | BlockFailed | RunFinished | RunStopped
)
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Show nothing."""


def suitable() -> Report:
    """Return a bar where a person watches a terminal, plain lines otherwise."""
    return bar() if sys.stderr.isatty() else lines()


def together(*reports: Report) -> Report:
    """Hand every event to several reports."""

    def report(event: Event) -> None:
        for one in reports:
            one(event)

    return report


def in_words(event: Event, planned: int = 0) -> str:
    """Say an event as people would; what is not known is left out.

    Parameters
    ----------
    event : Event
        Any of the events above.
    planned : int, optional
        The planned peak memory of a process, which `RunStarted` tells; 0: no plan.

    Examples
    --------
    >>> in_words(BlockDone(3, 8, 3_000_000, seconds=2.0, mpx_per_s=1.5, workers=2))
    '3 of 8 blocks, 1.5 Mpx/s, 3.3 s left, 2 workers'
    """
    match event:
        case CompileStarted():
            return "compiling kernels: once on this machine, some seconds for each filter"
        case RunStarted():
            parts = [
                f"{event.path}: {_count(event.blocks, 'block')}",
                _count(event.passes, "pass", "passes"),
                _count(event.workers, "worker"),
            ]
            if event.planned_memory:
                parts.append(f"at most {format_bytes(event.planned_memory)} a process")
            if event.dashboard:
                parts.append(f"dashboard {event.dashboard}")
            return ", ".join(parts)
        case PassStarted():
            words = f"pass {event.number} of {event.passes}: {', '.join(event.computes)}"
            if event.resumed == event.blocks:
                return f"{words}; nothing to do, all {_count(event.blocks, 'block')} done before"
            told = f"; {event.resumed} of {_count(event.blocks, 'block')} done before"
            return words + (told if event.resumed else "")
        case BlockDone():
            return _block_in_words(event, planned)
        case BlockFailed():
            return f"block {event.block} ({event.region}) failed: {event.cause}"
        case RunFinished():
            return _summary(event)
        case RunStopped():
            return f"stopped: {event.reason}"


def json_lines(stream: TextIO | None = None) -> Report:
    """Write one JSON object per event: its kind, the time, the fields of its class."""
    out = stream or sys.stdout

    def report(event: Event) -> None:
        record = {"event": type(event).__name__, "time": _now(), **dataclasses.asdict(event)}
        if isinstance(event, BlockDone):
            record["seconds_left"] = event.seconds_left
        # JSON has no infinities, and no NaN.
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        _put(out, json.dumps(finite, allow_nan=False))

    return report


def lines(stream: TextIO | None = None, every: float = 5.0) -> Report:
    """Write plain lines, one about blocks at most every few seconds.

    What stopped a run is told by the error that is raised.
    """
    out = stream or sys.stderr
    last = 0.0

    def show(event: Event, words: str) -> None:
        nonlocal last
        now = time.monotonic()
        early = isinstance(event, BlockDone) and not _ends(event) and now - last < every
        if not early and not isinstance(event, RunStopped):
            last = now
            _put(out, words)

    return _worded(show)


def log_lines(target: TextIO | str | os.PathLike[str]) -> Report:
    """Write every event as a plain line with the time.

    Parameters
    ----------
    target : stream or path
        A file is added to. It is opened at the first event, and closed when the run has ended.

    Raises
    ------
    StorageError
        From the report, if the file cannot be opened.
    """
    path = Path(target) if isinstance(target, (str, os.PathLike)) else None
    out = None if isinstance(target, (str, os.PathLike)) else target

    def show(event: Event, words: str) -> None:
        nonlocal out
        if out is None:
            assert path is not None
            out = _appending(path)
        stamp = _now()
        _put(out, "\n".join(f"{stamp} {line}" for line in words.splitlines()))
        if path is not None and isinstance(event, (RunFinished, RunStopped)):
            out.close()
            out = None

    return _worded(show)


def bar(console: Any = None) -> Report:
    """Draw a bar for each pass on the terminal, and beneath it how the pass is going.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; default the terminal that standard error is.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn
    from rich.text import Text

    screen = console or Console(stderr=True)
    live, drawn = Live(console=screen), Progress()

    def show(event: Event, words: str) -> None:
        nonlocal live, drawn
        if isinstance(event, BlockDone):
            drawn.update(drawn.task_ids[0], completed=event.done + event.failed)
            live.update(Group(drawn, Text(words)))
            if _ends(event):
                live.stop()
            return
        if isinstance(event, (PassStarted, RunFinished, RunStopped)):
            live.stop()
        if not isinstance(event, RunStopped):
            screen.print(Text(words), soft_wrap=True)
        if isinstance(event, PassStarted) and event.resumed < event.blocks:
            columns = (BarColumn(None), TaskProgressColumn(), TimeElapsedColumn())
            drawn = Progress(*columns, console=screen, expand=True)
            drawn.add_task("", total=event.blocks, completed=event.resumed)
            live = Live(drawn, console=screen)
            live.start()

    return _worded(show)


def _worded(show: Callable[[Event, str], None]) -> Report:
    """Return a report that hands on each event with its words; it remembers the plan for them."""
    planned = 0

    def report(event: Event) -> None:
        nonlocal planned
        if isinstance(event, RunStarted):
            planned = event.planned_memory
        show(event, in_words(event, planned))

    return report


def _block_in_words(event: BlockDone, planned: int) -> str:
    blocks = f"{event.done} of {_count(event.blocks, 'block')}"
    apart = {"resumed": event.resumed, "failed": event.failed}
    told = ", ".join(f"{count} {word}" for word, count in apart.items() if count)
    parts = [f"{blocks} ({told})" if told else blocks]
    if event.done > event.resumed:
        parts.append(_rate(event.mpx_per_s))
    if event.seconds_left:
        parts.append(f"{_duration(event.seconds_left)} left")
    return ", ".join([*parts, _count(event.workers, "worker"), *_memory(event.peak, planned)])


def _summary(event: RunFinished) -> str:
    parts = [f"done in {_duration(event.seconds)}: {event.path}"]
    if event.blocks or event.resumed:
        resumed = f" and {event.resumed} resumed" if event.resumed else ""
        parts.append(f"{_count(event.blocks, 'block')} computed{resumed}")
    if event.pixels:
        parts.append(_rate(event.pixels / max(event.seconds, 1e-9) / 1e6))
    text = ", ".join([*parts, *_memory(event.peak, event.planned_memory)])
    sums = (f"  checksum {name}: {one}" for name, one in event.checksums.items())
    return "\n".join([text, *(line.replace(" :", ":") for line in sums)])


def _ends(event: BlockDone) -> bool:
    """Return whether this was the pass's last block."""
    return event.done + event.failed >= event.blocks


def _count(number: int, word: str, words: str | None = None) -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


def _rate(mpx_per_s: float) -> str:
    return f"{mpx_per_s:.0f} Mpx/s" if mpx_per_s >= 10 else f"{mpx_per_s:.2g} Mpx/s"


def _memory(peak: int, planned: int) -> list[str]:
    if not peak:
        return []
    return [f"peak {format_bytes(peak)}" + (f" of {format_bytes(planned)}" if planned else "")]


def _duration(seconds: float) -> str:
    """Return a time span in one or two units.

    >>> _duration(3.27), _duration(100), _duration(4000), _duration(100_000)
    ('3.3 s', '1 min 40 s', '1 h 06 min', '1 d 03 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60 // 1:02.0f} s"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds // 86400:.0f} d {seconds % 86400 // 3600:02.0f} h"


def _appending(path: Path) -> TextIO:
    try:
        return path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        message = f"cannot write the log {path}: {error.strerror}"
        raise StorageError(message) from None


def _put(out: TextIO, line: str) -> None:
    # In one go: a kernel that is compiled is told from the thread that needs it.
    out.write(line + "\n")
    out.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""Executors behind one call: ``execute(task, indices)`` yields ``(index, result)`` as blocks end.

Submission is windowed: only a few tasks per worker exist at any time, so a run of a million
blocks keeps a small client and a small scheduler.  Tasks share nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from chunkfilt.errors import InputError
from chunkfilt.runtime.machine import available_cores
from chunkfilt.runtime.outcome import PATIENCE, Failed, Task, attempt
from chunkfilt.runtime.stopping import Stop

__all__ = [
    "SCHEDULERS",
    "Executor",
    "Failed",
    "LocalExecutor",
    "make_executor",
]

SCHEDULERS = ("serial", "threads", "processes", "distributed")
_AHEAD = 2


class Executor(Protocol):
    """Runs ``task(index)`` for every index it is given.

    `workers` tasks run at the same time, `tasks_per_process` of them in one process, whose memory
    they share. `dashboard` is the address of dask's, where there is one.
    """

    workers: int
    tasks_per_process: int
    dashboard: str | None

    def check(self, inputs: Sequence[Path], folder: Path, packages: Sequence[str] = ()) -> None:
        """Raise `InputError` unless every worker reads `inputs` and writes in `folder`.

        `packages` are further ones that all must have in the same versions.
        """
        ...

    def execute(self, task: Task, indices: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)``, or a `Failed` for the result, in the order the tasks end.

        `indices` is asked again after every result, also when it had ended before: a block that
        failed may be back in it. Closing the generator cancels what has not begun.
        """
        ...

    def close(self) -> None:
        """Let go of threads, processes and connections."""
        ...


class LocalExecutor:
    """What needs no check: it is this process that reads and writes, or one like it."""

    dashboard: str | None = None

    def check(self, inputs: Sequence[Path], folder: Path, packages: Sequence[str] = ()) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Serial(LocalExecutor):
    """One task after the other: the reference."""

    workers = tasks_per_process = 1

    def execute(self, task: Task, indices: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """Yield the results in the order of the indices."""
        for index in indices:
            yield index, attempt(task, index)


class Threads(LocalExecutor):
    """Threads of this process; kernels and codecs release the interpreter's lock."""

    def __init__(self, workers: int) -> None:
        self.workers = self.tasks_per_process = workers

    def execute(self, task: Task, indices: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """Yield results as they come.

        The threads are daemons, not a pool of the standard library's: the interpreter would wait
        for those at its end, for ever if a block hangs.
        """
        orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        results: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        stop, under_way = Stop(), 0
        threads: list[threading.Thread] = []
        try:
            while True:
                while under_way < self.workers * _AHEAD:
                    index = next(indices, None)
                    if index is None:
                        break
                    orders.put(index)
                    under_way += 1
                    if len(threads) < min(under_way, self.workers):
                        threads.append(_thread(task, orders, results, stop))
                if not under_way:
                    return
                found = results.get()
                under_way -= 1
                yield found
        finally:
            if under_way:
                stop.request()
            for _ in threads:
                orders.put(None)
            until = time.monotonic() + PATIENCE
            for thread in threads:
                thread.join(max(until - time.monotonic(), 0))


def _thread(
    task: Task,
    orders: queue.SimpleQueue[int | None],
    results: queue.SimpleQueue[tuple[int, Any]],
    stop: Stop,
) -> threading.Thread:
    def work() -> None:
        with stop:
            while (index := orders.get()) is not None and not stop.requested:
                results.put((index, attempt(task, index, BaseException)))

    thread = threading.Thread(target=work, name="chunkfilt", daemon=True)
    thread.start()
    return thread


def make_executor(
    scheduler: str,
    workers: int,
    *,
    memory: int,
    address: str | None = None,
    scheduler_file: str | Path | None = None,
) -> Executor:
    """Return the executor of that name.

    Parameters
    ----------
    scheduler : str
        One of `SCHEDULERS`.
    workers : int
        Tasks at the same time; a cluster that runs already has its own.
    memory : int
        Bytes that a process may use, by plan.
    address, scheduler_file : str, path, optional
        Of a dask scheduler; without either, ``distributed`` starts a cluster on this machine.

    Raises
    ------
    InputError
        If the name is unknown, or no scheduler answers.
    """
    if scheduler == "serial":
        return Serial()
    if scheduler == "threads":
        return Threads(workers)
    if scheduler == "processes":
        from chunkfilt.runtime.processes import Processes

        return Processes(workers, max(available_cores() // workers, 1))
    if scheduler == "distributed":
        from chunkfilt.runtime.cluster import Distributed

        return Distributed(workers, memory, address, scheduler_file)
    message = f"scheduler must be one of {', '.join(SCHEDULERS)}, got {scheduler!r}"
    raise InputError(message)

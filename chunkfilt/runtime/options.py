"""How a run is carried out: scheduler, workers, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chunkfilt.errors import InputError
from chunkfilt.runtime.executors import SCHEDULERS, Executor, make_executor
from chunkfilt.runtime.machine import available_cores, process_memory

__all__ = ["RunOptions", "open_executor"]

DEFAULT_MEMORY = 2 << 30
# Options that say where a dask scheduler is.
_PLACES = ("address", "scheduler_file")


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; the pixels do not depend on it."""

    scheduler: str = "threads"
    address: str | None = None
    workers: int | None = None
    memory: int | None = None
    scheduler_file: str | Path | None = None

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            message = f"scheduler must be one of {', '.join(SCHEDULERS)}, got {self.scheduler!r}"
            raise InputError(message)
        given = [name for name in _PLACES if getattr(self, name) is not None]
        if given and self.scheduler != "distributed":
            message = (
                f"{given[0]} goes with scheduler: distributed, got scheduler: {self.scheduler}"
            )
            raise InputError(message)
        if len(given) > 1:
            message = f"{' and '.join(given)} both say where the scheduler is: give one of them"
            raise InputError(message)
        if self.workers is not None and self.workers < 1:
            message = f"workers must be >= 1, got {self.workers}"
            raise InputError(message)

    @property
    def budget(self) -> int:
        """Bytes one process may use; default 2 GiB, more in one that holds much already."""
        return self.memory or max(DEFAULT_MEMORY, process_memory() + DEFAULT_MEMORY // 2)

    @property
    def tasks(self) -> int:
        """Tasks at the same time, over all processes."""
        return 1 if self.scheduler == "serial" else self.workers or available_cores()

    @property
    def tasks_per_process(self) -> int:
        """Tasks that share one process and its memory."""
        return self.tasks if self.scheduler == "threads" else 1


@contextmanager
def open_executor(options: RunOptions) -> Iterator[Executor]:
    """Start what runs the tasks, and end it."""
    executor = make_executor(
        options.scheduler,
        options.tasks,
        memory=options.budget,
        address=options.address,
        scheduler_file=options.scheduler_file,
    )
    try:
        yield executor
    finally:
        executor.close()

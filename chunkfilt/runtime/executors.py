"""Executors behind one call: ``execute(task, count)`` yields ``(index, result)`` as blocks end.

Submission is windowed: only a few tasks per worker exist at any time, so a run of a million
blocks keeps a small client and a small scheduler.  Tasks share nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from chunkfilt.errors import InputError, RunError

__all__ = ["SCHEDULERS", "Executor", "available_cores", "make_executor"]

SCHEDULERS = ("serial", "threads", "distributed")
_AHEAD, _PATIENCE = 2, 60
Task = Callable[[int], Any]


class Executor(Protocol):
    """Runs ``task(index)`` for every index below `count`.

    `workers` tasks run at the same time, `tasks_per_process` of them in one process, whose memory
    they share.
    """

    workers: int
    tasks_per_process: int

    def execute(self, task: Task, count: int) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` in the order in which the tasks end."""
        ...

    def close(self) -> None:
        """Let go of threads, processes and connections."""
        ...


class Serial:
    """One task after the other: the reference."""

    workers = tasks_per_process = 1

    def execute(self, task: Task, count: int) -> Iterator[tuple[int, Any]]:
        """Yield the results in the order of the indices."""
        for index in range(count):
            yield index, task(index)

    def close(self) -> None:
        """Do nothing."""


class Threads:
    """Threads of this process; kernels and codecs release the interpreter's lock."""

    def __init__(self, workers: int) -> None:
        self.workers = self.tasks_per_process = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="chunkfilt")

    def execute(self, task: Task, count: int) -> Iterator[tuple[int, Any]]:
        """Yield results as they come; at the first failure no further block is started."""
        running: dict[Future[Any], int] = {}
        upcoming = iter(range(count))
        try:
            while True:
                while len(running) < self.workers * _AHEAD:
                    index = next(upcoming, None)
                    if index is None:
                        break
                    running[self._pool.submit(task, index)] = index
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()
            wait(running)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


class Distributed:
    """A dask.distributed cluster: one that runs already, or a local one started here."""

    def __init__(self, address: str | None, workers: int, memory: int) -> None:
        from distributed import Client, LocalCluster

        self._stack = contextlib.ExitStack()
        if address is None:
            cluster = self._stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=memory,
                    # Any free port: without an address it would take 8787, or warn.
                    dashboard_address="127.0.0.1:0",
                    host="127.0.0.1",
                )
            )
            self.client = self._stack.enter_context(Client(cluster, set_as_default=False))
        else:
            try:
                _knock(address)
                self.client = Client(address, timeout=10, set_as_default=False)
            except (OSError, TypeError, ValueError) as error:
                message = f"no dask scheduler answers at {address!r}: {error}"
                raise InputError(message) from error
            self._stack.enter_context(self.client)
        found = self.client.scheduler_info(n_workers=-1)["workers"].values()
        threads = [worker["nthreads"] for worker in found]
        self.workers, self.tasks_per_process = max(sum(threads), 1), max([1, *threads])

    def execute(self, task: Task, count: int) -> Iterator[tuple[int, Any]]:
        """Yield results as they come; the task itself travels to every worker once."""
        from distributed import as_completed
        from distributed import wait as wait_for

        shared = self.client.scatter(task, broadcast=True, hash=False)
        upcoming = iter(range(count))
        indices: dict[str, int] = {}
        pending: dict[str, Any] = {}
        ended = as_completed([], loop=self.client.loop)

        def submit() -> None:
            index = next(upcoming, None)
            if index is not None:
                future = self.client.submit(_call, shared, index, pure=False, retries=2)
                indices[future.key] = index
                pending[future.key] = future
                ended.add(future)

        try:
            for _ in range(min(count, self.workers * _AHEAD)):
                submit()
            for future in ended:
                if future.status != "finished":
                    self._raise(future)
                pending.pop(future.key)
                yield indices.pop(future.key), future.result()
                future.release()
                submit()
        finally:
            # A block that is still being written must not outlive the run.
            if pending:
                with contextlib.suppress(Exception):
                    wait_for(list(pending.values()), timeout=_PATIENCE)

    def close(self) -> None:
        """Disconnect, and stop the cluster if it was started here."""
        self._stack.close()

    def _raise(self, future: Any) -> None:
        error = future.exception() if future.status == "error" else None
        if isinstance(error, Exception):
            raise error
        message = f"a block was lost with its worker ({future.status})"
        raise RunError(message)


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_executor(scheduler: str, workers: int, address: str | None, memory: int) -> Executor:
    """Return the executor of that name.

    Raises
    ------
    InputError
        If the name is unknown, or no scheduler answers at `address`.
    """
    if scheduler == "serial":
        return Serial()
    if scheduler == "threads":
        return Threads(workers)
    if scheduler == "distributed":
        return Distributed(address, workers, memory)
    message = f"scheduler must be one of {', '.join(SCHEDULERS)}, got {scheduler!r}"
    raise InputError(message)


def _knock(address: str) -> None:
    """Connect once and hang up: where nobody listens, dask's own client would try for long.

    Raises
    ------
    OSError, ValueError
        If nobody listens at a TCP address.
    """
    parts = urllib.parse.urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls"):
        if parts.hostname is None or parts.port is None:
            message = "an address is written tcp://host:port"
            raise ValueError(message)
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def _call(task: Task, index: int) -> Any:
    return task(index)

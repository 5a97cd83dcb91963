"""Processes of this machine, one task at a time in each, that may die without ending the run.

A worker is a fresh interpreter at the other end of a socket: nothing is forked, so threads and
numba are safe, and the user's script is not imported anew, as the standard library's pools do it.
A worker whose process ends is replaced; which block it had is known.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from chunkfilt.errors import RunError, StoppedError
from chunkfilt.runtime.outcome import PATIENCE, Failed, Task, attempt

__all__ = ["Processes", "pack", "serve"]

# How often a block that runs alone may end its process, and a process end before it has begun.
ATTEMPTS = 3
_LOOK_EVERY = 1.0
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from chunkfilt.runtime.processes import serve; serve(int(sys.argv[1]))"
)
# Blocks are side by side already: libraries need no threads of their own.
_ONE_THREAD = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


class Processes:
    """Worker processes; they stay from one execution to the next.

    Parameters
    ----------
    workers : int
        Their number.
    codec_threads : int
        Threads that chunks are read and written on, in each.
    """

    tasks_per_process = 1
    dashboard: str | None = None

    def __init__(self, workers: int, codec_threads: int = 1) -> None:
        self.workers, self._codec_threads = workers, codec_threads
        self._idle: list[_Worker] = []

    def check(self, inputs: Sequence[Path], folder: Path, packages: Sequence[str] = ()) -> None:
        """Do nothing: they are on this machine, and this user's."""

    def execute(self, task: Task, indices: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """Yield results as they come; the task itself travels to every worker once.

        Raises
        ------
        StoppedError
            If processes end before they take up any task.
        """
        fixed = {**dict.fromkeys(_ONE_THREAD, "1"), "RAYON_NUM_THREADS": str(self._codec_threads)}
        start = functools.partial(_Worker, {**os.environ, **fixed})
        crew = _Crew(self.workers, start, cloudpickle.dumps(task), indices, self._idle)
        try:
            while True:
                crew.hand_out()
                if not crew.busy:
                    return
                yield from crew.collect()
        finally:
            _end(crew.busy, at_once=True)

    def close(self) -> None:
        """End the processes."""
        _end(self._idle)
        self._idle.clear()


class _Worker:
    """A process, seen from here."""

    def __init__(self, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            flags = [f"-W{option}" for option in sys.warnoptions]
            places = [place for place in sys.path if isinstance(place, str)]
            self.process = subprocess.Popen(
                [sys.executable, *flags, "-c", _START, str(theirs.fileno()), *places],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                # What interrupts this process at a terminal is for this process to handle.
                process_group=0,
            )
        self.connection = Connection(ours.detach())
        self.task: bytes | None = None
        self.index = -1
        self.begun = False

    def give(self, task: bytes, index: int) -> None:
        """Let it run a task; `OSError` if it has ended."""
        if self.task is not task:
            self.connection.send(task)
            self.task = task
        self.connection.send(index)
        self.index = index


class _Crew:
    """One execution: who does what, and the blocks that are suspected of ending their process.

    Such a block runs alone, so that whatever happens then is its own doing: it is not for lack of
    memory that others take.
    """

    def __init__(
        self,
        workers: int,
        start: Callable[[], _Worker],
        task: bytes,
        indices: Iterator[int],
        idle: list[_Worker],
    ) -> None:
        self.workers, self.start, self.task = workers, start, task
        self.indices, self.idle = indices, idle
        self.busy: list[_Worker] = []
        self.again: deque[int] = deque()
        self.suspects: deque[int] = deque()
        self.alone: int | None = None
        self.deaths = self.false_starts = 0

    def hand_out(self) -> None:
        """Give idle workers blocks."""
        if self.suspects or self.alone is not None:
            if not self.busy:
                if self.alone is None:
                    self.alone, self.deaths = self.suspects.popleft(), 0
                self._give(self.alone)
            return
        while len(self.busy) < self.workers:
            index = self.again.popleft() if self.again else next(self.indices, None)
            if index is None:
                return
            self._give(index)

    def _give(self, index: int) -> None:
        while True:
            worker = self.idle.pop() if self.idle else self.start()
            try:
                worker.give(self.task, index)
            except OSError:
                self._fell(worker)
            else:
                self.busy.append(worker)
                return

    def collect(self) -> Iterator[tuple[int, Any]]:
        """Wait for workers; yield what they have found, once they are at work again."""
        by_line = {worker.connection: worker for worker in self.busy}
        ready = [by_line[line] for line in wait(list(by_line), _LOOK_EVERY)]  # type: ignore[index]
        # A process of its own making can hold a dead worker's line open.
        ready += [one for one in self.busy if one not in ready and one.process.poll() is not None]
        found = [result for worker in ready for result in self._hear(worker)]
        self.hand_out()
        yield from found

    def _hear(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        try:
            message = worker.connection.recv_bytes() if worker.connection.poll() else None
        except (EOFError, OSError):
            message = None
        if message is None:
            self.busy.remove(worker)
            yield from self._died(worker)
        elif not worker.begun:
            worker.begun, self.false_starts = True, 0
        else:
            self.busy.remove(worker)
            self.idle.append(worker)
            self.alone = None
            yield cloudpickle.loads(message)

    def _died(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        index, code = worker.index, self._fell(worker)
        if index != self.alone:
            (self.suspects if worker.begun else self.again).append(index)
        elif worker.begun:
            self.deaths += 1
            if self.deaths == ATTEMPTS:
                self.alone = None
                message = (
                    f"a worker process ended ({_ending(code)}) whenever it computed this block, "
                    f"{ATTEMPTS} times with no other beside it"
                )
                yield index, Failed(RunError(message))

    def _fell(self, worker: _Worker) -> int:
        """Put away a worker that has ended; return its exit code."""
        code = _end([worker])[0]
        if not worker.begun:
            self.false_starts += 1
            if self.false_starts == ATTEMPTS:
                message = (
                    f"worker processes end as soon as they are started ({_ending(code)}); "
                    "scheduler: threads needs none"
                )
                raise StoppedError(message)
        return code


def _end(workers: Sequence[_Worker], *, at_once: bool = False) -> list[int]:
    """End workers, and return their exit codes; one that still runs a block does not finish it."""
    for worker in workers:
        worker.connection.close()
        if at_once:
            worker.process.terminate()
    until = time.monotonic() + PATIENCE
    for worker in workers:
        try:
            worker.process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            worker.process.kill()
    return [worker.process.wait() for worker in workers]


def _ending(code: int) -> str:
    """Say how a process has ended.

    >>> _ending(3), _ending(-11)
    ('exit code 3', 'exit code -11, SIGSEGV')
    """
    with contextlib.suppress(ValueError):
        if code < 0:
            name = signal.Signals(-code).name
            short = ", as for lack of memory" if name == "SIGKILL" else ""
            return f"exit code {code}, {name}{short}"
    return f"exit code {code}"


def serve(descriptor: int) -> None:
    """Be a worker: take a task and indices from a socket, send back results, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    line = Connection(descriptor)
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(line, orders), daemon=True).start()
    line.send_bytes(b"ready")
    written, task = b"", None
    while True:
        order = orders.get()
        if isinstance(order, bytes):
            written, task = order, None
            continue
        if task is None:
            task = _load(written)
        line.send_bytes(pack(task, order))


def _listen(line: Connection, orders: queue.SimpleQueue[Any]) -> None:
    """Take orders; end the process with the one that gives them, even in the middle of a block."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            orders.put(line.recv())
    os._exit(0)


def _load(written: bytes) -> Task:
    def loaded(index: int) -> Any:
        raise error

    try:
        return cloudpickle.loads(written)
    except BaseException as failure:
        error = failure
        return loaded


def pack(task: Task, index: int) -> bytes:
    """Run a task where its result has to travel, and return index and result, or `Failed`."""
    found = attempt(task, index, BaseException)
    try:
        return cloudpickle.dumps((index, found))
    except Exception as error:
        return cloudpickle.dumps((index, Failed(error)))

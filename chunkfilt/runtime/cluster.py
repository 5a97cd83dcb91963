"""A dask cluster, one that runs already or a local one, that may lose and gain workers.

The scheduler holds a few tasks per thread and nothing of the run: it may be lost as well, and the
run goes on later from what is recorded.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from chunkfilt.errors import InputError, RunError, StoppedError
from chunkfilt.runtime.outcome import PATIENCE, Failed, Task
from chunkfilt.runtime.processes import pack
from chunkfilt.runtime.reach import CONNECT, check_workers, knock, written_address
from chunkfilt.runtime.stopping import Stop

__all__ = ["Distributed"]

_AHEAD = 2
# Seconds: between looks at the cluster, until a scheduler that is silent is gone.
_LOOK_EVERY, _SILENCE = 2.0, 15.0
# Blocks in a message, either way. The scheduler remembers half a kilobyte of every submission for
# as long as it runs, so a run of a million blocks must not make a million of them.
_BATCH = 32
# Seconds to fetch so many results. Dask tries for half a minute to reach a worker that died with
# a result; asked once more, it knows better.
_FETCH = 4.0
_RESUME = "what is stored is recorded, and the run can be resumed"


class Distributed:
    """A dask.distributed cluster: one that runs already, or a local one started here.

    Parameters
    ----------
    workers, memory : int
        Of the cluster started here: processes, and bytes each of them may use by plan.
    address, scheduler_file : str, path, optional
        Of a scheduler that runs already.
    patience : float
        Seconds to wait for workers where there are none.
    """

    def __init__(
        self,
        workers: int,
        memory: int,
        address: str | None = None,
        scheduler_file: str | Path | None = None,
        *,
        patience: float = 60.0,
    ) -> None:
        self.patience, self.lost = patience, False
        self._stack = contextlib.ExitStack()
        try:
            if scheduler_file is not None:
                address = written_address(Path(scheduler_file))
            self.client = self._start(workers, memory) if address is None else self._join(address)
            self._stack.callback(self._leave)
            self.address = str(self.client.scheduler.address)
            self.tasks_per_process = self._await_workers()
        except BaseException:
            self._stack.close()
            raise
        self.dashboard: str | None = None
        with contextlib.suppress(KeyError, ValueError, AttributeError, OSError):
            self.dashboard = self.client.dashboard_link

    def _start(self, workers: int, memory: int) -> Any:
        from distributed import Client, LocalCluster

        cluster = self._stack.enter_context(
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                # The plan keeps to the budget. Dask's limits, at which a worker pauses or is
                # killed, are for what runs away.
                memory_limit=2 * memory,
                # Any free port: without an address it would take 8787, or warn.
                dashboard_address="127.0.0.1:0",
                host="127.0.0.1",
            )
        )
        client = Client(cluster, timeout=CONNECT, set_as_default=False)
        client.register_worker_callbacks(_hush)
        return client

    def _join(self, address: str) -> Any:
        from distributed import Client

        try:
            knock(address)
            return Client(address, timeout=CONNECT, set_as_default=False)
        except (OSError, TypeError, ValueError) as error:
            message = f"no dask scheduler answers at {address!r}: {error}"
            raise InputError(message) from error

    def _await_workers(self) -> int:
        """Wait for a worker; return the most threads that one has."""
        until = time.monotonic() + self.patience
        while not (threads := self.look()):
            if time.monotonic() > until:
                message = (
                    f"the dask cluster at {self.address} has no workers, after "
                    f"{self.patience:g} s: start some, as with `dask worker {self.address}`"
                )
                raise InputError(message)
            time.sleep(min(self.patience / 20, 0.5))
        return max(threads)

    def look(self) -> list[int]:
        """Look up the threads of every worker that the cluster has now.

        Raises
        ------
        StoppedError
            If the scheduler is gone: a client that has lost it has some time to find it again.
        """
        until = time.monotonic() + _SILENCE
        while self.client.status in ("running", "connecting"):
            rest = until - time.monotonic()
            if rest <= 0:
                break
            try:
                threads = list(self.ask(self.client.nthreads, rest).values())
            except Exception:  # of the connection: there are a dozen kinds
                time.sleep(min(rest, 0.1))
            else:
                self.workers = max(sum(threads), 1)
                return threads
        raise self._gone()

    def ask(self, question: Callable[[], Any], timeout: float) -> Any:
        """Return what a method of the client finds out; `TimeoutError` where that takes long."""
        return self.client.sync(question, callback_timeout=timeout)

    def _leave(self) -> None:
        self.client.close(1.0 if self.lost else CONNECT)

    def _gone(self) -> StoppedError:
        self.lost = True
        return StoppedError(f"the dask scheduler at {self.address} is gone; {_RESUME}")

    def check(self, inputs: Sequence[Path], folder: Path, packages: Sequence[str] = ()) -> None:
        """Refuse a worker that has other versions, cannot read the inputs or not write beside them.

        Raises
        ------
        InputError
            Naming the worker, its machine, and what to do.
        """
        try:
            check_workers(self.client, inputs, folder, packages)
        except OSError as error:  # of the connection; a `TimeoutError` is one
            message = f"the workers of the dask cluster at {self.address} do not answer: {error}"
            raise InputError(message) from error

    def execute(self, task: Task, indices: Iterator[int]) -> Iterator[tuple[int, Any]]:
        """Yield results as they come; the task itself travels to every worker once.

        Raises
        ------
        StoppedError
            If the scheduler is gone, or there have been no workers for a while.
        """
        pending = _Pending(self, task, indices)
        try:
            while True:
                pending.submit()
                if not pending.futures:
                    return
                yield from pending.collect()
        finally:
            pending.end()

    def close(self) -> None:
        """Disconnect, and stop the cluster if it was started here."""
        self._stack.close()


def _hush() -> None:
    """Keep a worker from telling, with tracebacks, that its scheduler is gone when a run stops.

    What becomes of its blocks is told by who runs them; what it says of its memory is news.
    """
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
    logging.getLogger("distributed.worker.memory").setLevel(logging.WARNING)


class _Pending:
    """One execution: the blocks that the scheduler knows of, and those to be tried alone.

    Dask starts a task again when its worker dies, and gives up after some times. By then others
    may have ended the worker: a block is given up once it has done so by itself.
    """

    def __init__(self, cluster: Distributed, task: Task, indices: Iterator[int]) -> None:
        self.cluster, self.indices = cluster, indices
        self.written = cloudpickle.dumps(task)
        self.name = f"chunkfilt-block-{uuid.uuid4().hex}"
        self.shared: Any = None
        self.futures: dict[tuple[str, int], tuple[int, Any]] = {}
        self.ended: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self.again: deque[int] = deque()
        self.suspects: deque[int] = deque()
        self.alone: int | None = None
        self.submitted, self.batch = 0, _BATCH
        self.looked = self.served = time.monotonic()

    def submit(self) -> None:
        """Keep a few blocks for every thread with the scheduler, and hand out many at a time."""
        if self.suspects or self.alone is not None:
            if not self.futures:
                self.alone = self.suspects.popleft()
                self._submit([self.alone])
            return
        room = self.cluster.workers * _AHEAD + _BATCH - len(self.futures)
        indices: list[int] = []
        while room >= _BATCH and len(indices) < room:
            index = self.again.popleft() if self.again else next(self.indices, None)
            if index is None:
                break
            indices.append(index)
        if indices:
            self._submit(indices)

    def _submit(self, indices: Sequence[int]) -> None:
        """Hand blocks to the scheduler, all in one message: that is what costs the time."""
        keys = [(self.name, self.submitted + i) for i in range(len(indices))]
        self.submitted += len(indices)
        try:
            if self.shared is None:
                self.shared = self._share()
            futures = self.cluster.client.map(
                _run, indices, loaded=self.shared, name=self.name, key=keys, pure=False
            )
        except Exception as error:  # the client has no connection
            self.cluster.look()
            message = f"the dask scheduler takes no tasks: {error}; {_RESUME}"
            raise StoppedError(message) from error
        for key, index, future in zip(keys, indices, futures, strict=True):
            self.futures[key] = (index, future)
            future.add_done_callback(self._note)

    def _share(self) -> Any:
        """Give the cluster the task, as one of dask's: where the workers that hold it die, it is
        made anew.
        """
        key = f"chunkfilt-task-{uuid.uuid4().hex}"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            return self.cluster.client.submit(_Loaded, self.written, key=key, pure=False)

    def _note(self, future: Any) -> None:
        self.ended.put(future.key)

    def collect(self) -> Iterator[tuple[int, Any]]:
        """Wait for blocks; yield those that have ended."""
        keys: set[tuple[str, int]] = set()
        with contextlib.suppress(queue.Empty):
            keys.add(self.ended.get(timeout=_LOOK_EVERY))
            while True:
                keys.add(self.ended.get_nowait())
        now = time.monotonic()
        if now - self.looked > _LOOK_EVERY:
            self.looked = now
            self._look()
        ready = [key for key in keys if key in self.futures]
        found = [*self._fetch(ready), *(one for key in ready for one in self._settle(key))]
        # The scheduler is to have work while the caller is busy with what came of the last.
        self.submit()
        yield from found

    def _look(self) -> None:
        now = time.monotonic()
        if self.cluster.look():
            self.served = now
        elif now - self.served > self.cluster.patience:
            message = (
                f"the dask cluster at {self.cluster.address} has had no workers for "
                f"{self.cluster.patience:g} s: start some; {_RESUME}"
            )
            raise StoppedError(message)

    def _fetch(self, keys: Sequence[tuple[str, int]]) -> list[tuple[int, Any]]:
        """Return the results that are there.

        One that is lost on its way, with its worker, is computed again without our doing; only
        waiting for it must not hold up the others for long.
        """
        keys = [key for key in keys if self.futures[key][1].status == "finished"]
        found: list[tuple[int, Any]] = []
        while keys:
            some, keys = keys[: self.batch], keys[self.batch :]
            futures = [self.futures[key][1] for key in some]
            gather = functools.partial(self.cluster.client.gather, futures, errors="skip")
            try:
                texts = self.cluster.ask(gather, _FETCH * _BATCH / self.batch)
            except Exception:  # of the connection, or it takes too long
                self.cluster.look()
                self.batch = max(self.batch // 2, 1)
                texts = []
            found += (cloudpickle.loads(text) for text in texts)
            there = {index for index, _ in found}
            for key in some:
                if self.futures[key][0] in there:
                    self._drop(key)
        return found

    def _drop(self, key: tuple[str, int]) -> None:
        index, future = self.futures.pop(key)
        future.release()
        if index == self.alone:
            self.alone = None

    def _settle(self, key: tuple[str, int]) -> Iterator[tuple[int, Any]]:
        """Deal with a block that ended without a result."""
        index, future = self.futures.get(key, (-1, None))
        if future is None:
            return
        if future.status in ("finished", "pending"):
            # Its result was lost with the worker; where it is computed again, that is told again.
            future.add_done_callback(self._note)
            return
        if self.shared is not None and self.shared.status != "finished":
            self.shared = None
        if future.status != "error":
            # Cancelled or lost: a scheduler that was out of reach has forgotten its client's tasks.
            self._drop(key)
            self.again.append(index)
            return
        error, alone = future.exception(), index == self.alone
        self._drop(key)
        if type(error).__name__ != "KilledWorker":
            yield index, Failed(error)
        elif alone:
            yield index, Failed(_killer(error))
        else:
            self.suspects.append(index)

    def end(self) -> None:
        """Cancel what has not begun, and wait a while for what runs."""
        left = bool(self.futures)
        with contextlib.suppress(Exception):
            for _, future in self.futures.values():
                future.release()
            if self.shared is not None:
                self.shared.release()
        if not left or self.cluster.lost:
            return
        stop = functools.partial(self.cluster.client.run, _stop, self.name, on_error="ignore")
        until = time.monotonic() + PATIENCE
        with contextlib.suppress(Exception):
            while (rest := until - time.monotonic()) > 0:
                if not any(self.cluster.ask(stop, rest).values()):
                    return
                time.sleep(0.1)


def _killer(error: Any) -> RunError:
    """Say of a block that it ends its workers, and where to look."""
    last = getattr(error.last_worker, "address", error.last_worker)
    failure = RunError(
        f"a worker process ended whenever it computed this block, {error.allowed_failures + 1} "
        f"times with no other beside it; the log of the last, {last}, may tell more"
    )
    failure.__cause__ = error
    return failure


class _Loaded:
    """A task as a worker holds it."""

    def __init__(self, written: bytes) -> None:
        self.task: Task = cloudpickle.loads(written)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Loaded, (cloudpickle.dumps(self.task),)


# Of every execution that a worker's process knows: its wish to stop, and how many blocks run.
_running: dict[str, tuple[Stop, list[int]]] = {}


def _run(index: int, loaded: _Loaded, name: str) -> bytes:
    """Compute a block on a worker."""
    stop, blocks = _running.setdefault(name, (Stop(), []))
    blocks.append(index)
    try:
        with stop:
            return pack(loaded.task, index)
    finally:
        blocks.remove(index)


def _stop(name: str) -> int:
    """Let an execution's blocks end, on a worker; return how many still run."""
    stop, blocks = _running.get(name, (Stop(), []))
    stop.request()
    return len(blocks)

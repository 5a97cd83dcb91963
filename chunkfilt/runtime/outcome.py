"""What comes of a task: its result, or what it failed with, in a form that travels."""

from __future__ import annotations

import copyreg
import io
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from chunkfilt.errors import RunError

__all__ = ["PATIENCE", "Failed", "Task", "attempt"]

# Seconds that an execution which ends early waits for what runs.
PATIENCE = 5.0
_LONGEST_CHAIN = 10
Task = Callable[[int], Any]


@dataclass(frozen=True)
class Failed:
    """What a task that failed gives instead of a result."""

    error: BaseException

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the error's causes, which exceptions leave behind."""
        return _failed, (*(_written(one) for one in _causes(self.error)),)


def attempt(task: Task, index: int, caught: type[BaseException] = Exception) -> Any:
    """Return a task's result, or `Failed`.

    Parameters
    ----------
    task : callable
        Takes the index.
    index : int
        Of the block.
    caught : type
        What counts as a failure. On the main thread an interruption does not.
    """
    try:
        return task(index)
    except caught as error:
        for one in _causes(error):
            # Where it was raised stays known; the blocks that were held there are let go.
            traceback.clear_frames(one.__traceback__)
        return Failed(error)


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error, what caused it, and so on."""
    chain, held = [error], error.__cause__
    while held is not None and len(chain) < _LONGEST_CHAIN:
        chain.append(held)
        held = held.__cause__
    return chain


def _written(error: BaseException) -> tuple[bytes, str]:
    """Return one error without its causes, pickled where it survives that, and what it says."""
    told = "".join(traceback.format_exception_only(error)).strip()
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    # Other packages teach pickle to take causes along, and one that does not travel is no reason
    # to lose them all.
    pickler.dispatch_table = {
        kind: how
        for kind, how in copyreg.dispatch_table.items()
        if not issubclass(kind, BaseException)
    }
    try:
        pickler.dump(error)
        pickle.loads(buffer.getvalue())
    except Exception:  # whatever their constructors raise
        return b"", told
    return buffer.getvalue(), told


def _failed(*links: tuple[bytes, str]) -> Failed:
    chain = [_read(*link) for link in links]
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return Failed(chain[0])


def _read(text: bytes, told: str) -> BaseException:
    """Return an error, or what it says where its class is not known here."""
    try:
        error = pickle.loads(text)
    except Exception:
        error = None
    return error if isinstance(error, BaseException) else RunError(told)

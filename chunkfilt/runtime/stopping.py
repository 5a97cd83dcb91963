"""Stopping blocks that are being computed: a task looks, between its strips, whether it should end.

Each execution has a `Stop` of its own, so that one run's end is not another's that goes on in the
same process.
"""

from __future__ import annotations

import threading
from types import TracebackType

__all__ = ["Stop", "stop_requested"]

_here = threading.local()


class Stop:
    """An execution's wish that its tasks end early; entered by the threads that run them.

    >>> stop = Stop()
    >>> with stop:
    ...     before, _, after = stop_requested(), stop.request(), stop_requested()
    >>> before, after, stop_requested()
    (False, True, False)
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Let the tasks end, from any thread."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether the tasks should end."""
        return self._event.is_set()

    def __enter__(self) -> Stop:
        _here.stop = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _here.stop = None


def stop_requested() -> bool:
    """Return whether the block that this thread computes is no longer wanted."""
    stop: Stop | None = getattr(_here, "stop", None)
    return stop is not None and stop.requested

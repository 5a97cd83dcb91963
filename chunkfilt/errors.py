"""The one tree of exceptions.

``InputError`` is a mistake the user can mend (command line exit code 2): nothing was
computed and nothing overwritten.  ``RunError`` is a failure while running (exit code 1), and
``StoppedError`` one after which the run can be resumed (3).  ``VerifyError`` (4): stored pixels are
not what they should be.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BudgetError",
    "ChunkfiltError",
    "ConfigError",
    "InputError",
    "MissingDependency",
    "ParameterError",
    "RunError",
    "StoppedError",
    "StorageError",
    "UnfinishedWarning",
    "VerifyError",
    "nearest",
]


class ChunkfiltError(Exception):
    """Base of every error that chunkfilt raises on purpose."""

    exit_code = 1


class InputError(ChunkfiltError, ValueError):
    """Something the user gave cannot be used; raised before anything is computed."""

    exit_code = 2


class ParameterError(InputError):
    """A filter's parameter is unknown, of the wrong type or out of range."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class StorageError(InputError):
    """A path is missing, is not an image, exists already or cannot be written."""


class BudgetError(InputError):
    """No block fits the memory budget."""


class ConfigError(InputError):
    """A YAML job is wrong; says file, line and column."""

    def __init__(self, message: str, file: str = "job", line: int = 1, column: int = 1) -> None:
        super().__init__(f"{file}:{line}:{column}: {message}")
        self.message, self.file, self.line, self.column = message, file, line, column

    def __reduce__(self) -> tuple[type, tuple[str, str, int, int]]:
        return type(self), (self.message, self.file, self.line, self.column)


class MissingDependency(ChunkfiltError, ImportError):  # noqa: N818 - says what it is
    """An optional package is not installed; the message names the extra that brings it."""

    exit_code = 2


class RunError(ChunkfiltError, RuntimeError):
    """A run stopped before it was done; its output stays marked unfinished."""


class StoppedError(RunError):
    """A run stopped before it was done, and can be resumed: what is stored is recorded."""

    exit_code = 3


class VerifyError(ChunkfiltError):
    """Stored pixels are not those that were written, or two images differ."""

    exit_code = 4


class UnfinishedWarning(UserWarning):
    """An image is being read that its run never finished."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or nothing.

    >>> nearest("gausian", ["gaussian", "mean"])
    " (did you mean 'gaussian'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

"""One run on an output at a time.

The lock is the system's (`flock`): it goes with its process, however that ends, so there is nothing
to clean up. Its file says who holds it. Where a file system has no such locks (Lustre mounted
without them, NFS without a lock service), a file that only one process can create takes their
place; one whose process is gone is taken over.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chunkfilt.errors import StorageError

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

__all__ = ["run_lock"]

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
# Locked files of this process. A forked worker that outlives it must not hold them.
_open: set[int] = set()


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an output while a run, or a repair, writes it.

    Parameters
    ----------
    folder : Path
        The run's folder, beside the output; made if need be, and removed again if it stays empty.

    Raises
    ------
    StorageError
        If another run holds the lock, of this process or another; it names the holder. Or if the
        lock cannot be made.
    """
    real = Path(os.path.realpath(folder))
    made = _missing(real)
    owner = os.getpid()
    try:
        held = _lock(real)
    except OSError as error:
        message = f"cannot write {real}: {error.strerror or error}"
        raise StorageError(message) from error
    try:
        yield
    finally:
        if os.getpid() == owner:  # a fork leaves by here too
            _unlock(real, held)
            with contextlib.suppress(OSError):  # not empty
                for each in made:
                    each.rmdir()


def _missing(folder: Path) -> list[Path]:
    """Return the folders that have yet to be made, the innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _lock(folder: Path) -> int | None:
    """Return the locked file's descriptor; None where the file's existence is the lock."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the one before has just removed its folder
            continue
        try:
            locked = _flock(descriptor)
        except BlockingIOError:
            with os.fdopen(descriptor, "rb") as file:
                holder = file.read(4096)
            raise _refusal(folder, holder) from None
        except OSError:
            os.close(descriptor)
            raise
        if not locked:
            os.close(descriptor)
            _lock_by_existence(folder)
            return None
        if _is_at(descriptor, folder / "lock"):
            _open.add(descriptor)
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _self(), 0)
            return descriptor
        # The one before removed this file as it let go.
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Lock a file; False where there are no locks, `BlockingIOError` where somebody has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _is_at(descriptor: int, place: Path) -> bool:
    """Return whether an open file still stands at its place."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except FileNotFoundError:
        return False


def _lock_by_existence(folder: Path) -> None:
    file = folder / "lock.held"
    while True:
        try:
            with file.open("xb") as made:
                made.write(_self())
        except FileNotFoundError:  # as in `_lock`
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                holder = file.read_bytes()
                if not _is_gone(holder):
                    raise _refusal(folder, holder, f", or remove {file}") from None
                # Two that find it abandoned: one of them moves it.
                file.replace(Path(tempfile.mkdtemp(prefix="removed-", dir=folder)) / "lock")
        else:
            return


def _unlock(folder: Path, descriptor: int | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / "lock").unlink()
    if descriptor is None:
        with contextlib.suppress(FileNotFoundError):
            (folder / "lock.held").unlink()
    else:
        _open.discard(descriptor)
        os.close(descriptor)


def _close_in_fork() -> None:
    for descriptor in _open:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)


def _self() -> bytes:
    """Return who holds a lock, as it stands in its file."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": now}
    return json.dumps(holder).encode()


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return who holds a lock; None where the file does not say it (yet)."""
    try:
        held = json.loads(text)
        since = dt.datetime.fromisoformat(held["started"]).astimezone()
        return {"host": str(held["host"]), "pid": int(held["pid"]), "since": since}
    except (ValueError, KeyError, TypeError):
        return None


def _is_gone(text: bytes) -> bool:
    """Return whether a holder was a process of this machine and is no more."""
    holder = _parsed(text)
    if holder is None or holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _refusal(folder: Path, text: bytes, otherwise: str = "") -> StorageError:
    holder, by = _parsed(text), "another process"
    if holder is not None:
        today = holder["since"].date() == dt.datetime.now().date()
        since = holder["since"].strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
        by = f"process {holder['pid']} on host {holder['host']} since {since}"
    output = folder.with_name(folder.name.removesuffix(".run"))
    return StorageError(
        f"output {output} is being written by {by}: wait for it, or end it{otherwise}"
    )

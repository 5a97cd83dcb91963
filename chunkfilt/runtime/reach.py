"""Reaching a cluster: its scheduler, and whether every worker can do what a run needs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chunkfilt.errors import InputError

__all__ = ["CONNECT", "check_workers", "knock", "written_address"]

# What has to be the same everywhere, so that pixels are.
_PACKAGES = ("chunkfilt", "numpy", "numba", "zarr", "zarrs")
_MARKS = ("zarr.json", ".zarray", ".zgroup")
_TIMEOUT = 60.0
# Seconds to connect.
CONNECT = 10.0


def check_workers(
    client: Any, inputs: Sequence[Path], folder: Path, packages: Sequence[str] = ()
) -> None:
    """Refuse a worker that has other versions, cannot read the inputs or not write in `folder`.

    Raises
    ------
    InputError
        Naming the worker, its machine, and what to do.
    """
    packages = (*_PACKAGES, *packages)
    ask = functools.partial(client.get_versions, packages=list(packages))
    versions = client.sync(ask, callback_timeout=_TIMEOUT)
    wrong = dict(_differing(packages, versions["client"], versions["workers"]))
    remedy = "install the same versions on every worker"
    if not wrong:
        with _mark(Path(folder).absolute()) as mark:
            paths = [str(Path(one).absolute()) for one in inputs]
            ask = functools.partial(client.run, probe, paths, str(mark), on_error="return")
            found = client.sync(ask, callback_timeout=_TIMEOUT)
        wrong = {worker: str(said) for worker, said in found.items() if said is not None}
        remedy = (
            "workers read the inputs and write the output themselves: every one of them needs "
            "the same file system under the same path, and the right to write there"
        )
    if wrong:
        worker, what = next(iter(wrong.items()))
        hosts = client.sync(
            functools.partial(client.run, socket.gethostname, workers=[worker], on_error="ignore"),
            callback_timeout=_TIMEOUT,
        )
        host = f" on {hosts[worker]}" if worker in hosts else ""
        others = f" (and {len(wrong) - 1} other workers)" if len(wrong) > 1 else ""
        message = f"the dask worker {worker}{host}{others} cannot take part: {what}; {remedy}"
        raise InputError(message)


def _differing(
    packages: Sequence[str], ours: Mapping[str, Any], workers: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the workers that have other versions, and which."""
    here = _versions(packages, ours)
    for address, told in workers.items():
        there = _versions(packages, told)
        parts = [
            f"{name} {there.get(name) or 'is missing'} instead of {version}"
            for name, version in here.items()
            if there.get(name) != version
        ]
        if parts:
            yield address, f"it has {', '.join(parts)}"


def _versions(packages: Sequence[str], told: Any) -> dict[str, str | None]:
    found = told.get("packages", {}) if isinstance(told, Mapping) else {}
    held = {name: found.get(name) for name in packages}
    # Functions travel as code of one minor version.
    python = str(found.get("python") or "").split(".")
    return {"Python": ".".join(python[:2]) or None, **held}


@contextlib.contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """Lay a file into a folder that a worker must find there, to be sure it is the same folder."""
    mark = folder / f".chunkfilt-{uuid.uuid4().hex}"
    try:
        # Of a client that was killed in the midst of this; the folder is this run's alone.
        for old in folder.glob(".chunkfilt-*"):
            old.unlink(missing_ok=True)
        mark.write_bytes(mark.name.encode())
    except OSError as error:
        message = f"cannot write in {folder}: {error.strerror or error}"
        raise InputError(message) from error
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def probe(inputs: Sequence[str], mark: str) -> str | None:
    """Return what a worker cannot do, or None."""
    for path in inputs:
        if not os.path.exists(path):
            return f"it does not find the input {path}"
        try:
            if os.path.isfile(path):
                with open(path, "rb") as stream:
                    stream.read(1)
                continue
            os.listdir(path)
            for name in _MARKS:
                with contextlib.suppress(FileNotFoundError):
                    Path(path, name).read_bytes()
        except OSError as error:
            return f"it cannot read the input {path}: {error.strerror or error}"
    try:
        if Path(mark).read_bytes() != Path(mark).name.encode():
            return f"it does not see what is written in {Path(mark).parent} here"
    except OSError:
        return f"it does not see what is written in {Path(mark).parent} here"
    own = Path(f"{mark}-{uuid.uuid4().hex}")
    try:
        own.write_bytes(b"")
        own.unlink()
    except OSError as error:
        return f"it cannot write in {own.parent}: {error.strerror or error}"
    return None


def written_address(file: Path) -> str:
    """Return the address in the file that ``dask scheduler --scheduler-file`` writes."""
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"scheduler_file {str(file)!r} tells no address, as the file does that "
            f"`dask scheduler --scheduler-file` writes: {error}"
        )
        raise InputError(message) from error


def knock(address: str) -> None:
    """Greet a scheduler and hang up.

    Where nobody answers, dask's own client would try for long, and for ever where somebody listens
    who says nothing.

    Raises
    ------
    OSError, ValueError
        If nobody answers.
    """
    parts = urllib.parse.urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls"):
        if parts.hostname is None or parts.port is None:
            message = "an address is written tcp://host:port"
            raise ValueError(message)
        socket.create_connection((parts.hostname, parts.port), timeout=CONNECT).close()
    # On a thread of its own: a notebook's has a loop that runs already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _greet(address)).result()


async def _greet(address: str) -> None:
    from distributed.comm import connect
    from distributed.security import Security

    given = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=CONNECT, **given), CONNECT + 1)
    comm.abort()

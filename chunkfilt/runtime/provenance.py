"""Where an output came from: graph, versions, inputs, checksums; times and machines beside it."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunkfilt.documents import write_yaml
from chunkfilt.engine.graph import Filtered, Node, Source, Value, topological
from chunkfilt.engine.plan import Plan
from chunkfilt.errors import InputError
from chunkfilt.runtime.fingerprint import differences
from chunkfilt.runtime.machine import machine
from chunkfilt.runtime.options import RunOptions
from chunkfilt.storage.paths import near_path
from chunkfilt.storage.stored import StoredImage
from chunkfilt.storage.zarr_output import run_folder, write_attributes

__all__ = ["RunRecord", "recorded", "summary_of"]

PACKAGES = ("chunkfilt", "numpy", "scipy", "numba", "zarr", "zarrs", "dask")
_FEW = 5  # differences that are told


def recorded(place: Path) -> dict[str, Any] | None:
    """Return what the run of an output has recorded so far; None where there is no such run.

    Raises
    ------
    InputError
        If there is an output, but none of a run that recorded what it does.
    """
    folder = run_folder(place)
    try:
        held = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        held = None
    whole = isinstance(held, dict) and {"fingerprint", "plan", "sessions"} <= held.keys()
    if not os.path.lexists(place):
        return None
    if whole:
        return held
    message = f"cannot resume: {folder} has no record of a run that wrote {place}"
    raise InputError(f"{message}; start it anew with overwrite: true (--overwrite)")


class RunRecord:
    """The record of a run: a summary in the output's attributes, all of it in ``run.json``.

    Raises
    ------
    InputError
        If the run that is to be resumed was another one.
    """

    def __init__(
        self,
        place: Path,
        outputs: Mapping[str, Node],
        mark: Mapping[str, Any],
        plan: Plan,
        document: Mapping[str, Any] | None,
        held: Mapping[str, Any] | None,
    ) -> None:
        self._place, self._folder = place, run_folder(place)
        found = () if held is None else differences(held["fingerprint"], mark)
        # A step more gives others new numbers: what has become different tells more than those.
        changed = sorted(found, key=lambda one: one.endswith((" is new", " is no longer there")))
        if changed:
            more = f"; and {len(changed) - _FEW} more" if len(changed) > _FEW else ""
            message = f"cannot resume {place}, it was another run: {'; '.join(changed[:_FEW])}"
            raise InputError(f"{message}{more}; start anew with overwrite: true (--overwrite)")
        self.resumes = held is not None
        self.summary = summary_of(outputs, document, self._folder)
        self._rest = {"fingerprint": mark, "plan": plan.as_dict()}
        self._sessions: list[dict[str, Any]] = [] if held is None else list(held["sessions"])
        self._began = time.perf_counter()

    def begin(self, options: RunOptions, workers: int) -> None:
        """Note that a session begins: this process, on this machine."""
        how = {"scheduler": options.scheduler, "workers": workers, "memory": options.budget}
        self._sessions.append({"started": _now(), **how, **machine()})
        self.write()

    def stop(self, counts: Mapping[str, int], error: BaseException) -> None:
        """Note why a session ended before its run did."""
        self._end(
            counts, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        )
        try:
            self.write()
        except OSError:
            return  # The disk is full, perhaps; what stopped the run is told all the same.

    def finish(self, counts: Mapping[str, int], results: Mapping[str, Any]) -> float:
        """Note that all is stored; return the session's seconds."""
        self.summary |= {"finished": True, **results}
        seconds = self._end(counts, "finished")
        self.write()
        write_attributes(self._place, {"chunkfilt": self.summary})
        return seconds

    def write(self) -> None:
        """Write ``run.json`` and ``job.yaml``, each in one step."""
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = {**self.summary, **self._rest, "sessions": self._sessions}
        _replace(self._folder / "run.json", json.dumps(whole, indent=2))
        job = self.summary["job"]
        if job is not None and not (self._folder / "job.yaml").exists():
            _replace(self._folder / "job.yaml", write_yaml(job))

    def _end(self, counts: Mapping[str, int], outcome: str) -> float:
        seconds = time.perf_counter() - self._began
        if self._sessions:
            rate = counts["pixels"] / max(seconds, 1e-9) / 1e6
            told = {"seconds": round(seconds, 3), "mpx_per_s": round(rate, 3), **counts}
            self._sessions[-1] |= {"ended": _now(), **told, "outcome": outcome}
        return seconds


def summary_of(
    outputs: Mapping[str, Node], document: Mapping[str, Any] | None, folder: Path
) -> dict[str, Any]:
    """Return what goes into the output's attributes: the same wherever and whenever it runs."""
    order = topological(outputs.values())
    readers = [node.reader for node in order if isinstance(node, Source)]
    images = [reader for reader in readers if isinstance(reader, StoredImage)]
    bound = [node for node in order if isinstance(node, Filtered | Value)]
    used = [one for node in bound for one in (node.filter, node.written.filter)]
    packages = (*PACKAGES, *sorted({name for one in images for name in one.packages}))
    return {
        "finished": False,
        "job": document,
        "inputs": {near_path(one.path, folder): one.fingerprint() for one in images},
        "filters": {one.name: one.rules.version for one in used},
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")

"""Outputs looked at again: repaired, compared, computed once more, and where they came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunkfilt.arrays.job import document_beside, run_options, stored_as
from chunkfilt.config import Built, Job, check_job
from chunkfilt.documents import Document, write_yaml
from chunkfilt.errors import InputError, StorageError
from chunkfilt.runtime.compute import results_of
from chunkfilt.runtime.options import RunOptions
from chunkfilt.runtime.progress import Report, silent
from chunkfilt.runtime.provenance import summary_of
from chunkfilt.runtime.run import RunResult, run
from chunkfilt.runtime.tables import has_sums
from chunkfilt.runtime.verify import Difference, compare
from chunkfilt.storage.images import named, open_images, root_record
from chunkfilt.storage.paths import local_path
from chunkfilt.storage.zarr_output import run_folder

__all__ = ["Again", "compare_stores", "origin", "repair", "rerun"]


@dataclass(frozen=True)
class Again:
    """What computing an output once more has given.

    `results` has for each image its checksums, for each value what is recorded of it: then and now,
    "none" where there is none.
    """

    results: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all is the same."""
        return all(held == now for held, now in self.results.values())


def repair(path: str | os.PathLike[str], report: Report = silent, **options: Any) -> RunResult:
    """Compute anew what is wrong with an output, and nothing else.

    Parameters
    ----------
    path : path
        An output whose run's folder is beside it.
    **options
        ``scheduler``, ``workers``, ``memory`` as for `save`.

    Raises
    ------
    InputError
        If its run is not recorded, or its input has changed since.
    """
    place = local_path(path)
    job, built = _job(place)
    stored = stored_as(job.output.model_dump(), built.output)
    return run(
        built.outputs,
        place,
        group=built.group,
        output=built.output,
        options=_options(options),
        document=document_beside(built.outputs, place, built.group, stored),
        resume=True,
        report=report,
    )


def rerun(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    progress: Report = silent,
    **options: Any,
) -> Again:
    """Compute an output once more, from what its run has recorded, and compare.

    Parameters
    ----------
    path : path
        The output.
    out : path, optional
        Where to keep what is computed; by default only its checksum is.
    **options
        ``scheduler``, ``workers``, ``memory`` as for `save`.

    Raises
    ------
    StorageError
        If its run was stopped, or is not recorded.
    """
    place = local_path(path)
    record = root_record(place)
    if record.get("job") is not None and not record.get("finished"):
        message = f"{place} is unfinished: resume it first, there is nothing to compare with yet"
        raise StorageError(message)
    job, built = _job(place)
    found = _once_more(job, built, out, _options(options), progress)
    then, now = _results(record), _results(found)
    unknown = [name for name, held in named(record, "tables").items() if not has_sums(held)]
    names = [*then, *(name for name in now if name not in {*then, *unknown})]
    results = {name: (then.get(name, "none"), now.get(name, "none")) for name in names}
    why = f"has no sums on record: `chunkfilt verify {place} --repair` adds them"
    notes = (f"{name} is not comparable: its table {why}" for name in unknown)
    changes = _changes(record, summary_of(built.outputs, None, run_folder(place)))
    return Again(results, (*notes, *changes))


def compare_stores(
    first: str | os.PathLike[str], second: str | os.PathLike[str]
) -> dict[str, Difference]:
    """Compare two stores array by array; see `compare`.

    Raises
    ------
    InputError
        If they do not hold the same arrays, or shapes differ.
    """
    ours, theirs = (open_images(local_path(one)) for one in (first, second))
    if ours.keys() != theirs.keys():
        listed = [", ".join(name or "one array" for name in one) for one in (ours, theirs)]
        message = f"{first} holds {listed[0]}; {second} holds {listed[1]}"
        raise InputError(message)
    return {name: compare(image, theirs[name]) for name, image in ours.items()}


def origin(path: str | os.PathLike[str]) -> str:
    """Return in words where an output came from: its run, versions, inputs, and the job."""
    place = local_path(path)
    record = root_record(place)
    return "\n".join(_origin(place, record))


def _origin(place: Path, record: Mapping[str, Any]) -> Iterator[str]:
    state = "finished" if record.get("finished") else "UNFINISHED: its run was stopped"
    versions = dict(named(record, "versions"))
    yield f"written by chunkfilt {versions.pop('chunkfilt', 'of unknown version')}, {state}"
    for name, checksum in named(record, "checksums").items():
        yield f"  checksum {name}: {checksum}".replace(" :", ":")
    for name, value in (*named(record, "values").items(), *named(record, "tables").items()):
        yield f"  {name}: {json.dumps(value)}"
    for name, mark in named(record, "inputs").items():
        yield f"  input {name}: {mark}"
    if versions:
        yield f"  with {', '.join(f'{name} {one}' for name, one in versions.items())}"
    for session in _sessions(place):
        yield f"  {session}"
    if record.get("job") is not None:
        yield "the job, its paths from the run's folder on:"
        yield from (f"  {line}" for line in write_yaml(record["job"]).splitlines())


def _sessions(place: Path) -> Iterator[str]:
    """Yield a line for each time that the run was begun or resumed."""
    try:
        held = json.loads((run_folder(place) / "run.json").read_bytes())["sessions"]
        for one in held:
            how = f"{one['scheduler']} x {one['workers']} on {one['host']}"
            outcome = one.get("outcome", "ended without a word")
            rate = f", {one['mpx_per_s']:.0f} Mpx/s" if one.get("pixels") else ""
            blocks = f", {one['blocks']} blocks" if "blocks" in one else ""
            seconds = f" in {one['seconds']:.1f} s" if "seconds" in one else ""
            yield f"{one['started']}: {how}: {outcome}{blocks}{seconds}{rate}"
    except (OSError, ValueError, KeyError, TypeError):
        return


def _job(place: Path) -> tuple[Job, Built]:
    """Return the job that an output's run has recorded."""
    record = root_record(place)
    document = record.get("job")
    if document is None:
        message = (
            f"{place} has no job on record: it was not written by chunkfilt, or from images in "
            "memory, which YAML cannot hold"
        )
        raise StorageError(message)
    job = check_job(Document(f"{place}: its job", document), run_folder(place))
    return job, job.build()


def _once_more(
    job: Job,
    built: Built,
    out: str | os.PathLike[str] | None,
    options: RunOptions,
    report: Report,
) -> dict[str, Any]:
    """Compute a job's outputs; return what is recorded of them, which are kept only where asked."""
    if out is None:
        outputs = built.outputs
        if not built.group:
            outputs = dict(zip([""], outputs.values(), strict=True))
        return results_of(outputs, options, report)
    target, stored = local_path(out, "output"), stored_as(job.output.model_dump(), built.output)
    run(
        built.outputs,
        target,
        group=built.group,
        output=built.output,
        options=options,
        document=document_beside(built.outputs, target, built.group, stored),
        report=report,
    )
    return root_record(target)


def _options(given: Mapping[str, Any]) -> RunOptions:
    return run_options(**{name: value for name, value in given.items() if value is not None})


def _results(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what is recorded of pixels, values and tables, as text; tables without sums aside."""
    tables = {name: held for name, held in named(record, "tables").items() if has_sums(held)}
    told = {**named(record, "values"), **tables}
    sums = {name: str(held) for name, held in named(record, "checksums").items()}
    return {**sums, **{name: json.dumps(held) for name, held in told.items()}}


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is no longer as it was when an output was written."""
    for word, told in (("inputs", "input"), ("filters", "filter"), ("versions", "version of")):
        for name, held in named(then, word).items():
            found = now[word].get(name)
            if found != held:
                yield f"{told} {name}: was {held}, is {found}"

"""A run from store to store: planned, locked, recorded, and resumed where one was stopped."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chunkfilt.engine.costing import kept_chunks
from chunkfilt.engine.graph import ImageNode, Value, topological
from chunkfilt.engine.plan import Layout, Plan, make_plan
from chunkfilt.errors import (
    BudgetError,
    InputError,
    RunError,
    StoppedError,
    StorageError,
)
from chunkfilt.kernels.checksum import format_checksum
from chunkfilt.runtime.executors import Executor
from chunkfilt.runtime.fingerprint import fingerprint
from chunkfilt.runtime.layout import OutputOptions, layout_of
from chunkfilt.runtime.lock import run_lock
from chunkfilt.runtime.machine import process_memory
from chunkfilt.runtime.options import RunOptions, open_executor
from chunkfilt.runtime.passes import Keep, run_passes
from chunkfilt.runtime.progress import (
    BlockDone,
    Event,
    PassStarted,
    Report,
    RunFinished,
    RunStarted,
    silent,
)
from chunkfilt.runtime.provenance import RunRecord, recorded
from chunkfilt.runtime.tables import recorded_values, value_document
from chunkfilt.runtime.warm import compiling_told, load_kernels
from chunkfilt.storage.images import root_record
from chunkfilt.storage.stored import StoredImage
from chunkfilt.storage.units import OutputArray
from chunkfilt.storage.zarr_output import (
    ArrayLayout,
    check_output_path,
    create_output,
    open_output,
    remove_output,
    run_folder,
)

__all__ = ["RunResult", "check_run", "plan_run", "run"]

# What kernels from the cache, codecs and zarr's event loop add when they are first used (measured:
# 20 MiB, and some 80 MiB that codecs and the allocator hold). Compiling, once on a machine, takes
# some 150 MiB more.
_LOADED_LATER = 112 << 20
_RESUME = "--resume (resume=True)"


@dataclass(frozen=True)
class RunResult:
    """What a run left behind; `resumed` of its plan's tasks had been done by an earlier one."""

    path: Path
    plan: Plan
    checksums: Mapping[str, str]
    seconds: float
    values: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0


def plan_run(
    outputs: Mapping[str, ImageNode | Value],
    output: OutputOptions | None = None,
    options: RunOptions | None = None,
    *,
    workers: int | None = None,
    block: Sequence[int] | None = None,
    strip: Sequence[int] | None = None,
    keep: bool = True,
) -> tuple[Plan, dict[str, ArrayLayout]]:
    """Return the plan of a run and the layout of its output arrays; nothing is computed.

    `workers` is the number of tasks that share a process, where a cluster has told it; `block` and
    `strip` are those of a run that is resumed; `keep` is whether intermediates may go to the disk.

    Raises
    ------
    InputError
        If the outputs or the storage options do not go together, or the budget is too small.
    """
    output, options = output or OutputOptions(), options or RunOptions()
    layouts: dict[str, ArrayLayout] = {}
    notes: list[str] = []
    for name, node in outputs.items():
        if not isinstance(node, Value):
            layouts[name], note = layout_of(node, output)
            notes += [note] if note else []
    cut = {
        name: Layout(
            one.spec,
            tuple(one.unit[a] for a in one.spec.grid),
            int(np.prod(one.unit)) * one.spec.dtype.itemsize,
        )
        for name, one in layouts.items()
    }
    plan = make_plan(
        outputs,
        cut,
        budget=options.budget,
        workers=workers or options.tasks_per_process,
        base=process_memory() + _LOADED_LATER,
        block=block,
        strip=strip,
        keep=keep,
        notes=dict.fromkeys(notes),
    )
    return plan, layouts


def run(
    outputs: Mapping[str, ImageNode | Value],
    path: str | Path,
    *,
    group: bool,
    output: OutputOptions | None = None,
    options: RunOptions | None = None,
    document: Mapping[str, Any] | None = None,
    resume: bool = False,
    report: Report = silent,
) -> RunResult:
    """Compute the outputs block by block and store them.

    Parameters
    ----------
    outputs : mapping
        Nodes by name; with `group` false, exactly one.
    path : path
        The output; every check comes before anything at this path is touched.
    group : bool
        A group with one array per name, rather than one array.
    document : mapping, optional
        The job as it stands in YAML, paths relative to the run's folder; recorded with the output.
    resume : bool, default False
        Go on with what an earlier run of the same job has stored, if there is any.
    report : callable
        Receives the progress events.

    Raises
    ------
    InputError
        If something is wrong before the run; nothing has been touched then.
    StoppedError
        If blocks failed, or the run could not go on: it can be resumed.
    RunError
        If the pixels do not allow of what was asked for; resuming would not help.
    """
    output, options = output or OutputOptions(), options or RunOptions()
    # An array that is the store itself has no name, whatever its node is called in a job.
    outputs = outputs if group else dict(zip([""], outputs.values(), strict=True))
    place = check_run(outputs, path, output, resume=resume)
    folder = run_folder(place)
    with run_lock(folder), open_executor(options) as executor, compiling_told(report):
        images = input_images(outputs)
        packages = sorted({name for one in images for name in one.packages})
        executor.check([Path(one.path) for one in images], folder, packages)
        held = recorded(place) if resume else None
        ended = held is not None and bool(root_record(place).get("finished"))
        plan, layouts = _planned(outputs, output, options, executor, held, ended)
        record = RunRecord(
            place, outputs, fingerprint(outputs, layouts), plan, value_document(document), held
        )
        if plan.blocks and options.scheduler not in ("processes", "distributed"):
            load_kernels(outputs)
        if any(isinstance(node, Value) for node in outputs.values()):
            plan.refuse_empty()
        told = _Told(report)
        told(_started(path, plan, executor))
        try:
            # Of this session alone: writers of one that was killed find theirs gone.
            staging = folder / "staging" / secrets.token_hex(4)
            arrays = _arrays(place, layouts, group, record, staging)
            record.begin(options, executor.workers)
            steps = plan.steps if plan.blocks else ()
            found, checksums = run_passes(
                steps, arrays, executor, told, keep=_keeper(folder, staging), ledger=folder
            )
            texts = {name: format_checksum(checksums.get(name, 0)) for name in layouts}
            kept = recorded_values(outputs, found, place, staging)
            seconds = record.finish(told.counts, {"checksums": texts, **kept})
            shutil.rmtree(folder / "intermediate", ignore_errors=True)
        except BaseException as error:
            record.stop(told.counts, error)
            if isinstance(error, StorageError) or not isinstance(error, Exception):
                raise
            raise _stopped(error, place) from error
        finally:
            _revoke(folder)
    told(RunFinished(str(path), seconds, texts, planned_memory=plan.peak, **told.counts))
    resumed = told.counts["resumed"]
    return RunResult(place, plan, texts, seconds, kept.get("values", {}), resumed)


def check_run(
    outputs: Mapping[str, ImageNode | Value],
    path: str | Path,
    output: OutputOptions,
    *,
    resume: bool = False,
) -> Path:
    """Return where a run may write; see `check_output_path` for what is refused."""
    inputs = [source.path for source in input_images(outputs)]
    return check_output_path(path, inputs, overwrite=output.overwrite or resume)


def input_images(outputs: Mapping[str, ImageNode | Value]) -> list[StoredImage]:
    """Return the stored images that outputs are computed from."""
    readers = (getattr(node, "reader", None) for node in topological(outputs.values()))
    return [reader for reader in readers if isinstance(reader, StoredImage)]


def _started(path: str | Path, plan: Plan, executor: Executor) -> RunStarted:
    return RunStarted(
        str(path),
        plan.blocks,
        plan.tasks,
        len(plan.steps),
        executor.workers,
        plan.peak,
        executor.dashboard,
    )


class _Told:
    """Hands the events of a run on, and counts what its summary says."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.counts = {"blocks": 0, "resumed": 0, "pixels": 0, "peak": 0}

    def __call__(self, event: Event) -> None:
        if isinstance(event, PassStarted):
            self.counts["resumed"] += event.resumed
            self._before, self._pixels = self.counts["blocks"], self.counts["pixels"]
        elif isinstance(event, BlockDone):
            self.counts["blocks"] = self._before + event.done - event.resumed
            self.counts["pixels"] = self._pixels + event.pixels
            self.counts["peak"] = max(self.counts["peak"], event.peak)
        self._report(event)


def _planned(
    outputs: Mapping[str, ImageNode | Value],
    output: OutputOptions,
    options: RunOptions,
    executor: Executor,
    held: Mapping[str, Any] | None,
    ended: bool,
) -> tuple[Plan, dict[str, ArrayLayout]]:
    """Plan a run; one that is resumed keeps its blocks, and its strips where they fit.

    Of one that had ended, nothing is left that was kept between passes. To keep it again would
    take all of it: a damaged block is computed with what is before it, if that fits.
    """
    workers = executor.tasks_per_process
    if held is None:
        return plan_run(outputs, output, options, workers=workers)
    block, strip = (tuple(held["plan"][word]) for word in ("block", "strip"))
    for keep in (False, True) if ended else (True,):
        with contextlib.suppress(BudgetError):
            return plan_run(
                outputs, output, options, workers=workers, block=block, strip=strip, keep=keep
            )
    return plan_run(outputs, output, options, workers=workers, block=block)


def _arrays(
    place: Path,
    layouts: Mapping[str, ArrayLayout],
    group: bool,
    record: RunRecord,
    staging: Path,
) -> dict[str, OutputArray]:
    """Return the arrays to write: made anew, or those of the run that is resumed."""
    folder = run_folder(place)
    _revoke(folder)
    if record.resumes and any(folder.glob("*-[0-9]*.*")):
        return open_output(place, layouts, group=group, staging=staging)
    remove_output(place)
    record.write()
    attributes = {"chunkfilt": record.summary}
    return create_output(place, layouts, group=group, attributes=attributes, staging=staging)


def _revoke(folder: Path) -> None:
    """Take the stages from all writers, in one step: those that are late change nothing more."""
    gone = folder / f"removed-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        (folder / "staging").rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _keeper(folder: Path, staging: Path) -> Keep:
    """Return what makes intermediates: uncompressed arrays in the run's folder."""

    def keep(name: str, node: ImageNode, strip: Sequence[int]) -> OutputArray:
        place = folder / "intermediate" / f"{name}.zarr"
        layouts = {"": ArrayLayout(node.spec, kept_chunks(node.spec, strip), None, None)}
        own = staging / name
        try:
            return open_output(place, layouts, group=False, staging=own)[""]
        except StorageError:
            # None there, or one of other strips: its blocks are no longer borne out.
            shutil.rmtree(place, ignore_errors=True)
            made = create_output(place, layouts, group=False, attributes={}, staging=own)
            return made[""]

    return keep


def _stopped(error: Exception, place: Path) -> RunError:
    """Return what to tell: whether resuming helps is another matter than what went wrong."""
    what = str(error) or type(error).__name__
    if isinstance(error, InputError):
        return RunError(f"{what}; {place} stays, marked unfinished")
    return StoppedError(f"{what}; the rest of {place} is recorded: run it again with {_RESUME}")

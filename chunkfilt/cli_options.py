"""What the commands share: options, and what they say while they run."""

from __future__ import annotations

import gc
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "AllowCode",
    "AsJson",
    "Changes",
    "JobFile",
    "LogFile",
    "Memory",
    "Output",
    "Overwrite",
    "Resume",
    "Scheduler",
    "Workers",
    "permit",
    "resumable",
    "resume_by",
    "say",
    "say_how_to_resume",
    "watched",
]

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change the job: steps.0.gaussian.sigma=3"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="serial, threads, processes or distributed; overrides the job's."),
]
Workers = Annotated[int | None, typer.Option(help="Tasks at the same time; default all cores.")]
Memory = Annotated[str | None, typer.Option(help="Budget per process, e.g. '2 GiB'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Let the job name functions, which are run.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what an earlier run of the job has stored.")
]
LogFile = Annotated[
    Path | None, typer.Option("--log-file", help="Also write what happens to this file, in lines.")
]
Output = Annotated[str, typer.Argument(metavar="OUT", help="An output of chunkfilt.")]
# What a run that is stopped says, once there is a run that could go on.
resumable: list[str] = []


def permit(allowed: bool, folder: Path) -> None:
    """Let jobs name functions, also those of modules beside the job."""
    if allowed:
        sys.path.insert(0, str(folder.absolute()))
        from chunkfilt.filters.generic import allow_code_always

        allow_code_always()


def say(message: str) -> None:
    """Tell the user something, beside the output of the command."""
    print(f"chunkfilt: {message}", file=sys.stderr, flush=True)


def resume_by() -> None:
    """Keep the command line that goes on where this one is stopped."""
    again = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    resumable[:] = [shlex.join(["chunkfilt", *again, "--resume"])]


def say_how_to_resume() -> None:
    """Print the line that goes on with what was stopped, if anything can."""
    for line in resumable:
        print(f"to go on:  {line}", file=sys.stderr, flush=True)


def watched(as_json: bool, log_file: Path | None) -> Any:
    """Return what shows the events of a run."""
    from chunkfilt.runtime.progress import (
        PassStarted,
        json_lines,
        log_lines,
        suitable,
        together,
    )

    shown = json_lines() if as_json else suitable()
    if log_file is not None:
        shown = together(log_lines(log_file), shown)

    def report(event: Any) -> None:
        if isinstance(event, PassStarted):
            _collect_again()
        shown(event)

    return report


def _collect_again() -> None:
    """Collect garbage from now on, but for what there is already."""
    gc.freeze()
    gc.enable()

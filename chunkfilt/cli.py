"""The command line: ``chunkfilt run JOB.yaml`` and its companions.

Exit codes: 0 done, 1 failed at run time, 2 bad configuration or input, 3 stopped but resumable, 4
verification failed, 130 and 143 on signals (resumable).  Everything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from chunkfilt.cli_options import (
    AllowCode,
    AsJson,
    Changes,
    JobFile,
    LogFile,
    Memory,
    Overwrite,
    Resume,
    Scheduler,
    Workers,
    permit,
    resumable,
    resume_by,
    say,
    say_how_to_resume,
    watched,
)
from chunkfilt.cli_outputs import compare, info, rerun, verify
from chunkfilt.errors import (
    ChunkfiltError,
    InputError,
    StoppedError,
    StorageError,
)

__all__ = ["app", "main"]

_INTERRUPTED, _TERMINATED = 130, 143
app = typer.Typer(
    name="chunkfilt",
    help="Filters for images larger than memory: Zarr in, Zarr out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    job: JobFile,
    changes: Changes = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    allow_code: AllowCode = False,
    log_file: LogFile = None,
    as_json: AsJson = False,
) -> None:
    """Run a job: filter the input block by block and store the result."""
    permit(allow_code, job.parent)
    asked = _changes(changes, scheduler, workers, memory, overwrite)
    if dry_run:
        _show_plan(job, asked, as_json, check=True)
        return
    from chunkfilt.arrays.api import run_yaml

    resume_by()
    result = run_yaml(job, *asked, resume=resume, progress=watched(as_json, log_file))
    if not as_json:
        _say_result(result)


@app.command()
def plan(
    job: JobFile,
    changes: Changes = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Show what a job would do: passes, blocks, bytes, peak memory."""
    permit(allow_code, job.parent)
    _show_plan(job, _changes(changes, scheduler, workers, memory, False), as_json)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def apply(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="FILTER", help="See `chunkfilt filters`.")],
    source: Annotated[str, typer.Argument(metavar="IN", help="The input: Zarr or TIFF.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The output, a Zarr store.")],
    memory: Memory = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    allow_code: AllowCode = False,
) -> None:
    """Apply one filter: chunkfilt apply gaussian in.zarr out.zarr --sigma 2"""
    permit(allow_code, Path())
    from chunkfilt.arrays.api import open as open_image
    from chunkfilt.arrays.public import functions
    from chunkfilt.filters.filter import find_filter

    declared = find_filter(name)
    params = _parameters(context.args, name)
    others = {key: params.pop(key) for key in declared.inputs[1:] if key in params}
    declared.validate(params)
    more = {key: open_image(one) if isinstance(one, str) else one for key, one in others.items()}
    resume_by()
    made = functions()[name](open_image(source), **more, **params)
    options = {"memory": memory, "workers": workers}
    given = {key: value for key, value in options.items() if value is not None}
    from chunkfilt.arrays.api import save

    outputs = made if declared.kind != "value" else {name: made}
    _say_result(save(outputs, target, overwrite=overwrite, resume=resume, **given))


for command in (info, verify, compare, rerun):
    app.command()(command)


@app.command()
def filters(
    name: Annotated[str | None, typer.Argument(help="A filter, for all about it.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the filters by family, or show all about one."""
    from chunkfilt.arrays.catalogue import entry, families, page

    if name is not None:
        print(json.dumps(entry(name), indent=2) if as_json else page(name))
        return
    found = families()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(len(one) for listed in found.values() for one in listed)
    for number, (family, listed) in enumerate(found.items()):
        print(f"{chr(10) * (number > 0)}{family}")
        for one, told in listed.items():
            print(f"  {one:<{width}}  {told}")
    print("\nchunkfilt filters NAME shows a filter's parameters, formula and examples.")


@app.command()
def preview(
    path: Annotated[Path, typer.Argument(metavar="JOB.yaml|PATH", help="A job or an image.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    array: Annotated[str | None, typer.Option(help="The array or saved step to show.")] = None,
    region: Annotated[
        str | None, typer.Option(help="A window at full resolution: y=0:512,x=0:512")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=8192, help="Pixels of the longer side.")] = 512,
    whole: Annotated[
        bool | None, typer.Option("--whole/--window", help="The whole, from a coarse level.")
    ] = None,
    allow_code: AllowCode = False,
) -> None:
    """Write a picture of a store, or of what a job would give, as PNG."""
    permit(allow_code, path.parent)
    from chunkfilt.arrays import api
    from chunkfilt.arrays.job import picture_of
    from chunkfilt.storage.paths import local_path

    local_path(out, "--out")
    if path.suffix in (".yaml", ".yml"):
        made = api.from_yaml(path)
        if isinstance(made, dict):
            chosen = array or next(iter(made))
            if chosen not in made:
                message = f"{path} saves no {chosen!r}; it saves {', '.join(made)}"
                raise InputError(message)
            made = made[chosen]
    else:
        made = api.open(path, array)
    if out.is_dir() or not out.absolute().parent.is_dir():
        message = f"cannot write {out}: name a PNG file in a folder that exists"
        raise InputError(message)
    picture = picture_of(made.node, _ranges(region), size=size, whole=whole)
    picture.save(out)
    print(f"{out}: {picture.caption}")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """Print the JSON Schema of a job, for editors."""
    from chunkfilt.config_document import job_schema

    text = json.dumps(job_schema(), indent=2)
    if out is None:
        print(text)
    else:
        try:
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            message = f"cannot write {out}: {error.strerror}"
            raise StorageError(message) from None
        print(f"{out}: put  # yaml-language-server: $schema={out.name}  on top of a job")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo goes.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=64, help="Pixels a side of the mosaic.")] = 8192,
) -> None:
    """Make a mosaic from real photographs and a real elevation model, to try things on."""
    from chunkfilt.demo import make_demo

    for name, path in make_demo(folder, shape=(size, size)).items():
        print(f"{name}: {path}")


def main() -> None:
    """Run the command line; a user's mistake is one sentence, never a traceback."""
    # Imports make many objects that live to the end: looking through them for garbage, over and
    # over, would take a tenth of a second.
    gc.disable()
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _warn
    try:
        # Without standalone mode typer returns the code to exit with, 130 for an interrupt.
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt  # noqa: TRY301 - typer has caught the first
        if code:
            sys.exit(code)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _interrupted(_INTERRUPTED)
    except _Terminated:
        _interrupted(_TERMINATED)
    except ChunkfiltError as error:
        say(str(error))
        if isinstance(error, StoppedError):
            say_how_to_resume()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(error.format_message(), 2)
        raise


class _Terminated(BaseException):
    """The process was asked to end."""


def _terminate(number: int, frame: Any) -> None:
    raise _Terminated(signal.Signals(number).name)


def _fail(message: str, code: int) -> None:
    say(message)
    sys.exit(code)


def _interrupted(code: int) -> None:
    say("stopped; what was stored is recorded" if resumable else "stopped")
    say_how_to_resume()
    _leave(code)


def _leave(code: int) -> None:
    """End the process now: blocks that are still being computed will not be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _warn(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    print(f"chunkfilt: warning: {message}", file=sys.stderr)


def _changes(
    changes: list[str] | None,
    scheduler: str | None,
    workers: int | None,
    memory: str | None,
    overwrite: bool,
) -> list[str]:
    """Return all changes to the job as ``path=value``."""
    options = {"run.scheduler": scheduler, "run.workers": workers, "run.memory": memory}
    asked = [*(changes or []), *(f"{k}={v}" for k, v in options.items() if v is not None)]
    return [*asked, "output.overwrite=true"] if overwrite else asked


def _show_plan(job: Path, changes: list[str], as_json: bool, check: bool = False) -> None:
    from chunkfilt.config import load_job
    from chunkfilt.runtime.run import check_run, plan_run

    built = load_job(job, changes).build()
    if check:
        check_run(built.outputs, built.path, built.output)
    made, _ = plan_run(built.outputs, built.output, built.options)
    print(json.dumps(made.as_dict(), indent=2) if as_json else made)


def _say_result(result: Any) -> None:
    from chunkfilt.words import format_bytes

    pixels = 1
    for n in result.plan.grid_shape:
        pixels *= n
    rate = pixels / max(result.seconds, 1e-9) / 1e6
    print(
        f"{result.path}: {format_bytes(result.plan.written_bytes)} in {result.seconds:.1f} s "
        f"({rate:.0f} Mpx/s)"
    )
    for name, value in result.values.items():
        print(f"{name}: {json.dumps(value)}")


def _parameters(arguments: list[str], name: str) -> dict[str, Any]:
    """Return ``--sigma 2 --mode=wrap`` as parameters; values are YAML."""
    from chunkfilt.documents import parse_yaml

    params: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            message = f"{name}: parameters are given as --name value, got {word!r}"
            raise InputError(message)
        if not equals:
            if not rest:
                message = f"{name}: --{key} needs a value"
                raise InputError(message)
            text = rest.pop(0)
        params[key.replace("-", "_")] = parse_yaml(text.encode(), f"--{key}").data
    return params


def _ranges(region: str | None) -> dict[str, Any]:
    """Return ``y=0:512,x=0:512`` as ranges by axis."""
    ranges: dict[str, Any] = {}
    for part in region.split(",") if region else []:
        name, _, span = part.strip().partition("=")
        start, colon, stop = span.partition(":")
        try:
            ranges[name] = (int(start), int(stop)) if colon else int(start)
        except ValueError:
            message = f"--region takes axis=start:stop,... such as y=0:512,x=0:512, got {region!r}"
            raise InputError(message) from None
    return ranges


if __name__ == "__main__":
    main()

"""The command line: ``chunkfilt run JOB.yaml`` and its companions.

Exit codes: 0 done, 1 failed at run time, 2 bad configuration or input, 3 stopped but resumable, 4
verification failed, 130 and 143 on signals (resumable).  Everything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from chunkfilt.errors import (
    ChunkfiltError,
    InputError,
    StoppedError,
    StorageError,
    VerifyError,
)

__all__ = ["app", "main"]

_INTERRUPTED, _TERMINATED = 130, 143
_FEW = 20  # problems that are named while they are mended
# What a run that is stopped says, once there is a run that could go on.
_resume: list[str] = []

app = typer.Typer(
    name="chunkfilt",
    help="Filters for images larger than memory: Zarr in, Zarr out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    _permit(allow_code, job.parent)
    asked = _changes(changes, scheduler, workers, memory, overwrite)
    if dry_run:
        _show_plan(job, asked, as_json, check=True)
        return
    from chunkfilt.arrays.api import run_yaml

    _resume_by()
    result = run_yaml(job, *asked, resume=resume, progress=_watched(as_json, log_file))
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
    _permit(allow_code, job.parent)
    _show_plan(job, _changes(changes, scheduler, workers, memory, False), as_json)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def apply(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="FILTER", help="See `chunkfilt filters`.")],
    source: Annotated[str, typer.Argument(metavar="IN", help="The input, a Zarr store.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The output, a Zarr store.")],
    memory: Memory = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    allow_code: AllowCode = False,
) -> None:
    """Apply one filter: chunkfilt apply gaussian in.zarr out.zarr --sigma 2"""
    _permit(allow_code, Path())
    from chunkfilt.arrays.api import open as open_image
    from chunkfilt.arrays.public import functions
    from chunkfilt.filters.filter import find_filter

    declared = find_filter(name)
    params = _parameters(context.args, name)
    others = {key: params.pop(key) for key in declared.inputs[1:] if key in params}
    declared.validate(params)
    more = {key: open_image(one) if isinstance(one, str) else one for key, one in others.items()}
    _resume_by()
    made = functions()[name](open_image(source), **more, **params)
    options = {"memory": memory, "workers": workers}
    given = {key: value for key, value in options.items() if value is not None}
    from chunkfilt.arrays.api import save

    outputs = made if declared.kind != "value" else {name: made}
    _say_result(save(outputs, target, overwrite=overwrite, resume=resume, **given))


@app.command()
def verify(
    path: Output,
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute what is wrong anew, and look again.")
    ] = False,
    workers: Workers = None,
    memory: Memory = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Look whether every file of an output is there and as its run has written it."""
    from chunkfilt.arrays import checking
    from chunkfilt.runtime.verify import verify as look

    found = look(path)
    if repair and found.problems:
        _permit(allow_code, Path(path).absolute().parent)
        for problem in found.problems[:_FEW]:
            print(f"chunkfilt: repairing: {problem}", file=sys.stderr)
        checking.repair(path, _watched(False, None), workers=workers, memory=memory)
        found = look(path)
    if as_json:
        told = {"path": str(found.path), "units": found.units, "checksums": found.checksums}
        print(json.dumps({**told, "problems": list(found.problems)}, indent=2))
    if found.problems:
        listed = "".join(f"\n  {problem}" for problem in found.problems)
        message = f"{found.path}: {len(found.problems)} problems:{listed}"
        raise VerifyError(message)
    if not as_json:
        print(f"{found.path}: {found.units} files are as they were written")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A Zarr store.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two stores pixel by pixel: equal or not, where, and by how much."""
    from chunkfilt.arrays import checking

    found = checking.compare_stores(first, second)
    if as_json:
        print(json.dumps({name: one.as_dict() for name, one in found.items()}, indent=2))
    else:
        for name, one in found.items():
            print(f"{name}: {one}" if name else one)
    if any(one.different for one in found.values()):
        message = f"{first} and {second} differ"
        raise VerifyError(message)


@app.command()
def rerun(
    path: Output,
    out: Annotated[
        Path | None, typer.Option(help="Keep what is computed here; default: checksums only.")
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    allow_code: AllowCode = False,
    log_file: LogFile = None,
) -> None:
    """Compute an output once more, from its own record, and compare the checksums."""
    _permit(allow_code, Path(path).absolute().parent)
    from chunkfilt.arrays import checking

    options = {"scheduler": scheduler, "workers": workers, "memory": memory}
    found = checking.rerun(path, out, progress=_watched(False, log_file), **options)
    for note in found.notes:
        print(f"chunkfilt: {note}", file=sys.stderr)
    for name, (held, now) in found.results.items():
        print(f"{name or 'image'}: {held}, again {now}: {'equal' if held == now else 'DIFFERENT'}")
    if not found.equal:
        message = f"{path}: computing it once more gave other pixels"
        raise VerifyError(message)


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="A Zarr store.")], as_json: AsJson = False
) -> None:
    """Show what a store holds: shape, axes, chunks, and the run that wrote it."""
    from chunkfilt.storage.zarr_store import arrays_in, open_image, root_record
    from chunkfilt.words import format_bytes

    found: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = [(name, open_image(path, name or None)) for name in arrays_in(path)]
    for name, image in images:
        spec = image.spec
        found.append(
            {
                "array": name or Path(path).name,
                "shape": list(spec.shape),
                "axes": list(spec.axes),
                "spatial": [spec.axes[a] for a in spec.spatial],
                "dtype": spec.dtype.name,
                "bytes": spec.nbytes,
                "chunks": list(image.chunks),
                "shards": list(image.shards) if image.shards else None,
                "compressor": image.compressor_name,
                "zarr_format": image.zarr_format,
            }
        )
    record = root_record(path)
    if as_json:
        print(json.dumps({"arrays": found, "run": record}, indent=2))
        return
    for one in found:
        size = " x ".join(f"{n} {a}" for a, n in zip(one["axes"], one["shape"], strict=True))
        print(f"{one['array']}: {size}, {one['dtype']}, {format_bytes(one['bytes'])}")
        cut = " x ".join(map(str, one["chunks"]))
        shards = " x ".join(map(str, one["shards"])) if one["shards"] else "none"
        print(f"  chunks {cut}, shards {shards}, {one['compressor']}, Zarr v{one['zarr_format']}")
    if isinstance(record.get("versions"), dict) and "chunkfilt" in record["versions"]:
        from chunkfilt.arrays.checking import origin

        print(origin(path))


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
    path: Annotated[Path, typer.Argument(metavar="JOB.yaml|PATH", help="A job or a Zarr store.")],
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
    _permit(allow_code, path.parent)
    from chunkfilt.arrays import api
    from chunkfilt.arrays.job import picture_of
    from chunkfilt.storage.zarr_store import local_path

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


def _permit(allowed: bool, folder: Path) -> None:
    """Let jobs name functions, also those of modules beside the job."""
    if allowed:
        sys.path.insert(0, str(folder.absolute()))
        from chunkfilt.filters.generic import allow_code_always

        allow_code_always()


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
        _say(str(error))
        if isinstance(error, StoppedError):
            _say_how_to_resume()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(error.format_message(), 2)
        raise


def _collect_again() -> None:
    """Collect garbage from now on, but for what there is already."""
    gc.freeze()
    gc.enable()


class _Terminated(BaseException):
    """The process was asked to end."""


def _terminate(number: int, frame: Any) -> None:
    raise _Terminated(signal.Signals(number).name)


def _fail(message: str, code: int) -> None:
    _say(message)
    sys.exit(code)


def _interrupted(code: int) -> None:
    _say("stopped; what was stored is recorded" if _resume else "stopped")
    _say_how_to_resume()
    _leave(code)


def _leave(code: int) -> None:
    """End the process now: blocks that are still being computed will not be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(message: str) -> None:
    print(f"chunkfilt: {message}", file=sys.stderr, flush=True)


def _resume_by() -> None:
    """Keep the command line that goes on where this one is stopped."""
    again = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    _resume[:] = [shlex.join(["chunkfilt", *again, "--resume"])]


def _say_how_to_resume() -> None:
    for line in _resume:
        print(f"to go on:  {line}", file=sys.stderr, flush=True)


def _watched(as_json: bool, log_file: Path | None) -> Any:
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
        shown = together(shown, log_lines(log_file))

    def report(event: Any) -> None:
        if isinstance(event, PassStarted):
            _collect_again()
        shown(event)

    return report


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

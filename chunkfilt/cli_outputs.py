"""The commands that look at outputs: info, verify, compare, rerun."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chunkfilt.cli_options import (
    AllowCode,
    AsJson,
    LogFile,
    Memory,
    Output,
    Scheduler,
    Workers,
    permit,
    watched,
)
from chunkfilt.errors import VerifyError

__all__ = ["compare", "info", "rerun", "verify"]

_FEW = 20  # problems that are named while they are mended


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
        permit(allow_code, Path(path).absolute().parent)
        for problem in found.problems[:_FEW]:
            print(f"chunkfilt: repairing: {problem}", file=sys.stderr)
        checking.repair(path, watched(False, None), workers=workers, memory=memory)
        found = look(path)
    if as_json:
        told = {"path": str(found.path), "units": found.units, "checksums": found.checksums}
        print(json.dumps({**told, "problems": list(found.problems)}, indent=2))
    if found.problems:
        listed = "".join(f"\n  {problem}" for problem in found.problems)
        count = len(found.problems)
        message = f"{found.path}: {count} problem{'s' * (count > 1)}:{listed}"
        raise VerifyError(message)
    if not as_json:
        print(f"{found.path}: {found.units} files are as they were written")


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="An image: Zarr or TIFF.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two images pixel by pixel: equal or not, where, and by how much."""
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


def rerun(
    path: Output,
    out: Annotated[
        Path | None, typer.Option(help="Keep what is computed here; default: nothing is kept.")
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    allow_code: AllowCode = False,
    log_file: LogFile = None,
) -> None:
    """Compute an output once more, from its own record, and compare checksums and values."""
    permit(allow_code, Path(path).absolute().parent)
    from chunkfilt.arrays import checking

    options = {"scheduler": scheduler, "workers": workers, "memory": memory}
    found = checking.rerun(path, out, progress=watched(False, log_file), **options)
    for note in found.notes:
        print(f"chunkfilt: {note}", file=sys.stderr)
    for name, (held, now) in found.results.items():
        print(f"{name or 'image'}: {held}, again {now}: {'equal' if held == now else 'DIFFERENT'}")
    if not found.equal:
        message = f"{path}: computing it once more gave other results"
        raise VerifyError(message)


def info(
    path: Annotated[str, typer.Argument(help="An image: Zarr or TIFF.")],
    as_json: AsJson = False,
) -> None:
    """Show what a store or file holds: shape, axes, chunks, and the run that wrote it."""
    from chunkfilt.storage.images import named, open_images, root_record
    from chunkfilt.words import format_bytes

    found: list[dict[str, Any]] = []
    for name, image in open_images(path).items():
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
                "format": image.format_name,
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
        print(f"  chunks {cut}, shards {shards}, {one['compressor']}, {one['format']}")
    if "chunkfilt" in named(record, "versions"):
        from chunkfilt.arrays.checking import origin

        print(origin(path))

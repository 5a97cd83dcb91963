"""The functions of chunkfilt that are not filters: open, plan, save, preview, YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunkfilt.arrays import job
from chunkfilt.arrays.image import Image, LazyValue
from chunkfilt.arrays.image import open_stored as open  # noqa: A004 - as in xarray and tifffile
from chunkfilt.config import check_name, load_job
from chunkfilt.config_document import dump_job, to_document
from chunkfilt.engine.graph import ImageNode, Value
from chunkfilt.engine.plan import Plan
from chunkfilt.errors import InputError
from chunkfilt.runtime.progress import silent, suitable
from chunkfilt.runtime.run import RunResult, run
from chunkfilt.show.picture import Picture

__all__ = ["from_yaml", "open", "plan", "preview", "run_yaml", "save", "to_yaml"]

Images = Image | LazyValue | Mapping[str, Image | LazyValue]


def plan(images: Images, **options: Any) -> Plan:
    """Return what saving would do: passes, blocks, bytes, peak memory. Nothing is computed.

    Parameters
    ----------
    images : Image, or mapping of str to Image
        As for `save`.
    **options
        As for `save`.

    Returns
    -------
    Plan
        Prints as a table, also in a notebook.

    Raises
    ------
    InputError
        If an option does not fit, or the memory cannot hold the smallest block.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> cf.plan(cf.mean(cf.open("mosaic.zarr"), size=5)).passes
    (('write image',),)
    """
    outputs, _ = _outputs(images)
    return job.plan_nodes(outputs, **options)


def save(images: Images, path: str | os.PathLike[str], **options: Any) -> RunResult:
    """Compute images block by block, in one sweep over the input, and store them.

    Parameters
    ----------
    images : Image, or mapping of str to Image
        One image becomes a Zarr array; a mapping becomes a group with one array per name.
        Values (`statistics`, say) may be among them: they go into the attributes.
    path : path
        The Zarr store to write; must not exist unless ``overwrite=True``.
    **options
        ``chunks``, ``shards`` (pixels along the image's axes), ``compressor`` (``{"zstd": 3}``,
        ``"none"``), ``overwrite``; ``scheduler`` ("threads", "serial", "processes", "distributed"),
        ``address``, ``scheduler_file``, ``workers``, ``memory`` (per process; default 2 GiB, more
        in a process that holds much already); ``progress`` (default True); ``resume`` (default
        False): go on with what an earlier run of the same images has stored there, if any.

    Returns
    -------
    RunResult
        Path, plan, checksums, seconds, values.

    Raises
    ------
    InputError
        If something does not fit; nothing is computed or overwritten then.
    StoppedError
        If blocks fail, or nothing more can be stored: with ``resume=True`` it goes on.
    RunError
        If the pixels do not allow of what is asked for; the output stays, marked unfinished.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> m = cf.open("mosaic.zarr")
    >>> result = cf.save({"mean": cf.mean(m)}, "means.zarr", overwrite=True, progress=False)
    >>> cf.open("means.zarr")
    <chunkfilt.Image 100 y x 120 x, float32, mean>
    """
    outputs, group = _outputs(images)
    return job.save_nodes(outputs, path, group=group, **options)


def preview(image: Image, *, size: int = 512, whole: bool | None = None, **ranges: Any) -> Picture:
    """Return a picture of an image.

    Parameters
    ----------
    image : Image
        Any lazy image.
    size : int, default 512
        Pixels along the longer side.
    whole : bool, optional
        The whole image, computed from the input averaged to a coarse level (the picture says
        so), rather than a window at full resolution.  Default: the whole for a stored image, a
        window in the middle for a computed one.
    **ranges : (start, stop) or int
        The window by axis, e.g. ``y=(0, 512)``.

    Returns
    -------
    Picture
        Shows itself in a notebook; ``save("picture.png")`` writes it.

    Raises
    ------
    InputError
        If a range lies outside the image.
    MissingDependency
        If Pillow is not installed.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> cf.preview(cf.open("mosaic.zarr"), y=(0, 50), x=(0, 50))
    <chunkfilt picture 50 x 50: mosaic.zarr: y 0:50, x 0:50, full resolution; black 7, white 7>
    """
    return job.preview_node(_image(image), size=size, whole=whole, **ranges)


def to_yaml(
    images: Images,
    path: str | os.PathLike[str] | None = None,
    *,
    output: str = "output.zarr",
) -> str:
    """Return the graph behind images as a YAML job.

    Parameters
    ----------
    images : Image, or mapping of str to Image
        As for `save`.
    path : path, optional
        Also write the text to this file; input paths are then relative to its folder.
    output : str, default "output.zarr"
        The output's path, as it stands in the job.

    Returns
    -------
    str
        The YAML text; `from_yaml` and ``chunkfilt run`` read it.

    Raises
    ------
    InputError
        If the graph has several inputs, or an image in memory.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> m = cf.open("mosaic.zarr")
    >>> print(cf.to_yaml(m - cf.mean(m, size=5), "contrast.yaml"))
    version: 1
    input: mosaic.zarr
    steps:
      - mean: {size: 5}
      - subtract: {}
        input: [source, mean]
    output: {path: output.zarr, save: subtract}
    <BLANKLINE>
    """
    outputs, group = _outputs(images)
    folder = None if path is None else Path(path).absolute().parent
    text = dump_job(to_document(outputs, output, group=group, relative_to=folder))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def from_yaml(path: str | os.PathLike[str]) -> Any:
    """Return the images a YAML job saves, lazy.

    Parameters
    ----------
    path : path
        The job.

    Returns
    -------
    Image, or dict of str to Image
        One image where the job saves one array, a dict where it saves a group; as `save` takes.

    Raises
    ------
    InputError
        If the file is missing or wrong, with line and column.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> cf.from_yaml("job.yaml")
    <chunkfilt.Image 100 y x 120 x, float32, mean of mosaic.zarr>
    """
    built = load_job(Path(path)).build()
    made = {
        name: LazyValue(node) if isinstance(node, Value) else Image(node)
        for name, node in built.outputs.items()
    }
    return made if built.group else next(iter(made.values()))


def run_yaml(
    path: str | os.PathLike[str], *changes: str, progress: Any = True, resume: bool = False
) -> RunResult:
    """Run a YAML job, as ``chunkfilt run`` does.

    Parameters
    ----------
    path : path
        The job.
    *changes : str
        Changes by dotted path, e.g. ``"steps.0.gaussian.sigma=3"``.
    progress : bool, default True
        Show how far it is.
    resume : bool, default False
        Go on with what an earlier run of the job has stored, if there is any.

    Returns
    -------
    RunResult
        Path, plan, checksums, seconds, values.

    Raises
    ------
    InputError
        If the job is wrong; nothing is computed or overwritten then.
    StoppedError
        If blocks fail, or nothing more can be stored: with ``resume=True`` it goes on.
    RunError
        If the pixels do not allow of what is asked for; the output stays, marked unfinished.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> cf.run_yaml("job.yaml", "output.overwrite=true", progress=False).path.name
    'smooth.zarr'
    """
    loaded = load_job(Path(path), changes)
    built = loaded.build()
    report = progress if callable(progress) else suitable() if progress else silent
    stored = job.stored_as(loaded.output.model_dump(), built.output)
    return run(
        built.outputs,
        built.path,
        group=built.group,
        output=built.output,
        options=built.options,
        document=job.document_beside(built.outputs, built.path.absolute(), built.group, stored),
        resume=resume,
        report=report,
    )


def _outputs(images: Images) -> tuple[dict[str, ImageNode | Value], bool]:
    """Return nodes by name, and whether they make a group."""
    if isinstance(images, Mapping):
        if not images:
            message = "name at least one image"
            raise InputError(message)
        for name in images:
            try:
                check_name(name)
            except ValueError as error:
                raise InputError(str(error)) from None
        return {name: _image(one) for name, one in images.items()}, True
    name = images.node.filter.name if isinstance(images, LazyValue) else ""
    return {name: _image(images)}, isinstance(images, LazyValue)


def _image(image: Any) -> Any:
    if not isinstance(image, (Image, LazyValue)):
        message = (
            f"takes lazy images, as chunkfilt.open and the filters on them give, "
            f"got {type(image).__name__}"
        )
        raise InputError(message)
    return image.node

"""Lazy images: nodes of the graph with a NumPy-like face."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chunkfilt.arrays import job
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import ImageNode, Source, Value, crop, crop_named, topological
from chunkfilt.engine.plan import Plan
from chunkfilt.engine.values import lay_rows
from chunkfilt.errors import InputError, MissingDependency
from chunkfilt.filters.filter import find_filter
from chunkfilt.runtime.compute import values_of
from chunkfilt.runtime.options import RunOptions
from chunkfilt.runtime.progress import silent, suitable
from chunkfilt.runtime.run import RunResult
from chunkfilt.show.picture import table_html
from chunkfilt.storage.images import open_image
from chunkfilt.storage.stored import machine_memory
from chunkfilt.words import format_bytes, format_shape

__all__ = ["Image", "LazyValue", "open_stored"]

# A notebook's picture: a window small enough to be cheap with any filter before it.
_HTML_SIDE = 192


class Image:
    """An image that is computed when its pixels are asked for.

    Made by `chunkfilt.open` and by filters on images.  Indexing (NumPy's basic rules) computes
    a window and returns an array; `crop` stays lazy.  Behind a whole-image value the first
    window costs a sweep over the input; the value is kept for the next ones.
    """

    __slots__ = ("node",)
    # NumPy leaves `array + image` to the image.
    __array_ufunc__ = None

    def __init__(self, node: ImageNode) -> None:
        self.node = node

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along every axis."""
        return self.node.spec.shape

    @property
    def dtype(self) -> np.dtype:
        """The pixels' dtype."""
        return self.node.spec.dtype

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return self.node.spec.axes

    @property
    def spatial(self) -> tuple[str, ...]:
        """The names of the axes that filters work along."""
        return tuple(self.axes[a] for a in self.node.spec.spatial)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.node.spec.ndim

    @property
    def nodata(self) -> float | None:
        """The value of missing pixels, if there is one."""
        return self.node.spec.nodata

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.node.spec.size

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.node.spec.nbytes

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """The chunks of the stored image this is computed from, if they are of its axes."""
        origin = next((n for n in topological([self.node]) if isinstance(n, Source)), None)
        chunks = getattr(getattr(origin, "reader", None), "chunks", None)
        if origin is None or chunks is None:
            return None
        by_name = dict(zip(origin.spec.axes, chunks, strict=True))
        return tuple(by_name.get(name, 1) for name in self.axes)

    def __repr__(self) -> str:
        size = format_shape(self.shape, self.axes)
        return f"<chunkfilt.Image {size}, {self.dtype.name}, {job.describe(self.node)}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        message = "an image has no truth value: compute it first, image[...]"
        raise InputError(message)

    def __getitem__(self, key: Any) -> np.ndarray:
        ranges, steps, dropped, new_axes = _parse_index(key, self.shape)
        node = crop(self.node, ranges, dropped)
        _refuse_too_large(node)
        data = job.compute_node(node)
        data = data[tuple(slice(None, None, s) for a, s in enumerate(steps) if a not in dropped)]
        for axis in new_axes:
            data = np.expand_dims(data, axis)
        return data if data.ndim else data[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            message = "an image's pixels are computed: copy=False cannot be kept"
            raise ValueError(message)
        return np.asarray(self.compute(), dtype=dtype)

    def compute(self, *, workers: int | None = None, progress: bool = False) -> np.ndarray:
        """Compute all pixels into memory.

        Parameters
        ----------
        workers : int, optional
            Threads; default all cores.
        progress : bool, default False
            Show how far it is.

        Returns
        -------
        ndarray
            The whole image.
        """
        _refuse_too_large(self.node)
        options = RunOptions(workers=workers)
        return job.compute_node(self.node, suitable() if progress else silent, options)

    def crop(self, **ranges: tuple[int, int] | int) -> Image:
        """Return a box of the image, still lazy.

        Filters applied before the crop see beyond its edges, filters applied after do not: a
        crop is an image of its own.

        Parameters
        ----------
        **ranges : (start, stop) or int
            For each axis by name, e.g. ``y=(20000, 24000)``; negative numbers count from the
            end, a single int takes that index and drops the axis.

        Returns
        -------
        Image
            The box.

        Raises
        ------
        InputError
            If an axis is unknown or a range lies outside the image.
        """
        return Image(crop_named(self.node, ranges))

    def preview(self, *, size: int = 512, whole: bool | None = None, **ranges: Any) -> Any:
        """Return a picture of the image; see `chunkfilt.preview`."""
        return job.preview_node(self.node, size=size, whole=whole, **ranges)

    def plan(self, **options: Any) -> Plan:
        """Return what saving the image would do; see `chunkfilt.plan`."""
        return job.plan_nodes({"": self.node}, **options)

    def save(self, path: str | os.PathLike[str], **options: Any) -> RunResult:
        """Compute the image block by block and store it; see `chunkfilt.save`."""
        return job.save_nodes({"": self.node}, path, group=False, **options)

    def _repr_html_(self) -> str:
        rows = [
            ("image", job.describe(self.node)),
            ("shape", format_shape(self.shape, self.axes)),
            ("dtype", f"{self.dtype.name}, {format_bytes(self.nbytes)} in all"),
            ("chunks", "none" if self.chunks is None else " x ".join(map(str, self.chunks))),
        ]
        table = table_html(rows)
        if self.size == 0 or job.needs_sweep(self.node):
            return table
        try:
            picture = self.preview(size=_HTML_SIDE, whole=False).data_uri()
        except MissingDependency:
            return table
        return f"{table}<img src='{picture}'>"

    def __pow__(self, exponent: Any) -> Any:
        return _binary("power", reflected=False)(self, exponent)

    def __invert__(self) -> Any:
        if self.dtype != np.bool_:
            message = f"~ turns masks round, this image has dtype {self.dtype.name}"
            raise InputError(message)
        return apply(find_filter("logical_not"), [self], {})

    def __abs__(self) -> Image:
        made: Image = apply(find_filter("abs"), [self], {})
        return made


class LazyValue:
    """A value of a whole image that is computed when asked for."""

    __slots__ = ("node",)

    def __init__(self, node: Value) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f"<chunkfilt.LazyValue {self.node.filter.name} of {job.describe(self.node.image)}>"

    def compute(self, *, progress: bool = False) -> Any:
        """Sweep over the image and return the value; it is kept for the next time."""
        if self.node not in job.KNOWN:
            report = suitable() if progress else silent
            job.KNOWN.update(values_of([self.node], known=dict(job.KNOWN), report=report))
        return lay_rows(job.KNOWN[self.node], self.node.table_shape)


def open_stored(
    path: str | os.PathLike[str],
    array: str | None = None,
    *,
    axes: Sequence[str] | str | None = None,
    spatial: Sequence[str] | str | None = None,
    nodata: float | None = None,
    missing: str = "fill",
) -> Image:
    """Open an image of a Zarr store or a TIFF file; no pixel is read.

    Parameters
    ----------
    path : path
        A Zarr array, v2 or v3, sharded or not, or a group; or a TIFF file, BigTIFF, OME-TIFF or
        GeoTIFF (needs ``chunkfilt[tiff]``).
    array : str, optional
        The array's name within a group of several; of a TIFF file the number of one of several
        images, ``"0"``, and behind a slash that of a smaller level, ``"0/1"``.
    axes : str or sequence of str, optional
        Names of all axes, e.g. ``"cyx"``; default: the names in the store, else the last ones
        are z, y, x; in a TIFF file as OME-XML, ImageJ or tifffile tell, else the planes' axis is i.
    spatial : str or sequence of str, optional
        Which axes filters work along, e.g. ``"yx"``; default: those named z, y and x, or all of
        an array without names.
    nodata : int or float, optional
        Pixels of this value are missing: they never enter a window's statistics, and the results
        say in their turn what stands for missing pixels. Default: the array's attribute
        ``nodata``, which chunkfilt's own outputs have, or GDAL's tag.
    missing : {"fill", "error"}, default "fill"
        What a chunk that has no file is, or a tile without a place in its TIFF file. Writers
        leave out chunks of nothing but the fill value; with "error", reading such a chunk raises
        `RunError`, which names it.

    Returns
    -------
    Image
        The image, lazy.

    Raises
    ------
    StorageError
        If the path is missing, damaged, neither Zarr nor TIFF, or holds no such image.

    Examples
    --------
    >>> import chunkfilt as cf
    >>> cf.open("mosaic.zarr")
    <chunkfilt.Image 100 y x 120 x, uint16, mosaic.zarr>
    """
    held = open_image(path, array, axes=axes, spatial=spatial, nodata=nodata, missing=missing)
    return Image(Source(held.spec, held))


def apply(declared: Any, inputs: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Return the filter's result on lazy images: a new image, or a lazy value."""
    nodes = [one.node if isinstance(one, Image) else _operand(declared.name, one) for one in inputs]
    node = bind(declared, nodes, params)
    return LazyValue(node) if isinstance(node, Value) else Image(node)


def _refuse_too_large(node: ImageNode) -> None:
    """Refuse to allocate what no memory holds; the system promises it and ends the process."""
    if node.spec.nbytes > machine_memory():
        size = f"{format_bytes(node.spec.nbytes)}, more than this machine has"
        message = f"{job.describe(node)} takes {size}: take a window of it, or save it"
        raise InputError(message)


def _operand(name: str, operand: Any) -> Any:
    if operand is None or isinstance(operand, (int, float, np.number)):
        return operand
    kind = type(operand).__name__
    message = f"{name}: an image goes with images and numbers, got {kind}"
    raise InputError(message)


def _parse_index(
    key: Any, shape: Sequence[int]
) -> tuple[dict[int, tuple[int, int]], list[int], list[int], list[int]]:
    """Return ranges and steps by axis, the axes that ints drop, and where None adds one."""
    parts = list(key) if isinstance(key, tuple) else [key]
    given = sum(part is not None and part is not Ellipsis for part in parts)
    if sum(part is Ellipsis for part in parts) > 1:
        message = "an index can only have a single ellipsis ('...')"
        raise IndexError(message)
    if given > len(shape):
        message = f"too many indices: the image has {len(shape)} axes, got {given}"
        raise IndexError(message)
    if Ellipsis not in [part for part in parts if part is None or part is Ellipsis]:
        parts.append(Ellipsis)
    ranges: dict[int, tuple[int, int]] = {}
    steps = [1] * len(shape)
    dropped: list[int] = []
    new_axes: list[int] = []
    axis = out = 0
    for part in parts:
        if part is Ellipsis:
            skipped = len(shape) - given
            axis, out, given = axis + skipped, out + skipped, len(shape)
        elif part is None:
            new_axes.append(out)
            out += 1
        elif isinstance(part, slice):
            start, stop, step = part.indices(shape[axis])
            if step < 1:
                message = f"slices must have positive steps, got {part}"
                raise IndexError(message)
            ranges[axis], steps[axis] = (start, max(start, stop)), step
            axis, out = axis + 1, out + 1
        else:
            ranges[axis] = _one(part, axis, shape[axis])
            dropped.append(axis)
            axis += 1
    return ranges, steps, dropped, new_axes


def _one(part: Any, axis: int, n: int) -> tuple[int, int]:
    try:
        if isinstance(part, (bool, np.bool_)):
            raise TypeError  # noqa: TRY301 - to NumPy a bool is a mask, which no image takes
        index = operator.index(part)
    except TypeError:
        message = f"images take ints, slices, None and ... as indices, got {part!r}"
        raise IndexError(message) from None
    if not -n <= index < n:
        message = f"index {index} is out of bounds for axis {axis} with {n} pixels"
        raise IndexError(message)
    return index % n, index % n + 1


def _binary(name: str, reflected: bool) -> Callable[[Image, Any], Any]:
    def method(self: Image, other: Any) -> Any:
        if not isinstance(other, (Image, int, float, np.number)) or isinstance(other, bool):
            return NotImplemented
        pair = [other, self] if reflected else [self, other]
        return apply(find_filter(name), pair, {})

    return method


def _joined(name: str) -> Callable[[Image, Any], Any]:
    def method(self: Image, other: Any) -> Any:
        if not isinstance(other, Image):
            return NotImplemented
        if not self.dtype == other.dtype == np.bool_:
            # NumPy joins the bits of integers; here that is nobody's wish.
            message = "& | ^ join masks: compare first, as in (image > 3) & (image < 9)"
            raise InputError(message)
        return apply(find_filter(name), [self, other], {})

    return method


for _sign, _name in (
    ("add", "add"),
    ("sub", "subtract"),
    ("mul", "multiply"),
    ("truediv", "divide"),
):
    setattr(Image, f"__{_sign}__", _binary(_name, reflected=False))
    setattr(Image, f"__r{_sign}__", _binary(_name, reflected=True))
# Not == and !=: an image is also a key and a member of lists.
for _sign, _name in (
    ("gt", "greater"),
    ("ge", "greater_equal"),
    ("lt", "less"),
    ("le", "less_equal"),
):
    setattr(Image, f"__{_sign}__", _binary(_name, reflected=False))
for _sign, _name in (("and", "logical_and"), ("or", "logical_or"), ("xor", "logical_xor")):
    setattr(Image, f"__{_sign}__", _joined(_name))

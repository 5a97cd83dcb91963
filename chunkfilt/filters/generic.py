"""Functions of one's own: they see the pixels of a window and give a number.

In YAML the function is named, ``package.module:name``. Loading it runs code, so that somebody has
to permit it: `allow_code`, or `allow_code_always` for a whole process.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Annotated, Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from chunkfilt.errors import InputError, ParameterError, nearest
from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.params import Footprint, Origin, WindowSize
from chunkfilt.filters.window import settle_window, window_reach, window_shape
from chunkfilt.kernels._common import core_shape, pad3
from chunkfilt.words import shown

__all__ = ["allow_code", "allow_code_always", "describe_function", "generic", "import_function"]

# What holds in a thread, where it has been said there; else what holds in the process.
_ALLOWED: ContextVar[bool | None] = ContextVar("chunkfilt_code_allowed", default=None)
_always = threading.Event()
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# Pixels of windows gathered at a time: half a megabyte, which stays in a core's own cache.
_GATHERED = 1 << 16
# Nanoseconds of one core, for a window and for each of its pixels: a Python function, one that
# takes many windows (a median costs more than a mean), a compiled one.
_PYTHON, _VECTORIZED, _COMPILED = (2000.0, 5.0), (50.0, 8.0), (15.0, 1.0)


@contextlib.contextmanager
def allow_code(allowed: bool = True) -> Iterator[None]:
    """Permit jobs to name functions, whose modules are imported and run.

    Only for jobs that you would run as a program: what they name can do whatever you can.

    Parameters
    ----------
    allowed : bool, default True
        False forbids it, where the process permits it.

    Returns
    -------
    context manager
        Within it ``function: "package.module:name"`` is accepted, in this thread.

    Raises
    ------
    InputError
        If `allowed` is neither True nor False.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> with cf.allow_code():
    ...     spread = cf.generic(np.array([1.0, 5.0, 2.0]), function="numpy:ptp")
    >>> spread
    array([4., 4., 3.])
    """
    if not isinstance(allowed, bool):
        message = f"allow_code: allowed must be True or False, got {shown(allowed)}"
        raise InputError(message)
    token = _ALLOWED.set(allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def allow_code_always(allowed: bool = True) -> None:
    """Permit jobs to name functions in this process, in all of its threads; or no longer."""
    if allowed:
        _always.set()
    else:
        _always.clear()


def import_function(text: str) -> Callable[..., Any]:
    """Return the function that ``package.module:name`` stands for.

    Raises
    ------
    ParameterError
        If nobody has permitted it (see `allow_code`), the text is no such name, or the module
        has no such function.
    """
    if not _NAME.fullmatch(text):
        message = f"{shown(text)} is no name of a function, as package.module:name is"
        raise ParameterError(message, "function")
    said = _ALLOWED.get()
    if not (_always.is_set() if said is None else said):
        message = (
            f"{text!r} names code to be run, which is not permitted here: if you trust it, use "
            "`chunkfilt run --allow-code`, or `with chunkfilt.allow_code():` in Python"
        )
        raise ParameterError(message, "function")
    module, _, path = text.partition(":")
    try:
        held: Any = importlib.import_module(module)
    except Exception as error:
        message = f"{text!r} cannot be imported: {type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError):
            message += " (install it, or name its folder in PYTHONPATH)"
        raise ParameterError(message, "function") from error
    for name in path.split("."):
        if not hasattr(held, name):
            message = f"{text!r}: {module} has no {name!r}{nearest(name, dir(held))}"
            raise ParameterError(message, "function")
        held = getattr(held, name)
    if not callable(held):
        message = f"{text!r} is no function, but {shown(held)}"
        raise ParameterError(message, "function")
    return held


def describe_function(function: Callable[..., Any]) -> str:
    """Return the name by which another process can import a function.

    Raises
    ------
    InputError
        If it has none.

    Examples
    --------
    >>> describe_function(np.median)
    'numpy:median'
    """
    module = getattr(function, "__module__", None)
    if isinstance(module, str) and module in sys.modules and module != "__main__":
        home: Any = sys.modules[module]
        path = str(getattr(function, "__qualname__", ""))
        if functools.reduce(_attribute, path.split("."), home) is function:
            return f"{module}:{path}"
        # What numba makes of a function may stand beside it, under a name of its own.
        for name, held in vars(home).items():
            if held is function:
                return f"{module}:{name}"
    message = (
        f"the function {shown(function)} has no name that another process could import it by: "
        "YAML can hold functions of a module's own, package.module:name, but no lambdas, no "
        "functions within functions and none of __main__"
    )
    raise InputError(message)


def _attribute(held: Any, name: str) -> Any:
    return getattr(held, name, None)


def _function(value: Any) -> Callable[..., Any]:
    if isinstance(value, str):
        return import_function(value)
    if callable(value):
        return value  # type: ignore[no-any-return]
    message = "must be a function, or its name such as 'package.module:name'"
    raise ValueError(message)


Function = Annotated[
    Any,
    PlainValidator(_function),
    PlainSerializer(describe_function),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_NAME.pattern}$".replace(r"[^\W\d]", "[A-Za-z_]"),
            "description": "package.module:name; it is run, so that --allow-code is needed.",
        }
    ),
]


def _count(p: SimpleNamespace) -> int:
    """Return the number of pixels that the function sees."""
    return math.prod(window_shape(p)) if p.footprint is None else int(p.footprint.sum())


def _memory(p: SimpleNamespace, core: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of the block and the result in float64, and of the windows gathered."""
    window = (1, *window_shape(p))
    grown = math.prod(n + w - 1 for n, w in zip(core, window, strict=True))
    # A function such as NumPy's median copies what it is given, and may do so twice.
    gathered = 3 * max(_GATHERED, _count(p))
    return 8 * (grown * (dtype != np.float64) + math.prod(core) + gathered)


def _cost(p: SimpleNamespace, prepared: Mapping[str, Any]) -> float:
    compiled = isinstance(p.function, Dispatcher)
    window, pixel = _VECTORIZED if p.vectorized else _COMPILED if compiled else _PYTHON
    return window + pixel * _count(p)


@image_filter(halo=window_reach, prepare=settle_window, memory=_memory, cost=_cost)
def generic(
    block: np.ndarray,
    *,
    function: Function,
    size: WindowSize | None = None,
    footprint: Footprint | None = None,
    origin: Origin = 0,
    vectorized: bool = False,
    window,
    cells,
) -> np.ndarray:
    """Apply a function of one's own to the pixels of every window.

    ``function(pixels)`` gives the result's pixel, where ``pixels`` holds those of the window as a
    1-D float64 array, in C order (missing ones are NaN). Reference:
    ``scipy.ndimage.generic_filter`` on float64.

    A Python function is called once for each pixel, which takes microseconds, on one core at a
    time. Two ways are faster: ``vectorized=True`` with NumPy's reductions, and a function
    compiled with ``numba.njit``, which runs on all cores. The result depends on the chunks, or on
    when it was computed, if the function does: it must give the same number for the same pixels,
    and must not look at anything that changes.

    Parameters
    ----------
    image : image
        Bool, integer or float, any shape.
    function : callable or str
        Takes the window's pixels, and gives a number. Or its name, ``"package.module:name"``,
        as YAML has it; that runs the module, and so needs ``chunkfilt run --allow-code`` or
        ``chunkfilt.allow_code()``.
    size : int or sequence of int, default 3
        Window in pixels, ``>= 1``, for all spatial axes or for each.
    footprint : array of bool, optional
        The pixels of the window that the function sees, instead of `size`.
    origin : int or sequence of int, default 0
        Shift of the window in pixels, ``-(n//2) <= origin <= (n-1)//2``; a positive one looks
        further back.
    vectorized : bool, default False
        The function takes many windows at once, as a 2-D array with one in each row, and gives
        as many numbers: ``lambda rows: np.median(rows, axis=1)``. It is told nothing of where
        they lie, and how many come at once may change.

    Returns
    -------
    image
        Same shape; float32 for bool, 8- and 16-bit integers, float16 and float32, else float64.
        The function's float64 is cast: with ``dtype="float64"`` nothing is lost.

    Raises
    ------
    ParameterError
        If a parameter is out of range or does not fit the image's axes, the function cannot be
        found or is not permitted, or what it gives is not a number.

    Examples
    --------
    >>> import numpy as np, chunkfilt as cf
    >>> x = np.array([1.0, 5.0, 2.0, 2.0])
    >>> with cf.allow_code():
    ...     cf.generic(x, function="numpy:ptp", size=3)
    array([4., 4., 3., 0.])
    >>> cf.generic(x, function=lambda pixels: pixels.max() - pixels.min())
    array([4., 4., 3., 0.])
    >>> cf.generic(x, function=lambda rows: np.median(rows, axis=1), vectorized=True)
    array([1., 2., 2., 2.])
    """
    pixels = np.ascontiguousarray(block, np.float64)
    out = np.empty(core_shape(block, window))
    if not out.size:
        return out
    if isinstance(function, Dispatcher) and not vectorized:
        _run_compiled(function, pixels, window, cells, out)
        return out
    call = _many if vectorized else _each
    spatial = tuple(range(1, block.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, window, axis=spatial)
    for place in _pieces(out.shape, math.prod(window) if cells is None else int(cells.sum())):
        held = windows[place] if cells is None else windows[place][..., cells]
        target = out[place]
        rows = np.ascontiguousarray(held).reshape(target.size, -1)
        target[...] = call(function, rows).reshape(target.shape)
    return out


def _pieces(shape: tuple[int, ...], count: int) -> Iterator[tuple[Any, ...]]:
    """Yield parts of an array, in order, whose windows of `count` pixels are gathered at once."""
    *lead, rows, columns = shape
    many = max(_GATHERED // count, 1)
    wide = min(many, columns)
    high = max(many // max(columns, 1), 1)
    for at in np.ndindex(*lead):
        for y, x in itertools.product(range(0, rows, high), range(0, columns, max(wide, 1))):
            yield (*at, slice(y, y + high), slice(x, x + wide))


def _each(function: Callable[..., Any], rows: np.ndarray) -> np.ndarray:
    """Return a function's numbers, called with one window after the other."""
    try:
        values = np.fromiter(map(function, rows), np.float64, len(rows))
        # To NumPy None is a NaN; here it is a function that returns nothing.
        odd = rows[np.isnan(values)][:1]
    except (TypeError, ValueError):
        # Once more, to tell an error of the function from a result that is no number.
        values, odd = None, rows
    for row in odd:
        found = function(row)
        if found is None or np.ndim(found) or (values is None and not _is_number(found)):
            message = f"generic: function must give a number for each window, got {shown(found)}"
            raise ParameterError(message, "function")
    assert values is not None
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number, np.bool_))


def _many(function: Callable[..., Any], rows: np.ndarray) -> np.ndarray:
    """Return a function's numbers, called with all windows at once."""
    count = len(rows)
    values = np.asarray(function(rows))
    if values.shape != (count,) or values.dtype.kind not in "biuf":
        message = (
            f"generic: with vectorized=True function must give {count} numbers for {count} "
            f"windows, as reductions along axis=1 do, got {values.dtype.name} of shape "
            f"{values.shape}"
        )
        raise ParameterError(message, "function")
    return values


def _run_compiled(
    function: Dispatcher,
    pixels: np.ndarray,
    window: tuple[int, ...],
    cells: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """Run a compiled function over all windows, without the interpreter's lock."""
    places = np.nonzero(np.ones(window, bool) if cells is None else cells)
    offsets = np.ravel_multi_index(places, pixels.shape[1:]).astype(np.uintp)
    block4 = pixels.reshape(pixels.shape[0], *pad3(pixels.shape[1:], 1))
    out4 = out.reshape(out.shape[0], *pad3(out.shape[1:], 1))
    with _COMPILING:
        loop = _loop(function)
    try:
        loop(block4, offsets, out4)
    except NumbaError as error:
        reason = str(error).strip().splitlines()[0]
        message = (
            "generic: function cannot be compiled to take a 1-D float64 array and give a number: "
            f"{reason}"
        )
        raise ParameterError(message, "function") from error


# Two threads that come first at the same time must not compile the same loop twice.
_COMPILING = threading.Lock()


@functools.lru_cache(maxsize=64)
def _loop(function: Dispatcher) -> Any:
    """Return the loop over all windows with a compiled function inside, compiled at first use."""

    @numba.njit(nogil=True, error_model="numpy")
    def loop(block, offsets, out):
        pixels = np.empty(offsets.size)
        for b in range(out.shape[0]):
            flat = block[b].ravel()
            for k in range(out.shape[1]):
                for j in range(out.shape[2]):
                    row = (k * block.shape[2] + j) * block.shape[3]
                    for i in range(out.shape[3]):
                        first = np.uintp(row + i)
                        for at in range(offsets.size):
                            pixels[at] = flat[first + offsets[at]]
                        out[b, k, j, i] = function(pixels)

    return loop

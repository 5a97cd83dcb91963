"""What all compiled kernels share: the compiler's options, the result dtype, the view they read.

Kernels are compiled without fast-math of any kind and single-threaded, so that a pixel's value
depends, to the last bit, on its window alone; parallelism is over blocks, hence `nogil`.
"""

import functools
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["as4d", "core_shape", "jit", "pad3", "real_dtype"]

AXES = 3
_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


def jit(function: _F) -> _F:
    """Compile a function strictly, releasing the interpreter lock; cached where a disk allows it.

    Parameters
    ----------
    function : callable
        A function numba can compile in nopython mode.

    Returns
    -------
    callable
        The compiled function, called like the original.

    Examples
    --------
    >>> @jit  # doctest: +SKIP
    ... def twice(x):
    ...     return 2 * x
    """
    kept = _cache_found()
    compile_it: Any = numba.njit(cache=kept, nogil=True, error_model="numpy")
    compiled = compile_it(function)
    light = _light_cache() if kept else None
    if light is not None:
        compiled._cache = light(function)
    return cast(_F, compiled)


@functools.cache
def _cache_found() -> bool:
    """Return whether compiled code can be kept on disk: where numba finds no folder, in our own.

    numba looks beside the source files, then in the user's cache; where it may write to neither, it
    refuses to be imported with. The folder is passed on to processes that are started later.
    """
    if _numba_finds_folder():
        return True
    folder = _private_folder()
    if folder is None:
        return False
    os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(folder)
    return _numba_finds_folder()


def _numba_finds_folder() -> bool:
    try:
        numba.njit(cache=True)(_numba_finds_folder)
    except RuntimeError:
        return False
    return True


def _private_folder() -> Path | None:
    """Return a folder for temporary files that nobody else can write to: what is in it is run."""
    try:
        folder = Path(tempfile.gettempdir()) / f"chunkfilt-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        held = folder.lstat()
    except OSError:
        return None
    shared = held.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ours = stat.S_ISDIR(held.st_mode) and held.st_uid == os.getuid() and not shared
    return folder if ours else None


@functools.cache
def _light_cache() -> Any:
    """Return a cache that loads compiled code without the compiler's own library of functions.

    Only compiling needs that library; importing it takes a fifth of a second and 30 MB, in every
    process. None of it is numba's public interface: where it is not as expected, the answer is
    None, and numba loads in its own way.
    """
    try:
        from numba.core.caching import FunctionCache
        from numba.core.runtime import rtsys

        initialize, _ = rtsys.initialize, FunctionCache._load_overload
    except (ImportError, AttributeError):
        return None

    class LightCache(FunctionCache):  # type: ignore[misc]
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)

    return LightCache


def real_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the result dtype of a measure.

    Parameters
    ----------
    dtype : dtype
        Of the image.

    Returns
    -------
    numpy.dtype
        float32 for bool, 8- and 16-bit integers, float16 and float32; float64 otherwise.

    Examples
    --------
    >>> real_dtype("uint16"), real_dtype("int32")
    (dtype('float32'), dtype('float64'))
    """
    kind = np.dtype(dtype)
    small = kind.kind == "b" or (kind.kind in "iu" and kind.itemsize <= 2)
    small = small or (kind.kind == "f" and kind.itemsize <= 4)
    return np.dtype(np.float32 if small else np.float64)


def as4d(block: NDArray[Any]) -> NDArray[Any]:
    """View a block as a read-only, C-contiguous `(batch, z, y, x)` array.

    Read-only whatever the input is, so that each kernel is compiled once per dtype and not twice.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)` with one to three spatial axes.

    Returns
    -------
    ndarray
        Missing spatial axes have length 1, in front; bool becomes uint8 (a view), float16
        becomes float32 (a copy, exact), other dtypes are kept, in native byte order.

    Raises
    ------
    ValueError
        If there are fewer than one or more than three spatial axes.

    Examples
    --------
    >>> as4d(np.zeros((2, 5, 7), bool)).shape
    (2, 1, 5, 7)
    """
    if not 2 <= block.ndim <= AXES + 1:
        raise ValueError(f"a block has 1 to 3 spatial axes after its batch, not {block.ndim - 1}")
    dtype = block.dtype
    if dtype == np.bool_:
        block, dtype = np.ascontiguousarray(block).view(np.uint8), np.dtype(np.uint8)
    elif dtype == np.float16:
        dtype = np.dtype(np.float32)
    block = np.require(block, dtype.newbyteorder("="), ["C", "A"])
    view = block.reshape(block.shape[0], *pad3(block.shape[1:], 1)).view()
    view.flags.writeable = False
    return view


def pad3(values: tuple[_T, ...], fill: _T) -> tuple[_T, _T, _T]:
    """Extend a tuple with one entry per spatial axis to three, in front.

    Parameters
    ----------
    values : tuple
        One to three entries.
    fill : object
        The entry for each missing axis.

    Returns
    -------
    tuple
        Three entries.

    Raises
    ------
    ValueError
        If there are more than three entries.

    Examples
    --------
    >>> pad3((5, 7), 1)
    (1, 5, 7)
    """
    values = tuple(values)
    if len(values) > AXES:
        raise ValueError(f"at most {AXES} spatial axes, not {len(values)}")
    z, y, x = (fill,) * (AXES - len(values)) + values
    return z, y, x


def core_shape(block: NDArray[Any], window: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the core of a block that was extended by its halo.

    Parameters
    ----------
    block : ndarray
        Shape `(batch, *spatial)`.
    window : tuple of int
        The window's length along each spatial axis, at least 1.

    Returns
    -------
    tuple of int
        `(batch, *core)` with `core = spatial - (window - 1)`; lengths may be 0.

    Raises
    ------
    ValueError
        If the window does not fit the block's axes, or is larger than the block allows.

    Examples
    --------
    >>> core_shape(np.zeros((1, 8, 8)), (3, 5))
    (1, 6, 4)
    """
    if len(window) != block.ndim - 1:
        raise ValueError(f"a window of {len(window)} axes on a block of {block.ndim - 1}")
    core = tuple(n - w + 1 for n, w in zip(block.shape[1:], window, strict=True))
    if min(window) < 1 or min(core) < 0:
        raise ValueError(f"a window of {window} on a block of {block.shape[1:]} pixels")
    return (block.shape[0], *core)

"""Missing pixels: which they are in a block, and how a result says that one is missing.

A pixel is missing where it equals the image's nodata value, where a mask image is 0, and, under
``nan_policy="omit"``, where it is NaN.  Filters that can leave pixels out are told which count;
to the others a nodata pixel is NaN, which reaches every window that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from chunkfilt.engine.graph import Filtered, Value, is_image
from chunkfilt.errors import InputError
from chunkfilt.filters.filter import Filter
from chunkfilt.grid import ImageSpec
from chunkfilt.kernels import real_dtype

__all__ = ["block_dtype_of", "counted", "mark_missing", "nodata_of", "omitted"]


def nodata_of(dtype: np.dtype, images: Sequence[ImageSpec]) -> float | None:
    """Return what stands for a missing pixel in a result of some images.

    The first image's own value, where the result is of its kind and can hold it; else NaN in
    floats, and in integers the value if it fits.

    >>> spec = ImageSpec((4,), np.dtype("int16"), ("x",), (0,), nodata=-1)
    >>> nodata_of(np.dtype("float32"), [spec]), nodata_of(np.dtype("uint8"), [spec])
    (nan, None)
    """
    held = next((one for one in images if one.nodata is not None), None)
    if held is None:
        return None
    value = held.nodata
    assert value is not None
    if dtype.kind == "f":
        return value if held.dtype.kind == "f" and _same(dtype.type(value), value) else math.nan
    if dtype.kind in "iu" and math.isfinite(value) and value == int(value):
        limits = np.iinfo(dtype)
        return value if limits.min <= value <= limits.max else None
    return None


def block_dtype_of(
    declared: Filter, p: SimpleNamespace, dtypes: Sequence[Any], natural: np.dtype
) -> np.dtype:
    """Return the dtype of blocks of an image with a nodata value: one with NaN, where needed.

    Raises
    ------
    InputError
        If the filter can neither leave pixels out nor work on floats.
    """
    if declared.rules.omits or declared.kind != "neighbourhood":
        return natural
    wide = natural if natural.kind == "f" else real_dtype(natural)
    try:
        if declared.rules.check is not None:
            declared.rules.check(p, [wide, *dtypes[1:]])
        kept = declared.rules.dtype(p, [wide, *dtypes[1:]]).kind
        # A mask cannot say that a pixel of it is missing.
        fits = kept == declared.rules.dtype(p, dtypes).kind != "b"
    except ValueError:
        fits = False
    if not fits:
        message = f"{declared.name} cannot leave missing pixels out: fill them first (fill_gaps)"
        raise InputError(message)
    return wide


def omitted(node: Filtered, blocks: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return a kernel's blocks and what it is told of missing pixels.

    Parameters
    ----------
    node : Filtered
        The node.
    blocks : sequence
        Its inputs as the kernel gets them, a mask last.
    """
    rules, image = node.filter.rules, node.image.spec
    first = node.inputs.index(node.image)
    block = blocks[first]
    if not rules.omits:
        if image.nodata is None or node.filter.kind != "neighbourhood":
            return list(blocks), {}
        seen = np.where(_equals(block, image.nodata), block.dtype.type(np.nan), block)
        seen.flags.writeable = False
        return [*blocks[:first], seen, *blocks[first + 1 :]], {}
    # A mask that the function itself names stays among its blocks.
    kept = list(blocks[: len(node.filter.inputs) - (not _names_mask(node.filter))])
    missing, nodata = block.dtype.type(0), node.spec.nodata
    if block.dtype.kind == "f":
        missing = block.dtype.type(np.nan if nodata is None else nodata)
    elif nodata is not None and math.isfinite(nodata):
        missing = _scalar(nodata, block.dtype)
    return kept, {"valid": _valid(node, block, blocks[-1]), "missing": missing}


def counted(node: Value, blocks: Sequence[Any]) -> list[Any]:
    """Return the blocks of a value, its mask such that missing pixels do not count."""
    image = node.image.spec
    by_nan = node.params.get("nan_policy") == "omit" and image.dtype.kind == "f"
    if not by_nan and image.nodata is None:
        return list(blocks)
    block, place = blocks[node.inputs.index(node.image)], node.filter.inputs.index("mask")
    valid = ~_equals(block, image.nodata) if image.nodata is not None else np.ones(1, bool)
    if by_nan:
        valid = valid & ~np.isnan(block)
    if blocks[place] is not None:
        valid = valid & (blocks[place] != 0)
    return [*blocks[:place], valid, *blocks[place + 1 :]]


def mark_missing(node: Filtered, out: np.ndarray, blocks: Sequence[Any]) -> np.ndarray:
    """Return a result whose pixels are nodata where the input's own pixel is, or none is left.

    Parameters
    ----------
    out : ndarray
        ``(batch, *leading, *spatial)``, in the kernel's dtype.
    blocks : sequence
        The inputs over core and halo, ``(batch, *spatial)``, before `omitted`.
    """
    value = node.spec.nodata
    if value is None and out.dtype.kind == "b":
        # What is missing fulfils no condition.
        value = 0
    if value is None or node.filter.rules.omits == "always":
        return out
    gone = np.isnan(out) if out.dtype.kind == "f" else np.zeros(out.shape, bool)
    lead = (slice(None), *(None for _ in node.leading))
    for one, block in zip(node.inputs, blocks, strict=True):
        if not is_image(one) or one.spec.nodata is None:
            continue
        core = tuple(
            slice(before, block.shape[1 + i] - after)
            for i, (before, after) in enumerate(node.halo[a] for a in node.spatial)
        )
        if node.filter.kind == "pointwise":
            core = ()
        gone = gone | _equals(block, one.spec.nodata)[(slice(None), *core)][lead]
    if not gone.any():
        return out
    if out.dtype.kind not in "iuf" or (out.dtype.kind in "iu" and not math.isfinite(value)):
        out = out.astype(np.float64)
    return np.where(gone, _scalar(value, out.dtype), out)


def _valid(node: Filtered, block: np.ndarray, mask: Any) -> np.ndarray | None:
    if not node.omits:
        return None
    image = node.image.spec
    valid = np.ones(block.shape, bool)
    by_nan = node.filter.rules.omits == "always" or node.params.get("nan_policy") == "omit"
    if by_nan and block.dtype.kind == "f":
        valid &= ~np.isnan(block)
    if image.nodata is not None:
        valid &= ~_equals(block, image.nodata)
    if node.mask is not None:
        valid &= mask != 0
    valid.flags.writeable = False
    return valid


def _names_mask(declared: Filter) -> bool:
    code = declared.function.__code__
    return "mask" in code.co_varnames[: code.co_argcount]


def _equals(block: np.ndarray, nodata: float) -> np.ndarray:
    if math.isnan(nodata):
        return np.isnan(block) if block.dtype.kind == "f" else np.zeros(block.shape, bool)
    return np.asarray(block == _scalar(nodata, block.dtype))


def _scalar(value: float, dtype: np.dtype) -> Any:
    return dtype.type(value) if dtype.kind == "f" else dtype.type(int(value))


def _same(a: Any, b: float) -> bool:
    return bool(a == b) or (math.isnan(a) and math.isnan(b))
